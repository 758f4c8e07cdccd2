//! Boards between real processes that are killed at random moments.
//!
//! A writer dies with SIGKILL in the middle of whatever it was doing; the next one must take its
//! place, and the reader must never see a torn value or an older one.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Scratch;
use corkboard::Space;
use corkboard::board::{Options, Reader, WriterMode};

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
