//! Publishing and reading values, as a user meets it.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Scratch};
use corkboard::Space;
use corkboard::board::{self, Options};

#[test]
fn get_prints_exactly_what_put_read() {
    let scratch = Scratch::new("bytes");
    for len in [0, 1, (1 << 20) - 1, 3 << 20] {
        let value: Vec<u8> = (0..len).map(|i| (i * 7 / 3) as u8).collect();
        let name = format!("b{len}");
        assert!(scratch.run(&["put", &name], &value).status.success());
        let output = scratch.run(&["get", &name], b"");
        assert!(output.status.success());
        assert!(output.stdout == value, "{len} bytes");
    }
}

#[test]
fn put_takes_a_text_a_file_or_standard_input() {
    let scratch = Scratch::new("sources");
    assert_eq!(scratch.code(&["put", "x", "--text", "from text"]), Some(0));
    assert_eq!(scratch.text(&["get", "x"]), "from text");
    let path = scratch.0.join("a file");
    File::create(&path)
        .and_then(|mut file| file.write_all(b"from a file"))
        .unwrap();
    assert_eq!(scratch.code(&["put", "x", path.to_str().unwrap()]), Some(0));
    assert_eq!(scratch.text(&["get", "x"]), "from a file");
    assert!(
        scratch
            .run(&["put", "x", "-"], b"from input")
            .status
            .success()
    );
    assert_eq!(scratch.text(&["get", "x"]), "from input");
    assert_eq!(scratch.code(&["put", "x", "/no/such/file"]), Some(2));
    assert_eq!(scratch.text(&["get", "x"]), "from input");
}

#[test]
fn one_byte_too_many_is_refused_and_the_old_value_stays() {
    let scratch = Scratch::new("large");
    let created = scratch.run(&["put", "x", "--capacity", "4"], b"four");
    assert!(created.status.success());
    let refused = [
        scratch.run(&["put", "x"], b"fives"),
        scratch.run(&["put", "x", "--capacity", "4"], b"fives"),
        scratch.run(&["put", "x", "--text", "fives"], b""),
        scratch.run(&["put", "y", "--capacity", "4", "--text", "fives"], b""),
    ];
    for output in refused {
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.starts_with("corkboard: "), "{message}");
        assert!(message.contains("capacity"), "{message}");
    }
    assert_eq!(scratch.text(&["get", "x"]), "four");
}

#[test]
fn a_refused_value_leaves_no_board_behind() {
    let scratch = Scratch::new("refused");
    let put = ["put", "cap", "--capacity", "3"];
    for (more, input) in [(&["--text", "1234"][..], &b""[..]), (&[], b"1234")] {
        let output = scratch.run(&[&put, more].concat(), input);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.ends_with("the capacity is 3; give a larger --capacity\n"),
            "{message}"
        );
        assert_eq!(scratch.text(&["ls", "--json"]), "[]\n");
    }
    assert_eq!(
        scratch.code(&["put", "cap", "--capacity", "4", "--text", "1234"]),
        Some(0)
    );
    let output = scratch.run(&["put", "cap", "--text", "12345"], b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("has 5 bytes, the capacity is 4; remove the board (corkboard rm cap)"),
        "{message}"
    );
    assert_eq!(scratch.text(&["get", "cap"]), "1234");
}

/// Not a test of its own: publishes on a tmpfs of a megabyte and a little more.
#[test]
fn child_has_no_memory_for_a_value() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_FULL") else {
        return;
    };
    let scratch = Scratch(PathBuf::from(directory));
    let value = vec![b'x'; 4 << 20];
    let output = scratch.run(&["put", "x"], &value);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no memory left"), "{message}");
    assert_eq!(scratch.text(&["ls", "--json"]), "[]\n");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_first_value_that_has_no_memory_leaves_no_board_behind() {
    let scratch = Scratch::new("full");
    std::fs::create_dir(&scratch.0).unwrap();
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1300k,mode=700 tmpfs $CORKBOARD_TEST_FULL && exec \"$0\" --exact child_has_no_memory_for_a_value")
        .arg(std::env::current_exe().unwrap())
        .env("CORKBOARD_TEST_FULL", &scratch.0)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn endless_input_is_refused_before_it_fills_the_memory() {
    let scratch = Scratch::new("endless");
    assert_eq!(scratch.code(&["put", "x", "--text", "kept"]), Some(0));
    let put = scratch
        .command(&["put", "x"])
        .stdin(File::open("/dev/zero").unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(put.code(), Some(2));
    assert_eq!(scratch.text(&["get", "x"]), "kept");
}

#[test]
fn another_capacity_is_refused_and_names_both() {
    let scratch = Scratch::new("capacity");
    let code = scratch.code(&["put", "x", "--capacity", "4KiB", "--text", "v"]);
    assert_eq!(code, Some(0));
    let output = scratch.run(&["put", "x", "--capacity", "8KiB", "--text", "w"], b"");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("4096") && message.contains("8192"),
        "{message}"
    );
    assert_eq!(scratch.text(&["get", "x"]), "v");
}

#[test]
fn exit_codes_tell_absent_from_wrong() {
    let scratch = Scratch::new("codes");
    let code = |arguments: &[&str]| scratch.code(arguments);
    assert_eq!(code(&["get", "absent"]), Some(1));
    assert_eq!(code(&["get", "absent", "--timeout", "10ms"]), Some(1));
    assert_eq!(code(&["get", "a/b"]), Some(2));
    assert_eq!(code(&["rm", "absent"]), Some(1));
    assert_eq!(code(&["get", "x", "--timeout", "soon"]), Some(2));
    assert_eq!(code(&["put", "x", "--text", "v"]), Some(0));
    assert_eq!(code(&["rm", "x"]), Some(0));
    assert_eq!(code(&["get", "x"]), Some(1));
}

#[test]
fn a_space_that_cannot_be_is_an_error_and_no_answer() {
    let scratch = Scratch::new("no-space");
    let directory = scratch.0.join("missing/space");
    for arguments in [
        &["put", "x", "--text", "v"][..],
        &["get", "x"],
        &["watch", "x"],
        &["lock", "x", "--", "true"],
        &["event", "wait", "x"],
        &["event", "set", "x"],
        &["ls"],
        &["stat", "x"],
        &["rm", "x"],
        &["doctor"],
    ] {
        let mut command = scratch.command(arguments);
        let output = command.env("CORKBOARD_DIR", &directory).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("its parent directory does not exist")
                && message.contains("set CORKBOARD_DIR"),
            "{message}"
        );
    }
}

#[test]
fn an_absent_board_is_told_with_where_it_is_not_and_what_has_its_name() {
    let scratch = Scratch::new("absent");
    let told = |arguments: &[&str]| {
        let output = scratch.run(arguments, b"");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let absent = format!("there is no board \"x\" in {}", scratch.0.display());
    assert_eq!(
        told(&["get", "x"]),
        format!("corkboard: {absent}; wait for it with --wait\n")
    );
    assert_eq!(
        told(&["get", "x", "--timeout", "1ms"]),
        format!("corkboard: {absent}; gave up waiting for it\n")
    );
    assert_eq!(scratch.code(&["lock", "x", "--", "true"]), Some(0));
    let other = "; \"x\" is a lock, not a board\n";
    for arguments in [
        &["get", "x"][..],
        &["rm", "x", "--kind", "board"],
        &["stat", "x", "--kind", "board"],
    ] {
        assert_eq!(told(arguments), format!("corkboard: {absent}{other}"));
    }
    assert_eq!(scratch.code(&["event", "set", "x"]), Some(0));
    let both = told(&["get", "x", "--timeout", "1ms"]);
    assert!(
        both.ends_with("is a lock and an event, not a board; gave up waiting for it\n"),
        "{both}"
    );
}

#[test]
fn rm_tries_every_name_and_the_worst_status_counts() {
    let scratch = Scratch::new("rm");
    for name in ["a", "b", "c"] {
        assert_eq!(scratch.code(&["put", name, "--text", "v"]), Some(0));
    }
    assert_eq!(scratch.code(&["rm", "absent", "a"]), Some(1));
    assert_eq!(scratch.code(&["rm", "absent", "wrong/name", "b"]), Some(2));
    assert_eq!(scratch.code(&["rm", "--kind", "board", "c"]), Some(0));
    assert_eq!(scratch.code(&["rm", "--kind", "cork", "c"]), Some(2));
    for name in ["a", "b", "c"] {
        assert_eq!(scratch.code(&["get", name]), Some(1), "{name}");
    }
}

#[test]
fn json_tells_everything_about_a_value_and_text_stays_text() {
    let scratch = Scratch::new("json");
    scratch.run(&["put", "天气"], "雨 \"rain\"\n".as_bytes());
    let value = scratch.json(&["get", "天气", "--json"]);
    assert_eq!(value["name"], "天气");
    assert_eq!(value["sequence"], 1);
    assert_eq!(value["size"], 11);
    assert_eq!(value["encoding"], "utf-8");
    assert_eq!(value["value"], "雨 \"rain\"\n");
    let published_at = value["published_at"].as_str().unwrap();
    assert!(published_at.ends_with('Z') && published_at.contains('T'));
    assert!(value["age_seconds"].as_f64().unwrap() >= 0.0);
    scratch.run(&["put", "天气"], b"\xff\x00");
    let value = scratch.json(&["get", "天气", "--json"]);
    assert_eq!(
        (&value["encoding"], &value["value"]),
        (&"base64".into(), &"/wA=".into())
    );
    assert_eq!(value["sequence"], 2);
}

#[test]
fn hex_is_the_canonical_dump() {
    let scratch = Scratch::new("hex");
    scratch.run(&["put", "x"], b"cork\n");
    let dump = scratch.text(&["get", "x", "--hex"]);
    let expected =
        "00000000  63 6f 72 6b 0a                                    |cork.|\n00000005\n";
    assert_eq!(dump, expected);
    assert_eq!(scratch.code(&["get", "x", "--hex", "--json"]), Some(2));
}

#[test]
fn get_waits_for_creation_and_for_the_first_value() {
    let scratch = Scratch::new("wait");
    let get = scratch.start(&["get", "天气", "--timeout", "60s"]);
    let patient = scratch.start(&["get", "天气", "--wait", "--json"]);
    assert_eq!(scratch.code(&["put", "天气", "--text", "rain"]), Some(0));
    assert_eq!(get.end(), (Some(0), vec!["rain".into()], vec![]));
    assert!(patient.line().contains("\"rain\""));
}

#[test]
fn a_board_without_a_value_is_a_negative_answer_and_waiting_outlasts_its_removal() {
    let scratch = Scratch::new("valueless");
    let space = Space::at(&scratch.0).unwrap();
    let writer = Options::new().writer(&space, "x").unwrap();
    let output = scratch.run(&["get", "x"], b"");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no value yet") && message.contains("--wait"));

    let get = scratch.start(&["get", "x", "--wait"]);
    let start = Instant::now();
    while board::stat(&space, "x")
        .unwrap()
        .readers
        .is_none_or(|readers| readers.is_empty())
    {
        assert!(start.elapsed() < DEADLINE, "get does not attach itself");
        std::thread::yield_now();
    }
    drop(writer);
    assert_eq!(scratch.code(&["rm", "x"]), Some(0));
    assert_eq!(scratch.code(&["put", "x", "--text", "new"]), Some(0));
    assert_eq!(get.end(), (Some(0), vec!["new".into()], vec![]));
}

#[test]
fn put_gives_up_when_an_exclusive_writer_keeps_its_turn() {
    let scratch = Scratch::new("exclusive");
    let space = Space::at(&scratch.0).unwrap();
    let mut writer = Options::new().writer(&space, "x").unwrap();
    writer.publish(b"mine").unwrap();
    let output = scratch.run(&["put", "x", "--text", "yours"], b"");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    let holder = format!("process {}", std::process::id());
    assert!(message.contains(&holder), "{message}");
    assert_eq!(scratch.text(&["get", "x"]), "mine");
    drop(writer);
    assert_eq!(scratch.code(&["put", "x", "--text", "yours"]), Some(0));
    assert_eq!(scratch.text(&["get", "x"]), "yours");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let scratch = Scratch::new("pipe");
    let value = vec![b'x'; 1 << 20];
    assert!(scratch.run(&["put", "x"], &value).status.success());
    for form in ["--wait", "--hex", "--json"] {
        let mut get = scratch.start_with_closed_output(&["get", "x", form]);
        assert_eq!(get.wait().unwrap().code(), Some(0), "{form}");
    }
}

impl Scratch {
    fn start_with_closed_output(&self, arguments: &[&str]) -> std::process::Child {
        let mut child = self
            .command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        child
    }
}
