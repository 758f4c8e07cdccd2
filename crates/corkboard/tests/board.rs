//! Boards within one process: what is published is what is read.

mod common;

#[cfg(unix)]
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::Duration;

use common::Scratch;
#[cfg(unix)]
use corkboard::board::Access;
use corkboard::board::{Integrity, Options, Reader, Writer, WriterMode};
use corkboard::{ErrorKind, Kind};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

fn value(sequence: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u64).wrapping_mul(31).wrapping_add(sequence) as u8)
        .collect()
}

#[test]
fn values_of_all_lengths_come_back_on_small_and_large_boards() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [0, 1, 7, 8, 64, 1024, 1025, 100_000] {
        let name = format!("b{capacity}");
        let mut writer = Options::new()
            .capacity(capacity)
            .writer(&space, &name)
            .unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        assert!(reader.read().unwrap().is_none());
        let mut expected = 0;
        for len in [
            0, 1, 7, 8, 9, 63, 64, 65, 1023, 1024, 4097, 65_537, capacity,
        ] {
            if len > capacity {
                let error = writer.publish(&value(0, len)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                continue;
            }
            expected += 1;
            assert_eq!(writer.publish(&value(expected, len)).unwrap(), expected);
            let snapshot = reader.read().unwrap().unwrap();
            assert_eq!(snapshot.sequence(), expected);
            assert_eq!(&*snapshot, value(expected, len));
            assert!(snapshot.age().unwrap() < Duration::from_secs(600));
            let mut copy = Vec::new();
            assert_eq!(reader.read_into(&mut copy).unwrap(), Some(expected));
            assert_eq!(copy, value(expected, len));
        }
    }
}

#[test]
fn a_held_snapshot_does_not_change_while_the_writer_goes_on() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().capacity(5000).writer(&space, "x").unwrap();
    writer.publish(&value(1, 5000)).unwrap();
    let held = Reader::open(&space, "x")
        .unwrap()
        .into_snapshot()
        .unwrap()
        .unwrap();
    for sequence in 2..500 {
        writer.publish(&value(sequence, 5000)).unwrap();
    }
    assert_eq!(held.sequence(), 1);
    assert_eq!(&*held, value(1, 5000));
    let mut reader = held.into_reader();
    assert_eq!(reader.read().unwrap().unwrap().sequence(), 499);
}

#[test]
fn readers_beyond_the_table_observe_and_still_read_and_wait() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = format!("b{capacity}");
        let options = Options::new().capacity(capacity).max_readers(1);
        let mut writer = options.writer(&space, &name).unwrap();
        let first = Reader::open(&space, &name).unwrap();
        let mut observer = Reader::open(&space, &name).unwrap();
        assert!(!first.is_observer() && observer.is_observer());
        writer.publish(b"seen").unwrap();
        assert_eq!(&*observer.wait(LONG).unwrap().unwrap(), b"seen");
        drop(first);
        assert!(!Reader::open(&space, &name).unwrap().is_observer());
    }
}

#[test]
fn wait_sees_each_value_of_a_writer_that_waits_for_the_answer() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let options = Options::new().capacity(capacity);
        let mut ping = options.writer(&space, &format!("ping{capacity}")).unwrap();
        let mut pong = options.writer(&space, &format!("pong{capacity}")).unwrap();
        let mut ping_reader = Reader::open(&space, &format!("ping{capacity}")).unwrap();
        let mut pong_reader = Reader::open(&space, &format!("pong{capacity}")).unwrap();
        let answers = std::thread::spawn(move || {
            for sequence in 1..=2000 {
                let snapshot = ping_reader.wait(LONG).unwrap().unwrap();
                assert_eq!(snapshot.sequence(), sequence);
                pong.publish(&snapshot).unwrap();
            }
        });
        for sequence in 1..=2000 {
            ping.publish(&value(sequence, 64)).unwrap();
            let snapshot = pong_reader.wait(LONG).unwrap().unwrap();
            assert_eq!(&*snapshot, value(sequence, 64));
        }
        answers.join().unwrap();
        assert!(
            pong_reader
                .wait(Some(Duration::from_millis(1)))
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn a_saturating_writer_never_shows_a_torn_value_nor_goes_backwards() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 4096] {
        let name = format!("b{capacity}");
        let options = Options::new().capacity(capacity).integrity(Integrity::None);
        let mut writer = options.writer(&space, &name).unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        let publisher = std::thread::spawn(move || {
            for sequence in 1..=100_000u64 {
                writer.publish(&vec![sequence as u8; capacity]).unwrap();
            }
        });
        let mut last = 0;
        while last < 100_000 {
            let Some(snapshot) = reader.wait(LONG).unwrap() else {
                panic!("stuck after {last}");
            };
            assert!(snapshot.sequence() > last);
            last = snapshot.sequence();
            assert!(snapshot.iter().all(|byte| *byte == last as u8));
        }
        publisher.join().unwrap();
    }
}

#[test]
fn shared_writers_take_turns_and_publish_if_loses_no_update() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = format!("b{capacity}");
        let options = Options::new()
            .capacity(capacity)
            .writer_mode(WriterMode::Shared)
            .writer_timeout(Duration::from_secs(30));
        let first = options.writer(&space, &name).unwrap();
        let _keeper = space.keep(Kind::Board, &name).unwrap();
        drop(first);
        let counters: Vec<_> = (0..4)
            .map(|_| {
                let mut writer = options.writer(&space, &name).unwrap();
                let mut reader = Reader::open(&space, &name).unwrap();
                std::thread::spawn(move || {
                    let mut done = 0;
                    while done < 500 {
                        let (sequence, count) = match reader.read().unwrap() {
                            None => (0, 0),
                            Some(snapshot) => {
                                let count = u64::from_le_bytes((&*snapshot).try_into().unwrap());
                                (snapshot.sequence(), count)
                            }
                        };
                        match writer.publish_if(sequence, &(count + 1).to_le_bytes()) {
                            Ok(_) => done += 1,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                        }
                    }
                })
            })
            .collect();
        for counter in counters {
            counter.join().unwrap();
        }
        let mut reader = Reader::open(&space, &name).unwrap();
        let snapshot = reader.read().unwrap().unwrap();
        assert_eq!(snapshot.sequence(), 2000);
        assert_eq!(&*snapshot, 2000u64.to_le_bytes());
    }
}

#[test]
fn a_second_exclusive_writer_is_refused_or_waits() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut first = Options::new().writer(&space, "x").unwrap();
    first.publish(b"first").unwrap();
    let _keeper = space.keep(Kind::Board, "x").unwrap();
    let error = Writer::open(&space, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterExists);
    let standby = {
        let space = space.clone();
        std::thread::spawn(move || {
            let options = Options::new().writer_timeout(Duration::from_secs(30));
            options
                .writer(&space, "x")
                .unwrap()
                .publish(b"second")
                .unwrap()
        })
    };
    drop(first);
    assert_eq!(standby.join().unwrap(), 2);
}

#[test]
fn other_options_than_the_board_has_are_refused() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let writer = Options::new().capacity(100).writer(&space, "x").unwrap();
    let _keeper = space.keep(Kind::Board, "x").unwrap();
    drop(writer);
    assert_eq!(Options::new().writer(&space, "x").unwrap().capacity(), 100);
    let error = Options::new()
        .capacity(101)
        .writer(&space, "x")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("100") && error.to_string().contains("101"));
}

/// Without it, those who sleep look after a slice only.
#[cfg(target_os = "linux")]
#[test]
fn an_awaited_value_and_a_removal_ring_the_bell() {
    use std::os::unix::fs::FileExt;
    const WAITING: u64 = 256;
    const BELL: u64 = 272;
    for capacity in [64, 5000] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = Options::new()
            .capacity(capacity)
            .writer(&space, "x")
            .unwrap();
        let readers = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(space.path().join("x.board/readers"))
            .unwrap();
        let bell = || {
            let mut word = [0; 8];
            readers.read_exact_at(&mut word, BELL).unwrap();
            u64::from_ne_bytes(word)
        };
        // A new file's word says live, which the first values take for somebody who waits.
        writer.publish(b"first").unwrap();
        writer.publish(b"second").unwrap();
        let before = bell();
        writer.publish(b"nobody waits").unwrap();
        assert_eq!(bell(), before);
        let somebody = (1_u64 << 32).to_ne_bytes();
        readers.write_all_at(&somebody, WAITING).unwrap();
        writer.publish(b"awaited").unwrap();
        assert_eq!(bell(), before + 1);
        space.remove(Kind::Board, "x").unwrap();
        assert_eq!(bell(), before + 2);
    }
}

#[test]
fn removal_is_noticed_and_the_name_is_free_again() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().writer(&space, "x").unwrap();
    writer.publish(b"old").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    reader.read().unwrap();
    let mut waiting = reader.try_clone().unwrap();
    waiting.read().unwrap();
    let waiting = std::thread::spawn(move || waiting.wait(LONG).map(drop).unwrap_err().kind());
    assert_eq!(space.entries().unwrap().len(), 1);
    space.remove(Kind::Board, "x").unwrap();
    assert_eq!(waiting.join().unwrap(), ErrorKind::Removed);
    assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Removed);
    assert_eq!(writer.publish(b"").unwrap_err().kind(), ErrorKind::Removed);
    assert_eq!(
        Reader::open(&space, "x").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        space.remove(Kind::Board, "x").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(space.entries().unwrap().is_empty());
    drop((reader, writer));
    assert!(std::fs::read_dir(space.path()).unwrap().next().is_none());
    let _writer = Options::new().writer(&space, "x").unwrap();
    assert!(Reader::open(&space, "x").unwrap().read().unwrap().is_none());
}

#[cfg(unix)]
#[test]
fn a_creator_finishes_what_a_killed_remover_began() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().writer(&space, "x").unwrap();
    let path = space.path().join("x.board/data");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&2u64.to_ne_bytes(), 256).unwrap();
    assert_eq!(writer.publish(b"").unwrap_err().kind(), ErrorKind::Removed);
    let error = Reader::open(&space, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut writer = Options::new().writer(&space, "x").unwrap();
    assert_eq!(writer.publish(b"afresh").unwrap(), 1);
    assert_eq!(std::fs::read_dir(space.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_flipped_payload_is_corrupt_until_the_next_publication() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for (capacity, len) in [(64, 20), (5000, 20), (5000, 100)] {
        let name = format!("b{capacity}-{len}");
        let mut writer = Options::new()
            .capacity(capacity)
            .writer(&space, &name)
            .unwrap();
        let mut value = b"a needle in the file".to_vec();
        value.resize(len, b'.');
        writer.publish(&value).unwrap();
        let path = space.path().join(format!("{name}.board/data"));
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes
            .windows(8)
            .position(|bytes| bytes == b"a needle")
            .unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"A", at as u64).unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Corrupt);
        let error = reader.read_into(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(reader.wait(Some(Duration::ZERO)).unwrap().is_none());
        writer.publish(b"healed").unwrap();
        assert_eq!(&*reader.read().unwrap().unwrap(), b"healed");
    }
}

#[cfg(unix)]
#[test]
fn hostile_files_are_errors_that_name_the_board() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for file in ["data", "control", "readers"] {
        for damage in 0..5 {
            drop(Options::new().capacity(5000).writer(&space, "x").unwrap());
            let path = space.path().join("x.board").join(file);
            match damage {
                0 => std::fs::File::create(&path).map(drop).unwrap(),
                1 => std::fs::write(&path, vec![0xA5; 100_000]).unwrap(),
                2 => {
                    std::fs::remove_file(&path).unwrap();
                    symlink("/dev/zero", &path).unwrap();
                }
                3 => {
                    std::fs::remove_file(&path).unwrap();
                    std::fs::create_dir(&path).unwrap();
                }
                _ => {
                    std::fs::remove_file(&path).unwrap();
                    common::make_fifo(&path);
                }
            }
            let error = Options::new().writer(&space, "x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{file} {damage}: {error}");
            assert!(error.to_string().contains("\"x\""), "{error}");
            space.remove(Kind::Board, "x").unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn modes_are_exact_and_private_by_default() {
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Options::new().writer(&space, "own").unwrap());
    drop(
        Options::new()
            .readers(Access::Everyone)
            .writer(&space, "all")
            .unwrap(),
    );
    let mode = |path: &str| {
        let metadata = std::fs::metadata(space.path().join(path)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    for (path, expected) in [
        ("own.board", 0o700),
        ("own.board/data", 0o600),
        ("own.board/control", 0o600),
        ("own.board/readers", 0o600),
        ("all.board", 0o711),
        ("all.board/data", 0o644),
        ("all.board/control", 0o600),
        ("all.board/readers", 0o660),
    ] {
        assert_eq!(mode(path), expected, "{path}: {:o}", mode(path));
    }
}
