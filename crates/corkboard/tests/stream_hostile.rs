//! Streams whose file is damaged, foreign or under attack.
//!
//! As `hostile.rs` does with boards: somebody cuts the file short, flips bits, writes absurd words,
//! exchanges the file for a pipe, before a stream is opened or while handles are attached. Each
//! operation must end soon, with a record that was sent or with an error that names the stream.
//! Each test runs in a process of its own, so that a crash, a hang or an absurd allocation is that
//! test's failure.
//!
//! Not here: cutting a file short that is mapped already, which `docs/design.md` leaves out.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/confined.rs"]
mod confined;
#[path = "common/hostile_stream.rs"]
mod hostile;
#[path = "common/random.rs"]
mod random;

use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Scratch;
use confined::in_child;
use corkboard::stream::{From, Producer, Subscriber};
use corkboard::{ErrorKind, Kind};
use hostile::{
    ARENA, CELL_LEN, CELLS, FIRST_CELL, HEADER_LEN, Handles, NAME, SENT, SHAPES, Shape, Stream,
    expect, seal, visit,
};
use random::Random;

/// Long enough to sleep once, short enough to do so often.
const SHORT: Duration = Duration::from_micros(200);
/// Long enough for some looks of the thread that looks after notifiers.
const FORESEEABLE: Duration = Duration::from_millis(200);

const RECLAIMED: u64 = 264;
const TAIL: u64 = 328;
const CONFIRMED: u64 = 336;

/// Visits each stream as `damage` leaves it, once for each case.
fn visit_each<T: std::fmt::Debug>(cases: impl Fn(&Stream) -> Vec<T>, damage: impl Fn(&Stream, &T)) {
    for shape in SHAPES {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), shape);
        for (number, case) in cases(&stream).into_iter().enumerate() {
            println!("case {shape:?} {case:x?}");
            stream.restore();
            damage(&stream, &case);
            // Sleeping is what takes the time here.
            let longest_wait = if number % 8 == 0 {
                SHORT
            } else {
                Duration::ZERO
            };
            visit(&stream.space, &mut stream.sent.clone(), longest_wait);
        }
    }
}

#[test]
fn files_of_any_length() {
    in_child("files_of_any_length", || {
        let cases = |stream: &Stream| {
            let len = stream.pristine.len() as u64;
            let page = 4096;
            let mut cases = vec![0, 1, 7, 8, 120, 191, 192, 193, 256, 264, 384, 391, 511, 512];
            cases.extend([page - 1, page, page + 1, len / 2, len - page, len - 8]);
            cases.extend([len - 1, len + 1, len + page, 2 * len, 1 << 30, 1 << 40]);
            cases
        };
        visit_each(cases, |stream, len| stream.set_len(*len));
    });
}

/// The offset of the cell that a record is in.
fn cell(sequence: u64) -> usize {
    FIRST_CELL + sequence as usize % CELLS * CELL_LEN
}

/// Header, words, the first entries of producers and subscribers, some cells, and some of the arena.
fn bytes() -> Vec<usize> {
    let entries = [0, 1, 63, 64, 65].map(|entry| 512 + entry * 128);
    let cells = [SENT - CELLS as u64 + 70, SENT - 10, SENT + 1, SENT + 2].map(cell);
    let all = (0..512).chain(
        entries
            .into_iter()
            .chain(cells)
            .flat_map(|start| start..start + 128),
    );
    all.chain((ARENA..ARENA + 20_480).step_by(613)).collect()
}

#[test]
fn bytes_flipped_anywhere() {
    in_child("bytes_flipped_anywhere", || {
        let cases = |_: &Stream| {
            let mask = |offset: usize| [0x01, 0x80, 0xFF, 0x10, 0x07][offset % 5];
            let with = |offset| (offset, mask(offset));
            bytes().into_iter().map(with).collect()
        };
        visit_each(cases, |stream, (offset, mask): &(usize, u8)| {
            stream.write(&[stream.pristine[*offset] ^ mask], *offset as u64);
        });
    });
}

/// Whoever wrote this file knows the format.
#[test]
fn headers_with_a_valid_checksum_and_any_geometry() {
    in_child("headers_with_a_valid_checksum_and_any_geometry", || {
        let mut numbers = vec![0, 1, 2, 3, 63, 64, 65, 255, 256, 257, 320, 512, 900, 901];
        numbers.extend([20_480, 20_544, 32_768, 65_536, 100_000, 1 << 20, 1 << 29]);
        numbers.extend([(1 << 32) - 1, 1 << 32, 1 << 40, (1 << 40) + 64, 1 << 62]);
        numbers.extend([1 << 63, u64::MAX - 63, u64::MAX]);
        for shape in SHAPES {
            let scratch = Scratch::new();
            let stream = Stream::new(&scratch.space(), shape);
            for word in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20] {
                for number in &numbers {
                    for fits in [false, true] {
                        println!("case {shape:?} {word} {number:x} {fits}");
                        stream.restore();
                        let mut header: [u8; HEADER_LEN] = *stream.pristine.first_chunk().unwrap();
                        header[word * 8..][..8].copy_from_slice(&number.to_le_bytes());
                        stream.write(&seal(&header), 0);
                        if let (true, Some(len @ ..0x200_0000)) = (fits, len_of(&header)) {
                            stream.set_len(len);
                        }
                        let mut sent = stream.sent.clone();
                        sent.is_verified = word < 4;
                        sent.is_quick = false;
                        visit(&stream.space, &mut sent, Duration::ZERO);
                    }
                }
            }
        }
    });
}

/// The length of a file with this header, see `docs/format.md`.
fn len_of(header: &[u8; HEADER_LEN]) -> Option<u64> {
    let word = |word: usize| u64::from_le_bytes(*header[word * 8..].first_chunk().unwrap());
    let (capacity, subscribers) = (word(5), word(6));
    let pages = |len: u64| len.checked_next_multiple_of(4096);
    let table = pages(
        subscribers
            .checked_add(64)?
            .checked_mul(128)?
            .checked_add(512)?,
    )?;
    let cells = (capacity / 64).checked_next_power_of_two()?.max(16);
    pages(
        table
            .checked_add(cells.checked_mul(CELL_LEN as u64)?)?
            .checked_add(capacity)?,
    )
}

/// What a word of a mapped file is exchanged for.
const CHANGES: [fn(u64) -> u64; 16] = [
    |_| 0,
    |_| 1,
    |_| 2,
    |_| 64,
    |_| u64::MAX,
    |_| u64::MAX - 1,
    |_| 1 << 62,
    |_| (1 << 62) + 1,
    |_| 1 << 63,
    |word| word ^ 1,
    |word| word ^ 1 << 10,
    |word| word ^ 1 << 32,
    |word| word ^ 1 << 63,
    |word| word.wrapping_add(1),
    |word| word.wrapping_sub(1),
    |word| word.wrapping_add(CELLS as u64),
];

/// The words that matter: state, reclaimed, wanted, room, mutex, tail, confirmed, the table's and
/// the waiting words, some entries, and of some cells stamp, length, checksum and place.
fn words() -> Vec<usize> {
    let mut words = vec![256, 264, 272, 280, 320, 328, 336, 384, 448, 456];
    words.extend([0, 1, 64, 65].map(|entry| 512 + entry * 128));
    let sequences = [SENT - CELLS as u64 + 66, SENT - 12, SENT, SENT + 1];
    for sequence in sequences.into_iter().chain(SENT + 2..SENT + 5) {
        words.extend([0, 8, 16, 24, 32].map(|word| cell(sequence) + word));
    }
    words
}

fn change(stream: &Stream, offset: usize, change: fn(u64) -> u64) {
    let bytes = std::fs::read(stream.path()).unwrap();
    let word = u64::from_ne_bytes(*bytes[offset..].first_chunk().unwrap());
    stream.write(&change(word).to_ne_bytes(), offset as u64);
}

#[test]
fn words_changed_before_anybody_opens() {
    in_child("words_changed_before_anybody_opens", || {
        let cases = |_: &Stream| {
            let with = |offset| (0..CHANGES.len()).map(move |number| (offset, number));
            words().into_iter().flat_map(with).collect()
        };
        visit_each(cases, |stream, (offset, number)| {
            change(stream, *offset, CHANGES[*number]);
        });
    });
}

#[test]
fn words_changed_while_handles_are_attached() {
    in_child("words_changed_while_handles_are_attached", || {
        for shape in SHAPES {
            let scratch = Scratch::new();
            let stream = Stream::new(&scratch.space(), shape);
            for (number, offset) in words().into_iter().enumerate() {
                for (which, changed) in CHANGES.into_iter().enumerate() {
                    println!("case {shape:?} {offset} {which}");
                    stream.remove();
                    stream.restore();
                    let mut sent = stream.sent.clone();
                    let mut handles = Handles::open(&stream.space);
                    // In half of the cases the handles have been used before.
                    if (number + which) % 2 == 0 {
                        handles.use_all(&mut sent, Duration::ZERO);
                    }
                    change(&stream, offset, changed);
                    handles.use_all(&mut sent, SHORT);
                    visit(&stream.space, &mut sent, Duration::ZERO);
                }
            }
        }
    });
}

#[test]
fn several_words_changed_while_handles_are_attached() {
    in_child("several_words_changed_while_handles_are_attached", || {
        let mut random = Random(0xBAD);
        for shape in SHAPES {
            let scratch = Scratch::new();
            let stream = Stream::new(&scratch.space(), shape);
            for case in 0..60 {
                println!("case {shape:?} {case}");
                stream.remove();
                stream.restore();
                let mut sent = stream.sent.clone();
                let mut handles = Handles::open(&stream.space);
                for _ in 0..5 {
                    for _ in 0..3 {
                        let words = words();
                        let offset = words[random.below(words.len() as u64) as usize];
                        let changed = CHANGES[random.below(CHANGES.len() as u64) as usize];
                        change(&stream, offset, changed);
                    }
                    handles.use_all(&mut sent, Duration::ZERO);
                }
                drop(handles);
                visit(&stream.space, &mut sent, Duration::ZERO);
            }
        }
    });
}

#[test]
fn a_record_that_is_made_an_end_mark_is_corrupt_and_so_is_the_reverse() {
    for shape in SHAPES {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), shape);
        for (sequence, is_end) in [(SENT, false), (SENT + 1, true)] {
            stream.restore();
            change(&stream, cell(sequence) + 8, |len| len ^ 1 << 63);
            let from = From::Sequence(sequence);
            let mut subscriber = Subscriber::open(&stream.space, NAME, from).unwrap();
            let error = subscriber.try_recv().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{is_end}");
            assert!(!subscriber.is_ended());
        }
    }
}

/// A producer that has its turn for good believes no word that takes back what it was told.
#[test]
fn what_was_confirmed_is_taken_back() {
    in_child("what_was_confirmed_is_taken_back", || {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), SHAPES[0]);
        let newest = 1 << 61;
        for offset in [TAIL, RECLAIMED, CONFIRMED, cell(newest) as u64] {
            stream.write(&newest.to_ne_bytes(), offset);
        }
        let mut producer = Producer::open(&stream.space, NAME).unwrap();
        producer.try_send(b"one").unwrap().unwrap();
        stream.write(&0_u64.to_ne_bytes(), CONFIRMED);
        let error = loop {
            match producer.try_send(b"more") {
                Ok(sent) => assert!(sent.is_some(), "nobody subscribes"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    });
}

#[test]
fn records_far_beyond_any_that_there_will_be() {
    in_child("records_far_beyond_any_that_there_will_be", || {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), SHAPES[0]);
        for wanted in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62] {
            stream.restore();
            let from = From::Sequence(wanted);
            let mut subscriber = Subscriber::open(&stream.space, NAME, from).unwrap();
            assert!(subscriber.try_recv().unwrap().is_none());
            for stamp in [wanted, u64::MAX, 1 << 62, (1 << 62) + 1] {
                for at in 0..CELLS as u64 {
                    stream.write(&stamp.to_ne_bytes(), cell(at) as u64);
                }
                for _ in 0..3 {
                    expect(subscriber.try_recv());
                    expect(subscriber.recv(Some(SHORT)));
                }
            }
        }
    });
}

/// A file that claims much and has little is not filled up by whoever opens it, and can be removed.
#[test]
fn who_opens_a_stream_does_not_pay_for_its_memory() {
    in_child("who_opens_a_stream_does_not_pay_for_its_memory", || {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), SHAPES[0]);
        let mut header = *stream.pristine.first_chunk::<HEADER_LEN>().unwrap();
        let capacity = 1_u64 << 29;
        header[40..48].copy_from_slice(&capacity.to_ne_bytes());
        stream.write(&seal(&header), 0);
        let cells = capacity / 64 * CELL_LEN as u64;
        stream.set_len(FIRST_CELL as u64 + cells + capacity);
        let error = Subscriber::open(&stream.space, NAME, From::Oldest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("memory"), "{error}");
        let error = Producer::open(&stream.space, NAME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        let file = std::fs::File::open(stream.path()).unwrap();
        // Nor does who removes it.
        stream.space.remove(Kind::Stream, NAME).unwrap();
        assert!(file.metadata().unwrap().blocks() < 4096);
    });
}

#[test]
fn who_watches_is_told_once_of_a_stamp_that_no_record_can_have() {
    for wrong in [SENT + 1000, 1 << 61, 1 << 62, u64::MAX] {
        let scratch = Scratch::new();
        let stream = Stream::new(&scratch.space(), SHAPES[0]);
        stream.restore();
        let subscriber = Subscriber::open(&stream.space, NAME, From::Newest).unwrap();
        let notifier = subscriber.notifier().unwrap();
        // After the end mark.
        stream.write(&wrong.to_ne_bytes(), cell(SENT + 2) as u64);
        // Or never, of what nobody believes.
        if common::is_ready(&notifier, FORESEEABLE) {
            notifier.clear().unwrap();
        }
        assert!(!common::is_ready(&notifier, FORESEEABLE), "{wrong:x}");
    }
}

#[test]
fn other_things_in_place_of_the_file() {
    in_child("other_things_in_place_of_the_file", || {
        let things = [
            "nothing",
            "a directory",
            "an empty file",
            "a link",
            "a pipe",
        ];
        for thing in things {
            println!("case {thing}");
            let scratch = Scratch::new();
            let stream = Stream::new(&scratch.space(), SHAPES[0]);
            let (path, real) = (stream.path(), scratch.0.join("elsewhere"));
            std::fs::rename(&path, &real).unwrap();
            match thing {
                "a directory" => std::fs::create_dir(&path).unwrap(),
                "an empty file" => std::fs::write(&path, b"").unwrap(),
                "a link" => symlink(&real, &path).unwrap(),
                "a pipe" => common::make_fifo(&path),
                _ => {}
            }
            let error = Producer::open(&stream.space, NAME).unwrap_err();
            let kind = match thing {
                "nothing" => ErrorKind::NotFound,
                _ => ErrorKind::Damaged,
            };
            assert_eq!(error.kind(), kind, "{error}");
            let from = From::Oldest;
            let error = Subscriber::open(&stream.space, NAME, from).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            if thing != "nothing" {
                visit(&stream.space, &mut stream.sent.clone(), SHORT);
            }
            expect(stream.space.remove(Kind::Stream, NAME));
        }
    });
}

/// A number and bytes that follow from it.
fn whole(number: u64) -> Vec<u8> {
    let len = 8 + number as usize % 5000;
    let fill = (8..len).map(|i| (number as usize * 31 + i * 7) as u8);
    number.to_ne_bytes().into_iter().chain(fill).collect()
}

/// Somebody scribbles on lengths, checksums, places and payloads while a producer sends. Copies are
/// checked after they were made, so none is ever wrong; what is handed out in place may change
/// later, which is why the stream is one that overwrites.
///
/// A producer that needs a cell which is damaged sends no more, so this is done with one stream
/// after the other, until enough has come through.
#[test]
fn copies_are_whole_while_somebody_scribbles() {
    in_child("copies_are_whole_while_somebody_scribbles", || {
        let is_it = |shape: &&Shape| shape.overflow == corkboard::stream::Overflow::Overwrite;
        for shape in SHAPES.iter().filter(is_it) {
            let mut random = Random(0xD00D);
            let (mut rounds, mut right) = (0, 0);
            while rounds < 20 || right < 100 {
                println!("case {shape:?} round {rounds} right {right}");
                right += receive_while_somebody_scribbles(*shape, &mut random);
                rounds += 1;
            }
        }
    });
}

/// How many records of a stream came through until its producer had sent enough, or no more.
fn receive_while_somebody_scribbles(shape: Shape, random: &mut Random) -> usize {
    let scratch = Scratch::new();
    let stream = Stream::new(&scratch.space(), shape);
    let mut subscriber = Subscriber::open(&stream.space, NAME, From::Newest).unwrap();
    let mut producer = Producer::open(&stream.space, NAME).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut failed = 0;
            for number in 0..1000 {
                // A shared producer looks at the cells each time, and may find damage.
                match expect(producer.send(&whole(number))) {
                    Some(_) => failed = 0,
                    None => failed += 1,
                }
                if failed == 50 {
                    break;
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
        threads.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let cell = cell(random.below(CELLS as u64));
                let offset = match random.below(2) {
                    0 => cell + 8 + 8 * random.below(15) as usize,
                    _ => ARENA + 8 * random.below(2560) as usize,
                };
                // Not 0: a record without bytes has the checksum 0.
                let word = random.below(1 << 30) << random.below(34) | 1;
                stream.write(&word.to_ne_bytes(), offset as u64);
            }
        });
        let mut right = 0;
        while !is_done.load(Ordering::Relaxed) {
            if let Some(message) = expect(subscriber.recv(Some(SHORT))).flatten() {
                let number = u64::from_ne_bytes(*message.first_chunk().unwrap());
                assert!(*message == whole(number), "{message:02x?}");
                right += 1;
            }
        }
        right
    })
}
