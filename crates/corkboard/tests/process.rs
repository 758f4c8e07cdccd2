//! Boards between real processes that are killed at random moments.
//!
//! A writer dies with SIGKILL in the middle of whatever it was doing; the next one must take its
//! place, and the reader must never see a torn value or an older one.

mod common;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, is_killed, this_program};
#[cfg(target_os = "linux")]
use corkboard::ErrorKind;
use corkboard::board::{self, Options, Reader, Writer, WriterMode};
use corkboard::{Kind, Space};

/// How many processes to kill at random; more in the long run of the gate.
fn kills() -> u32 {
    match std::env::var("CORKBOARD_TEST_KILLS") {
        Ok(count) => count.parse().expect("a number of kills"),
        Err(_) => 200,
    }
}

/// A value that says of each of its words which publication it belongs to.
fn fill(value: &mut [u8], number: u64) {
    for (index, word) in value.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = (number ^ index as u64).to_ne_bytes();
    }
}

fn check(value: &[u8]) {
    let words = value.as_chunks::<8>().0;
    let number = u64::from_ne_bytes(words[0]);
    for (index, word) in words.iter().enumerate() {
        assert_eq!(u64::from_ne_bytes(*word), number ^ index as u64, "torn");
    }
}

/// Not a test of its own: the part that the killed processes play.
#[test]
fn child_works_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_CHILD") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    let patience = Duration::from_secs(60);
    match part.as_str() {
        "writer" => {
            let options = Options::new().writer_timeout(patience);
            let mut writer = options.open_writer(&space, "x").unwrap();
            let mut value = vec![0; writer.capacity()];
            for number in u64::from(std::process::id()) << 32.. {
                if number % 3 == 0 {
                    let mut loan = writer.loan(value.len()).unwrap();
                    fill(&mut loan, number);
                    loan.publish().unwrap();
                } else {
                    fill(&mut value, number);
                    writer.publish(&value).unwrap();
                }
            }
        }
        "reader" => {
            let mut reader = Reader::open(&space, "x").unwrap();
            let mut last = 0;
            for turn in 0_u64.. {
                let snapshot = if turn % 2 == 0 {
                    reader.wait(Some(patience)).unwrap().expect("not stuck")
                } else {
                    reader.read().unwrap().expect("there is a value")
                };
                check(&snapshot);
                assert!(snapshot.sequence() >= last, "backwards");
                last = snapshot.sequence();
            }
        }
        other => panic!("no part {other}"),
    }
}

/// A process that is always there: killed and started again.
struct Worker {
    part: &'static str,
    child: Child,
}

impl Worker {
    fn start(part: &'static str, space: &Space) -> Self {
        let child = this_program()
            .args(["--exact", "child_works_until_it_is_killed"])
            .env("CORKBOARD_TEST_CHILD", part)
            .env("CORKBOARD_TEST_SPACE", space.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { part, child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(is_killed(status), "{} ended by itself", self.part);
    }
}

#[test]
fn killed_writers_and_readers_leave_nothing_torn_stuck_or_lost() {
    let shapes = [
        (64, WriterMode::Exclusive),
        (50_000, WriterMode::Exclusive),
        (64, WriterMode::Shared),
        (50_000, WriterMode::Shared),
    ];
    let mut takeovers = Vec::new();
    for (shape, (capacity, mode)) in shapes.into_iter().enumerate() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = Options::new()
            .capacity(capacity)
            .writer_mode(mode)
            .max_readers(6);
        let mut first = options.writer(&space, "x").unwrap();
        let mut value = vec![0; capacity];
        fill(&mut value, 1);
        first.publish(&value).unwrap();
        let _keeper = space.keep(Kind::Board, "x").unwrap();
        drop(first);
        let mut reader = Reader::open(&space, "x").unwrap();
        let mut last = 0;
        let mut workers: Vec<Worker> = ["writer", "writer", "reader", "reader"]
            .map(|part| Worker::start(part, &space))
            .into();
        let mut seed = 0x9E37_79B9 + shape as u64;
        for _ in 0..kills() / 4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let until = Instant::now() + Duration::from_nanos((seed >> 33) % 6_000_000);
            while Instant::now() < until {
                if let Some(snapshot) = reader.wait(Some(Duration::from_millis(1))).unwrap() {
                    check(&snapshot);
                    assert!(snapshot.sequence() > last, "backwards");
                    last = snapshot.sequence();
                }
            }
            let which = (seed >> 60) as usize % workers.len();
            let part = workers[which].part;
            workers.remove(which).kill();
            let killed = Instant::now();
            let next = reader.wait(Some(Duration::from_secs(60))).unwrap();
            check(&next.expect("somebody goes on publishing"));
            if part == "writer" {
                takeovers.push(killed.elapsed());
            }
            workers.push(Worker::start(part, &space));
        }
        for worker in workers {
            worker.kill();
        }
        // No slot and no entry is lost: as many readers as ever hold a value each.
        let mut writer = Writer::open(&space, "x").unwrap();
        let mut readers: Vec<Reader> = (0..5).map(|_| Reader::open(&space, "x").unwrap()).collect();
        for (number, reader) in readers.iter_mut().enumerate() {
            assert!(!reader.is_observer());
            fill(&mut value, number as u64);
            writer.publish(&value).unwrap();
            check(&reader.read().unwrap().unwrap());
        }
        for number in 0..100 {
            fill(&mut value, number);
            writer.publish(&value).unwrap();
        }
        drop((readers, writer));
        for finding in space.diagnose().unwrap() {
            if finding.is_fixable() {
                finding.fix().unwrap();
            }
        }
        let stat = board::stat(&space, "x").unwrap();
        assert_eq!(stat.writers.unwrap(), []);
        assert_eq!(stat.readers.unwrap().len(), 1, "only our own");
        let files: Vec<_> = std::fs::read_dir(space.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }
    takeovers.sort();
    let quantile = |part: f64| takeovers[((takeovers.len() - 1) as f64 * part) as usize];
    println!(
        "{} writers killed; next value after {:?} (p50), {:?} (p99), {:?} (longest)",
        takeovers.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_dead_writer_is_replaced_also_by_one_whom_signals_keep_interrupting() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().writer_timeout(Duration::from_secs(60));
    drop(options.writer(&space, "x").unwrap());
    let mut reader = Reader::open(&space, "x").unwrap();
    let owner = Worker::start("writer", &space);
    assert!(
        reader
            .wait(Some(Duration::from_secs(60)))
            .unwrap()
            .is_some()
    );
    let standby = std::thread::spawn({
        let space = space.clone();
        move || {
            let _interruptions = common::Interruptions::begin();
            options.open_writer(&space, "x").map(drop)
        }
    });
    // It has an entry of its own, so it takes over instead of claiming the dead one's.
    common::until(|| board::stat(&space, "x").unwrap().writers.unwrap().len() == 2);
    owner.kill();
    standby.join().unwrap().expect("the owner is dead");
}

/// Not a test of its own: a daemon that forks, closes its descriptors, and goes on publishing.
#[cfg(target_os = "linux")]
#[test]
fn child_forks_and_closes_its_descriptors() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_DAEMON") else {
        return;
    };
    let space = Space::at(directory).unwrap();
    let mut writer = Options::new().capacity(5000).writer(&space, "x").unwrap();
    writer.publish(b"before").unwrap();
    // SAFETY: the child only publishes, which fails, and pauses until it is killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let kind = writer
            .publish(b"from the child")
            .map_err(|error| error.kind());
        // SAFETY: ends or suspends this process; nothing of it is used afterwards.
        unsafe {
            if kind != Err(ErrorKind::Forked) {
                libc::_exit(1);
            }
            drop(writer);
            loop {
                libc::pause();
            }
        }
    }
    // SAFETY: the handles under test keep no descriptors, and nobody else needs these.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    writer.publish(child.to_string().as_bytes()).unwrap();
    loop {
        // SAFETY: suspends this process until it is killed.
        unsafe { libc::pause() };
    }
}

#[cfg(target_os = "linux")]
#[test]
fn neither_a_forked_child_nor_closed_descriptors_change_who_is_alive() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut daemon = this_program()
        .args(["--exact", "child_forks_and_closes_its_descriptors"])
        .env("CORKBOARD_TEST_DAEMON", &scratch.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Duration::from_secs(30);
    let mut reader = Reader::open_timeout(&space, "x", patience).unwrap();
    let child: i32 = loop {
        let snapshot = reader.wait(Some(patience)).unwrap().unwrap();
        if snapshot.sequence() == 2 {
            break std::str::from_utf8(&snapshot).unwrap().parse().unwrap();
        }
    };
    let error = Writer::open(&space, "x").unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::WriterExists,
        "alive without descriptors"
    );
    // SAFETY: plain signals to processes that this test started.
    let is_child_alive = || unsafe { libc::kill(child, 0) } == 0;
    assert!(is_child_alive());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(is_child_alive());
    let mut writer = Writer::open(&space, "x").expect("the child keeps no lock");
    assert_eq!(writer.publish(b"after").unwrap(), 3);
    // SAFETY: as above.
    unsafe { libc::kill(child, libc::SIGKILL) };
}

/// Forks again and again while `work` runs. The children live on until it is done.
#[cfg(target_os = "linux")]
fn while_others_fork(work: impl FnOnce()) {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let (is_over, forks) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let forker = scope.spawn(|| {
            let mut children = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                if children.len() == 200 {
                    std::thread::yield_now();
                    continue;
                }
                // SAFETY: the child only pauses until it is killed, at the latest when this
                // thread ends.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: as above.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    loop {
                        // SAFETY: as above.
                        unsafe { libc::pause() };
                    }
                }
                children.push(child);
                forks.fetch_add(1, Ordering::Relaxed);
            }
            children
        });
        // Also when an assertion fails: the thread must come to its end.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = Over(&is_over);
        common::until(|| forks.load(Ordering::Relaxed) >= 3);
        work();
        drop(over);
        for child in forker.join().unwrap() {
            // SAFETY: children that this test started.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        }
    });
}

/// Makes, leaves and removes a board, so many times.
#[cfg(target_os = "linux")]
fn belongs_to_nobody_who_was_forked(space: &Space, name: &str, rounds: u32) {
    let options = Options::new().capacity(5000);
    for _ in 0..rounds {
        drop(options.writer(space, name).unwrap());
        let reader = Reader::open(space, name).unwrap();
        // A child on its way to another program has copies for a moment.
        common::until(|| !reader.writer_alive());
        drop(reader);
        common::until(|| {
            let stat = board::stat(space, name).unwrap();
            let all = stat.readers.iter().chain(&stat.writers).flatten();
            all.count() == 0
        });
        space.remove(Kind::Board, name).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn boards_made_while_others_fork_belong_to_nobody_who_was_forked() {
    let scratch = Scratch::new();
    let space = scratch.space();
    while_others_fork(|| belongs_to_nobody_who_was_forked(&space, "x", 300));
}

/// Not a test of its own: threads of a process that is forking begin to use boards at once.
#[cfg(target_os = "linux")]
#[test]
fn child_begins_while_others_fork() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_BEGINNER") else {
        return;
    };
    while_others_fork(|| {
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let directory = &directory;
                scope.spawn(move || {
                    let space = Space::at(directory).unwrap();
                    belongs_to_nobody_who_was_forked(&space, name, 10);
                });
            }
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_boards_of_a_process_that_is_forking_belong_to_nobody_who_was_forked() {
    for _ in 0..10 {
        let scratch = Scratch::new();
        let status = this_program()
            .args(["--exact", "child_begins_while_others_fork"])
            .env("CORKBOARD_TEST_BEGINNER", &scratch.0)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}
