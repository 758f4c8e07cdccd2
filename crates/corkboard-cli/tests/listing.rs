//! Listing a space and looking at one object.

#![cfg(unix)]

mod common;

use common::Scratch;

#[test]
fn an_empty_space_says_so_on_standard_error() {
    let scratch = Scratch::new("empty");
    let output = scratch.run(&["ls"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no objects in /dev/shm/"), "{message}");
    assert_eq!(scratch.text(&["ls", "--json"]), "[]\n");
}

#[test]
fn ls_shows_what_every_object_holds_in_aligned_columns() {
    let scratch = Scratch::new("ls");
    scratch.run(
        &["put", "天气", "--capacity", "4KiB", "--text", "rain"],
        b"",
    );
    scratch.run(&["put", "天气", "--text", "sun"], b"");
    scratch.run(&["put", "camera"], &vec![7; 6 << 20]);
    let text = scratch.text(&["ls"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("NAME    KIND      SIZE  CAPACITY  SEQUENCE"));
    assert!(lines[1].starts_with("camera  board  6.0 MiB   6.0 MiB         1"));
    assert!(lines[2].starts_with("天气    board      3 B   4.0 KiB         2"));
    let rows = scratch.json(&["ls", "--json"]);
    let weather = &rows[1];
    assert_eq!(
        (&weather["name"], &weather["kind"]),
        (&"天气".into(), &"board".into())
    );
    assert_eq!(
        (&weather["size"], &weather["capacity"]),
        (&3.into(), &4096.into())
    );
    assert_eq!(
        (&weather["sequence"], &weather["error"]),
        (&2.into(), &().into())
    );
    assert_eq!(
        (&weather["writers"], &weather["readers"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn a_damaged_object_is_listed_with_what_is_wrong() {
    let scratch = Scratch::new("damaged");
    for name in ["broken", "whole"] {
        assert_eq!(scratch.code(&["put", name, "--text", "v"]), Some(0));
    }
    std::fs::write(scratch.0.join("broken.board/data"), b"").unwrap();
    let text = scratch.text(&["ls"]);
    let broken = text
        .lines()
        .find(|line| line.starts_with("broken"))
        .unwrap();
    assert!(broken.contains("cannot open board"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("whole")));
    let rows = scratch.json(&["ls", "--json"]);
    assert!(rows[0]["error"].is_string() && rows[0]["capacity"].is_null());
    assert_eq!(scratch.code(&["stat", "broken"]), Some(2));
}

#[test]
fn stat_tells_who_is_attached_and_who_has_died() {
    let scratch = Scratch::new("attached");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    let mut watch = scratch.start(&["watch", "x", "--lines"]);
    assert_eq!(watch.line(), "v");
    let process = watch.child.id();
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!((&stat["size"], &stat["sequence"]), (&1.into(), &1.into()));
    assert_eq!(stat["writer_mode"], "shared");
    let reader = &stat["readers"][0];
    assert_eq!(
        (&reader["pid"], &reader["alive"]),
        (&process.into(), &true.into())
    );
    assert_eq!(scratch.json(&["ls", "--json"])[0]["readers"], 1);
    let text = scratch.text(&["stat", "x", "--kind", "board"]);
    assert!(
        text.contains(&process.to_string()) && text.contains("alive"),
        "{text}"
    );

    watch.child.kill().unwrap();
    watch.child.wait().unwrap();
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!(stat["readers"][0]["alive"], false, "{stat}");
    assert_eq!(scratch.json(&["ls", "--json"])[0]["readers"], 0);
}

#[test]
fn stat_of_nothing_is_a_negative_answer() {
    let scratch = Scratch::new("nothing");
    assert_eq!(scratch.code(&["stat", "absent"]), Some(1));
    assert_eq!(scratch.code(&["stat", "a/b"]), Some(2));
    assert_eq!(scratch.code(&["stat"]), Some(2));
}

#[test]
fn locks_and_events_are_told_in_words_beside_the_columns_of_boards() {
    let scratch = Scratch::new("kinds");
    assert_eq!(scratch.code(&["event", "set", "ready"]), Some(0));
    assert_eq!(scratch.code(&["event", "reset", "job", "--auto"]), Some(0));
    assert_eq!(scratch.code(&["lock", "printer", "--", "true"]), Some(0));
    let without = "\
NAME     KIND   STATE
job      event  unset, auto-reset
printer  lock   free, no handles
ready    event  set, manual-reset
";
    assert_eq!(scratch.text(&["ls"]), without);
    assert_eq!(scratch.code(&["put", "ready", "--text", "v"]), Some(0));
    let text = scratch.text(&["ls"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("NAME     KIND   SIZE  CAPACITY"),
        "{text}"
    );
    assert!(
        lines[3].starts_with("ready    board   1 B   1.0 MiB"),
        "{text}"
    );
    assert_eq!(lines[4], "ready    event  set, manual-reset");
    let rows = scratch.json(&["ls", "--json"]);
    let fields = |row: &serde_json::Value| -> Vec<String> {
        row.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(rows.as_array().unwrap().len(), 4);
    for row in rows.as_array().unwrap() {
        assert_eq!(fields(row), fields(&rows[0]));
    }
    let (lock, board, event) = (&rows[1], &rows[2], &rows[3]);
    assert_eq!(
        (&lock["state"], &lock["handles"]),
        (&"free".into(), &0.into())
    );
    assert!(board["state"].is_null() && board["handles"].is_null());
    assert_eq!(
        (&event["state"], &event["sets"]),
        (&"set".into(), &1.into())
    );
    assert!(event["sequence"].is_null() && event["readers"].is_null());
}

#[test]
fn a_name_that_several_objects_have_needs_a_kind() {
    let scratch = Scratch::new("ambiguous");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    assert_eq!(scratch.code(&["lock", "x", "--", "true"]), Some(0));
    for command in ["stat", "rm"] {
        let output = scratch.run(&[command, "x"], b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let message = String::from_utf8(output.stderr).unwrap();
        let wanted = "the board and the lock; choose with --kind board or --kind lock";
        assert!(message.contains(wanted), "{message}");
    }
    let kind = |kind: &str| scratch.json(&["stat", "x", "--kind", kind, "--json"])["kind"].clone();
    assert_eq!(
        (kind("board"), kind("lock")),
        ("board".into(), "lock".into())
    );
    assert_eq!(scratch.code(&["stat", "x", "--kind", "event"]), Some(1));
    assert_eq!(scratch.code(&["rm", "x", "--kind", "event"]), Some(1));
    assert_eq!(scratch.code(&["rm", "x", "--kind", "board"]), Some(0));
    // Now it is the only one.
    assert!(scratch.text(&["stat", "x"]).starts_with("lock"));
    assert_eq!(scratch.code(&["rm", "x"]), Some(0));
    let absent = scratch.run(&["rm", "x"], b"");
    assert_eq!(absent.status.code(), Some(1));
    let message = String::from_utf8(absent.stderr).unwrap();
    assert!(message.contains("there is no object \"x\""), "{message}");
}

#[test]
fn a_damaged_lock_and_event_are_listed_reported_and_removed() {
    let scratch = Scratch::new("damaged-files");
    assert_eq!(scratch.code(&["event", "set", "e"]), Some(0));
    assert_eq!(scratch.code(&["lock", "l", "--", "true"]), Some(0));
    for file in ["e.event", "l.lock"] {
        std::fs::write(scratch.0.join(file), b"").unwrap();
    }
    for row in scratch.json(&["ls", "--json"]).as_array().unwrap() {
        assert!(row["error"].is_string() && row["state"].is_null(), "{row}");
    }
    let told = String::from_utf8(scratch.run(&["doctor"], b"").stdout).unwrap();
    assert!(told.contains("damaged: lock \"l\"") && told.contains("damaged: event \"e\""));
    for name in ["e", "l"] {
        assert_eq!(scratch.code(&["stat", name]), Some(2));
        assert_eq!(scratch.code(&["rm", name]), Some(0));
    }
    assert_eq!(scratch.text(&["ls", "--json"]), "[]\n");
}
