//! Boards whose files are damaged, foreign or under attack.
//!
//! Somebody cuts files short, flips bits, writes random bytes, exchanges files for pipes, and does
//! so before a board is opened or while handles are attached. Each operation must end soon, with a
//! value that was published or with an error that names the board. Each test runs in a process of
//! its own, so that a crash, a hang or an absurd allocation is that test's failure.
//!
//! Not here: cutting a file short that is mapped already, which `docs/design.md` leaves out.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/confined.rs"]
mod confined;
#[path = "common/hostile.rs"]
mod hostile;

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::Scratch;
use confined::in_child;
use corkboard::board::{Options, Reader, Writer, WriterMode, stat};
use corkboard::{ErrorKind, Kind};
use hostile::{Board, FILES, Handles, NAME, SHAPES, expect, visit};

/// Long enough to sleep once, short enough to do so often.
const SHORT: Duration = Duration::from_micros(200);
/// Long enough for some looks of the thread that looks after notifiers.
const FORESEEABLE: Duration = Duration::from_millis(200);

const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Visits the board as `damage` leaves it, once for each case.
fn visit_each<T: std::fmt::Debug>(
    shapes: &[hostile::Shape],
    cases: impl Fn(&Board) -> Vec<T>,
    damage: impl Fn(&Board, &T),
) {
    for shape in shapes {
        let scratch = Scratch::new();
        let board = Board::new(&scratch.space(), *shape);
        for (number, case) in cases(&board).into_iter().enumerate() {
            println!("case {shape:?} {case:x?}");
            board.restore();
            damage(&board, &case);
            // Sleeping is what takes the time here.
            let longest_wait = if number % 8 == 0 {
                SHORT
            } else {
                Duration::ZERO
            };
            visit(&board.space, &mut board.published.clone(), longest_wait);
        }
    }
}

#[test]
fn files_of_any_length() {
    in_child("files_of_any_length", || {
        let cases = |board: &Board| {
            let mut cases = Vec::new();
            for file in 0..FILES.len() {
                let len = board.pristine[file].len() as u64;
                let page = 4096;
                cases.extend(
                    [
                        0, 1, 7, 8, 120, 191, 192, 193, 256, 264, 384, 391, 392, 511, 512, 640,
                    ]
                    .into_iter()
                    .chain([
                        page - 1,
                        page,
                        page + 1,
                        len / 2,
                        len - page,
                        len - 8,
                        len - 1,
                    ])
                    .chain([len + 1, len + page, 2 * len, 1 << 30, 1 << 40])
                    .map(|len| (file, len)),
                );
            }
            cases
        };
        visit_each(&SHAPES, cases, |board, (file, len)| {
            board.set_len(*file, *len);
        });
    });
}

#[test]
fn bytes_flipped_anywhere_in_the_first_kibibyte() {
    in_child("bytes_flipped_anywhere_in_the_first_kibibyte", || {
        let cases = |_: &Board| {
            let each = |file| (0..1024).map(move |offset| (file, offset));
            (0..FILES.len()).flat_map(each).collect()
        };
        visit_each(&SHAPES[..2], cases, |board, (file, offset)| {
            // One bit in one run of eight bytes, all bits in the next.
            let mask = if offset / 8 % 2 == 0 {
                1 << (offset % 8)
            } else {
                0xFF
            };
            board.write(
                *file,
                &[board.pristine[*file][*offset] ^ mask],
                *offset as u64,
            );
        });
    });
}

#[test]
fn bytes_flipped_at_random() {
    in_child("bytes_flipped_at_random", || {
        let cases = |board: &Board| {
            let mut random = Random(0x5EED);
            let mut cases = Vec::new();
            for _ in 0..300 {
                let file = random.below(FILES.len());
                let flips: Vec<_> = (0..=random.below(8))
                    .map(|_| {
                        // Beyond the header, which is sealed.
                        let offset = 192 + random.below(board.pristine[file].len() - 192);
                        (offset, 1u8 << random.below(8))
                    })
                    .collect();
                cases.push((file, flips));
            }
            cases
        };
        visit_each(&SHAPES, cases, |board, (file, flips)| {
            for (offset, bit) in flips {
                board.write(
                    *file,
                    &[board.pristine[*file][*offset] ^ bit],
                    *offset as u64,
                );
            }
        });
    });
}

#[test]
fn random_contents_behind_a_valid_header() {
    in_child("random_contents_behind_a_valid_header", || {
        let cases = |_: &Board| (1..=60).map(|seed| (seed as usize % 3, seed)).collect();
        visit_each(&SHAPES, cases, |board, (file, seed)| {
            let mut random = Random(*seed);
            let len = board.pristine[*file].len();
            // A live board, so that it is looked into; the rest is noise, much of it small.
            let noise: Vec<u8> = (192..len / 8 * 8)
                .step_by(8)
                .flat_map(|offset| match (offset, *file, random.below(4)) {
                    (256, 0, _) => 1u64.to_ne_bytes(),
                    (_, _, 0) => random.next().to_ne_bytes(),
                    (_, _, 1) => (random.next() | 1 << 63).to_ne_bytes(),
                    _ => (random.next() % 20).to_ne_bytes(),
                })
                .collect();
            board.write(*file, &noise, 192);
        });
    });
}

#[test]
fn nothing_but_random_contents() {
    in_child("nothing_but_random_contents", || {
        let cases = |_: &Board| (1..=30).map(|seed| (seed as usize % 3, seed)).collect();
        visit_each(&SHAPES[..1], cases, |board, (file, seed)| {
            let mut random = Random(*seed);
            let len = board.pristine[*file].len();
            let noise: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            board.write(*file, &noise, 0);
        });
    });
}

/// Lengths of the three files of a board of this shape, see `docs/format.md`.
fn lengths(capacity: u64, max_readers: u64, is_shared: bool) -> Option<[u64; 3]> {
    let pages = |len: u64| len.checked_next_multiple_of(4096);
    let table = |entries: u64| pages(entries.checked_mul(128)?.checked_add(512)?);
    let data = if capacity <= 1024 {
        pages(512 + 16 * (40 + capacity.next_multiple_of(8)).next_multiple_of(128))?
    } else {
        let slots = max_readers.checked_add(if is_shared { 66 } else { 2 })?;
        let payloads = pages(capacity)?.checked_mul(slots)?;
        pages(slots.checked_mul(64)?.checked_add(512)?)?.checked_add(payloads)?
    };
    Some([data, table(64)?, table(max_readers)?])
}

/// Whoever wrote these files knows the format and made each consistent with the others.
#[test]
fn headers_with_a_valid_checksum_and_any_geometry() {
    in_child("headers_with_a_valid_checksum_and_any_geometry", || {
        let numbers = [
            0,
            1,
            2,
            3,
            8,
            63,
            64,
            65,
            127,
            957,
            958,
            959,
            1023,
            1024,
            1025,
            4096,
            5001,
            100_000,
            1 << 20,
            1 << 29,
            (1 << 32) - 1,
            1 << 32,
            1 << 40,
            (1 << 40) + 1,
            1 << 62,
            u64::MAX,
        ];
        let cases = |_: &Board| {
            let mut cases = Vec::new();
            for word in [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20] {
                for number in numbers {
                    for fits in [false, true] {
                        cases.push((word, number, fits));
                    }
                }
            }
            cases
        };
        for shape in SHAPES {
            let scratch = Scratch::new();
            let board = Board::new(&scratch.space(), shape);
            for (word, number, fits) in cases(&board) {
                println!("case {shape:?} {word} {number:x} {fits}");
                board.restore();
                let mut header = board.header();
                header[word * 8..][..8].copy_from_slice(&number.to_le_bytes());
                board.seal_as(&header);
                let field =
                    |word: usize| u64::from_le_bytes(*header[word * 8..].first_chunk().unwrap());
                let lengths = lengths(field(4), field(5), field(8) == 2);
                if fits && let Some(lengths) = lengths {
                    for (file, len) in lengths.into_iter().enumerate() {
                        if len < 1 << 62 {
                            board.set_len(file, len);
                        }
                    }
                }
                let mut published = board.published.clone();
                published.is_verified = word < 4;
                visit(&board.space, &mut published, Duration::ZERO);
            }
        }
    });
}

#[test]
fn files_of_another_board() {
    in_child("files_of_another_board", || {
        let scratch = Scratch::new();
        for shape in SHAPES {
            for file in 0..FILES.len() {
                let board = Board::new(&scratch.space(), shape);
                board.remove();
                let other = Board::new(&scratch.space(), shape);
                board.restore();
                std::fs::write(board.path(file), &other.pristine[file]).unwrap();
                let error = Options::new().writer(&board.space, NAME).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged);
                visit(&board.space, &mut board.published.clone(), SHORT);
                board.remove();
            }
        }
    });
}

/// Puts something that is not what it should be at `path`; `real` is what belongs there.
fn exchange(path: &Path, real: &Path, what: &str) -> bool {
    let made = |status: libc::c_int| status == 0;
    let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    match what {
        "nothing" => {}
        "a directory" => std::fs::create_dir(path).unwrap(),
        "a directory with a file in it" => {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("data"), b"x").unwrap();
        }
        "an empty file" => std::fs::write(path, b"").unwrap(),
        "a symbolic link to the real one" => symlink(real, path).unwrap(),
        "a symbolic link to nothing" => symlink("nowhere", path).unwrap(),
        "a symbolic link to itself" => symlink(path, path).unwrap(),
        "a symbolic link to a device" => symlink("/dev/zero", path).unwrap(),
        "a socket" => drop(UnixListener::bind(path).unwrap()),
        "a pipe" => common::make_fifo(path),
        "a device" => {
            let (mode, zero) = (libc::S_IFCHR | 0o600, libc::makedev(1, 5));
            // SAFETY: the path is a C string that outlives the call.
            return made(unsafe { libc::mknod(c_path.as_ptr(), mode, zero) });
        }
        _ => unreachable!(),
    }
    true
}

#[test]
fn other_things_in_place_of_files() {
    in_child("other_things_in_place_of_files", || {
        let things = [
            "nothing",
            "a directory",
            "a directory with a file in it",
            "an empty file",
            "a symbolic link to the real one",
            "a symbolic link to nothing",
            "a symbolic link to itself",
            "a symbolic link to a device",
            "a socket",
            "a pipe",
            "a device",
        ];
        for shape in &SHAPES[..2] {
            for thing in things {
                for place in [None, Some(0), Some(1), Some(2)] {
                    println!("case {shape:?} {thing} in place of {place:?}");
                    let scratch = Scratch::new();
                    let board = Board::new(&scratch.space(), *shape);
                    let path = place.map_or(board.directory(), |file| board.path(file));
                    let real = scratch.0.join("elsewhere");
                    std::fs::rename(&path, &real).unwrap();
                    if !exchange(&path, &real, thing) {
                        assert_eq!(thing, "a device");
                        println!("not tested: only root may make a device");
                        continue;
                    }
                    let is_absent = place.is_none() && thing == "nothing";
                    let kind = if is_absent {
                        ErrorKind::NotFound
                    } else {
                        ErrorKind::Damaged
                    };
                    let error = Writer::open(&board.space, NAME).unwrap_err();
                    // tmpfs may be mounted so that devices cannot be opened at all.
                    let is_refused =
                        thing == "a device" && error.kind() == ErrorKind::PermissionDenied;
                    assert!(error.kind() == kind || is_refused, "{error}");
                    let reader = Reader::open(&board.space, NAME).map(drop);
                    assert_eq!(reader.is_ok(), place == Some(1));
                    if !is_absent {
                        visit(&board.space, &mut board.published.clone(), SHORT);
                    }
                    expect(board.space.remove(Kind::Board, NAME));
                }
            }
        }
    });
}

/// What a word of a mapped file is exchanged for.
const CHANGES: [fn(u64) -> u64; 9] = [
    |_| 0,
    |_| 1,
    |_| 2,
    |_| u64::MAX,
    |word| word ^ 1,
    |word| word ^ 1 << 10,
    |word| word ^ 1 << 54,
    |word| word ^ 1 << 63,
    |word| word.wrapping_add(1),
];

/// The words that matter: of data state, latest word and some slots' descriptors and payloads; of
/// a table what is before the entries, and some entries.
fn words(board: &Board, file: usize) -> Vec<usize> {
    let is_small = board.shape.capacity <= 1024;
    let (first, stride) = match (file, is_small) {
        (0, true) => (512, 256),
        (0, false) => (512, 64),
        _ => (512, 128),
    };
    let entries = (0..4).flat_map(|entry| {
        let fields = [0, 8, 16, 24, 40, 64, 80];
        fields.map(|field| first + entry * stride + field)
    });
    let payloads = (0..4).map(|slot| 4096 + slot * 8192);
    [256, 264, 272, 384, 392, 400, 408, 440]
        .into_iter()
        .chain(entries)
        .chain(payloads)
        .filter(|offset| offset + 8 <= board.pristine[file].len())
        .collect()
}

#[test]
fn words_changed_while_handles_are_attached() {
    in_child("words_changed_while_handles_are_attached", || {
        for shape in SHAPES {
            let scratch = Scratch::new();
            let board = Board::new(&scratch.space(), shape);
            for file in 0..FILES.len() {
                for (number, offset) in words(&board, file).into_iter().enumerate() {
                    for (change, changed) in CHANGES.into_iter().enumerate() {
                        println!("case {shape:?} {file} {offset} {change}");
                        board.remove();
                        std::fs::create_dir(board.directory()).unwrap();
                        board.restore();
                        let mut published = board.published.clone();
                        let mut handles = Handles::open(&board.space);
                        // In half of the cases the handles have been used before.
                        if (number + change) % 2 == 0 {
                            handles.use_all(&mut published, Duration::ZERO);
                        }
                        let bytes = std::fs::read(board.path(file)).unwrap();
                        let word = u64::from_ne_bytes(*bytes[offset..].first_chunk().unwrap());
                        board.write(file, &changed(word).to_ne_bytes(), offset as u64);
                        handles.use_all(&mut published, SHORT);
                        expect(stat(&board.space, NAME));
                    }
                }
            }
        }
    });
}

/// The turn belongs to an entry that the table does not have, and somebody holds that one's byte.
#[test]
fn a_turn_that_belongs_to_no_entry() {
    in_child("a_turn_that_belongs_to_no_entry", || {
        for shape in SHAPES {
            for entry in [64, 100, 1022] {
                println!("case {shape:?} {entry}");
                let scratch = Scratch::new();
                let board = Board::new(&scratch.space(), shape);
                let mut published = board.published.clone();
                let mut handles = Handles::open(&board.space);
                let control = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(board.path(1))
                    .unwrap();
                common::lock_bytes(&control, libc::F_WRLCK, (1 << 40) + i64::from(entry), 1);
                board.write(1, &(entry as u32 + 1).to_ne_bytes(), 256);
                let found = match shape.mode {
                    WriterMode::Exclusive => Writer::open(&board.space, NAME).map(drop),
                    WriterMode::Shared => handles.writers[0].latest().map(drop),
                };
                assert_eq!(found.unwrap_err().kind(), ErrorKind::Damaged);
                handles.use_all(&mut published, SHORT);
                visit(&board.space, &mut published, SHORT);
            }
        }
    });
}

#[test]
fn who_watches_is_not_told_of_stamps_that_no_value_can_have() {
    in_child(
        "who_watches_is_not_told_of_stamps_that_no_value_can_have",
        || {
            let scratch = Scratch::new();
            let board = Board::new(&scratch.space(), SHAPES[0]);
            for wrong in [1_u64 << 61, 1 << 61 | 1 << 62, (1 << 53) + 5, u64::MAX >> 1] {
                println!("case {wrong:x}");
                board.restore();
                let mut reader = Reader::open(&board.space, NAME).unwrap();
                reader.read().unwrap();
                let notifier = reader.notifier().unwrap();
                for slot in 0..16 {
                    board.write(0, &wrong.to_ne_bytes(), 512 + slot * 256);
                }
                assert!(!common::is_ready(&notifier, FORESEEABLE));
                board.write(0, &board.pristine[0][512..], 512);
                assert!(!common::is_ready(&notifier, FORESEEABLE));
                let mut writer = Writer::open(&board.space, NAME).unwrap();
                writer.publish(b"as ever").unwrap();
                assert!(common::is_ready(&notifier, PATIENCE));
                assert_eq!(&*reader.read().unwrap().unwrap(), b"as ever");
            }
        },
    );
}

#[test]
fn several_words_changed_while_handles_are_attached() {
    in_child("several_words_changed_while_handles_are_attached", || {
        let mut random = Random(0xBAD);
        for shape in SHAPES {
            let scratch = Scratch::new();
            let board = Board::new(&scratch.space(), shape);
            for case in 0..60 {
                println!("case {shape:?} {case}");
                board.remove();
                std::fs::create_dir(board.directory()).unwrap();
                board.restore();
                let mut published = board.published.clone();
                let mut handles = Handles::open(&board.space);
                for _ in 0..5 {
                    for _ in 0..3 {
                        let file = random.below(FILES.len());
                        let words = words(&board, file);
                        let offset = words[random.below(words.len())];
                        let bytes = std::fs::read(board.path(file)).unwrap();
                        let word = u64::from_ne_bytes(*bytes[offset..].first_chunk().unwrap());
                        let changed = CHANGES[random.below(CHANGES.len())](word);
                        board.write(file, &changed.to_ne_bytes(), offset as u64);
                    }
                    handles.use_all(&mut published, Duration::ZERO);
                }
                drop(handles);
                visit(&board.space, &mut published, Duration::ZERO);
            }
        }
    });
}

/// A number and bytes that follow from it.
fn whole(number: u64, capacity: usize) -> Vec<u8> {
    let len = 8 + number as usize % (capacity - 7);
    let fill = (8..len).map(|i| (number as usize * 31 + i * 7) as u8);
    number.to_ne_bytes().into_iter().chain(fill).collect()
}

/// Somebody scribbles on lengths, checksums and payloads while a writer publishes. Copies are
/// checked after they were made, so none is ever wrong; a slice of shared memory may change later,
/// which is why nobody asks for one here.
#[test]
fn copies_are_whole_while_somebody_scribbles() {
    in_child("copies_are_whole_while_somebody_scribbles", || {
        for shape in SHAPES {
            println!("case {shape:?}");
            let scratch = Scratch::new();
            let board = Board::new(&scratch.space(), shape);
            let mut reader = Reader::open(&board.space, NAME).unwrap();
            let mut writer = Writer::open(&board.space, NAME).unwrap();
            let first = writer.publish(&whole(0, shape.capacity)).unwrap();
            let is_done = AtomicBool::new(false);
            let right = AtomicU64::new(0);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    let mut number = 0;
                    while number < 20_000 || right.load(Ordering::Relaxed) < 100 {
                        number += 1;
                        let sequence = writer.publish(&whole(number, shape.capacity)).unwrap();
                        assert_eq!(sequence, first + number);
                    }
                    is_done.store(true, Ordering::Relaxed);
                });
                threads.spawn(|| {
                    let mut random = Random(0xD00D);
                    let mut places = words(&board, 0);
                    // Not state and latest word, and no stamps.
                    places.retain(|offset| *offset >= 512 && offset % 64 != 0);
                    places.extend((0..4).map(|slot| 4096 + slot * 8192));
                    places.retain(|offset| offset + 8 <= board.pristine[0].len());
                    while !is_done.load(Ordering::Relaxed) {
                        let offset = places[random.below(places.len())];
                        // Not 0: a value without bytes has the checksum 0.
                        let word = random.next() >> random.below(64) | 1;
                        board.write(0, &word.to_ne_bytes(), offset as u64);
                    }
                });
                let is_small = shape.capacity <= 1024;
                let mut copy = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    let is_value = if is_small {
                        expect(reader.read()).flatten().is_some_and(|snapshot| {
                            copy.clear();
                            copy.extend_from_slice(&snapshot);
                            true
                        })
                    } else {
                        expect(reader.read_into(&mut copy)).flatten().is_some()
                    };
                    if is_value {
                        let number = u64::from_ne_bytes(*copy.first_chunk().unwrap());
                        assert!(copy == whole(number, shape.capacity), "{copy:02x?}");
                        right.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}
