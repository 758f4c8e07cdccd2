//! Blocks of the C++ library, as a user meets them.

#![cfg(unix)]

mod common;

use std::fs;

use common::Scratch;
use corkboard::lock::RwLock;

const GOLDEN: [(&str, &str, &[u8]); 3] = [
    (
        "seed",
        "ShareMemoryMap-x",
        include_bytes!("../../corkboard/tests/classic/golden/seed.bin"),
    ),
    (
        "untailed",
        "ShareMemoryMap-x",
        include_bytes!("../../corkboard/tests/classic/golden/untailed.bin"),
    ),
    (
        "current",
        "SMM-x",
        include_bytes!("../../corkboard/tests/classic/golden/current.bin"),
    ),
];
const CONTENT: &str = "It is 21.5 degrees, 晴";

/// A space with the original's bytes in it.
fn golden(test: &str, which: usize) -> Scratch {
    let scratch = Scratch::new(&format!("{test}-{which}"));
    fs::create_dir(&scratch.0).unwrap();
    fs::write(scratch.0.join(GOLDEN[which].1), GOLDEN[which].2).unwrap();
    scratch
}

#[test]
fn captures_of_every_dialect_are_recognised_and_read() {
    for (which, (dialect, _, bytes)) in GOLDEN.into_iter().enumerate() {
        let scratch = golden("captures", which);
        assert_eq!(scratch.text(&["classic", "get", "x"]), CONTENT);
        let get = ["classic", "get", "x", "--dialect", dialect];
        assert_eq!(scratch.text(&get), CONTENT);
        let json = scratch.json(&["classic", "get", "x", "--json"]);
        assert_eq!(json["value"], CONTENT);
        assert_eq!(json["dialect"], dialect);
        let stat = scratch.json(&["classic", "stat", "x", "--json"]);
        assert_eq!(stat["dialect"], dialect);
        assert_eq!((&stat["size"], &stat["capacity"]), (&23.into(), &48.into()));
        assert_eq!(stat["view_bytes"], bytes.len());
        assert_eq!(stat["intact"], true);
        let text = scratch.text(&["classic", "stat", "x"]);
        assert!(text.contains(&format!("dialect      {dialect}")), "{text}");
        let hex = scratch.text(&["classic", "get", "x", "--hex"]);
        assert!(hex.starts_with("00000000  49 74 20 69"), "{hex}");
    }
}

#[test]
fn put_keeps_the_dialect_that_is_there_and_refuses_another() {
    for (which, (dialect, file, _)) in GOLDEN.into_iter().enumerate() {
        let scratch = golden("keeps", which);
        assert_eq!(
            scratch.code(&["classic", "put", "x", "--text", "new"]),
            Some(0)
        );
        assert_eq!(scratch.text(&["classic", "get", "x"]), "new");
        let bytes = fs::read(scratch.0.join(file)).unwrap();
        assert_eq!(
            bytes[..12],
            GOLDEN[which].2[..8]
                .iter()
                .copied()
                .chain([3, 0, 0, 0])
                .collect::<Vec<u8>>()
        );
        if dialect == "current" {
            continue;
        }
        let other = if dialect == "seed" {
            "untailed"
        } else {
            "seed"
        };
        for words in [
            &["classic", "get", "x", "--dialect", other][..],
            &["classic", "put", "x", "--text", "v", "--dialect", other],
            &["classic", "stat", "x", "--dialect", other],
            &["classic", "watch", "x", "--dialect", other],
            &["classic", "bridge", "x", "b", "--dialect", other],
        ] {
            let output = scratch.run(words, b"");
            assert_eq!(output.status.code(), Some(2), "{words:?}");
            let message = String::from_utf8(output.stderr).unwrap();
            let wanted = format!("its dialect is {dialect}, not {other}");
            assert!(message.contains(&wanted), "{message}");
        }
        assert_eq!(scratch.text(&["classic", "get", "x"]), "new");
    }
}

#[test]
fn what_is_read_is_exactly_what_was_put() {
    let scratch = Scratch::new("classic-bytes");
    for len in [0, 1, 1000, 3 << 20] {
        let value: Vec<u8> = (0..len).map(|index| (index * 7 / 3) as u8).collect();
        let name = format!("b{len}");
        assert!(
            scratch
                .run(&["classic", "put", &name], &value)
                .status
                .success()
        );
        let output = scratch.run(&["classic", "get", &name], b"");
        assert!(output.status.success() && output.stdout == value, "{len}");
    }
}

#[test]
fn content_that_is_too_long_is_refused_and_the_old_one_stays() {
    let scratch = Scratch::new("classic-long");
    let put = |text: &str| {
        let words = ["classic", "put", "x", "--capacity", "5", "--text", text];
        scratch.run(&words, b"")
    };
    let output = put("123456");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--capacity"), "{message}");
    assert_eq!(scratch.code(&["classic", "get", "x"]), Some(1));
    assert_eq!(put("12345").status.code(), Some(0));
    assert_eq!(put("123456").status.code(), Some(2));
    assert_eq!(scratch.text(&["classic", "get", "x"]), "12345");
    let more = ["classic", "put", "x", "--capacity", "6", "--text", "1"];
    assert_eq!(scratch.code(&more), Some(2));
}

#[test]
fn a_block_of_another_dialect_than_was_asked_for_is_named() {
    let scratch = Scratch::new("classic-other");
    assert_eq!(
        scratch.code(&["classic", "put", "x", "--text", "v"]),
        Some(0)
    );
    for action in ["get", "stat"] {
        let output = scratch.run(&["classic", action, "x", "--dialect", "current"], b"");
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("\"x\" of dialect current in ")
                && message.contains("; there is one of dialect seed"),
            "{message}"
        );
    }
}

#[test]
fn an_absent_block_is_a_negative_answer_and_can_be_waited_for() {
    let scratch = Scratch::new("classic-absent");
    for action in ["get", "stat"] {
        let output = scratch.run(&["classic", action, "x"], b"");
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("there is no classic block \"x\""),
            "{message}"
        );
    }
    let short = ["classic", "get", "x", "--timeout", "20ms"];
    assert_eq!(scratch.code(&short), Some(1));
    let waiting = scratch.start(&["classic", "get", "x", "--timeout", "100s"]);
    assert_eq!(
        scratch.code(&["classic", "put", "x", "--text", "v"]),
        Some(0)
    );
    // Between creation and the first value it may have been empty.
    let (code, said, _) = waiting.end();
    assert_eq!(code, Some(0));
    assert!(said.is_empty() || said == ["v"], "{said:?}");
    assert_eq!(scratch.code(&["classic", "get", "a/b"]), Some(2));
}

#[test]
fn damage_is_an_error_and_the_next_value_heals_what_does_not_match() {
    let scratch = golden("damage", 0);
    let path = scratch.0.join("ShareMemoryMap-x");
    let mut bytes = GOLDEN[0].2.to_vec();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = scratch.run(&["classic", "get", "x"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("checksum"), "{message}");
    let stat = scratch.json(&["classic", "stat", "x", "--json"]);
    assert_eq!(stat["intact"], false);
    assert_eq!(
        scratch.code(&["classic", "put", "x", "--text", "v"]),
        Some(0)
    );
    assert_eq!(scratch.text(&["classic", "get", "x"]), "v");
    bytes[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    for words in [
        &["classic", "get", "x"][..],
        &["classic", "stat", "x"],
        &["classic", "watch", "x"],
        &["classic", "put", "x", "--text", "v"],
        &["classic", "bridge", "x", "b"],
    ] {
        assert_eq!(scratch.code(words), Some(2), "{words:?}");
    }
}

#[test]
fn watch_waits_for_the_block_and_prints_each_change() {
    let scratch = Scratch::new("classic-watch");
    let put = |text: &str| scratch.code(&["classic", "put", "x", "--text", text]);
    let watch = scratch.start(&["classic", "watch", "x", "--json"]);
    let value =
        || serde_json::from_str::<serde_json::Value>(&watch.line()).unwrap()["value"].clone();
    assert_eq!(put("one"), Some(0));
    let mut first = value();
    if first == "" {
        // Between creation and the first value.
        first = value();
    }
    assert_eq!(first, "one");
    assert_eq!(put("one"), Some(0));
    assert_eq!(put("two"), Some(0));
    assert_eq!(value(), "two");
    let lines = scratch.start(&["classic", "watch", "x", "--lines", "--count", "2"]);
    assert_eq!(lines.line(), "two");
    assert_eq!(put("three"), Some(0));
    assert_eq!(lines.end(), (Some(0), vec!["three".into()], vec![]));
}

#[test]
fn watch_goes_on_after_a_value_that_does_not_match() {
    let scratch = golden("torn", 0);
    let watch = scratch.start(&["classic", "watch", "x", "--lines"]);
    assert_eq!(watch.line(), CONTENT);
    let mut bytes = GOLDEN[0].2.to_vec();
    bytes[16] ^= 1;
    fs::write(scratch.0.join("ShareMemoryMap-x"), &bytes).unwrap();
    let told = watch.stderr.recv_timeout(common::DEADLINE).unwrap();
    assert!(
        told.contains("checksum") || told.contains("header"),
        "{told}"
    );
    assert_eq!(
        scratch.code(&["classic", "put", "x", "--text", "v"]),
        Some(0)
    );
    while watch.line() != "v" {}
}

#[test]
fn a_bridge_carries_changes_of_old_writers_to_new_readers() {
    let scratch = Scratch::new("classic-bridge");
    let put = |text: &str| scratch.code(&["classic", "put", "x", "--text", text]);
    assert_eq!(put("one"), Some(0));
    let bridge = scratch.start(&["classic", "bridge", "x", "y"]);
    let watch = scratch.start(&["watch", "y", "--lines"]);
    assert_eq!(watch.line(), "one");
    for text in ["two", "", "three"] {
        assert_eq!(put(text), Some(0));
        assert_eq!(watch.line(), text);
    }
    assert_eq!(scratch.code(&["rm", "y"]), Some(0));
    let (code, _, told) = bridge.end();
    assert_eq!(code, Some(1));
    assert!(
        told.iter().any(|line| line.contains("\"y\" was removed")),
        "{told:?}"
    );
}

#[test]
fn a_bridge_in_reverse_carries_new_values_to_old_readers() {
    let scratch = Scratch::new("classic-reverse");
    let put = |text: &str| scratch.code(&["put", "y", "--text", text]);
    let words = [
        "classic",
        "bridge",
        "x",
        "y",
        "--reverse",
        "--dialect",
        "untailed",
    ];
    let bridge = scratch.start(&words);
    assert_eq!(put("one"), Some(0));
    let watch = scratch.start(&["classic", "watch", "x", "--lines"]);
    let mut line = watch.line();
    if line.is_empty() {
        // Between creation and the first value.
        line = watch.line();
    }
    assert_eq!(line, "one");
    assert_eq!(put("two"), Some(0));
    assert_eq!(watch.line(), "two");
    let stat = scratch.json(&["classic", "stat", "x", "--json"]);
    assert_eq!(stat["dialect"], "untailed");
    assert_eq!(stat["capacity"], 1 << 20);
    assert_eq!(scratch.code(&["rm", "y"]), Some(0));
    assert_eq!(bridge.end().0, Some(1));
}

/// On Windows a block is there as long as somebody has it open.
#[cfg(unix)]
#[test]
fn a_bridge_in_reverse_ends_when_its_block_is_deleted() {
    let scratch = Scratch::new("classic-deleted");
    assert_eq!(scratch.code(&["put", "y", "--text", "one"]), Some(0));
    let bridge = scratch.start(&["classic", "bridge", "x", "y", "--reverse"]);
    let watch = scratch.start(&["classic", "watch", "x", "--lines"]);
    // Between creation and the first value there may be an empty one.
    while watch.line() != "one" {}
    drop(watch);
    fs::remove_file(scratch.0.join("ShareMemoryMap-x")).unwrap();
    assert_eq!(bridge.end().0, Some(1));
}

#[test]
fn what_a_bridge_cannot_carry_is_told_and_it_goes_on() {
    let scratch = Scratch::new("classic-small");
    assert_eq!(
        scratch.code(&["put", "y", "--capacity", "3", "--text", "old"]),
        Some(0)
    );
    let put = |text: &str| scratch.code(&["classic", "put", "x", "--text", text]);
    assert_eq!(put("too long"), Some(0));
    let bridge = scratch.start(&["classic", "bridge", "x", "y", "--count", "1"]);
    let told = bridge.stderr.recv_timeout(common::DEADLINE).unwrap();
    assert!(told.contains("capacity"), "{told}");
    assert_eq!(scratch.text(&["get", "y"]), "old");
    assert_eq!(put("new"), Some(0));
    assert_eq!(bridge.end().0, Some(0));
    assert_eq!(scratch.text(&["get", "y"]), "new");
}

/// The lock of block x in dialect seed.
fn lock(scratch: &Scratch) -> RwLock {
    RwLock::at(scratch.0.join("ShareMemoryLockedFile-x.mdb")).unwrap()
}

#[test]
fn who_holds_the_lock_of_a_block_that_is_to_be_made_keeps_nobody_for_ever() {
    let scratch = Scratch::new("classic-held");
    fs::create_dir(&scratch.0).unwrap();
    assert_eq!(scratch.code(&["put", "y", "--text", "v"]), Some(0));
    let mut lock = lock(&scratch);
    let _writing = lock.write().unwrap();
    for words in [
        &["classic", "put", "x", "--text", "v"][..],
        &["classic", "put", "x", "--text", "v", "--capacity", "9"],
        &["classic", "bridge", "x", "y", "--reverse"],
    ] {
        let output = scratch.run(words, b"");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("another program holds"), "{message}");
    }
}

#[test]
fn a_bridge_in_reverse_carries_a_value_as_soon_as_the_lock_is_free() {
    let scratch = Scratch::new("classic-locked");
    let put = |text: &str| scratch.code(&["put", "y", "--text", text]);
    assert_eq!(put("one"), Some(0));
    let bridge = scratch.start(&["classic", "bridge", "x", "y", "--reverse", "--count", "2"]);
    let watch = scratch.start(&["classic", "watch", "x", "--lines"]);
    let mut line = watch.line();
    if line.is_empty() {
        // Between creation and the first value.
        line = watch.line();
    }
    assert_eq!(line, "one");
    let mut lock = lock(&scratch);
    let writing = lock.write().unwrap();
    assert_eq!(put("two"), Some(0));
    let told = bridge.stderr.recv_timeout(common::DEADLINE).unwrap();
    assert!(told.contains("locked by another program"), "{told}");
    drop(writing);
    assert_eq!(watch.line(), "two");
    assert_eq!(bridge.end(), (Some(0), vec![], vec![]));
}

#[test]
fn every_action_helps_with_an_example() {
    let scratch = Scratch::new("classic-help");
    for action in ["put", "get", "stat", "watch", "bridge"] {
        let help = scratch.text(&["classic", action, "--help"]);
        let examples = help.split("Examples:").nth(1).expect(action);
        assert!(
            examples.contains(&format!("corkboard classic {action}")),
            "{help}"
        );
    }
}
