//! The demonstration, and what it leaves behind: nothing.

mod common;

use std::path::Path;

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
