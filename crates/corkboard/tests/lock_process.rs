//! Locks and events between real processes that are killed at random moments.
//!
//! Whoever holds, waits, sets or consumes may die with SIGKILL at any moment. Never may two
//! writers be in, nor a writer and a reader; the next one comes in, and no signal stays unheard.

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/witness.rs"]
mod witness;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{At, Scratch, findings, is_killed, this_program, until};
#[cfg(target_os = "linux")]
use corkboard::ErrorKind;
use corkboard::board::{Options, Reader, WriterMode};
use corkboard::event::{Event, Reset};
use corkboard::lock::{self, RwLock, State};
use corkboard::{Kind, Space, integrity};
use random::Random;
use witness::{Place, Witness};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "x";

/// How many processes to kill at random; more in the long run of the gate.
fn kills() -> u32 {
    match std::env::var("CORKBOARD_TEST_KILLS") {
        Ok(count) => count.parse().expect("a number of kills"),
        Err(_) => 200,
    }
}

/// Not a test of its own: the part of the processes below.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let directory = PathBuf::from(std::env::var("CORKBOARD_TEST_SPACE").unwrap());
    let slot = std::env::var("CORKBOARD_TEST_SLOT").unwrap();
    let slot = slot.parse().unwrap();
    let space = Space::at(&directory).unwrap();
    match part.as_str() {
        "reader" | "writer" | "reader at path" | "writer at path" => {
            let mut lock = if part.ends_with("path") {
                RwLock::at(directory.join("file")).unwrap()
            } else {
                RwLock::open(&space, NAME).unwrap()
            };
            let mut witness = Witness::open(&directory.join("witness"), slot);
            let mut random = Random(slot as u64);
            loop {
                let place = go_in(&mut lock, &part, &mut witness, &mut random);
                assert!(place, "not in for so long");
            }
        }
        "consumer" => {
            let event = Event::open(&space, NAME).unwrap();
            let mut witness = Witness::open(&directory.join("witness"), slot);
            loop {
                assert!(event.wait(Some(PATIENCE)).unwrap(), "unheard for so long");
                witness.say(Place::Writing);
            }
        }
        #[cfg(target_os = "linux")]
        "closer" => close_descriptors(&space),
        "original reader" | "original writer" => original_part(&space, &part),
        other => panic!("no part {other}"),
    }
}

/// Goes in once, looks around, and leaves.
fn go_in(lock: &mut RwLock, part: &str, witness: &mut Witness, random: &mut Random) -> bool {
    let place = match part.starts_with("writer") {
        true => Place::Writing,
        false => Place::Reading,
    };
    let guard = loop {
        // Now and then with a time-out that runs out, or without any.
        let timeout = match random.below(4) {
            0 => Duration::from_micros(random.below(2_000)),
            1 => Duration::MAX,
            _ => PATIENCE,
        };
        let got = match place {
            Place::Writing => lock.write_timeout(timeout),
            _ => lock.read_timeout(timeout),
        };
        if let Some(guard) = got.unwrap() {
            break guard;
        }
        if timeout == PATIENCE {
            return false;
        }
    };
    witness.say(place);
    witness.check_alone(place);
    witness.say(Place::Outside);
    drop(guard);
    true
}

fn start(part: &str, directory: &Path, slot: usize) -> Child {
    this_program()
        .args(["--exact", "child_plays_its_part", "--nocapture"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", directory)
        .env("CORKBOARD_TEST_SLOT", slot.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(is_killed(status), "it ended by itself: {status}");
}

fn quantiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what} {}: the next after {:?} (p50), {:?} (p99), {:?} (longest)",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn killed_holders_and_waiters_never_let_two_in_and_never_keep_the_next_out() {
    let parts = ["reader", "reader", "reader", "writer", "writer"];
    for suffix in ["", " at path"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let first = RwLock::open(&space, NAME).unwrap();
        let _keeper = space.keep(Kind::Lock, NAME).unwrap();
        drop(first);
        drop(RwLock::at(scratch.0.join("file")).unwrap());
        let parts = parts.map(|part| format!("{part}{suffix}"));
        let mut next_slot = 1;
        let mut begin = |part: &str| {
            next_slot += 1;
            (part.to_owned(), start(part, &scratch.0, next_slot))
        };
        let mut workers: Vec<_> = parts.iter().map(|part| begin(part)).collect();
        let witness = Witness::open(&scratch.0.join("witness"), 0);
        let mut random = Random(0x9E37_79B9 + suffix.len() as u64);
        let mut times = Vec::new();
        let entries = || -> u64 { witness.slots().iter().map(|slot| slot.entries).sum() };
        until(|| entries() > 100);
        for _ in 0..kills() / 2 {
            let moment = Instant::now() + Duration::from_micros(random.below(3_000));
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            let which = random.below(workers.len() as u64) as usize;
            let (part, child) = workers.remove(which);
            kill(child);
            let (killed, before) = (Instant::now(), entries());
            until(|| entries() > before);
            times.push(killed.elapsed());
            workers.push(begin(&part));
        }
        for (_, child) in workers {
            kill(child);
        }
        quantiles(&format!("killed with a lock{suffix}:"), times);
        let mut last = match suffix {
            "" => RwLock::open(&space, NAME).unwrap(),
            _ => RwLock::at(scratch.0.join("file")).unwrap(),
        };
        assert!(last.write_timeout(PATIENCE).unwrap().is_some());
        drop(last);
        // Who looks at a dying process keeps its memory, and its mappings' locks, for a moment.
        until(|| {
            for finding in findings(&space) {
                finding.fix().unwrap();
            }
            let stat = lock::stat(&space, NAME).unwrap();
            stat.state == State::Free && stat.handles.is_empty()
        });
    }
}

#[test]
fn a_set_is_heard_also_when_those_who_were_woken_die() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, NAME, Reset::Auto).unwrap();
    let mut next_slot = 1;
    let mut begin = || {
        next_slot += 1;
        start("consumer", &scratch.0, next_slot)
    };
    let mut workers: Vec<_> = (0..4).map(|_| begin()).collect();
    let witness = Witness::open(&scratch.0.join("witness"), 0);
    let consumed = || -> u64 { witness.slots().iter().map(|slot| slot.entries).sum() };
    let mut random = Random(7);
    let mut times = Vec::new();
    for round in 0..kills() * 5 {
        let before = consumed();
        let set = Instant::now();
        event.set().unwrap();
        if round % 5 == 0 {
            // Perhaps the one that was woken.
            let which = random.below(workers.len() as u64) as usize;
            kill(workers.remove(which));
            workers.push(begin());
        }
        // Consumed, if not by one who died before it could say so.
        until(|| {
            consumed() > before || !corkboard::event::stat(&space, NAME).unwrap().is_signalled
        });
        times.push(set.elapsed());
    }
    quantiles("set while waiters were killed:", times);
    for child in workers {
        kill(child);
    }
    event.set().unwrap();
    assert!(event.wait(Some(Duration::ZERO)).unwrap());
}

#[test]
fn each_of_many_sets_is_consumed_by_exactly_one_process() {
    let sets = u64::from(kills()) * 10;
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, NAME, Reset::Auto).unwrap();
    let workers: Vec<_> = (1..5)
        .map(|slot| start("consumer", &scratch.0, slot))
        .collect();
    let witness = Witness::open(&scratch.0.join("witness"), 0);
    let consumed = || -> u64 { witness.slots().iter().map(|slot| slot.entries).sum() };
    for number in 1..=sets {
        event.set().unwrap();
        until(|| consumed() >= number);
        assert_eq!(consumed(), number, "consumed once");
    }
    assert!(!event.wait(Some(Duration::ZERO)).unwrap());
    workers.into_iter().for_each(kill);
    assert_eq!(consumed(), sets);
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_whose_descriptor_was_closed_says_so() {
    let scratch = Scratch::new();
    let mut child = start("closer", &scratch.0, 1);
    assert!(child.wait().unwrap().success());
}

/// Closes the descriptors of locks that it has, as daemons do.
#[cfg(target_os = "linux")]
fn close_descriptors(space: &Space) {
    type Open = fn(&Space, &str) -> corkboard::Result<RwLock>;
    let ways: [Open; 2] = [RwLock::open, |space, name| {
        RwLock::at(space.path().join(name))
    }];
    for open in ways {
        let mut lock = open(space, NAME).unwrap();
        let guard = lock.write().unwrap();
        // SAFETY: nobody needs these descriptors but the lock, which must notice.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        // The kernel has released it.
        let mut other = open(space, NAME).unwrap();
        assert!(other.write_timeout(PATIENCE).unwrap().is_some());
        drop(guard);
        drop(other);
        // The number is another file's now, which the lock must neither use nor close.
        let files: Vec<_> = (0..8)
            .map(|_| std::fs::File::open("/proc/self/exe").unwrap())
            .collect();
        let error = lock.write().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.to_string().contains("closed its descriptor"),
            "{error}"
        );
        let all_are_open = || files.iter().all(|file| file.metadata().is_ok());
        // SAFETY: the child only looks at its descriptors and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends this process; nothing of it is used afterwards.
            unsafe { libc::_exit(i32::from(!all_are_open())) };
        }
        let mut status = 0;
        // SAFETY: waits for the child started above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "the child has all files");
        drop(lock);
        assert!(all_are_open());
    }
}

const ACCESSES: u32 = 1_000;
/// A hundred random bytes, four of padding, and their checksum.
const VALUE: usize = 112;

/// The value of the original's own test.
fn original_value(random: &mut Random) -> [u8; VALUE] {
    let mut value = [0; VALUE];
    value[..100].fill_with(|| random.below(256) as u8);
    let sum = integrity::crc64(&value[..104], 0);
    value[104..].copy_from_slice(&sum.to_le_bytes());
    value
}

fn check_original(value: &[u8]) {
    assert_eq!(value.len(), VALUE);
    let sum = integrity::crc64(&value[..104], 0);
    assert_eq!(value[104..], sum.to_le_bytes(), "mismatch");
}

/// A thousand accesses to plain bytes in a file under a lock, and to a shared board.
fn original_part(space: &Space, part: &str) {
    let mut random = Random(u64::from(std::process::id()));
    let mut lock = RwLock::open(space, NAME).unwrap();
    let path = space.path().join("plain");
    let file = std::fs::OpenOptions::new();
    let file = file.clone().read(true).write(true).open(path).unwrap();
    let mut plain = [0; VALUE];
    if part.ends_with("writer") {
        let mut writer = Options::new().writer_timeout(PATIENCE);
        writer = writer.writer_mode(WriterMode::Shared);
        let mut writer = writer.open_writer(space, NAME).unwrap();
        for _ in 0..ACCESSES {
            let value = original_value(&mut random);
            let guard = lock.write().unwrap();
            // Byte by byte in two halves, so that an access that is not alone would show.
            file.write_all_to(&value[..50], 0);
            file.write_all_to(&value[50..], 50);
            drop(guard);
            writer.publish(&value).unwrap();
        }
    } else {
        let mut reader = Reader::open(space, NAME).unwrap();
        for _ in 0..ACCESSES {
            let guard = lock.read().unwrap();
            file.read_exactly_at(&mut plain[..70], 0);
            file.read_exactly_at(&mut plain[70..], 70);
            drop(guard);
            check_original(&plain);
            check_original(&reader.read().unwrap().expect("published before"));
        }
    }
}

#[test]
fn ten_writers_and_ten_readers_access_one_value_a_thousand_times_each() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let first = original_value(&mut Random(1));
    std::fs::write(space.path().join("plain"), first).unwrap();
    let options = Options::new()
        .capacity(VALUE)
        .writer_mode(WriterMode::Shared);
    let mut writer = options.writer(&space, NAME).unwrap();
    writer.publish(&first).unwrap();
    let lock = RwLock::open(&space, NAME).unwrap();
    let _keepers = [
        space.keep(Kind::Board, NAME).unwrap(),
        space.keep(Kind::Lock, NAME).unwrap(),
    ];
    drop((writer, lock));
    let children: Vec<_> = (0..20)
        .map(|index| match index % 2 {
            0 => start("original reader", &scratch.0, index),
            _ => start("original writer", &scratch.0, index),
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let stat = corkboard::board::stat(&space, NAME).unwrap();
    assert_eq!(stat.sequence, 1 + 10 * u64::from(ACCESSES));
}
