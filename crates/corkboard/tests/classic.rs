//! Classic blocks: what readers and writers promise, and what hostile bytes do.
//!
//! Here a block is a file of the space, so its bytes can be looked at and changed at will. The
//! original's side is played on Windows, see `classic_interop.rs`.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/random.rs"]
mod random;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Scratch, until};
use corkboard::classic::{self, Dialect, Event, Options, Reader, Reset, Writer};
use corkboard::integrity::crc64;
use corkboard::{ErrorKind, Space};
use random::{Random, check_value};

const NAME: &str = "x";
const ALL: [Dialect; 3] = [Dialect::Seed, Dialect::Untailed, Dialect::Current];
const PATIENCE: Duration = Duration::from_secs(60);

fn memory_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Current => "SMM-x",
        _ => "ShareMemoryMap-x",
    }
}

/// The block's file, to play somebody who does as they like.
struct Raw(fs::File);

impl Raw {
    fn open(scratch: &Scratch, dialect: Dialect) -> Self {
        let mut options = OpenOptions::new();
        let path = scratch.0.join(memory_name(dialect));
        let options = options.read(true).write(true).create(true);
        Self(options.truncate(false).open(path).unwrap())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.0.metadata().unwrap().len() as usize];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, at).unwrap();
    }

    fn set_number(&self, at: u64, number: i32) {
        self.set(at, &number.to_le_bytes());
    }
}

fn write_new(space: &Space, dialect: Dialect, capacity: usize, content: &[u8]) -> Writer {
    let options = Options::new(dialect).capacity(capacity);
    let mut writer = options.writer(space, NAME).unwrap();
    writer.write(content).unwrap();
    writer
}

#[test]
fn values_of_every_possible_length_are_read_as_they_were_written() {
    for dialect in ALL {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = Options::new(dialect).capacity(100);
        let mut writer = options.writer(&space, NAME).unwrap();
        let mut reader = Reader::open(&space, NAME, dialect).unwrap();
        assert_eq!((writer.dialect(), reader.dialect()), (dialect, dialect));
        // Nothing was written: an empty value, as the original has it.
        assert_eq!(reader.read().unwrap(), b"");
        for len in [0, 1, 7, 8, 9, 63, 64, 99, 100, 0] {
            let content: Vec<u8> = (0..len).map(|index| 0xA0 ^ index as u8).collect();
            writer.write(&content).unwrap();
            assert_eq!(reader.read().unwrap(), content);
            assert_eq!(writer.read().unwrap(), content);
        }
        writer.write(b"kept").unwrap();
        let refused = writer.write(&[1; 101]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
        assert!(refused.to_string().contains("101"), "{refused}");
        assert_eq!(reader.read().unwrap(), b"kept");
        assert_eq!(reader.capacity().unwrap(), 100);
        assert_eq!(writer.capacity().unwrap(), 100);
    }
}

#[test]
fn two_zero_bytes_follow_the_content_in_the_reader_s_memory() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Untailed, 64, &[0xFF; 64]);
    let mut reader = Reader::open(&space, NAME, Dialect::Untailed).unwrap();
    // Memory with something else in it.
    let mut buffer = vec![0xEE; 200];
    for len in [64, 63, 5, 0] {
        writer.write(&vec![0xFF; len]).unwrap();
        reader.read_into(&mut buffer).unwrap();
        assert_eq!(buffer, vec![0xFF; len]);
        assert!(buffer.capacity() >= len + 2);
        // SAFETY: inside the vector's memory, and `read_into` says that they are there.
        let zeros = unsafe { [0, 1].map(|at| *buffer.as_ptr().add(len + at)) };
        assert_eq!(zeros, [0, 0]);

        let mut memory = vec![0xEE; 100];
        let given = memory.as_mut_slice();
        let read = reader.read_with(|needed| {
            assert_eq!(needed, len + 2);
            Some(given)
        });
        assert_eq!(read.unwrap(), Some(len));
        assert_eq!(memory[..len], vec![0xFF; len]);
        assert_eq!(memory[len..len + 3], [0, 0, 0xEE]);
    }
    writer.write(b"abc").unwrap();
    assert_eq!(reader.read_with(|_| None).unwrap(), None);
    for short in [0, 2, 3, 4] {
        let mut memory = vec![0xEE; short];
        let refused = reader.read_with(|_| Some(memory.as_mut_slice()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn a_second_writer_keeps_what_is_there() {
    for dialect in ALL {
        let scratch = Scratch::new();
        let space = scratch.space();
        let raw = {
            let mut first = write_new(&space, dialect, 100, b"first");
            let raw = Raw::open(&scratch, dialect);
            raw.set_number(24, 0x1234_5678);
            raw.set_number(28, -2);
            let before = raw.bytes();
            for capacity in [None, Some(0), Some(99), Some(100)] {
                let mut options = Options::new(dialect);
                if let Some(capacity) = capacity {
                    options = options.capacity(capacity);
                }
                let mut second = options.writer(&space, NAME).unwrap();
                assert_eq!(second.read().unwrap(), b"first");
                assert_eq!(second.capacity().unwrap(), 100);
            }
            Writer::open(&space, NAME, dialect).unwrap();
            let more = Options::new(dialect).capacity(101).writer(&space, NAME);
            let more = more.unwrap_err();
            assert_eq!(more.kind(), ErrorKind::Incompatible, "{more}");
            assert_eq!(raw.bytes(), before);
            first.write(b"second").unwrap();
            raw
        };
        let after = raw.bytes();
        assert_eq!(after[24..28], 0x1234_5678_i32.to_le_bytes());
        assert_eq!(after[28..32], (-2_i32).to_le_bytes());
    }
}

#[test]
fn sizes_that_no_header_can_state_are_refused() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [1 << 31, (1 << 31) - 33, usize::MAX] {
        let options = Options::new(Dialect::Seed).capacity(capacity);
        let refused = options.writer(&space, NAME).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge, "{capacity}");
    }
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    for name in ["", "a/b", "a\\b", "CON", "x."] {
        let refused = Reader::open(&space, name, Dialect::Seed).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidName);
    }
    let absent = Reader::open(&space, NAME, Dialect::Seed).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let absent = Writer::open(&space, NAME, Dialect::Seed).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

/// Made by the double, see `classic/double.c`.
const GOLDEN: [(Dialect, &[u8]); 3] = [
    (Dialect::Seed, include_bytes!("classic/golden/seed.bin")),
    (
        Dialect::Untailed,
        include_bytes!("classic/golden/untailed.bin"),
    ),
    (
        Dialect::Current,
        include_bytes!("classic/golden/current.bin"),
    ),
];
const GOLDEN_CONTENT: &str = "It is 21.5 degrees, 晴";
const GOLDEN_CAPACITY: usize = 48;

#[test]
fn the_original_s_bytes_are_read_and_equal_ones_are_written() {
    for (dialect, golden) in GOLDEN {
        let scratch = Scratch::new();
        let space = scratch.space();
        fs::write(scratch.0.join(memory_name(dialect)), golden).unwrap();
        let mut reader = Reader::open(&space, NAME, dialect).unwrap();
        assert_eq!(reader.read().unwrap(), GOLDEN_CONTENT.as_bytes());
        assert_eq!(reader.capacity().unwrap(), GOLDEN_CAPACITY);
        assert_eq!(classic::recognise(&space, NAME).unwrap(), dialect);

        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = write_new(&space, dialect, GOLDEN_CAPACITY, GOLDEN_CONTENT.as_bytes());
        let raw = Raw::open(&scratch, dialect);
        assert_eq!(raw.bytes(), golden, "{dialect}");
        // What a longer value leaves behind the new one is nobody's; the tail is.
        writer.write(&[0xEE; GOLDEN_CAPACITY]).unwrap();
        writer.write(GOLDEN_CONTENT.as_bytes()).unwrap();
        let mut bytes = raw.bytes();
        let end = 32 + GOLDEN_CONTENT.len();
        if dialect == Dialect::Seed {
            assert_eq!(bytes[end], 0);
        }
        bytes[end..].fill(0);
        assert_eq!(bytes, golden, "{dialect}");
    }
}

/// As the system rounds memory up to whole pages.
#[test]
fn a_block_in_more_memory_than_its_header_states_is_read() {
    for (dialect, golden) in GOLDEN {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut page = golden.to_vec();
        page.resize(4096, 0);
        fs::write(scratch.0.join(memory_name(dialect)), page).unwrap();
        let stat = classic::stat(&space, NAME, None).unwrap();
        assert_eq!((stat.view_len, stat.capacity), (4096, GOLDEN_CAPACITY));
        assert_eq!((stat.dialect, stat.len), (dialect, GOLDEN_CONTENT.len()));
        assert_eq!(stat.memory_size, golden.len());
        assert_eq!(stat.is_intact, Some(true));
        assert_eq!(stat.checksum, crc64(GOLDEN_CONTENT.as_bytes(), 0));
        let mut writer = Writer::open(&space, NAME, dialect).unwrap();
        let refused = writer.write(&[0; GOLDEN_CAPACITY + 1]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn a_dialect_that_is_not_the_block_s_is_incompatible() {
    for (is, other) in [
        (Dialect::Seed, Dialect::Untailed),
        (Dialect::Untailed, Dialect::Seed),
    ] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = write_new(&space, is, 64, b"value");
        let kinds = [
            Reader::open(&space, NAME, other).unwrap_err().kind(),
            Writer::open(&space, NAME, other).unwrap_err().kind(),
            Options::new(other).writer(&space, NAME).unwrap_err().kind(),
            classic::stat(&space, NAME, Some(other)).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Incompatible; 4]);
        let newer = Reader::open(&space, NAME, Dialect::Current).unwrap_err();
        assert_eq!(newer.kind(), ErrorKind::NotFound);
        assert_eq!(classic::recognise(&space, NAME).unwrap(), is);
        // Somebody takes over while a handle is attached.
        Raw::open(&scratch, is).set_number(12, if is == Dialect::Seed { 0 } else { 1 });
        let kinds = [
            writer.read().unwrap_err().kind(),
            writer.write(b"w").unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Incompatible; 2]);
        assert_eq!(classic::recognise(&space, NAME).unwrap(), other);
    }
}

#[test]
fn two_blocks_of_one_name_are_told_apart_by_who_asks() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let unknown = classic::recognise(&space, NAME).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let _older = write_new(&space, Dialect::Seed, 64, b"older");
    let _newer = write_new(&space, Dialect::Current, 64, b"newer");
    let unknown = classic::recognise(&space, NAME).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Incompatible, "{unknown}");
    let read = |dialect| Reader::open(&space, NAME, dialect).unwrap().read().unwrap();
    assert_eq!(read(Dialect::Seed), b"older");
    assert_eq!(read(Dialect::Current), b"newer");
}

#[test]
fn a_block_that_is_being_made_is_not_taken_for_one_of_another_dialect() {
    const ROUNDS: u32 = 300;
    let scratch = Scratch::new();
    let space = scratch.space();
    let is_over = AtomicBool::new(false);
    let [found, absent] = [(); 2].map(|()| AtomicU32::new(0));
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let mut rounds = 0;
            // As long as it takes the other thread to get its turns.
            while rounds < ROUNDS || count(&found) == 0 || count(&absent) == 0 {
                drop(write_new(&space, Dialect::Seed, 64, b"value"));
                classic::remove(&space, NAME, Dialect::Seed).unwrap();
                rounds += 1;
                if start.elapsed() > PATIENCE {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            match classic::recognise(&space, NAME) {
                Ok(dialect) => {
                    assert_eq!(dialect, Dialect::Seed);
                    found.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let kinds = [ErrorKind::NotFound, ErrorKind::Removed];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    absent.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    assert!(
        count(&found) > 0 && count(&absent) > 0,
        "{found:?} {absent:?}"
    );
}

#[test]
fn padding_of_any_value_is_no_concern_of_ours() {
    for padding in [0, 2, -1, i32::MIN, 0x7777_7777] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = write_new(&space, Dialect::Untailed, 64, b"value");
        let raw = Raw::open(&scratch, Dialect::Untailed);
        raw.set_number(12, padding);
        writer.write(b"another").unwrap();
        assert_eq!(raw.bytes()[12..16], padding.to_le_bytes());
        assert_eq!(writer.read().unwrap(), b"another");
        assert_eq!(classic::recognise(&space, NAME).unwrap(), Dialect::Untailed);
    }
}

#[test]
fn impossible_sizes_are_an_error_on_every_path() {
    let cases: [(u64, &[i32]); 3] = [
        (0, &[i32::MIN, -1, 0, 1, 31, 98, i32::MAX]),
        (4, &[i32::MIN, -1, 0, 31, 33, i32::MAX]),
        (8, &[i32::MIN, -1, 65, 98, i32::MAX]),
    ];
    for (offset, values) in cases {
        for value in values {
            let scratch = Scratch::new();
            let space = scratch.space();
            let mut writer = write_new(&space, Dialect::Seed, 64, b"value");
            let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
            let mut buffer = Vec::new();
            assert!(reader.wait(&mut buffer, None).unwrap());
            let raw = Raw::open(&scratch, Dialect::Seed);
            raw.set_number(offset, *value);
            let before = raw.bytes();
            let seed = Options::new(Dialect::Seed);
            let errors = [
                reader.read().unwrap_err(),
                reader.read_into(&mut buffer).unwrap_err(),
                reader.capacity().unwrap_err(),
                writer.read().unwrap_err(),
                writer.write(b"other").unwrap_err(),
                Reader::open(&space, NAME, Dialect::Seed).unwrap_err(),
                Writer::open(&space, NAME, Dialect::Seed).unwrap_err(),
                seed.capacity(8).writer(&space, NAME).unwrap_err(),
                classic::stat(&space, NAME, None).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(
                    error.kind(),
                    ErrorKind::Damaged,
                    "{offset} {value}: {error}"
                );
            }
            assert!(buffer.is_empty());
            // Told already.
            assert!(!reader.wait(&mut buffer, Some(Duration::ZERO)).unwrap());
            assert_eq!(raw.bytes(), before, "nobody repairs by guessing");
        }
    }
}

#[test]
fn content_without_its_checksum_is_corrupt_until_somebody_writes() {
    for (at, byte) in [(32, b'V'), (36, 0), (16, 1), (23, 1), (8, 4)] {
        for dialect in ALL {
            let scratch = Scratch::new();
            let space = scratch.space();
            let mut writer = write_new(&space, dialect, 64, b"value");
            let mut reader = Reader::open(&space, NAME, dialect).unwrap();
            Raw::open(&scratch, dialect).set(at, &[byte]);
            for error in [reader.read().unwrap_err(), writer.read().unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
            let stat = classic::stat(&space, NAME, Some(dialect)).unwrap();
            assert_eq!(stat.is_intact, Some(false));
            let mut buffer = Vec::new();
            assert!(!reader.wait(&mut buffer, Some(Duration::ZERO)).unwrap());
            writer.write(b"healed").unwrap();
            assert!(reader.wait(&mut buffer, None).unwrap());
            assert_eq!(buffer, b"healed");
        }
    }
    // No content, and the checksum of some.
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Seed, 64, b"value");
    let raw = Raw::open(&scratch, Dialect::Seed);
    raw.set_number(8, 0);
    assert_eq!(writer.read().unwrap_err().kind(), ErrorKind::Corrupt);
    raw.set(16, &[0; 8]);
    assert_eq!(writer.read().unwrap(), b"");
}

#[test]
fn a_file_that_is_cut_short_is_an_error_and_never_the_end() {
    for len in [0, 1, 31, 32, 40, 96] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = write_new(&space, Dialect::Seed, 64, b"a value of some length");
        let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
        Raw::open(&scratch, Dialect::Seed).0.set_len(len).unwrap();
        let expected = if len < 32 {
            // As if nobody had made it yet.
            ErrorKind::NotFound
        } else {
            ErrorKind::Damaged
        };
        let errors = [
            reader.read().unwrap_err(),
            writer.read().unwrap_err(),
            writer.write(b"v").unwrap_err(),
            Reader::open(&space, NAME, Dialect::Seed).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), expected, "{len}: {error}");
        }
        let mut buffer = Vec::new();
        let _ = reader.wait(&mut buffer, Some(Duration::from_millis(50)));
        assert!(buffer.is_empty());
    }
}

#[test]
fn what_is_no_regular_file_is_damaged() {
    type Make = fn(&std::path::Path);
    let makes: [Make; 3] = [
        |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        common::make_fifo,
    ];
    for make in makes {
        let scratch = Scratch::new();
        let space = scratch.space();
        make(&scratch.0.join(memory_name(Dialect::Seed)));
        let errors = [
            Reader::open(&space, NAME, Dialect::Seed).unwrap_err(),
            Writer::open(&space, NAME, Dialect::Seed).unwrap_err(),
            Options::new(Dialect::Seed)
                .capacity(8)
                .writer(&space, NAME)
                .unwrap_err(),
            classic::recognise(&space, NAME).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        }
    }
}

#[test]
fn a_creator_that_died_half_way_leaves_nothing_for_readers_and_all_for_writers() {
    for len in [0, 10, 97] {
        for has_head_size in [false, true] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let raw = Raw::open(&scratch, Dialect::Seed);
            raw.0.set_len(len).unwrap();
            if has_head_size && len > 32 {
                raw.set_number(4, 32);
            }
            let absent = Reader::open(&space, NAME, Dialect::Seed).unwrap_err();
            assert_eq!(absent.kind(), ErrorKind::NotFound);
            let mut writer = write_new(&space, Dialect::Seed, 64, b"whole");
            assert_eq!(writer.read().unwrap(), b"whole");
            assert_eq!(writer.capacity().unwrap(), 64);
        }
    }
}

#[test]
fn a_reader_can_wait_for_a_block_to_be_made() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new(Dialect::Seed);
    let none = options.reader_timeout(&space, NAME, Some(Duration::from_millis(20)));
    assert!(none.unwrap().is_none());
    let others = space.clone();
    let maker = std::thread::spawn(move || write_new(&others, Dialect::Seed, 64, b"made"));
    let reader = options.reader_timeout(&space, NAME, None).unwrap();
    maker.join().unwrap();
    assert_eq!(reader.unwrap().read().unwrap(), b"made");
}

#[test]
fn who_waits_gets_each_change_once_and_no_change_for_the_same_content() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Untailed, 64, b"first");
    let mut reader = Reader::open(&space, NAME, Dialect::Untailed).unwrap();
    let mut buffer = Vec::new();
    let short = Some(Duration::from_millis(30));
    assert!(reader.wait(&mut buffer, None).unwrap());
    assert_eq!(buffer, b"first");
    assert!(!reader.wait(&mut buffer, short).unwrap());
    writer.write(b"first").unwrap();
    assert!(!reader.wait(&mut buffer, short).unwrap());
    // The header is rewritten without the lock, and the value stays.
    Raw::open(&scratch, Dialect::Untailed).set_number(12, 77);
    assert!(!reader.wait(&mut buffer, short).unwrap());
    writer.write(b"second").unwrap();
    assert!(reader.wait(&mut buffer, None).unwrap());
    assert_eq!(buffer, b"second");
    writer.write(b"third").unwrap();
    // Read otherwise, so it is not waited for.
    assert_eq!(reader.read().unwrap(), b"third");
    assert!(!reader.wait(&mut buffer, Some(Duration::ZERO)).unwrap());
    writer.write(b"").unwrap();
    assert!(reader.wait(&mut buffer, None).unwrap());
    assert_eq!(buffer, b"");
}

#[test]
fn waiting_readers_are_woken_by_each_of_many_values() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Seed, 64, b"0");
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = Vec::new();
            for number in 0..500 {
                assert!(reader.wait(&mut buffer, Some(PATIENCE)).unwrap());
                assert_eq!(buffer, number.to_string().as_bytes());
                seen.store(true, Ordering::Relaxed);
            }
        });
        for number in 1..500 {
            until(|| seen.swap(false, Ordering::Relaxed));
            writer.write(number.to_string().as_bytes()).unwrap();
        }
    });
}

#[test]
fn bytes_that_were_put_there_by_other_means_are_a_change_too() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let _writer = write_new(&space, Dialect::Seed, GOLDEN_CAPACITY, b"");
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let mut buffer = Vec::new();
    assert!(reader.wait(&mut buffer, None).unwrap());
    let raw = Raw::open(&scratch, Dialect::Seed);
    let other = std::thread::spawn(move || raw.set(0, GOLDEN[0].1));
    assert!(reader.wait(&mut buffer, Some(PATIENCE)).unwrap());
    other.join().unwrap();
    assert_eq!(buffer, GOLDEN_CONTENT.as_bytes());
}

#[test]
fn a_removed_block_is_gone_for_who_waits_and_for_the_next() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let absent = classic::remove(&space, NAME, Dialect::Seed).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let mut writer = write_new(&space, Dialect::Seed, 64, b"value");
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let mut buffer = Vec::new();
    assert!(reader.wait(&mut buffer, None).unwrap());
    let waiter = std::thread::spawn(move || reader.wait(&mut buffer, Some(PATIENCE)));
    classic::remove(&space, NAME, Dialect::Seed).unwrap();
    assert_eq!(
        waiter.join().unwrap().unwrap_err().kind(),
        ErrorKind::Removed
    );
    assert_eq!(writer.write(b"w").unwrap_err().kind(), ErrorKind::Removed);
    assert!(!scratch.0.join(memory_name(Dialect::Seed)).exists());
    let mut writer = write_new(&space, Dialect::Seed, 64, b"anew");
    assert_eq!(writer.read().unwrap(), b"anew");
}

#[test]
fn a_time_out_is_no_error_and_nobody_gets_in_twice() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Seed, 64, b"value");
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let path = scratch.0.join("ShareMemoryLockedFile-x.mdb");
    let mut lock = corkboard::lock::RwLock::at(path).unwrap();
    let (mut buffer, short) = (Vec::new(), Duration::from_millis(20));
    {
        let _reading = lock.read().unwrap();
        assert!(reader.read_timeout(&mut buffer, short).unwrap());
        assert!(!writer.write_timeout(b"w", short).unwrap());
        assert!(!writer.write_timeout(b"w", Duration::ZERO).unwrap());
    }
    {
        let _writing = lock.write().unwrap();
        assert!(!reader.read_timeout(&mut buffer, short).unwrap());
        assert!(!writer.write_timeout(b"w", short).unwrap());
        let mut fresh = Reader::open(&space, NAME, Dialect::Seed).unwrap();
        assert!(!fresh.wait(&mut buffer, Some(short)).unwrap());
    }
    assert!(writer.write_timeout(b"w", PATIENCE).unwrap());
    assert!(reader.read_timeout(&mut buffer, PATIENCE).unwrap());
    assert_eq!(buffer, b"w");
}

#[test]
fn who_holds_the_lock_keeps_no_creator_for_longer_than_it_wants_to_wait() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let path = scratch.0.join("ShareMemoryLockedFile-x.mdb");
    let mut lock = corkboard::lock::RwLock::at(path).unwrap();
    let options = Options::new(Dialect::Seed).timeout(Duration::from_millis(20));
    let sized = options.clone().capacity(64);
    {
        let _writing = lock.write().unwrap();
        for options in [&options, &sized, &sized.clone().timeout(Duration::ZERO)] {
            let refused = options.writer(&space, NAME).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
            assert!(refused.to_string().contains("another program"), "{refused}");
        }
    }
    let absent = Reader::open(&space, NAME, Dialect::Seed).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let mut writer = sized.writer(&space, NAME).unwrap();
    writer.write(b"value").unwrap();
    let _writing = lock.write().unwrap();
    // What is there already, and good, is opened all the same.
    for capacity in [0, 64] {
        let opened = sized.clone().capacity(capacity).writer(&space, NAME);
        assert_eq!(opened.unwrap().capacity().unwrap(), 64);
    }
    let refused = sized.capacity(65).writer(&space, NAME).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
}

#[test]
fn a_buffer_is_empty_unless_something_was_read() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = write_new(&space, Dialect::Seed, 64, b"value");
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let path = scratch.0.join("ShareMemoryLockedFile-x.mdb");
    let mut lock = corkboard::lock::RwLock::at(path).unwrap();
    let short = Duration::from_millis(5);
    {
        let _writing = lock.write().unwrap();
        let mut buffer = b"others'".to_vec();
        assert!(!reader.read_timeout(&mut buffer, short).unwrap());
        assert!(buffer.is_empty());
        let mut buffer = b"others'".to_vec();
        assert!(!reader.wait(&mut buffer, Some(short)).unwrap());
        assert!(buffer.is_empty());
    }
    let mut buffer = Vec::new();
    assert!(reader.wait(&mut buffer, None).unwrap());
    assert!(!reader.wait(&mut buffer, Some(short)).unwrap());
    assert!(buffer.is_empty());
    classic::remove(&space, NAME, Dialect::Seed).unwrap();
    let mut buffers = [(); 3].map(|()| b"others'".to_vec());
    let errors = [
        reader.read_into(&mut buffers[0]).unwrap_err(),
        reader.wait(&mut buffers[1], None).unwrap_err(),
        writer.read_into(&mut buffers[2]).unwrap_err(),
    ];
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == ErrorKind::Removed)
    );
    assert!(buffers.iter().all(Vec::is_empty));
}

#[test]
fn a_value_that_heals_under_the_same_header_is_delivered() {
    for dialect in ALL {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = write_new(&space, dialect, 64, b"value");
        let mut reader = Reader::open(&space, NAME, dialect).unwrap();
        let raw = Raw::open(&scratch, dialect);
        let (mut buffer, short) = (Vec::new(), Some(Duration::from_millis(50)));
        for _ in 0..2 {
            raw.set(32, b"V");
            assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Corrupt);
            // Told already, and still so.
            assert!(!reader.wait(&mut buffer, short).unwrap());
            raw.set(33, b"A");
            assert!(!reader.wait(&mut buffer, short).unwrap());
            let header = raw.bytes()[..32].to_vec();
            writer.write(b"value").unwrap();
            assert_eq!(raw.bytes()[..32], header);
            assert!(reader.wait(&mut buffer, Some(PATIENCE)).unwrap());
            assert_eq!(buffer, b"value");
            assert!(!reader.wait(&mut buffer, short).unwrap());
        }
    }
}

#[test]
fn the_system_s_start_is_in_the_name_of_current_locks() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let current = Options::new(Dialect::Current).capacity(8);
    current.writer(&space, NAME).unwrap();
    assert!(scratch.0.join("0_SMLF-x.mdb").exists());
    let current = current.boot_time(1_750_000_000);
    current.writer(&space, NAME).unwrap();
    assert!(scratch.0.join("1750000000_SMLF-x.mdb").exists());
}

#[test]
fn removing_takes_the_lock_of_the_start_that_is_meant() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let current = Options::new(Dialect::Current).boot_time(1_750_000_000);
    let _writer = current.clone().capacity(8).writer(&space, NAME).unwrap();
    let path = scratch.0.join("1750000000_SMLF-x.mdb");
    assert!(path.exists());
    current.remove(&space, NAME).unwrap();
    assert!(!path.exists() && !scratch.0.join("0_SMLF-x.mdb").exists());
    let absent = current.reader(&space, NAME).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

#[test]
fn who_makes_a_block_gets_one_though_others_remove_it_again_and_again() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                match classic::remove(&space, NAME, Dialect::Seed) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
            }
        });
        let options = Options::new(Dialect::Seed);
        let sized = options.clone().capacity(64);
        let outcome = (0..1_000).try_for_each(|_| {
            options.writer(&space, NAME)?;
            sized.writer(&space, NAME).map(drop)
        });
        is_over.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

/// What a writer of the original does when it starts, again and again, without the lock.
#[test]
fn headers_that_others_rewrite_meanwhile_make_nobody_lie() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let value = |fill: u8| vec![fill; 600 + usize::from(fill)];
    let mut writer = write_new(&space, Dialect::Seed, 1024, &value(1));
    let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
    let raw = Raw::open(&scratch, Dialect::Seed);
    let is_over = AtomicBool::new(false);
    let (mut whole, mut empty) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (at, number) in [(0, 1057), (4, 32), (8, 0), (12, 1)] {
                    raw.set_number(at, number);
                }
                raw.set(16, &[0; 8]);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            for round in 0..2_000_u32 {
                writer.write(&value(round as u8)).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            match reader.read() {
                Ok(content) if content.is_empty() => empty += 1,
                Ok(content) => {
                    assert_eq!(content, value(content[0]));
                    whole += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
            }
        }
    });
    println!("{whole} values and {empty} times none");
    writer.write(b"last").unwrap();
    assert_eq!(reader.read().unwrap(), b"last");
}

#[test]
fn events_are_those_of_the_space() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let absent = Event::open(&space, "MyEvent").unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    let event = Event::create(&space, "MyEvent", Reset::Manual).unwrap();
    let taken = Event::create(&space, "MyEvent", Reset::Manual).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let other = corkboard::event::Event::open(&space, "MyEvent").unwrap();
    other.set().unwrap();
    assert!(event.wait(Some(Duration::ZERO)).unwrap());
    event.reset().unwrap();
    assert!(!other.wait(Some(Duration::ZERO)).unwrap());
    let again = Event::open_or_create(&space, "MyEvent", Reset::Manual).unwrap();
    again.set().unwrap();
    assert!(other.wait(None).unwrap());
}

const ACCESSES: u32 = 1_000;
const CAPACITY: usize = 200;

/// Not a test of its own: the part of the processes below.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(PathBuf::from(
        std::env::var("CORKBOARD_TEST_SPACE").unwrap(),
    ));
    let space = space.unwrap();
    let mut random = Random(u64::from(std::process::id()));
    let rounds = if part.starts_with("endless") {
        u32::MAX
    } else {
        ACCESSES
    };
    if part.ends_with("writer") {
        let mut writer = Writer::open(&space, NAME, Dialect::Seed).unwrap();
        for _ in 0..rounds {
            writer.write(&random.value(CAPACITY)).unwrap();
        }
    } else {
        let mut reader = Reader::open(&space, NAME, Dialect::Seed).unwrap();
        for _ in 0..rounds {
            match reader.read() {
                Ok(value) => check_value(&value),
                // Only where writers are killed half-way.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                    assert!(part.starts_with("endless"), "{error}");
                }
            }
        }
    }
}

fn start(part: &str, scratch: &Scratch) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_plays_its_part"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", &scratch.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn ten_writers_and_ten_readers_access_one_block_a_thousand_times_each() {
    let scratch = Scratch::new();
    let mut writer = write_new(&scratch.space(), Dialect::Seed, CAPACITY, b"");
    let children: Vec<_> = (0..20)
        .map(|index| start(["writer", "reader"][index % 2], &scratch))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    check_value(&writer.read().unwrap());
}

#[test]
fn killed_processes_keep_nobody_out_and_what_they_leave_is_told() {
    let scratch = Scratch::new();
    let mut writer = write_new(&scratch.space(), Dialect::Seed, CAPACITY, b"");
    let parts = ["endless writer", "endless reader", "endless writer"];
    let mut children: Vec<_> = parts.map(|part| (part, start(part, &scratch))).into();
    let mut random = Random(1);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        let (part, mut child) = children.remove(random.below(3) as usize);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "it ended by itself: {status}");
        // The others, and we, go on.
        let mut value = Vec::new();
        let mut reader = Reader::open(&scratch.space(), NAME, Dialect::Seed).unwrap();
        match reader.read_timeout(&mut value, PATIENCE) {
            Ok(in_time) => {
                assert!(in_time);
                check_value(&value);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
        }
        assert!(
            writer
                .write_timeout(&random.value(CAPACITY), PATIENCE)
                .unwrap()
        );
        children.push((part, start(part, &scratch)));
    }
    for (_, mut child) in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    writer.write(b"last").unwrap();
    assert_eq!(writer.read().unwrap(), b"last");
}
