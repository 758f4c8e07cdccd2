//! Calls whose file is damaged, foreign or under attack.
//!
//! Somebody cuts the file short, flips bits, makes holes, writes random words, and does so before a
//! call is opened or while handles are attached. Each operation must end, at its deadline at the
//! latest, with bytes that somebody handed in or with an error that names the call.
//!
//! Not here: cutting a file short that is mapped already, which `docs/design.md` leaves out.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/confined.rs"]
mod confined;
#[path = "common/hostile.rs"]
#[allow(dead_code, reason = "most of it is for boards")]
mod hostile;
#[path = "common/hostile_call.rs"]
mod hostile_call;
#[path = "common/random.rs"]
mod random;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Scratch;
use confined::in_child;
use corkboard::call::{Client, Options, Server, stat};
use corkboard::{ErrorKind, Kind};
use hostile::{NAME, expect, seal};
use hostile_call::{CallFile, Handles, SHAPES, Shape, visit, whole};
use random::Random;

/// Long enough to sleep once, short enough to do so often.
const SHORT: Duration = Duration::from_micros(200);
const LONG: Duration = Duration::from_secs(60);
/// The role in a call's header.
const ROLE: u64 = 7;
const EPOCH: usize = 264;
const BELL: usize = 320;

/// Where the words of pending requests, the cells and the payloads are, and where the file ends:
/// see `docs/format.md`.
fn places(capacity: u64, clients: u64, calls: u64) -> Option<[u64; 4]> {
    let pages = |len: u64| len.checked_next_multiple_of(4096);
    let table = clients.checked_add(1)?.checked_mul(128)?.checked_add(512)?;
    let pending = table.checked_next_multiple_of(128)?;
    let cells = pages(clients.checked_mul(8)?.checked_add(pending)?)?;
    let slots = clients.checked_mul(calls)?;
    let payloads = pages(slots.checked_mul(128)?.checked_add(cells)?)?;
    let stride = match capacity {
        0..=64 => 0,
        65..4096 => capacity.next_multiple_of(128),
        _ => pages(capacity)?,
    };
    let end = pages(stride.checked_mul(slots)?.checked_add(payloads)?)?;
    Some([pending, cells, payloads, end])
}

fn places_of(shape: Shape) -> [usize; 4] {
    let places = places(shape.capacity as u64, 2, shape.calls.into());
    places.unwrap().map(|place| place as usize)
}

/// Visits the call as `damage` leaves it, once for each case.
fn visit_each<T: std::fmt::Debug>(
    shapes: &[Shape],
    cases: impl Fn(&CallFile) -> Vec<T>,
    damage: impl Fn(&CallFile, &T),
) {
    for shape in shapes {
        let scratch = Scratch::new();
        let call = CallFile::new(&scratch.space(), *shape);
        for (number, case) in cases(&call).into_iter().enumerate() {
            println!("case {shape:?} {case:x?}");
            call.restore();
            damage(&call, &case);
            // Sleeping is what takes the time here.
            let longest_wait = match number % 8 {
                0 => SHORT,
                _ => Duration::ZERO,
            };
            visit(&call.space, true, longest_wait);
            expect(call.space.remove(Kind::Call, NAME));
        }
    }
}

#[test]
fn files_of_any_length() {
    in_child("files_of_any_length", || {
        let cases = |call: &CallFile| {
            let len = call.pristine.len() as u64;
            let [pending, cells, payloads, end] = places_of(call.shape).map(|at| at as u64);
            assert_eq!(end, len, "as docs/format.md says");
            let mut cases = vec![0, 1, 7, 120, 191, 192, 256, 264, 320, 384, 392, 512, 640];
            for place in [pending, cells, payloads, end, 2 * end, 1 << 30, 1 << 40] {
                cases.extend([place.saturating_sub(1), place + 1, place - 8, place + 4096]);
            }
            cases
        };
        visit_each(&SHAPES, cases, |call, len| call.set_len(*len));
    });
}

#[test]
fn bytes_flipped_in_the_header_the_words_and_the_cells() {
    in_child(
        "bytes_flipped_in_the_header_the_words_and_the_cells",
        || {
            let cases = |call: &CallFile| {
                let [pending, cells, payloads, _] = places_of(call.shape);
                let second = cells + call.shape.calls as usize * 128;
                // The header is sealed as a whole.
                let mut cases: Vec<usize> = (0..192).step_by(5).chain(192..pending + 16).collect();
                for cell in [cells, second] {
                    let words = |slot: usize| (0..32).map(move |at| cell + slot * 128 + at);
                    cases.extend((0..7).flat_map(words));
                    cases.extend((0..7 * 128).step_by(53).map(|at| cell + at));
                }
                cases.extend((payloads..call.pristine.len()).step_by(997));
                cases
            };
            visit_each(&SHAPES[1..2], cases, |call, offset| {
                // One bit in one run of eight bytes, all bits in the next.
                let mask = match offset / 8 % 2 {
                    0 => 1 << (offset % 8),
                    _ => 0xFF,
                };
                call.write(&[call.pristine[*offset] ^ mask], *offset as u64);
            });
        },
    );
}

#[test]
fn random_contents_behind_a_valid_header() {
    in_child("random_contents_behind_a_valid_header", || {
        let cases = |_: &CallFile| (1..=100).collect();
        visit_each(&SHAPES, cases, |call, seed| {
            let mut random = Random(*seed);
            let mut next = || random.below(1 << 31) << 33 | random.below(1 << 31);
            // Some payloads, too.
            let [.., payloads, end] = places_of(call.shape);
            let noise: Vec<u8> = (192..end.min(payloads + 20_000))
                .step_by(8)
                .flat_map(|offset| match (offset, next() % 4) {
                    // A live call, so that it is looked into.
                    (256, _) => 1u64.to_ne_bytes(),
                    (_, 0) => next().to_ne_bytes(),
                    (_, 1) => (next() | 1 << 63).to_ne_bytes(),
                    _ => (next() % 20).to_ne_bytes(),
                })
                .collect();
            call.write(&noise, 192);
        });
    });
}

/// Whoever wrote this file knows the format.
#[test]
fn headers_with_a_valid_checksum_and_any_geometry() {
    in_child("headers_with_a_valid_checksum_and_any_geometry", || {
        let numbers = [
            0,
            1,
            2,
            3,
            63,
            64,
            65,
            128,
            1000,
            1001,
            4095,
            4096,
            5001,
            1 << 16,
            (1 << 16) + 64,
            1 << 20,
            1 << 32,
            1 << 40,
            (1 << 40) + 1,
            1 << 62,
            u64::MAX,
        ];
        for shape in SHAPES {
            let scratch = Scratch::new();
            let call = CallFile::new(&scratch.space(), shape);
            for word in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20] {
                for number in numbers {
                    for fits in [false, true] {
                        println!("case {shape:?} {word} {number:x} {fits}");
                        call.restore();
                        let mut header: [u8; 192] = *call.pristine.first_chunk().unwrap();
                        header[word * 8..][..8].copy_from_slice(&number.to_le_bytes());
                        let role = if word == 3 { number } else { ROLE };
                        call.write(&seal(&header, role), 0);
                        let field = |word: usize| {
                            u64::from_le_bytes(*header[word * 8..].first_chunk().unwrap())
                        };
                        if fits && let Some(places) = places(field(5), field(6), field(7)) {
                            // Whatever has memory from the start gets it when it is opened.
                            if places[2] < 64 << 20 && places[3] < 1 << 60 {
                                call.set_len(places[3]);
                            }
                        }
                        visit(&call.space, word < 4, Duration::ZERO);
                    }
                }
            }
        }
    });
}

/// What a word of a mapped file is exchanged for.
const CHANGES: [fn(u64) -> u64; 12] = [
    |_| 0,
    |_| 1,
    |_| 2,
    |_| u64::MAX,
    |word| word ^ 1,
    |word| word ^ 2,
    |word| word ^ 4,
    |word| word ^ 8,
    |word| word ^ 16,
    |word| word ^ 1 << 32,
    |word| word ^ 1 << 63,
    |word| word.wrapping_add(1),
];

/// The words that matter: of the header's end, some entries, the pending requests, some cells and
/// payloads.
fn words(call: &CallFile) -> Vec<usize> {
    let [pending, cells, payloads, end] = places_of(call.shape);
    let entries = (0..3).flat_map(|entry| [0, 64, 72, 80].map(|field| 512 + entry * 128 + field));
    let first_cells = [0, 1, 2, 5].map(|slot| cells + slot * 128);
    let second = cells + call.shape.calls as usize * 128;
    let all_cells = first_cells.into_iter().chain([second, second + 128]);
    [256, EPOCH, 272, BELL, 384, pending, pending + 8]
        .into_iter()
        .chain(entries)
        .chain(all_cells.flat_map(|cell| [0, 8, 16, 24, 64, 120].map(|field| cell + field)))
        .chain([payloads, payloads + 64, payloads + 8192])
        .filter(|offset| offset + 8 <= end)
        .collect()
}

#[test]
fn words_changed_while_handles_are_attached() {
    in_child("words_changed_while_handles_are_attached", || {
        for shape in SHAPES {
            let scratch = Scratch::new();
            let call = CallFile::new(&scratch.space(), shape);
            for (number, offset) in words(&call).into_iter().enumerate() {
                for (change, changed) in CHANGES.into_iter().enumerate() {
                    println!("case {shape:?} {offset} {change}");
                    call.restore();
                    let mut handles = Handles::open(&call.space);
                    // In half of the cases the handles have been used before.
                    if (number + change) % 2 == 0 {
                        handles.use_all(true, Duration::ZERO);
                    }
                    let word = call.read(offset);
                    call.write(&changed(word).to_ne_bytes(), offset as u64);
                    handles.use_all(true, SHORT);
                    expect(stat(&call.space, NAME));
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
            let call = CallFile::new(&scratch.space(), shape);
            let words = words(&call);
            for case in 0..150 {
                println!("case {shape:?} {case}");
                call.restore();
                let mut handles = Handles::open(&call.space);
                for _ in 0..5 {
                    for _ in 0..3 {
                        let offset = words[random.below(words.len() as u64) as usize];
                        let change = CHANGES[random.below(CHANGES.len() as u64) as usize];
                        call.write(&change(call.read(offset)).to_ne_bytes(), offset as u64);
                    }
                    handles.use_all(true, Duration::ZERO);
                }
                drop(handles);
                visit(&call.space, true, Duration::ZERO);
            }
        }
    });
}

#[test]
fn holes_are_filled_before_they_are_touched() {
    in_child("holes_are_filled_before_they_are_touched", || {
        for shape in SHAPES {
            let scratch = Scratch::new();
            let call = CallFile::new(&scratch.space(), shape);
            for len in [192, 512, 4096, 8192] {
                println!("case {shape:?} {len}");
                call.restore();
                // All that comes behind is a hole.
                call.set_len(len);
                call.set_len(call.pristine.len() as u64);
                if len < 264 {
                    call.write(&1_u64.to_ne_bytes(), 256);
                }
                visit(&call.space, true, SHORT);
                let server = Server::create(&call.space, NAME, Options::new()).unwrap();
                let client = Client::open(&call.space, NAME).unwrap();
                let pending = client.start(&whole(5, shape.capacity), LONG).unwrap();
                let request = server.next(Some(LONG)).unwrap().unwrap();
                let reply = request.to_vec();
                request.reply(&reply).unwrap();
                assert_eq!(*pending.wait().unwrap(), reply);
            }
        }
    });
}

#[test]
fn numbers_epochs_and_bells_wrap_around() {
    in_child("numbers_epochs_and_bells_wrap_around", || {
        for shape in SHAPES {
            let scratch = Scratch::new();
            let call = CallFile::new(&scratch.space(), shape);
            let [_, cells, ..] = places_of(shape);
            for slot in 0..shape.calls as usize {
                // Free, and the last number that there is.
                let last = (1_u64 << 32) - 16;
                let cell = cells + slot * 128;
                let mut pristine = call.pristine[cell..cell + 8].to_vec();
                pristine.copy_from_slice(&last.to_ne_bytes());
                call.restore();
                call.write(&pristine, cell as u64);
                for (offset, value) in [(EPOCH, u64::from(u32::MAX)), (BELL, u64::MAX - 1)] {
                    call.write(&value.to_ne_bytes(), offset as u64);
                }
                let server = Server::create(&call.space, NAME, Options::new()).unwrap();
                let client = Client::open(&call.space, NAME).unwrap();
                while let Some(left) = server.next(Some(Duration::ZERO)).unwrap() {
                    drop(left);
                }
                let calls: Vec<_> = (0..shape.calls.into())
                    .map(|number| client.start(&whole(number, shape.capacity), LONG).unwrap())
                    .collect();
                for _ in 0..shape.calls {
                    let request = server.next(Some(LONG)).unwrap().unwrap();
                    let reply = request.to_vec();
                    request.reply(&reply).unwrap();
                }
                for (number, pending) in calls.into_iter().enumerate() {
                    assert_eq!(
                        *pending.wait().unwrap(),
                        whole(number as u64, shape.capacity)
                    );
                }
                if slot == 3 {
                    break;
                }
            }
        }
    });
}

/// Somebody scribbles on everything while calls are made. Copies are checked after they were made,
/// so none is ever wrong; a slice of shared memory may change later, which is why only files that
/// others may write to are asked here.
#[test]
fn calls_are_whole_while_somebody_scribbles() {
    in_child("calls_are_whole_while_somebody_scribbles", || {
        let shape = SHAPES[2];
        let scratch = Scratch::new();
        let call = CallFile::new(&scratch.space(), shape);
        call.restore();
        let server = Server::create(&call.space, NAME, Options::new()).unwrap();
        let client = Client::open(&call.space, NAME).unwrap();
        let is_done = AtomicBool::new(false);
        let patience = Duration::from_millis(5);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut random = Random(0xD00D);
                let mut places = words(&call);
                // Not whether it is removed, and no entry.
                places.retain(|offset| *offset > 256 && !(384..900).contains(offset));
                // No words of ones only: they are their own checksum for the number 0, so that
                // four of these changes would make a request.
                let changes = CHANGES.iter().filter(|change| change(0) != u64::MAX);
                let changes: Vec<_> = changes.collect();
                while !is_done.load(Ordering::Relaxed) {
                    let offset = places[random.below(places.len() as u64) as usize];
                    let change = changes[random.below(changes.len() as u64) as usize];
                    call.write(&change(call.read(offset)).to_ne_bytes(), offset as u64);
                    std::thread::sleep(Duration::from_micros(random.below(50)));
                }
            });
            threads.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let Some(Some(request)) = expect(server.next(Some(patience))) else {
                        continue;
                    };
                    let number = request.first_chunk().map_or(0, |n| u64::from_ne_bytes(*n));
                    assert!(
                        *request == whole(number, shape.capacity),
                        "{:02x?}",
                        &*request
                    );
                    expect(request.reply(&whole(number + 1, shape.capacity)));
                }
            });
            let (mut number, mut right) = (0, 0);
            while number < 3000 || right < 100 {
                let request = whole(2 * number, shape.capacity);
                if let Some(reply) = expect(client.call(&request, patience)) {
                    let found = reply.first_chunk().map_or(0, |n| u64::from_ne_bytes(*n));
                    assert!(*reply == whole(found, shape.capacity), "{:02x?}", &*reply);
                    right += u64::from(found == 2 * number + 1);
                }
                number += 1;
            }
            is_done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn other_things_in_place_of_the_file() {
    in_child("other_things_in_place_of_the_file", || {
        let scratch = Scratch::new();
        let call = CallFile::new(&scratch.space(), SHAPES[0]);
        call.remove();
        for thing in ["directory", "link", "socket", "empty file"] {
            println!("case {thing}");
            let path = call.path();
            match thing {
                "directory" => std::fs::create_dir(&path).unwrap(),
                "link" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                "socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
                _ => std::fs::write(&path, b"").unwrap(),
            }
            let error = Client::open(&call.space, NAME).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
            visit(&call.space, true, SHORT);
            call.space.remove(Kind::Call, NAME).unwrap();
        }
    });
}
