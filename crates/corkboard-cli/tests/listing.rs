//! Listing a space and looking at one object.

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
