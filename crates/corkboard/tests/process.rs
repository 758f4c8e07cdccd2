//! Boards between real processes that are killed at random moments.
//!
//! A writer dies with SIGKILL in the middle of whatever it was doing; the next one must take its
//! place, and the reader must never see a torn value or an older one.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Scratch;
use corkboard::board::{Options, Reader, Writer, WriterMode};
use corkboard::{ErrorKind, Space};

/// Not a test of its own: the part that the killed processes play.
#[test]
fn child_publishes_until_it_is_killed() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_CHILD") else {
        return;
    };
    let space = Space::at(directory).unwrap();
    let options = Options::new().writer_timeout(Duration::from_secs(30));
    let mut writer = options.writer(&space, "x").unwrap();
    for byte in (0..=u8::MAX).cycle() {
        writer.publish(&vec![byte; writer.capacity()]).unwrap();
    }
}

#[test]
fn killed_writers_are_replaced_and_nothing_is_torn() {
    for (capacity, mode) in [
        (64, WriterMode::Exclusive),
        (50_000, WriterMode::Exclusive),
        (64, WriterMode::Shared),
        (50_000, WriterMode::Shared),
    ] {
        let scratch = Scratch::new();
        let space = scratch.space();
        drop(
            Options::new()
                .capacity(capacity)
                .writer_mode(mode)
                .writer(&space, "x")
                .unwrap(),
        );
        let mut reader = Reader::open(&space, "x").unwrap();
        let start = || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child_publishes_until_it_is_killed"])
                .env("CORKBOARD_TEST_CHILD", &scratch.0)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut active = start();
        let mut last = 0;
        for round in 0..25u32 {
            let standby = start();
            let until = Instant::now() + Duration::from_micros(u64::from(round * 977 % 20_000));
            loop {
                let snapshot = reader.wait(Some(Duration::from_secs(30))).unwrap();
                let snapshot = snapshot.expect("a standby takes over");
                assert!(snapshot.sequence() > last);
                last = snapshot.sequence();
                assert_eq!(snapshot.len(), capacity);
                assert!(snapshot.iter().all(|byte| *byte == snapshot[0]));
                if Instant::now() >= until {
                    break;
                }
            }
            active.kill().unwrap();
            active.wait().unwrap();
            active = standby;
        }
        active.kill().unwrap();
        active.wait().unwrap();
    }
}

/// Not a test of its own: a daemon that forks, closes its descriptors, and goes on publishing.
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

#[test]
fn neither_a_forked_child_nor_closed_descriptors_change_who_is_alive() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
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
