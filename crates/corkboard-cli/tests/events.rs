//! Telling that something happened, and waiting for it.

#![cfg(unix)]

mod common;

use std::io::Read as _;

use common::{Scratch, terminal};

#[test]
fn a_manual_event_lets_everyone_through_until_it_is_reset() {
    let scratch = Scratch::new("manual");
    let wait = ["event", "wait", "ready", "--timeout", "0s"];
    let waiters = [(); 3].map(|()| scratch.start(&["event", "wait", "ready"]));
    assert_eq!(scratch.code(&["event", "set", "ready"]), Some(0));
    for waiter in waiters {
        assert_eq!(waiter.end(), (Some(0), vec![], vec![]));
    }
    assert_eq!(scratch.code(&wait), Some(0));
    assert_eq!(scratch.code(&wait), Some(0));
    assert_eq!(scratch.code(&["event", "reset", "ready"]), Some(0));
    assert_eq!(scratch.code(&wait), Some(1));
}

#[test]
fn an_auto_event_lets_one_through_for_each_signal() {
    let scratch = Scratch::new("auto");
    let wait = ["event", "wait", "job", "--timeout", "0s"];
    assert_eq!(scratch.code(&["event", "set", "job", "--auto"]), Some(0));
    assert_eq!(scratch.code(&["event", "set", "job"]), Some(0));
    assert_eq!(scratch.code(&wait), Some(0));
    assert_eq!(scratch.code(&wait), Some(1));
    assert_eq!(scratch.code(&["event", "set", "job"]), Some(0));
    assert_eq!(scratch.code(&["event", "reset", "job"]), Some(0));
    assert_eq!(scratch.code(&wait), Some(1));
}

#[test]
fn a_time_out_is_a_negative_answer_and_nothing_is_printed() {
    let scratch = Scratch::new("timeout");
    let output = scratch.run(&["event", "wait", "never", "--timeout", "5ms"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("\"never\" is not set; gave up"),
        "{message}"
    );
    let set = scratch.run(&["event", "set", "never"], b"");
    assert!(set.status.success() && set.stdout.is_empty() && set.stderr.is_empty());
}

#[test]
fn every_action_creates_the_event_and_the_kind_is_manual_unless_told() {
    let scratch = Scratch::new("creation");
    assert_eq!(scratch.code(&["event", "set", "a"]), Some(0));
    assert_eq!(scratch.code(&["event", "reset", "b"]), Some(0));
    let wait = ["event", "wait", "c", "--auto", "--timeout", "0s"];
    assert_eq!(scratch.code(&wait), Some(1));
    assert_eq!(scratch.code(&["event", "reset", "d", "--manual"]), Some(0));
    let rows = scratch.json(&["ls", "--json"]);
    for (index, state, reset) in [
        (0, "set", "manual"),
        (1, "unset", "manual"),
        (2, "unset", "auto"),
        (3, "unset", "manual"),
    ] {
        let row = &rows[index];
        assert_eq!(
            (&row["state"], &row["reset"]),
            (&state.into(), &reset.into()),
            "{row}"
        );
    }
}

#[test]
fn who_waits_at_a_terminal_for_an_event_that_was_absent_is_told() {
    let scratch = Scratch::new("misspelt");
    for expected in [
        "corkboard: waiting for event \"redy\" (just created)\r\n",
        "",
    ] {
        let (mut master, terminal) = terminal();
        let wait = ["event", "wait", "redy", "--timeout", "0s"];
        let mut child = scratch
            .command(&wait)
            .env("NO_COLOR", "1")
            .stderr(terminal)
            .spawn()
            .unwrap();
        let mut shown = Vec::new();
        // The end of a terminal is an error in Linux.
        let _ = master.read_to_end(&mut shown);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let gave_up = "corkboard: event \"redy\" is not set; gave up waiting for it\r\n";
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown, format!("{expected}{gave_up}"));
    }
}

#[test]
fn an_event_of_the_other_kind_is_refused_only_when_a_kind_is_asked_for() {
    let scratch = Scratch::new("kinds");
    assert_eq!(scratch.code(&["event", "reset", "x", "--auto"]), Some(0));
    let refused = scratch.run(&["event", "set", "x", "--manual"], b"");
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("auto-reset") && message.contains("manual-reset"),
        "{message}"
    );
    assert_eq!(scratch.json(&["stat", "x", "--json"])["sets"], 0);
    assert_eq!(scratch.code(&["event", "set", "x"]), Some(0));
    assert_eq!(scratch.code(&["event", "set", "x", "--auto"]), Some(0));
    assert_eq!(
        scratch.code(&["event", "set", "x", "--auto", "--manual"]),
        Some(2)
    );
    assert_eq!(scratch.json(&["stat", "x", "--json"])["sets"], 2);
}

#[test]
fn a_removed_event_ends_the_wait_with_a_negative_answer() {
    let scratch = Scratch::new("removed");
    let mut waiter = scratch.start(&["event", "wait", "x"]);
    // One that is removed before it is open is created anew.
    while waiter.child.try_wait().unwrap().is_none() {
        scratch.code(&["rm", "x"]);
    }
    let (code, stdout, stderr) = waiter.end();
    assert_eq!((code, stdout.len()), (Some(1), 0), "{stderr:?}");
    assert!(stderr[0].contains("\"x\" was removed"), "{stderr:?}");
}

#[test]
fn wrong_words_are_errors() {
    let scratch = Scratch::new("usage");
    assert_eq!(scratch.code(&["event"]), Some(2));
    assert_eq!(scratch.code(&["event", "set"]), Some(2));
    assert_eq!(scratch.code(&["event", "pulse", "x"]), Some(2));
    assert_eq!(scratch.code(&["event", "set", "a/b"]), Some(2));
    assert_eq!(
        scratch.code(&["event", "set", "x", "--timeout", "1s"]),
        Some(2)
    );
    assert_eq!(
        scratch.code(&["event", "wait", "x", "--timeout", "soon"]),
        Some(2)
    );
}

#[test]
fn stat_tells_whether_an_event_is_set_and_how_often_it_was() {
    let scratch = Scratch::new("stat");
    for _ in 0..3 {
        assert_eq!(scratch.code(&["event", "set", "天气"]), Some(0));
    }
    let text = scratch.text(&["stat", "天气"]);
    assert!(
        text.starts_with("event \"天气\"\n  state        set\n"),
        "{text}"
    );
    assert!(text.contains("  reset        manual\n"), "{text}");
    assert!(text.contains("  times set    3\n"), "{text}");
    let stat = scratch.json(&["stat", "天气", "--kind", "event", "--json"]);
    assert_eq!(
        (&stat["kind"], &stat["reset"]),
        (&"event".into(), &"manual".into())
    );
    assert_eq!(
        (&stat["signalled"], &stat["sets"]),
        (&true.into(), &3.into())
    );
    assert_eq!(
        (&stat["state"], &stat["mode"]),
        (&"set".into(), &"0600".into())
    );
    assert!(
        stat["created_at"].as_str().unwrap().ends_with('Z'),
        "{stat}"
    );
}
