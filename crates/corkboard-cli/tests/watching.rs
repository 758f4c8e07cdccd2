//! Watching a board.

mod common;

use common::Scratch;

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
