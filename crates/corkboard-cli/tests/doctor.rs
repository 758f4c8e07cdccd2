//! Finding what is wrong, and mending it.

#![cfg(unix)]

mod common;

use common::Scratch;

/// The findings about this problem. Others may be about the machine that the test runs on.
fn findings(output: &std::process::Output, problem: &str) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_wanted = |finding: &&serde_json::Value| finding["problem"] == problem;
    let all = all.as_array().unwrap();
    let remain = all
        .iter()
        .any(|finding| finding["fixed"] == false && finding["harmless"] == false);
    assert_eq!(output.status.code(), Some(i32::from(remain)), "{all:?}");
    all.iter().filter(is_wanted).cloned().collect()
}

#[test]
fn a_dead_participant_is_found_and_fixed() {
    let scratch = Scratch::new("dead");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    let mut watch = scratch.start(&["watch", "x", "--lines"]);
    assert_eq!(watch.line(), "v");
    let problem = "dead-participant";
    let healthy = scratch.run(&["doctor", "--json", "--fix"], b"");
    assert!(
        findings(&healthy, problem)
            .iter()
            .all(|finding| finding["fixed"] == true)
    );
    watch.child.kill().unwrap();
    watch.child.wait().unwrap();

    let found = findings(&scratch.run(&["doctor", "--json"], b""), problem);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["fixable"], &found[0]["fixed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(found[0]["harmless"], true);
    let told = String::from_utf8(scratch.run(&["doctor"], b"").stdout).unwrap();
    assert!(
        told.contains("note: dead-participant: board \"x\": reader "),
        "{told}"
    );

    let fixed = findings(&scratch.run(&["doctor", "--json", "--fix"], b""), problem);
    assert_eq!(fixed[0]["fixed"], true);
    assert!(findings(&scratch.run(&["doctor", "--json"], b""), problem).is_empty());
    assert_eq!(scratch.text(&["get", "x"]), "v");
}

#[test]
fn a_dead_participant_that_keeps_a_slot_is_more_than_a_note() {
    let scratch = Scratch::new("pinned");
    // Longer than what a reader copies.
    let value = [&[b'x'; 2000][..], b"\n"].concat();
    assert!(scratch.run(&["put", "x"], &value).status.success());
    let mut watch = scratch.start(&["watch", "x"]);
    assert_eq!(watch.line().len(), 2000);
    watch.child.kill().unwrap();
    watch.child.wait().unwrap();
    let output = scratch.run(&["doctor", "--json"], b"");
    let found = findings(&output, "dead-participant");
    assert_eq!((found.len(), &found[0]["harmless"]), (1, &false.into()));
    let output = scratch.run(&["doctor"], b"");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("dead-participant: ") && !told.contains("note: "),
        "{told}"
    );
    let hint = String::from_utf8(output.stderr).unwrap();
    assert!(hint.contains("--fix"), "{hint}");
}

#[test]
fn a_corrupt_value_is_found_until_the_next_one_is_published() {
    let scratch = Scratch::new("corrupt");
    let value = b"a value like no other";
    assert!(
        scratch
            .run(&["put", "x", "--capacity", "4KiB"], value)
            .status
            .success()
    );
    let path = scratch.0.join("x.board/data");
    let mut data = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..data.len() - value.len())
        .filter(|at| data[*at..].starts_with(value))
        .collect();
    for at in places {
        data[at] ^= 1;
    }
    std::fs::write(&path, data).unwrap();
    let problem = "corrupt";
    let found = findings(&scratch.run(&["doctor", "--json"], b""), problem);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["fixable"], &found[0]["harmless"]),
        (&false.into(), &false.into())
    );
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("board \"x\": value 1 has checksum"),
        "{message}"
    );
    assert!(
        message.contains("the next publication heals it"),
        "{message}"
    );
    assert!(scratch.run(&["put", "x"], value).status.success());
    assert!(findings(&scratch.run(&["doctor", "--json"], b""), problem).is_empty());
}

#[test]
fn what_has_an_objects_name_and_is_none_is_found_and_can_be_removed() {
    let scratch = Scratch::new("foreign");
    assert_eq!(scratch.code(&["ls"]), Some(0));
    std::fs::create_dir(scratch.0.join("y.lock")).unwrap();
    std::fs::write(scratch.0.join("x.board"), b"").unwrap();
    std::os::unix::fs::symlink("nowhere", scratch.0.join("z.event")).unwrap();
    let output = scratch.run(&["doctor"], b"");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    let path = scratch.0.display();
    for finding in [
        format!("damaged: board \"x\": {path}/x.board is a file and no board; remove it"),
        format!("damaged: lock \"y\": {path}/y.lock is a directory and no lock; remove it"),
        format!("damaged: event \"z\": {path}/z.event is a symbolic link and no event; remove it"),
    ] {
        assert!(told.contains(&finding), "{finding} in {told}");
    }
    assert_eq!(scratch.code(&["rm", "x", "y", "z"]), Some(0));
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
}

#[test]
fn what_only_a_person_can_mend_is_said_once_and_called_so() {
    let scratch = Scratch::new("by-hand");
    assert_eq!(scratch.code(&["put", "b", "--text", "v"]), Some(0));
    std::fs::write(scratch.0.join("b.board/data"), b"").unwrap();
    let output = scratch.run(&["doctor", "--fix"], b"");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    let line = told
        .lines()
        .find(|line| line.starts_with("damaged: "))
        .unwrap();
    assert_eq!(line.matches("board \"b\"").count(), 1, "{line}");
    assert!(line.ends_with(" (by hand)"), "{line}");
    let hint = String::from_utf8(output.stderr).unwrap();
    assert!(hint.contains("by hand"), "{hint}");
}

#[test]
fn a_damaged_board_is_reported_and_left_alone() {
    let scratch = Scratch::new("sick");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    std::fs::write(scratch.0.join("x.board/data"), b"").unwrap();
    let output = scratch.run(&["doctor", "--json", "--fix"], b"");
    let found = findings(&output, "damaged");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["fixable"], &found[0]["fixed"]),
        (&false.into(), &false.into())
    );
    assert!(scratch.0.join("x.board").exists());
}
