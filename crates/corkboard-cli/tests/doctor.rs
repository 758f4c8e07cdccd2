//! Finding what is wrong, and mending it.

mod common;

use common::Scratch;

/// The findings about this problem. Others may be about the machine that the test runs on.
fn findings(output: &std::process::Output, problem: &str) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_wanted = |finding: &&serde_json::Value| finding["problem"] == problem;
    let all = all.as_array().unwrap();
    let remain = all.iter().any(|finding| finding["fixed"] == false);
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
    let text = scratch.run(&["doctor"], b"");
    assert_eq!(text.status.code(), Some(1));
    let told = String::from_utf8(text.stdout).unwrap();
    assert!(told.contains("dead-participant: "), "{told}");
    let hint = String::from_utf8(text.stderr).unwrap();
    assert!(hint.contains("--fix"), "{hint}");

    let fixed = findings(&scratch.run(&["doctor", "--json", "--fix"], b""), problem);
    assert_eq!(fixed[0]["fixed"], true);
    assert!(findings(&scratch.run(&["doctor", "--json"], b""), problem).is_empty());
    assert_eq!(scratch.text(&["get", "x"]), "v");
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
