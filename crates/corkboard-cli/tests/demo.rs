//! The demonstration, and what it leaves behind: nothing.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use common::{DEADLINE, Scratch};

#[test]
fn everything_holds_and_the_result_says_so() {
    let scratch = Scratch::new("demo");
    let demo = scratch.start(&["demo", "--seconds", "1", "--json"]);
    let space = space_of(demo.child.id());
    let (code, stdout, stderr) = demo.end();
    assert_eq!(code, Some(0), "{stdout:?} {stderr:?}");
    let report: serde_json::Value = serde_json::from_str(&stdout.concat()).unwrap();
    assert_eq!(report["passed"], true);
    for board in report["boards"].as_array().unwrap() {
        assert!(board["publications"].as_u64().unwrap() > 0);
        for wrong in ["torn", "corrupt", "backwards", "changed_while_held"] {
            assert_eq!(board[wrong], 0, "{board}");
        }
        let take_over = &board["take_over"];
        let [before, after] = ["last_sequence_before", "first_sequence_after"]
            .map(|sequence| take_over[sequence].as_u64().unwrap());
        assert!(before < after, "{take_over}");
    }
    assert!(!Path::new(&space).exists());
    assert!(!scratch.0.exists(), "the user's own space was touched");
}

#[test]
fn a_value_that_is_tampered_with_fails_the_demonstration() {
    // Some reader must come between the tampering and the next sample.
    let mut ends = ["2", "10", "60"].iter().map(|seconds| tampered(seconds));
    let (code, stderr) = ends.find(|(code, _)| *code != Some(0)).expect("a failure");
    assert_eq!(code, Some(2), "{stderr:?}");
}

/// Runs the demonstration, changes the samples all the time, and returns its exit status and what
/// it told at last.
fn tampered(seconds: &str) -> (Option<i32>, Vec<String>) {
    let scratch = Scratch::new("tampered");
    let demo = scratch.start(&["demo", "--seconds", seconds]);
    let path = format!("{}/machine.board/data", space_of(demo.child.id()));
    let mut file = None;
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "the demonstration does not end");
        match demo.stderr.recv_timeout(Duration::from_millis(1)) {
            Ok(line) if line.contains("stopping everyone") => break,
            Ok(line) if line.contains("at work") => {
                let options = File::options().read(true).write(true).open(&path);
                file = Some(options.unwrap());
            }
            // The story may end early, with what is wrong.
            Err(RecvTimeoutError::Disconnected) => break,
            _ => {}
        }
        if let Some(file) = &file {
            spoil(file);
        }
    }
    let (code, _, stderr) = demo.end();
    (code, stderr)
}

/// Changes a byte of every sample in the file.
fn spoil(file: &File) {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let word = b"\"load\"";
    for offset in 0..bytes.len() - word.len() {
        if bytes[offset..].starts_with(word) {
            file.write_all_at(b"X", offset as u64 + 1).unwrap();
        }
    }
}

#[test]
fn a_killed_demonstration_leaves_no_process_and_no_memory() {
    let scratch = Scratch::new("killed");
    let mut demo = scratch.start(&["demo", "--seconds", "600"]);
    let space = space_of(demo.child.id());
    loop {
        let line = demo.stderr.recv_timeout(DEADLINE).expect("progress");
        if line.contains("at work") {
            break;
        }
    }
    assert!(Path::new(&space).exists());
    demo.child.kill().unwrap();
    // All its processes write their errors to the same pipe: its end is the end of them all, and
    // the sweeper's comes after its work.
    demo.end();
    assert!(!Path::new(&space).exists());
}

fn space_of(process: u32) -> String {
    format!("/dev/shm/corkboard-demo-{process}-0")
}
