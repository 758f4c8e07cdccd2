//! Watching a board.

#![cfg(unix)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use common::{Running, Scratch, terminal};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn watch_waits_for_creation_and_prints_each_value_exactly() {
    let scratch = Scratch::new("exact");
    let watch = scratch.start(&["watch", "x", "--count", "2"]);
    assert_eq!(scratch.code(&["put", "x", "--text", "one\n"]), Some(0));
    assert_eq!(watch.line(), "one");
    assert_eq!(
        scratch.code(&["put", "x", "--text", "no line break"]),
        Some(0)
    );
    assert_eq!(watch.end(), (Some(0), vec!["no line break".into()], vec![]));
}

#[test]
fn lines_and_json_put_every_value_on_a_line_of_its_own() {
    let scratch = Scratch::new("lines");
    let lines = scratch.start(&["watch", "x", "--lines"]);
    let json = scratch.start(&["watch", "x", "--json"]);
    for (sequence, value) in [(1, "one"), (2, "two"), (3, "")] {
        assert_eq!(scratch.code(&["put", "x", "--text", value]), Some(0));
        assert_eq!(lines.line(), value);
        let object: serde_json::Value = serde_json::from_str(&json.line()).unwrap();
        assert_eq!(object["value"], value);
        assert_eq!(object["sequence"], sequence);
    }
}

#[test]
fn removal_is_told_and_ends_the_watch_with_a_negative_answer() {
    let scratch = Scratch::new("removal");
    let watch = scratch.start(&["watch", "x", "--lines"]);
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    assert_eq!(watch.line(), "v");
    assert_eq!(scratch.code(&["rm", "x"]), Some(0));
    let (code, stdout, stderr) = watch.end();
    assert_eq!((code, stdout.len()), (Some(1), 0));
    assert!(stderr[0].contains("\"x\" was removed"), "{stderr:?}");
}

#[test]
fn a_command_gets_each_value_on_standard_input() {
    let scratch = Scratch::new("command");
    let script = r#"echo "$CORKBOARD_NAME $CORKBOARD_SEQUENCE $(cat)""#;
    let watch = scratch.start(&["watch", "x", "--count", "2", "--", "sh", "-c", script]);
    assert_eq!(scratch.code(&["put", "x", "--text", "one"]), Some(0));
    assert_eq!(watch.line(), "x 1 one");
    assert_eq!(scratch.code(&["put", "x", "--text", "two"]), Some(0));
    assert_eq!(watch.end(), (Some(0), vec!["x 2 two".into()], vec![]));
}

#[test]
fn a_failing_command_is_reported_and_ends_the_watch_only_if_asked_to() {
    let scratch = Scratch::new("failing");
    // More than a pipe holds, and the command does not read it.
    let value = vec![b'x'; 1 << 20];
    assert!(scratch.run(&["put", "x"], &value).status.success());
    let goes_on = scratch.run(&["watch", "x", "--count", "1", "--", "false"], b"");
    assert_eq!(goes_on.status.code(), Some(0));
    let message = String::from_utf8(goes_on.stderr).unwrap();
    assert!(message.contains("false failed on value 1"), "{message}");
    let code = scratch.code(&["watch", "x", "--exit-on-error", "--", "false"]);
    assert_eq!(code, Some(2));
    let code = scratch.code(&["watch", "x", "--count", "1", "--", "/no/such/command"]);
    assert_eq!(code, Some(2));
}

#[test]
fn who_watches_at_a_terminal_is_told_that_the_board_is_absent() {
    let scratch = Scratch::new("told");
    assert_eq!(scratch.code(&["lock", "x", "--", "true"]), Some(0));
    let (master, terminal) = terminal();
    let mut watch = scratch
        .command(&["watch", "x", "--count", "1"])
        .env("NO_COLOR", "1")
        .stdout(Stdio::null())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let mut told = String::new();
    BufReader::new(master).read_line(&mut told).unwrap();
    let absent = format!("there is no board \"x\" in {}", scratch.0.display());
    let other = "\"x\" is a lock, not a board";
    assert_eq!(
        told,
        format!("corkboard: {absent}; {other}; waiting for it\r\n")
    );
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    assert!(watch.wait().unwrap().success());
}

#[test]
fn a_watch_ends_when_nobody_reads_its_output_any_more() {
    let scratch = Scratch::new("output");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    for (script, printed) in [
        (
            r#""$0" watch x --lines | head -n 1; echo over"#,
            &["v", "over"][..],
        ),
        (r#""$0" watch absent | true; echo over"#, &["over"]),
    ] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_corkboard")]);
        let shell = Running::of({
            shell.env("CORKBOARD_DIR", &scratch.0);
            shell
        });
        let printed = printed.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(shell.end(), (Some(0), printed, vec![]));
    }
}

#[test]
fn a_watch_that_is_asked_to_end_lets_go_and_ends_by_the_signal() {
    let scratch = Scratch::new("signals");
    // Longer than what a reader copies, so that it keeps a slot.
    let value = [&[b'x'; 2000][..], b"\n"].concat();
    assert!(scratch.run(&["put", "x"], &value).status.success());
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut watch = scratch.start(&["watch", "x"]);
        assert_eq!(watch.line().len(), 2000);
        // It sleeps as soon as it has nothing more to do.
        let path = format!("/proc/{}/status", watch.child.id());
        let state = || std::fs::read_to_string(&path).unwrap();
        while !state().contains("State:\tS") {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&watch.child), signal).unwrap();
        let status = watch.child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        let stat = scratch.json(&["stat", "x", "--json"]);
        assert_eq!(stat["readers"], serde_json::json!([]), "{signal:?}");
    }
}
