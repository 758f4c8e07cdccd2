//! Boards between processes that the kernel keeps apart: by user, by PID namespace, by read-only
//! mappings, by a file system that is full.
//!
//! Some of these need root, to mount, to make namespaces or to become another user. They are
//! ignored by default; `.ci/run` runs them with `--ignored`.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/root.rs"]
mod root;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Scratch, this_program};
use corkboard::board::{self, Access, Options, Reader, Writer};
use corkboard::event::{Event, Reset};
use corkboard::lock::{self, RwLock};
use corkboard::stream::{self, From, Overflow, Producer, Subscriber};
use corkboard::{ErrorKind, Kind, Space, wait};
use root::{Mounted, NOBODY, become_nobody, space_for_everyone};

const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test of its own: the process that is kept apart.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let path = std::env::var("CORKBOARD_TEST_SPACE").unwrap();
    match part.as_str() {
        "write into the data" => write_into_the_data(&path),
        "read unchanged" => read_unchanged(&path),
        "another user" => read_as_another_user(&path),
        "another subscriber" => subscribe_as_another_user(&path),
        "writer" => write_until_killed(&path),
        "hold the lock" => hold_the_lock(&path),
        "remove what is another's" => remove_what_is_anothers(&path),
        "give up rights" => give_up_rights(&path),
        "diagnose what is another's" => diagnose_what_is_anothers(&path),
        other => panic!("no part {other}"),
    }
}

fn start(part: &str, space: &Path) -> Child {
    wrapped(&[], part, space).spawn().unwrap()
}

/// Plays a part to its end, where it says that it is done.
fn play(part: &str, space: &Path) {
    let output = start(part, space).wait_with_output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(said.contains("done"), "{said}");
}

/// The part's command line, after a wrapper's if there is one.
fn wrapped(wrapper: &[&str], part: &str, space: &Path) -> Command {
    let test = this_program();
    let wrapper = wrapper.iter().map(OsStr::new);
    let mut words = wrapper.chain([test.get_program()]).chain(test.get_args());
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args(["--exact", "child_plays_its_part", "--nocapture"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", space)
        .stdout(Stdio::piped());
    command
}

/// The address ranges and permissions of this process's shared mappings of a board's files.
fn shared_mappings(space: &str) -> Vec<(usize, usize, String, String)> {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter(|line| line.contains(space))
        .map(|line| {
            let mut fields = line.split_whitespace();
            let (start, end) = fields.next().unwrap().split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            let permissions = fields.next().unwrap().to_owned();
            (address(start), address(end), permissions, line.to_owned())
        })
        .collect()
}

fn write_into_the_data(space: &str) {
    let mut reader = Reader::open(&Space::at(space).unwrap(), "x").unwrap();
    reader.read().unwrap().unwrap();
    let mappings = shared_mappings(space);
    let (start, ..) = mappings
        .iter()
        .find(|(.., line)| line.ends_with("/data"))
        .expect("the data is mapped");
    println!("about to write");
    std::io::stdout().flush().unwrap();
    // SAFETY: none; the test is that the kernel ends this process here.
    unsafe { (*start as *mut u64).write_volatile(0) };
    println!("written");
}

#[test]
fn a_reader_that_writes_through_its_mapping_gets_a_fault() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let options = Options::new().capacity(capacity);
        options
            .writer(&space, "x")
            .unwrap()
            .publish(b"whole")
            .unwrap();
        let child = start("write into the data", space.path());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("about to write") && !text.contains("written"));
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV));
        let mut reader = Reader::open(&space, "x").unwrap();
        assert_eq!(&*reader.read().unwrap().unwrap(), b"whole");
        space.remove(corkboard::Kind::Board, "x").unwrap();
    }
}

fn read_unchanged(space: &str) {
    let mut reader = Reader::open(&Space::at(space).unwrap(), "x").unwrap();
    assert!(!reader.is_observer());
    reader.read().unwrap().unwrap();
    reader.read().unwrap().unwrap();
    let mappings = shared_mappings(space);
    assert_eq!(mappings.len(), 2, "data and readers' table: {mappings:?}");
    for (start, end, ..) in mappings {
        // SAFETY: our own mappings; whoever writes to them from now on gets a fault.
        let status = unsafe { libc::mprotect(start as *mut _, end - start, libc::PROT_READ) };
        assert_eq!(status, 0);
    }
    for _ in 0..100_000 {
        let snapshot = reader.read().unwrap().unwrap();
        assert_eq!(&*snapshot, b"unchanged");
    }
    println!("read");
    std::io::stdout().flush().unwrap();
    // Dropping the reader gives its entry back, which is a write.
    std::mem::forget(reader);
}

#[test]
fn an_unchanged_read_writes_nothing_shared() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = "x";
        let options = Options::new().capacity(capacity);
        let mut writer = options.writer(&space, name).unwrap();
        writer.publish(b"unchanged").unwrap();
        let output = start("read unchanged", space.path())
            .wait_with_output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("read\n"));
        drop(writer);
        space.remove(corkboard::Kind::Board, name).unwrap();
    }
}

fn read_as_another_user(space: &str) {
    become_nobody();
    let space = Space::at(space).unwrap();
    for name in ["small", "large"] {
        let mut reader = Reader::open(&space, name).unwrap();
        assert!(reader.is_observer());
        assert!(reader.writer_alive());
        assert_eq!(reader.read().unwrap().unwrap().sequence(), 1);
        println!("waiting");
        std::io::stdout().flush().unwrap();
        let snapshot = reader.wait(Some(PATIENCE)).unwrap().unwrap();
        assert_eq!(&*snapshot, b"second");
        assert!(snapshot.age().is_some() && snapshot.published_at().is_some());
        let stat = board::stat(&space, name).unwrap();
        assert!(stat.writers.is_none() && stat.readers.is_none() && stat.writer_alive);
        let path = space.path().join(format!("{name}.board/data"));
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        let error = Writer::open(&space, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    let error = Reader::open(&space, "private").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    println!("done");
}

#[test]
#[ignore = "needs root, to become another user"]
fn another_user_with_read_permission_reads_and_waits() {
    let scratch = Scratch::new();
    let space = space_for_everyone(&scratch);
    let mut writers = [("small", 64), ("large", 5000)].map(|(name, capacity)| {
        let options = Options::new().capacity(capacity).readers(Access::Everyone);
        let mut writer = options.writer(&space, name).unwrap();
        writer.publish(b"first").unwrap();
        writer
    });
    let private = Options::new().writer(&space, "private").unwrap();
    let mut child = start("another user", space.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for writer in &mut writers {
        while lines.next().expect("it waits").unwrap() != "waiting" {}
        writer.publish(b"second").unwrap();
    }
    assert!(lines.any(|line| line.unwrap() == "done"));
    assert!(child.wait().unwrap().success());
    drop(private);
}

fn subscribe_as_another_user(space: &str) {
    become_nobody();
    let space = Space::at(space).unwrap();
    let mut subscriber = Subscriber::open(&space, "overwrite", From::Oldest).unwrap();
    assert!(subscriber.is_observer());
    assert_eq!(*subscriber.try_recv().unwrap().unwrap(), *b"first");
    println!("waiting");
    std::io::stdout().flush().unwrap();
    let message = subscriber.recv(Some(PATIENCE)).unwrap().unwrap();
    assert_eq!(*message, [7; 5000]);
    for name in ["overwrite", "block"] {
        let error = Producer::open(&space, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    // It could not say what it needs still.
    let error = Subscriber::open(&space, "block", From::Oldest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let error = Subscriber::open(&space, "private", From::Oldest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    println!("done");
}

#[test]
#[ignore = "needs root, to become another user"]
fn who_may_only_read_observes_a_stream_that_waits_for_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let space = space_for_everyone(&scratch);
    let streams = [
        ("overwrite", Overflow::Overwrite, 0o644),
        ("block", Overflow::Block, 0o644),
        ("private", Overflow::Overwrite, 0o600),
    ];
    let [mut producer, _block, _private] = streams.map(|(name, overflow, mode)| {
        let options = stream::Options::new().overflow(overflow);
        let producer = options.producer(&space, name).unwrap();
        let path = space.path().join(format!("{name}.stream"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        producer
    });
    producer.send(b"first").unwrap();
    let mut child = start("another subscriber", space.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while lines.next().expect("it waits").unwrap() != "waiting" {}
    producer.send(&[7; 5000]).unwrap();
    assert!(lines.any(|line| line.unwrap() == "done"));
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "needs root, to become another user"]
fn a_removal_that_is_refused_leaves_the_object_alive() {
    let scratch = Scratch::new();
    let everyone = Access::Everyone;
    let space = space_for_everyone(&scratch);
    let options = Options::new().readers(everyone).writers(everyone);
    let mut writer = options.writer(&space, "x").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    let event = Event::create_for(&space, "x", Reset::Manual, everyone).unwrap();
    let options = lock::Options::new().access(everyone);
    drop(options.open(&space, "x").unwrap());
    assert!(common::forked(|| {
        become_nobody();
        [Kind::Board, Kind::Event, Kind::Lock].iter().all(|kind| {
            let error = space.remove(*kind, "x").unwrap_err();
            error.kind() == ErrorKind::PermissionDenied
        })
    }));
    writer.publish(b"alive").unwrap();
    assert_eq!(&*reader.read().unwrap().unwrap(), b"alive");
    event.set().unwrap();
    assert!(
        RwLock::open(&space, "x")
            .unwrap()
            .try_write()
            .unwrap()
            .is_some()
    );
    for kind in [Kind::Board, Kind::Event, Kind::Lock] {
        space.remove(kind, "x").unwrap();
    }
}

/// Leaves a small board as a writer does that dies after it has stamped the value: readers who
/// watch the stamp have it.
fn publish_but_the_latest_word(writer: &mut Writer, space: &Space, value: &[u8]) {
    const LATEST: u64 = 384;
    let path = space.path().join("x.board/data");
    let mut options = std::fs::OpenOptions::new();
    let data = options.read(true).write(true).open(path).unwrap();
    let mut latest = [0; 8];
    data.read_exact_at(&mut latest, LATEST).unwrap();
    writer.publish(value).unwrap();
    if writer.capacity() <= 1024 {
        data.write_all_at(&latest, LATEST).unwrap();
    }
}

/// What a reader can do with the board `x` of another user, who meanwhile does `harm` to it.
fn read_of_another_owner(space: &Space, harm: &str) {
    let mut reader = Reader::open(space, "x").unwrap();
    assert!(reader.is_observer());
    for _ in 0..2 {
        assert_eq!(&*reader.read().unwrap().unwrap(), b"first");
    }
    let mut writer = Writer::open(space, "x").unwrap();
    writer.publish(b"second").unwrap();
    assert_eq!(&*reader.read().unwrap().unwrap(), b"second");
    assert!(reader.wait(Some(Duration::ZERO)).unwrap().is_none());
    publish_but_the_latest_word(&mut writer, space, b"third");
    assert_eq!(&*reader.wait(Some(PATIENCE)).unwrap().unwrap(), b"third");
    assert_eq!(&*reader.read().unwrap().unwrap(), b"third");
    let notifier = reader.notifier().unwrap();
    let is_readable = || {
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&notifier, PollFlags::IN)], None).unwrap() > 0
    };
    writer.publish(b"fourth").unwrap();
    assert_eq!(
        wait::any(&mut [&mut reader], Some(PATIENCE)).unwrap(),
        Some(0)
    );
    assert!(is_readable());
    assert_eq!(&*reader.read().unwrap().unwrap(), b"fourth");
    drop(writer);
    notifier.clear().unwrap();
    let cut = |file: &str| {
        let path = space.path().join("x.board").join(file);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
    };
    let expected = match harm {
        "data" => {
            cut("data");
            ErrorKind::Damaged
        }
        "tables" => {
            cut("readers");
            cut("control");
            assert_eq!(&*reader.read().unwrap().unwrap(), b"fourth");
            assert!(reader.wait(Some(Duration::ZERO)).unwrap().is_none());
            let error = board::stat(space, "x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            return;
        }
        _ => {
            space.remove(Kind::Board, "x").unwrap();
            ErrorKind::Removed
        }
    };
    assert!(is_readable(), "a last time");
    let errors = [
        reader.read().unwrap_err(),
        reader.read_into(&mut Vec::new()).unwrap_err(),
        reader.wait(Some(PATIENCE)).unwrap_err(),
        wait::any(&mut [&mut reader], Some(PATIENCE)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), expected, "{error}");
    }
}

#[test]
#[ignore = "needs root, to give files to another user"]
fn whatever_another_owner_does_to_the_files_is_an_error() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        for harm in ["data", "tables", "removal"] {
            let options = Options::new().capacity(capacity);
            let mut writer = options.writer(&space, "x").unwrap();
            writer.publish(b"first").unwrap();
            drop(writer);
            for file in ["data", "control", "readers"] {
                let path = space.path().join("x.board").join(file);
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            // In a process of its own, which the kernel would end.
            let is_well = common::forked(|| {
                read_of_another_owner(&space, harm);
                true
            });
            assert!(is_well, "{capacity}, {harm}");
            let _ = space.remove(Kind::Board, "x");
        }
    }
}

fn write_until_killed(space: &str) {
    let space = Space::at(space).unwrap();
    println!("pid {}", std::process::id());
    std::io::stdout().flush().unwrap();
    let options = Options::new().capacity(5000).writer_timeout(PATIENCE);
    let mut writer = options.writer(&space, "x").unwrap();
    loop {
        writer
            .publish(std::env::var("CORKBOARD_TEST_NAME").unwrap().as_bytes())
            .unwrap();
    }
}

#[test]
#[ignore = "needs root, to make PID namespaces"]
fn equal_pids_in_two_namespaces_are_two_writers() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let begin = |name: &str| {
        let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut child = wrapped(&unshare, "writer", space.path())
            .env("CORKBOARD_TEST_NAME", name)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid = lines
            .map(|line| line.unwrap())
            .find(|line| line.starts_with("pid "))
            .unwrap();
        (child, pid)
    };
    let (mut first, first_pid) = begin("first");
    let mut reader = Reader::open_timeout(&space, "x", PATIENCE).unwrap();
    assert_eq!(&*reader.wait(Some(PATIENCE)).unwrap().unwrap(), b"first");
    let (mut second, second_pid) = begin("second");
    assert_eq!(first_pid, second_pid, "both are the first of their kind");
    common::until(|| {
        let writers = board::stat(&space, "x").unwrap().writers.unwrap();
        writers.len() == 2 && writers.iter().all(|writer| writer.pid == 1)
    });
    let before = reader.read().unwrap().unwrap().sequence();
    for _ in 0..1000 {
        let snapshot = reader.wait(Some(PATIENCE)).unwrap().unwrap();
        assert_eq!(
            &*snapshot, b"first",
            "the standby does not take it for dead"
        );
    }
    assert!(reader.writer_alive());
    first.kill().unwrap();
    first.wait().unwrap();
    loop {
        let snapshot = reader.wait(Some(PATIENCE)).unwrap();
        let snapshot = snapshot.expect("the standby takes over");
        assert!(snapshot.sequence() > before);
        if &*snapshot == b"second" {
            break;
        }
    }
    let writers = board::stat(&space, "x").unwrap().writers.unwrap();
    let alive: Vec<_> = writers.iter().filter(|writer| writer.is_alive).collect();
    assert_eq!(alive.len(), 1);
    assert!(alive[0].is_publishing);
    second.kill().unwrap();
    second.wait().unwrap();
    common::until(|| !reader.writer_alive());
}

/// Holds a lock file until its standard input ends.
fn hold_the_lock(path: &str) {
    let mut lock = RwLock::at(path).unwrap();
    let guard = lock.write().unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(guard);
}

#[test]
#[ignore = "needs root, to make mount namespaces"]
fn two_mount_namespaces_that_share_a_directory_exclude_each_other() {
    let scratch = Scratch::new();
    let shared = scratch.0.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let elsewhere = scratch.0.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    // There the directory is at another path, on top of a file system of its own.
    let bind = format!("mount --bind {shared:?} {elsewhere:?} && exec \"$0\" \"$@\"");
    let wrapper = ["unshare", "--mount", "sh", "-c", &bind];
    let mut child = wrapped(&wrapper, "hold the lock", &elsewhere.join("file"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    assert!(!elsewhere.join("file").exists(), "only there");
    let mut lock = RwLock::at(shared.join("file")).unwrap();
    assert!(lock.try_write().unwrap().is_none());
    assert!(lock.try_read().unwrap().is_none());
    let waiter = std::thread::spawn(move || {
        let got = lock.write_timeout(PATIENCE).unwrap().is_some();
        (got, lock)
    });
    drop(child.stdin.take());
    let (got, mut lock) = waiter.join().unwrap();
    assert!(got);
    assert!(child.wait().unwrap().success());
    // And when the holder there is killed.
    let mut child = wrapped(&wrapper, "hold the lock", &elsewhere.join("file"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    assert!(lock.try_read().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lock.read_timeout(PATIENCE).unwrap().is_some());
}

fn remove_what_is_anothers(space: &str) {
    become_nobody();
    let space = Space::at(space).unwrap();
    for kind in [Kind::Lock, Kind::Event] {
        let error = space.remove(kind, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
    drop(RwLock::open(&space, "x").unwrap().write().unwrap());
    Event::open(&space, "x").unwrap().set().unwrap();
    println!("done");
}

#[test]
#[ignore = "needs root, to become another user"]
fn a_refused_removal_leaves_a_lock_and_an_event_as_they_were() {
    let scratch = Scratch::new();
    let everyone = Access::Everyone;
    let space = space_for_everyone(&scratch);
    let options = lock::Options::new().access(everyone);
    let mut ours = options.open(&space, "x").unwrap();
    let event = Event::create_for(&space, "x", Reset::Auto, everyone).unwrap();
    play("remove what is another's", space.path());
    drop(ours.write().unwrap());
    assert!(event.wait(Some(Duration::ZERO)).unwrap());
}

fn diagnose_what_is_anothers(space: &str) {
    become_nobody();
    let findings = Space::at(space).unwrap().diagnose().unwrap();
    let is_noted = |name: &str| {
        let is_it = |finding: &&corkboard::Finding| finding.subject().contains(name);
        let finding = findings.iter().find(is_it).unwrap();
        finding.problem() == corkboard::Problem::Unreadable && finding.is_harmless()
    };
    assert!(
        is_noted("board \"x\"") && is_noted("lock \"x\""),
        "{findings:?}"
    );
    println!("done");
}

#[test]
#[ignore = "needs root, to become another user"]
fn what_a_user_may_not_look_into_is_noted() {
    let scratch = Scratch::new();
    let space = space_for_everyone(&scratch);
    drop(Options::new().capacity(64).writer(&space, "x").unwrap());
    drop(RwLock::open(&space, "x").unwrap());
    play("diagnose what is another's", space.path());
}

fn give_up_rights(space: &str) {
    let space = Space::at(space).unwrap();
    let mut lock = RwLock::open(&space, "x").unwrap();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    become_nobody();
    // The space is root's alone: nobody may look any more whether the files are in their place.
    assert!(!event.wait(Some(Duration::from_millis(60))).unwrap());
    drop(lock.write().unwrap());
    event.set().unwrap();
    assert!(event.wait(None).unwrap());
    println!("done");
}

#[test]
#[ignore = "needs root, to give up its rights"]
fn handles_outlive_the_right_to_open_them() {
    let scratch = Scratch::new();
    let space = scratch.0.join("private");
    play("give up rights", &space);
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_lock_with_holes_on_a_full_file_system_is_an_error() {
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "256k");
    let space = Space::at(mounted.0).unwrap();
    drop(RwLock::open(&space, "whole").unwrap());
    let whole = std::fs::read(mounted.0.join("whole.lock")).unwrap();
    let holes = std::fs::File::create(mounted.0.join("holes.lock")).unwrap();
    holes.set_len(whole.len() as u64).unwrap();
    holes.write_all_at(&whole[..512], 0).unwrap();
    mounted.fill();
    let error = RwLock::open(&space, "holes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let error = RwLock::open(&space, "another").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    drop(RwLock::open(&space, "whole").unwrap().write().unwrap());
}

/// Takes away all memory behind so many bytes of a file.
fn make_holes(path: &Path, kept: u64) -> std::fs::File {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(kept).unwrap();
    file.set_len(len).unwrap();
    file
}

/// Files of a board that have lost all memory behind their first page.
#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_board_with_holes_on_a_full_file_system_is_an_error() {
    for file in ["data", "control", "readers"] {
        let scratch = Scratch::new();
        let mounted = Mounted::new(&scratch.0, "2m");
        let space = Space::at(mounted.0).unwrap();
        // Their slots or tables are all in memory from the beginning.
        let options = Options::new().capacity(1000).max_readers(62);
        drop(options.writer(&space, "x").unwrap());
        let holes = make_holes(&mounted.0.join("x.board").join(file), 400);
        // Every entry was claimed once.
        if file != "data" {
            holes.write_all_at(&u64::MAX.to_ne_bytes(), 384).unwrap();
        }
        mounted.fill();
        let reader = Reader::open(&space, "x").and_then(|mut reader| reader.read().map(drop));
        let writer = Writer::open(&space, "x").and_then(|mut writer| writer.publish(&[1; 900]));
        let wanted = [file != "control", true].map(|fails| fails.then_some(ErrorKind::NoSpace));
        let found = [reader.err(), writer.err()].map(|error| error.map(|error| error.kind()));
        assert_eq!(found, wanted, "{file}");
        space.remove(Kind::Board, "x").unwrap();
    }
}

/// Who is attached to what has holes by now is told all the same when it is removed.
#[test]
#[ignore = "needs root, to mount a small file system"]
fn what_has_holes_on_a_full_file_system_is_removed_and_says_so() {
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "2m");
    let space = Space::at(mounted.0).unwrap();
    let options = Options::new().capacity(1000);
    let mut writer = options.writer(&space, "small").unwrap();
    let options = Options::new().capacity(100_000);
    let mut large = options.writer(&space, "large").unwrap();
    let options = stream::Options::new().overflow(Overflow::Overwrite);
    let mut producer = options.capacity(8192).producer(&space, "x").unwrap();
    for file in ["small.board/data", "large.board/data", "x.stream"] {
        make_holes(&mounted.0.join(file), 4096);
    }
    mounted.fill();
    space.remove(Kind::Board, "small").unwrap();
    space.remove(Kind::Board, "large").unwrap();
    space.remove(Kind::Stream, "x").unwrap();
    let found = [
        writer.publish(b"x").unwrap_err().kind(),
        large.publish(b"x").unwrap_err().kind(),
        producer.send(b"x").unwrap_err().kind(),
    ];
    assert_eq!(found, [ErrorKind::Removed; 3]);
}

/// A stranger changed the word that says how often memory was given back.
#[test]
#[ignore = "needs root, to mount a small file system"]
fn memory_is_given_back_however_often_it_was() {
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "2m");
    let space = Space::at(mounted.0).unwrap();
    let mut writer = Options::new()
        .capacity(8 << 20)
        .writer(&space, "x")
        .unwrap();
    let control = std::fs::OpenOptions::new()
        .write(true)
        .open(mounted.0.join("x.board/control"))
        .unwrap();
    control.write_all_at(&u64::MAX.to_ne_bytes(), 320).unwrap();
    let error = writer.publish(&vec![1; 4 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    writer.publish(b"what fits").unwrap();
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_full_file_system_is_an_error_and_the_old_value_stays() {
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "4m");
    let space = Space::at(mounted.0).unwrap();
    let options = Options::new().capacity(64 << 20);
    let mut writer = options.writer(&space, "x").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    writer.publish(&vec![7; 1 << 20]).unwrap();
    let check = |reader: &mut Reader, byte: u8, len: usize| {
        let snapshot = reader.read().unwrap().unwrap();
        assert_eq!(snapshot.len(), len);
        assert!(snapshot.iter().all(|found| *found == byte));
    };
    for round in 0..5 {
        for too_much in [8 << 20, 64 << 20, (3 << 20) + 1] {
            let error = writer.publish(&vec![8; too_much]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            let error = writer.loan(too_much).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            check(&mut reader, 7 + round, 1 << 20);
        }
        // What the failed ones had taken is given back.
        writer.publish(&vec![8 + round; 1 << 20]).unwrap();
        check(&mut reader, 8 + round, 1 << 20);
    }
    // Other boards get the same answer, and nothing half-made stays.
    let mut filler = options.writer(&space, "filler").unwrap();
    for len in [1 << 20, 1 << 16, 1 << 12] {
        while filler.publish(&vec![1; len]).is_ok()
            && board::stat(&space, "filler").unwrap().sequence < 100
        {}
    }
    let mut made = Vec::new();
    let error = loop {
        match Options::new()
            .capacity(1000)
            .writer(&space, &made.len().to_string())
        {
            Ok(writer) => made.push(writer),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    let hidden = std::fs::read_dir(mounted.0)
        .unwrap()
        .filter(|item| item.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0);
    check(&mut reader, 12, 1 << 20);
}
