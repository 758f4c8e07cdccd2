//! What hostile files and fuzzing found once, as the smallest cases.

#![cfg(target_os = "linux")]

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use common::Scratch;
use corkboard::board::{Options, Reader, Writer, WriterMode, stat};
use corkboard::{ErrorKind, Kind, Problem, Space, stream};

const STATE_TO_DESCRIPTORS: u64 = 512;
const LATEST: u64 = 384;
const HIGH: u64 = 384;

fn set_word(scratch: &Scratch, file: &str, offset: u64, word: u64) {
    let path = scratch.0.join("x.board").join(file);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&word.to_ne_bytes(), offset).unwrap();
}

/// The stamp of a slot of a small board for a hundred bytes.
fn small_stamp(slot: u64) -> u64 {
    STATE_TO_DESCRIPTORS + slot * 256
}

#[test]
fn a_latest_word_that_names_no_value_is_damage_for_those_who_copy() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [100, 5000] {
        let options = Options::new().capacity(capacity);
        let mut writer = options.writer(&space, "x").unwrap();
        writer.publish(b"one").unwrap();
        set_word(&scratch, "data", LATEST, 7);
        let mut reader = Reader::open(&space, "x").unwrap();
        let error = reader.read_into(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        space.remove(Kind::Board, "x").unwrap();
    }
}

#[test]
fn one_flipped_bit_does_not_make_an_empty_value() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(100);
    let mut writer = options.writer(&space, "x").unwrap();
    writer.publish(b"one").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    set_word(&scratch, "data", small_stamp(2), 2);
    if let Ok(snapshot) = reader.read() {
        assert_eq!(&*snapshot.unwrap(), b"one");
    }
}

#[test]
fn one_flipped_bit_does_not_bring_an_old_value_back() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(100);
    let mut writer = options.writer(&space, "x").unwrap();
    for value in 1..=18 {
        writer.publish(&[value]).unwrap();
    }
    let mut reader = Reader::open(&space, "x").unwrap();
    assert_eq!(*reader.read().unwrap().unwrap(), [18]);
    set_word(&scratch, "data", small_stamp(3), 3 ^ 16);
    if let Ok(snapshot) = reader.read() {
        assert_eq!(*snapshot.unwrap(), [18]);
    }
}

#[test]
fn a_finding_is_not_applied_to_a_successor_with_fewer_entries() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(100);
    drop(options.writer(&space, "x").unwrap());
    // What a killed reader leaves: its PID.
    set_word(&scratch, "readers", 512 + 60 * 128 + 64, 7);
    set_word(&scratch, "readers", HIGH, 61);
    let findings = space.diagnose().unwrap();
    assert!(findings.iter().any(|finding| finding.is_fixable()));
    space.remove(Kind::Board, "x").unwrap();
    drop(options.max_readers(1).writer(&space, "x").unwrap());
    for finding in findings {
        let _ = finding.fix();
    }
}

#[test]
fn a_damaged_length_does_not_cost_memory() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let capacity = 64 << 20;
    let options = Options::new().capacity(capacity);
    let mut writer = options.writer(&space, "x").unwrap();
    // Longer than what is also kept beside the latest word.
    writer.publish(&[1; 100]).unwrap();
    let mut latest = [0; 8];
    let data = File::open(scratch.0.join("x.board/data")).unwrap();
    data.read_exact_at(&mut latest, LATEST).unwrap();
    let slot = u64::from_ne_bytes(latest) >> 53 & 1023;
    let len_at = STATE_TO_DESCRIPTORS + slot * 128 + 8;
    set_word(&scratch, "data", len_at, capacity as u64);
    assert!(writer.latest().is_err());
    assert!(Reader::open(&space, "x").unwrap().read().is_err());
    let allocated = stat(&space, "x").unwrap().allocated_bytes;
    assert!(allocated < 1 << 20, "{allocated} bytes for one of three");
}

#[test]
fn a_board_that_nobody_could_map_is_refused() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let largest = Options::new().capacity(1 << 40);
    drop(largest.clone().writer(&space, "exclusive").unwrap());
    drop(Reader::open(&space, "exclusive").unwrap());
    let error = largest
        .writer_mode(WriterMode::Shared)
        .writer(&space, "shared");
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(space.entries().unwrap().len(), 1);
}

#[test]
fn whoever_follows_a_writer_is_seen_to_be_alive() {
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Options::new().capacity(100).writer(&space, "x").unwrap());
    let unseen = AtomicU32::new(0);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..20_000 {
                    if let Ok(_writer) = Writer::open(&space, "x")
                        && !stat(&space, "x").unwrap().writer_alive
                    {
                        unseen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(unseen.into_inner(), 0);
}

#[test]
fn what_is_said_to_need_removal_can_be_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    std::fs::write(scratch.0.join("x.board"), b"").unwrap();
    let error = Reader::open(&space, "x").unwrap_err();
    assert!(error.to_string().contains("remove it"), "{error}");
    space.remove(Kind::Board, "x").unwrap();
}

#[test]
fn a_directory_in_place_of_a_file_goes_with_its_board() {
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Options::new().capacity(100).writer(&space, "x").unwrap());
    let path = scratch.0.join("x.board/data");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("y"), b"").unwrap();
    space.remove(Kind::Board, "x").unwrap();
    assert_eq!(std::fs::read_dir(space.path()).unwrap().count(), 0);
}

#[test]
fn what_a_diagnosis_reads_changes_nothing_and_tells_a_corrupt_value() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [100, 5000] {
        let options = Options::new().capacity(capacity);
        let mut writer = options.writer(&space, "x").unwrap();
        let value = b"a value like no other";
        writer.publish(value).unwrap();
        let is_corrupt = || {
            let findings = space.diagnose().unwrap();
            findings.iter().any(|finding| {
                assert!(!finding.is_harmless());
                finding.problem() == Problem::Corrupt
            })
        };
        assert!(!is_corrupt());
        let path = scratch.0.join("x.board/data");
        let data = std::fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for at in 0..data.len() - value.len() {
            if data[at..].starts_with(value) {
                file.write_all_at(b"A", at as u64).unwrap();
            }
        }
        assert!(is_corrupt());
        // Nobody attached itself.
        let mut high = [0; 8];
        let readers = File::open(scratch.0.join("x.board/readers")).unwrap();
        readers.read_exact_at(&mut high, HIGH).unwrap();
        assert_eq!(u64::from_ne_bytes(high), 0);
        writer.publish(value).unwrap();
        assert!(!is_corrupt());
        space.remove(Kind::Board, "x").unwrap();
    }
}

#[test]
fn a_space_that_is_not_in_memory_is_found() {
    let number = std::process::id();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("not-in-memory-{number}"));
    let scratch = Scratch::new();
    for (path, is_memory) in [
        (&path, is_tmpfs(path.parent().unwrap())),
        (&scratch.0, is_tmpfs(Path::new("/dev/shm"))),
    ] {
        let space = Space::at(path).unwrap();
        let found = space.diagnose().unwrap();
        let mut problems = found.iter().map(corkboard::Finding::problem);
        assert_eq!(!problems.any(|it| it == Problem::NotInMemory), is_memory);
        match Options::new().writer(&space, "x") {
            Ok(_) => assert!(is_memory),
            Err(error) => assert!(!is_memory && error.kind() == ErrorKind::Unsupported),
        }
        std::fs::remove_dir_all(path).unwrap();
    }
}

fn is_tmpfs(path: &Path) -> bool {
    let mut stat = Command::new("stat");
    let shown = stat.args(["-f", "-c", "%T"]).arg(path).output().unwrap();
    shown.stdout == b"tmpfs\n"
}

#[test]
fn a_loose_mode_is_only_ever_tightened_and_only_in_the_board_it_was_found_in() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Options::new().writer(&space, "x").unwrap());
    let directory = scratch.0.join("x.board");
    let data = directory.join("data");
    set_mode(&data, 0o777);
    let findings = space.diagnose().unwrap();
    let finding = findings
        .iter()
        .find(|finding| finding.problem() == Problem::WrongMode)
        .unwrap();
    set_mode(&data, 0o600);
    finding.fix().unwrap();
    assert_eq!(mode(&data), 0o600);

    // Another directory has taken the board's place, and looks just like it.
    let other = scratch.0.join("other");
    std::fs::rename(&directory, &other).unwrap();
    set_mode(&other.join("data"), 0o777);
    symlink(&other, &directory).unwrap();
    assert!(finding.fix().is_err());
    assert_eq!(mode(&other.join("data")), 0o777);
    // Or another board has.
    std::fs::remove_file(&directory).unwrap();
    drop(Options::new().writer(&space, "x").unwrap());
    set_mode(&data, 0o777);
    finding.fix().unwrap();
    assert_eq!(mode(&data), 0o777);
}

#[test]
fn what_is_wrong_with_a_stream_is_found_and_a_loose_mode_mended() {
    const TAIL: u64 = 328;
    let scratch = Scratch::new();
    let space = scratch.space();
    let create = || drop(stream::Options::new().producer(&space, "x").unwrap());
    let path = scratch.0.join("x.stream");
    create();
    let of_stream = || {
        let mut findings = space.diagnose().unwrap();
        findings.retain(|finding| finding.subject() == "stream \"x\"");
        findings
    };
    assert!(of_stream().is_empty());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
    let [finding] = &of_stream()[..] else {
        panic!("one finding");
    };
    assert_eq!(finding.problem(), Problem::WrongMode);
    finding.fix().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(of_stream().is_empty());

    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for tail in [7, u64::MAX] {
        file.write_all_at(&tail.to_ne_bytes(), TAIL).unwrap();
        let [finding] = &of_stream()[..] else {
            panic!("one finding");
        };
        assert_eq!(finding.problem(), Problem::Damaged);
        assert!(!finding.is_fixable());
    }
    file.set_len(100).unwrap();
    assert_eq!(of_stream()[0].problem(), Problem::Damaged);
    space.remove(Kind::Stream, "x").unwrap();
    create();
    assert!(of_stream().is_empty());
}

#[test]
fn a_board_that_lacks_a_file_is_damaged_unless_it_is_being_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Options::new().writer(&space, "x").unwrap());
    std::fs::remove_file(scratch.0.join("x.board/readers")).unwrap();
    let error = Reader::open(&space, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("readers file"), "{error}");
}

#[test]
fn a_remover_that_is_stopped_does_not_stop_the_next_one() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().writer(&space, "x").unwrap();
    let directory = File::open(scratch.0.join("x.board")).unwrap();
    directory.lock().unwrap();
    let error = space.remove(Kind::Board, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    writer.publish(b"still there").unwrap();
    directory.unlock().unwrap();
    space.remove(Kind::Board, "x").unwrap();
}

/// Fills the file system to the last page.
fn fill(directory: &str, name: &str) {
    let mut number = 0;
    while std::fs::write(format!("{directory}/{name}{number}"), [0; 4096]).is_ok() {
        number += 1;
    }
}

/// Not a test of its own: publishes on a tmpfs of a megabyte.
#[test]
fn child_shares_a_full_file_system() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_FULL") else {
        return;
    };
    let space = Space::at(&directory).unwrap();
    let options = Options::new().capacity(400_000).max_readers(1);
    let options = options.writer_mode(WriterMode::Shared);
    let mut one = options.writer(&space, "x").unwrap();
    let mut other = options.writer(&space, "x").unwrap();
    for _ in 0..3 {
        // Now `one` knows that its slots have that much memory.
        one.publish(&[1; 200_000]).unwrap();
    }
    fill(&directory, "before");
    // Gives back the memory of the slot that it could not use.
    let error = other.publish(&[2; 400_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    fill(&directory, "after");
    for _ in 0..4 {
        let published = one.publish(&[3; 200_000]).map_err(|error| error.kind());
        assert!(matches!(published, Ok(_) | Err(ErrorKind::NoSpace)));
    }
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_full_file_system_kills_no_shared_writer() {
    let scratch = Scratch::new();
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1300k,mode=700 tmpfs $CORKBOARD_TEST_FULL && exec \"$0\" --exact child_shares_a_full_file_system")
        .arg(std::env::current_exe().unwrap())
        .env("CORKBOARD_TEST_FULL", &scratch.0)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
