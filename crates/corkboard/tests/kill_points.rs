//! Processes that are killed at named points inside the protocol.
//!
//! The story: a process dies with SIGKILL at exactly this point. Whoever comes next must see either
//! the old or the new value, whole; must be able to publish, to read, to wait, to remove and to
//! create; and `diagnose` must name what is left, and mend it.
//!
//! Run with `--features test-hooks`.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Scratch, is_killed, mend, this_program};
use corkboard::board::{self, Options, Reader, Writer, WriterMode};
use corkboard::{ErrorKind, Kind, Problem, Space};

const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "x";

/// What the process does that is killed.
#[derive(Clone, Copy, Debug)]
enum Part {
    Publish,
    Loan,
    Read,
    Wait,
    Create,
    Remove,
    FindNone,
}

const PARTS: [Part; 7] = [
    Part::Publish,
    Part::Loan,
    Part::Read,
    Part::Wait,
    Part::Create,
    Part::Remove,
    Part::FindNone,
];

fn options(capacity: usize, mode: WriterMode) -> Options {
    Options::new()
        .capacity(capacity)
        .writer_mode(mode)
        .writer_timeout(PATIENCE)
        .max_readers(4)
}

/// A board without a value, its space, and a reader of it.
fn board(capacity: usize, mode: WriterMode) -> (Scratch, Space, Reader) {
    let scratch = Scratch::new();
    let space = scratch.space();
    let reader = create(&space, capacity, mode);
    (scratch, space, reader)
}

/// Creates the board, or opens what is there, and leaves it without a writer.
fn create(space: &Space, capacity: usize, mode: WriterMode) -> Reader {
    let _writer = options(capacity, mode).writer(space, NAME).unwrap();
    Reader::open(space, NAME).unwrap()
}

fn open_writer(space: &Space) -> Writer {
    let options = Options::new().writer_timeout(PATIENCE);
    options.open_writer(space, NAME).unwrap()
}

/// Every other value is short, for the copy beside a large board's latest word.
fn value(sequence: u64, capacity: usize) -> Vec<u8> {
    let longest = if sequence.is_multiple_of(2) {
        64
    } else {
        capacity
    };
    vec![sequence as u8; longest - sequence as usize % 3]
}

/// Not a test of its own: what the killed process does.
#[test]
fn child_plays_its_part_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    let part = PARTS[part.parse::<usize>().unwrap()];
    match part {
        Part::Publish | Part::Loan => {
            let mut writer = open_writer(&space);
            for _ in 0..8 {
                let next = board::stat(&space, NAME).unwrap().sequence + 1;
                let value = value(next, writer.capacity());
                if matches!(part, Part::Publish) {
                    writer.publish(&value).unwrap();
                    continue;
                }
                let mut loan = writer.loan(value.len()).unwrap();
                loan.copy_from_slice(&value);
                loan.publish().unwrap();
            }
        }
        Part::Read => {
            let mut reader = Reader::open(&space, NAME).unwrap();
            reader.read().unwrap();
        }
        Part::Wait => {
            let mut reader = Reader::open(&space, NAME).unwrap();
            reader.read().unwrap();
            reader.wait(Some(PATIENCE)).unwrap();
        }
        Part::Create => drop(options(5000, WriterMode::Exclusive).writer(&space, NAME)),
        Part::Remove => space.remove(Kind::Board, NAME).unwrap(),
        Part::FindNone => {
            let error = Reader::open(&space, NAME).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    }
}

/// Runs a part in a process of its own, which must die at the point.
fn die_at(point: &str, part: Part, space: &Space) {
    let output = start(point, part, space).wait_with_output().unwrap();
    assert!(
        is_killed(output.status),
        "{part:?} did not come to {point}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn start(point: &str, part: Part, space: &Space) -> std::process::Child {
    command(part, space)
        .env("CORKBOARD_TEST_KILL_AT", point)
        .spawn()
        .unwrap()
}

fn command(part: Part, space: &Space) -> Command {
    let mut command = this_program();
    command
        .args(["--exact", "child_plays_its_part_until_it_is_killed"])
        .env("CORKBOARD_TEST_PART", (part as usize).to_string())
        .env("CORKBOARD_TEST_SPACE", space.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The board works: its value is whole, and a new writer's next value reaches old and new readers.
fn check_works(space: &Space, old: &mut Reader) {
    let capacity = old.capacity();
    let before = match old.read().unwrap() {
        Some(snapshot) => {
            assert_eq!(*snapshot, *value(snapshot.sequence(), capacity));
            snapshot.sequence()
        }
        None => 0,
    };
    let mut writer = open_writer(space);
    for sequence in before + 1..before + 40 {
        assert_eq!(
            writer.publish(&value(sequence, capacity)).unwrap(),
            sequence
        );
        let snapshot = old.wait(Some(PATIENCE)).unwrap().unwrap();
        assert_eq!(snapshot.sequence(), sequence);
        assert_eq!(*snapshot, *value(sequence, capacity));
    }
    // No entry is lost: as many readers as ever hold snapshots in place, and publishing goes on.
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::open(space, NAME).unwrap()).collect();
    for reader in &mut readers {
        assert!(!reader.is_observer());
        reader.read().unwrap().unwrap();
        for _ in 0..3 {
            let next = old.read().unwrap().unwrap().sequence() + 1;
            writer.publish(&value(next, capacity)).unwrap();
        }
    }
    drop(readers);
    drop(writer);
    mend(space);
}

fn shapes() -> [(usize, WriterMode); 4] {
    [
        (64, WriterMode::Exclusive),
        (64, WriterMode::Shared),
        (5000, WriterMode::Exclusive),
        (5000, WriterMode::Shared),
    ]
}

#[test]
fn a_writer_killed_anywhere_in_a_publication_is_replaced() {
    for (capacity, mode) in shapes() {
        let mut points = vec![
            "claim.locked",
            "claim.signed",
            "turn.taken",
            "publish.copied",
            "publish.copied:4",
            "publish.stamped",
            "publish.stamped:5",
            "publish.latest",
            "publish.latest:6",
        ];
        points.push(if capacity == 64 {
            "publish.marked:3"
        } else {
            "publish.reserved:2"
        });
        if capacity > 1024 {
            points.extend(["publish.beside", "publish.beside:2"]);
        }
        for point in points {
            let (_scratch, space, mut reader) = board(capacity, mode);
            die_at(point, Part::Publish, &space);
            check_works(&space, &mut reader);
        }
    }
}

/// Each of them was seen by readers who watched its stamp, and by nobody else.
#[test]
fn writers_killed_one_after_the_other_before_the_latest_word_are_all_counted() {
    for mode in [WriterMode::Exclusive, WriterMode::Shared] {
        let (_scratch, space, mut reader) = board(64, mode);
        for sequence in 1..=3 {
            die_at("publish.stamped", Part::Publish, &space);
            let read = |reader: &mut Reader| reader.read().unwrap().unwrap().sequence();
            assert_eq!(read(&mut reader), sequence);
            assert_eq!(read(&mut Reader::open(&space, NAME).unwrap()), sequence);
        }
        check_works(&space, &mut reader);
    }
}

/// A short value is also kept beside a large board's latest word, and a long one is not.
#[test]
fn a_short_value_that_was_not_yet_the_latest_is_not_taken_for_the_next_one() {
    for mode in [WriterMode::Exclusive, WriterMode::Shared] {
        let (_scratch, space, mut reader) = board(5000, mode);
        die_at("publish.stamped:2", Part::Publish, &space);
        assert_eq!(*reader.read().unwrap().unwrap(), *value(1, 5000));
        for next in [vec![7; 5000], vec![8; 80], vec![9; 81], vec![]] {
            open_writer(&space).publish(&next).unwrap();
            assert_eq!(*reader.read().unwrap().unwrap(), *next);
            let mut copy = Vec::new();
            reader.read_into(&mut copy).unwrap();
            assert_eq!(copy, next);
            let mut fresh = Reader::open(&space, NAME).unwrap();
            assert_eq!(*fresh.wait(Some(PATIENCE)).unwrap().unwrap(), *next);
        }
    }
}

#[test]
fn a_writer_killed_before_it_wakes_a_sleeper_strands_nobody() {
    for (capacity, mode) in shapes() {
        let (_scratch, space, mut reader) = board(capacity, mode);
        let mut sleeper = reader.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let snapshot = sleeper.wait(Some(PATIENCE)).unwrap();
            snapshot.expect("published by the one who died").sequence()
        });
        // The sleeper may not sleep yet; then nobody is woken and the writer goes on.
        let child = start("publish.waking", Part::Publish, &space);
        assert!(thread.join().unwrap() >= 1);
        child.wait_with_output().unwrap();
        check_works(&space, &mut reader);
    }
}

#[test]
fn a_writer_killed_with_a_loan_loses_only_the_loan() {
    for mode in [WriterMode::Exclusive, WriterMode::Shared] {
        for point in ["loan.taken", "loan.taken:5", "publish.stamped:3"] {
            let (_scratch, space, mut reader) = board(5000, mode);
            die_at(point, Part::Loan, &space);
            check_works(&space, &mut reader);
        }
    }
}

#[cfg(unix)]
/// Starts a writer that stops itself in the middle of its third publication.
fn stopped_writer(space: &Space) -> std::process::Child {
    stopped("publish.copied:3", Part::Publish, space)
}

#[cfg(unix)]
/// Starts a part that stops itself at the point.
fn stopped(point: &str, part: Part, space: &Space) -> std::process::Child {
    let child = command(part, space)
        .env("CORKBOARD_TEST_STOP_AT", point)
        .spawn()
        .unwrap();
    common::await_stop(&child);
    child
}

#[cfg(unix)]
#[test]
fn a_standby_killed_while_it_takes_over_is_replaced_as_well() {
    for (capacity, mode) in shapes() {
        for point in ["takeover.locked", "takeover.exchanged", "turn.taken"] {
            let (_scratch, space, mut reader) = board(capacity, mode);
            let mut owner = stopped_writer(&space);
            let standby = start(point, Part::Publish, &space);
            // It has an entry of its own, so it takes over instead of claiming the dead one's.
            common::until(|| board::stat(&space, NAME).unwrap().writers.unwrap().len() == 2);
            owner.kill().unwrap();
            owner.wait().unwrap();
            let output = standby.wait_with_output().unwrap();
            assert!(is_killed(output.status), "{mode:?} did not come to {point}");
            check_works(&space, &mut reader);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_writer_keeps_its_place_and_goes_on() {
    for (capacity, mode) in shapes() {
        let (_scratch, space, mut reader) = board(capacity, mode);
        let mut stopped = stopped_writer(&space);
        let impatient = Options::new().writer_timeout(Duration::from_millis(50));
        let refused = impatient
            .open_writer(&space, NAME)
            .and_then(|mut writer| writer.publish(b"by force"));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::WriterExists);
        let snapshot = reader.read().unwrap().unwrap();
        assert_eq!(snapshot.sequence(), 2, "the one before the stop");
        assert_eq!(*snapshot, *value(2, capacity));
        // SAFETY: a signal to a child of ours.
        unsafe { libc::kill(stopped.id() as i32, libc::SIGCONT) };
        assert!(stopped.wait().unwrap().success());
        assert_eq!(reader.read().unwrap().unwrap().sequence(), 8);
        check_works(&space, &mut reader);
    }
}

#[cfg(unix)]
#[test]
fn one_who_opens_a_board_while_it_is_removed_finds_none() {
    let (_scratch, space, _) = board(5000, WriterMode::Exclusive);
    let mut opener = stopped("open.directory", Part::FindNone, &space);
    space.remove(Kind::Board, NAME).unwrap();
    // SAFETY: a signal to a child of ours.
    unsafe { libc::kill(opener.id() as i32, libc::SIGCONT) };
    assert!(opener.wait().unwrap().success());
}

#[test]
fn a_reader_killed_with_or_before_a_pin_holds_nobody_up() {
    for capacity in [64, 5000] {
        let points: &[&str] = if capacity == 64 {
            &["claim.locked", "claim.signed"]
        } else {
            &["claim.locked", "claim.signed", "pin.before", "pin.held"]
        };
        for point in points {
            let scratch = Scratch::new();
            let space = scratch.space();
            let mut writer = options(capacity, WriterMode::Exclusive)
                .writer(&space, NAME)
                .unwrap();
            writer.publish(&value(1, capacity)).unwrap();
            let mut reader = Reader::open(&space, NAME).unwrap();
            die_at(point, Part::Read, &space);
            drop(writer);
            check_works(&space, &mut reader);
        }
    }
}

#[test]
fn a_reader_killed_while_it_waits_costs_nothing_visible() {
    for (capacity, mode) in shapes() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = options(capacity, mode).writer(&space, NAME).unwrap();
        writer.publish(&value(1, capacity)).unwrap();
        let mut reader = Reader::open(&space, NAME).unwrap();
        die_at("wait.announced", Part::Wait, &space);
        drop(writer);
        check_works(&space, &mut reader);
    }
}

#[test]
fn a_creator_killed_half_way_leaves_a_name_that_is_free_or_whole() {
    let points: &[_] = match cfg!(unix) {
        true => &[
            "create.begun",
            "create.directory",
            "create.file",
            "create.file:2",
            "create.file:3",
            "create.renamed",
        ],
        // One file, and memory that is gone with who made it.
        false => &[
            "create.directory",
            "create.begun",
            "create.file",
            "create.renamed",
        ],
    };
    for point in points {
        let scratch = Scratch::new();
        let space = scratch.space();
        die_at(point, Part::Create, &space);
        let listed = space.entries().unwrap().len();
        let is_whole = cfg!(unix) && *point == "create.renamed";
        assert_eq!(listed, usize::from(is_whole), "{point}");
        if listed == 0 {
            let error = Reader::open(&space, NAME).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let stale = space.diagnose().unwrap();
            let mut problems = stale.iter().map(corkboard::Finding::problem);
            // There, nothing has a name before the file is begun.
            let has_left = cfg!(unix) || *point != "create.directory";
            let is_found = problems.any(|problem| problem == Problem::StaleFile);
            assert_eq!(is_found, has_left, "{point}: {stale:?}");
        }
        let mut reader = create(&space, 5000, WriterMode::Exclusive);
        check_works(&space, &mut reader);
    }
}

/// Whoever may look into the space can lock what is being built there before its builder does.
#[cfg(target_os = "linux")]
#[test]
fn a_creator_does_not_wait_for_who_holds_what_it_builds() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut creator = stopped("create.begun", Part::Create, &space);
    let begun = std::fs::read_dir(space.path()).unwrap().next().unwrap();
    let held = std::fs::File::open(begun.unwrap().path()).unwrap();
    held.lock().unwrap();
    // SAFETY: a process that this test started and has not waited for.
    unsafe { libc::kill(creator.id() as i32, libc::SIGCONT) };
    common::until(|| creator.try_wait().unwrap().is_some());
    assert!(creator.wait().unwrap().success());
    drop(held);
    open_writer(&space).publish(b"made").unwrap();
    assert!(space.diagnose().unwrap().is_empty());
}

#[test]
fn a_remover_killed_half_way_leaves_nothing_that_cannot_be_finished() {
    for point in ["remove.marked", "remove.renamed", "remove.deleted"] {
        for mend_first in [false, true] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let mut writer = options(5000, WriterMode::Exclusive)
                .writer(&space, NAME)
                .unwrap();
            die_at(point, Part::Remove, &space);
            let error = writer.publish(b"").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Removed, "{point}");
            drop(writer);
            if mend_first {
                mend(&space);
                assert_eq!(space.entries().unwrap(), []);
            }
            let mut reader = create(&space, 5000, WriterMode::Exclusive);
            check_works(&space, &mut reader);
        }
    }
}
