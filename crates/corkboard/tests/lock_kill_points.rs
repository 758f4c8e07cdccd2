//! Processes that are killed at named points inside locks and events.
//!
//! The story: a process dies with SIGKILL at exactly this point. Whoever comes next must get the
//! lock, hear the signal, remove and create; and `diagnose` must name what is left, and mend it.
//!
//! Run with `--features test-hooks`.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Scratch, is_killed, mend, this_program};
use corkboard::event::{self, Event, Reset};
use corkboard::lock::{self, Hold, RwLock, State};
use corkboard::{ErrorKind, Kind, Problem, Space};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "x";

/// Not a test of its own: what the killed process does.
#[test]
fn child_plays_its_part_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    let lock = || RwLock::open(&space, NAME).unwrap();
    let at = || RwLock::at(space.path().join("file")).unwrap();
    let event = || Event::open_or_create(&space, NAME, Reset::Auto).unwrap();
    match part.as_str() {
        "read" => drop(lock().read_timeout(PATIENCE).unwrap()),
        "write" => drop(lock().write_timeout(PATIENCE).unwrap()),
        "read at path" => drop(at().read_timeout(PATIENCE).unwrap()),
        "write at path" => drop(at().write_timeout(PATIENCE).unwrap()),
        "set" => event().set().unwrap(),
        "wait" => drop(event().wait(Some(PATIENCE)).unwrap()),
        "remove lock" => space.remove(Kind::Lock, NAME).unwrap(),
        "remove event" => space.remove(Kind::Event, NAME).unwrap(),
        other => panic!("no part {other}"),
    }
}

fn start(point: &str, part: &str, space: &Space) -> Child {
    let mut command = command(part, space);
    command
        .env("CORKBOARD_TEST_KILL_AT", point)
        .spawn()
        .unwrap()
}

fn command(part: &str, space: &Space) -> Command {
    let mut command = this_program();
    command
        .args(["--exact", "child_plays_its_part_until_it_is_killed"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", space.path())
        .stdout(Stdio::piped());
    command
}

#[cfg(unix)]
/// Starts a part that stops itself at the point, and waits until it has.
fn stopped_at(point: &str, part: &str, space: &Space) -> Child {
    let mut command = command(part, space);
    let child = command
        .env("CORKBOARD_TEST_STOP_AT", point)
        .spawn()
        .unwrap();
    common::await_stop(&child);
    child
}

#[cfg(unix)]
fn go_on(mut child: Child) {
    // SAFETY: a signal to a child of ours.
    unsafe { libc::kill(child.id() as i32, libc::SIGCONT) };
    assert!(child.wait().unwrap().success());
}

fn assert_killed(child: Child, point: &str, part: &str) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_killed = is_killed(output.status);
    assert!(is_killed, "{part} did not come to {point}: {said}");
}

/// Runs a part in a process of its own, which must die at the point.
fn die_at(point: &str, part: &str, space: &Space) {
    assert_killed(start(point, part, space), point, part);
}

/// The lock can be had, both ways, and nothing is left of who died.
fn check_lock_works(space: &Space, part: &str) {
    let mut lock = match part.ends_with("path") {
        true => RwLock::at(space.path().join("file")).unwrap(),
        false => RwLock::open(space, NAME).unwrap(),
    };
    assert!(lock.write_timeout(PATIENCE).unwrap().is_some());
    assert!(lock.read_timeout(PATIENCE).unwrap().is_some());
    let is_named = !part.ends_with("path");
    let _keeper = is_named.then(|| space.keep(Kind::Lock, NAME).unwrap());
    drop(lock);
    mend(space);
    if is_named {
        let stat = lock::stat(space, NAME).unwrap();
        assert_eq!((stat.state, stat.handles), (State::Free, vec![]));
    }
}

#[test]
fn who_is_killed_with_a_lock_or_on_the_way_in_or_out_keeps_nobody_out() {
    for part in ["read", "write", "read at path", "write at path"] {
        let mut points = vec!["lock.held", "lock.unlocked"];
        if part.starts_with("write") {
            points.push("lock.gate");
        }
        if !part.ends_with("path") {
            points.extend(["claim.locked", "claim.signed", "create.begun"]);
            points.extend(["create.file", "create.renamed"]);
        }
        for point in points {
            let scratch = Scratch::new();
            let space = scratch.space();
            die_at(point, part, &space);
            if point == "create.begun" || point == "create.file" {
                assert_eq!(space.entries().unwrap(), [], "nobody sees it");
                let found = space.diagnose().unwrap();
                assert_eq!(found[0].problem(), Problem::StaleFile);
            }
            check_lock_works(&space, part);
        }
    }
}

#[test]
fn who_is_killed_while_it_waits_for_a_lock_keeps_nobody_out() {
    for (part, holder_writes) in [
        ("read", true),
        ("write", true),
        ("write", false),
        ("read at path", true),
        ("write at path", true),
        ("write at path", false),
    ] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut lock = match part.ends_with("path") {
            true => RwLock::at(space.path().join("file")).unwrap(),
            false => RwLock::open(&space, NAME).unwrap(),
        };
        let guard = match holder_writes {
            true => lock.write().unwrap(),
            false => lock.read().unwrap(),
        };
        for point in ["lock.announced", "lock.announced:3"] {
            die_at(point, part, &space);
        }
        drop(guard);
        drop(lock);
        check_lock_works(&space, part);
    }
}

#[test]
fn a_writer_killed_while_it_waits_for_readers_lets_readers_in_again() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut first = RwLock::open(&space, NAME).unwrap();
    let mut second = RwLock::open(&space, NAME).unwrap();
    let guard = first.read().unwrap();
    die_at("lock.announced:2", "write", &space);
    assert!(second.read_timeout(PATIENCE).unwrap().is_some());
    drop(guard);
    let stat = lock::stat(&space, NAME).unwrap();
    assert!(!stat.writer_waits);
    let dead = stat.handles.iter().find(|handle| !handle.is_alive).unwrap();
    assert_eq!(dead.hold, Hold::Idle, "a dead one does nothing");
}

#[cfg(unix)]
#[test]
fn a_stopped_holder_keeps_the_lock_and_a_stopped_reader_that_waits_keeps_nobody_out() {
    for suffix in ["", " at path"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let open = || match suffix {
            "" => RwLock::open(&space, NAME).unwrap(),
            _ => RwLock::at(space.path().join("file")).unwrap(),
        };
        let mut lock = open();
        let holder = stopped_at("lock.held", &format!("write{suffix}"), &space);
        assert!(lock.try_read().unwrap().is_none());
        let short = Duration::from_millis(30);
        assert!(lock.write_timeout(short).unwrap().is_none());
        go_on(holder);
        let guard = lock.write_timeout(PATIENCE).unwrap().unwrap();
        // A reader that has claimed a turn.
        let waiter = stopped_at("lock.announced:2", &format!("read{suffix}"), &space);
        drop(guard);
        let mut others = open();
        assert!(others.try_write().unwrap().is_some());
        for _ in 0..10 {
            assert!(others.write_timeout(PATIENCE).unwrap().is_some());
            assert!(lock.write_timeout(PATIENCE).unwrap().is_some());
            assert!(others.read_timeout(PATIENCE).unwrap().is_some());
        }
        go_on(waiter);
    }
}

/// On Windows the system's own event is set and wakes in one step.
#[cfg(unix)]
#[test]
fn a_set_that_was_not_followed_by_its_wake_is_heard() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, NAME, Reset::Auto).unwrap();
    let waiter = std::thread::spawn(move || event.wait(Some(PATIENCE)).unwrap());
    // The waiter may not sleep yet; then nobody is woken and the setter goes on.
    let child = start("event.set", "set", &space);
    assert!(waiter.join().unwrap());
    child.wait_with_output().unwrap();
}

#[test]
fn a_waiter_killed_before_or_after_its_sleep_takes_no_signal_along() {
    for point in ["event.announced", "event.announced:3", "event.woken"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let event = Event::create(&space, NAME, Reset::Auto).unwrap();
        die_at(point, "wait", &space);
        event.set().unwrap();
        assert!(event.wait(Some(Duration::ZERO)).unwrap());
        mend(&space);
    }
}

#[test]
fn events_are_whole_or_absent_when_their_creator_dies() {
    for point in ["create.begun", "create.file", "create.renamed"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        die_at(point, "set", &space);
        let listed = space.entries().unwrap().len();
        let is_whole = cfg!(unix) && point == "create.renamed";
        assert_eq!(listed, usize::from(is_whole), "{point}");
        let event = Event::open_or_create(&space, NAME, Reset::Auto).unwrap();
        assert!(!event.wait(Some(Duration::ZERO)).unwrap());
        mend(&space);
    }
}

#[test]
fn a_removal_whose_remover_dies_can_be_finished() {
    for point in ["remove.marked", "remove.deleted"] {
        for mend_first in [false, true] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let mut lock = RwLock::open(&space, NAME).unwrap();
            let event = Event::create(&space, NAME, Reset::Manual).unwrap();
            die_at(point, "remove lock", &space);
            die_at(point, "remove event", &space);
            assert_eq!(lock.read().unwrap_err().kind(), ErrorKind::Removed);
            assert_eq!(event.wait(None).unwrap_err().kind(), ErrorKind::Removed);
            drop((lock, event));
            if mend_first {
                mend(&space);
                assert_eq!(space.entries().unwrap(), []);
            }
            check_lock_works(&space, "write");
            let _event = Event::create(&space, NAME, Reset::Auto).unwrap();
            assert_eq!(event::stat(&space, NAME).unwrap().sets, 0);
            mend(&space);
        }
    }
}
