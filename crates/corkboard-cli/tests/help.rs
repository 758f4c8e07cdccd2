//! Help, completions, colours and exit statuses of the command line itself.

#![cfg(unix)]

mod common;

use std::io::Read as _;
use std::process::Stdio;

use common::{Scratch, terminal};

const SUBCOMMANDS: [&str; 16] = [
    "put",
    "get",
    "watch",
    "lock",
    "event",
    "pub",
    "sub",
    "serve",
    "call",
    "ls",
    "stat",
    "rm",
    "doctor",
    "demo",
    "classic",
    "completions",
];

/// Where it is built.
const TOP: &[&str] = if cfg!(feature = "top") { &["top"] } else { &[] };

#[test]
fn every_subcommand_is_listed_and_helps_with_an_example() {
    let scratch = Scratch::new("help");
    let overview = scratch.text(&["--help"]);
    assert!(overview.contains("Exit status: 0 success; 1 a negative answer"));
    for name in SUBCOMMANDS.iter().chain(TOP) {
        assert!(
            overview.contains(&format!("\n  {name} ")),
            "{name} in {overview}"
        );
        let help = scratch.text(&[*name, "--help"]);
        let examples = help.split("Examples:").nth(1).expect(name);
        assert!(examples.contains(&format!("corkboard {name}")), "{help}");
    }
    assert!(!overview.contains("demo-process") && !overview.contains("child"));
}

#[test]
fn help_tells_the_exit_statuses_that_are_a_command_s_own() {
    let scratch = Scratch::new("statuses");
    let has = |arguments: &[&str], wanted: &[&str]| {
        let help = scratch.text(arguments);
        // Where its lines break does not matter.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in wanted {
            assert!(help.contains(wanted), "{wanted} in {help}");
        }
    };
    has(
        &["lock", "--help"],
        &[
            "Exit status: that of CMD, or 128 and the signal's number",
            "127 when there is no such command, 126 when it cannot be executed",
            "1 on time-out, or what --conflict-exit-code says",
            "2 an error",
            "SIGTERM",
            "SIGKILL",
        ],
    );
    has(
        &["event", "wait", "--help"],
        &[
            "0 when it was set, 1 on time-out or when it was removed, 2 an error",
            "created if absent",
            "corkboard event wait ready --timeout 30s",
        ],
    );
    for action in ["set", "reset"] {
        has(&["event", action, "--help"], &["created if absent"]);
    }
    has(
        &["doctor", "--help"],
        &[
            "A note is what costs nothing",
            "0 when healthy but for notes",
            "newest value is read and checked",
        ],
    );
    has(
        &["rm", "--help"],
        &["1 when one was absent, 2 when", "--kind"],
    );
    has(
        &["pub", "--help"],
        &[
            "1 when there was no room until the time-out",
            "There is none after an error",
            "four bytes, the lowest first",
        ],
    );
    has(
        &["sub", "--help"],
        &[
            "0 at the end mark or after --count records, 1 on time-out or when the stream was removed",
            "Ends at the first end mark",
            "--strict ends it",
        ],
    );
    has(
        &["serve", "--help"],
        &[
            "0 after --count requests, 1 when the call was removed, 2 an error",
            "`stdbuf -oL`",
            "SIGTERM",
            "SIGKILL",
        ],
    );
    has(
        &["call", "--help"],
        &[
            "0 when there was a reply; 1 when there was none",
            "3 when the server answered with an error",
        ],
    );
    has(
        &["stat", "--help"],
        &["1 when the object is absent, 2 when several"],
    );
}

#[test]
fn usage_errors_have_status_two() {
    let scratch = Scratch::new("usage");
    assert_eq!(scratch.code(&[]), Some(2));
    assert_eq!(scratch.code(&["pin"]), Some(2));
    assert_eq!(scratch.code(&["get"]), Some(2));
    assert_eq!(scratch.code(&["rm"]), Some(2));
    assert_eq!(scratch.code(&["get", "x", "--bogus"]), Some(2));
    assert_eq!(scratch.code(&["demo", "--seconds", "0"]), Some(2));
    assert_eq!(scratch.code(&["--version"]), Some(0));
}

#[test]
fn a_mistake_in_the_words_is_told_with_a_remedy() {
    let scratch = Scratch::new("tips");
    for (words, remedy) in [
        (
            &["watch", "w", "wc", "-c"][..],
            "tip: put `--` before the command to run",
        ),
        (
            &["lock", "x", "echo", "hi"],
            "tip: put `--` before the command to run",
        ),
        (
            &["serve", "x", "cat"],
            "tip: put `--` before the command to run",
        ),
        (&["wacth", "w"], "'watch'"),
        (&["get", "w", "--time", "5s"], "'--timeout'"),
        (&["get", "w", "--timeout", "5"], "add a unit: 5s"),
        (&["put", "w", "--capacity", "64MB"], "KiB, MiB, GiB, TiB"),
    ] {
        let output = scratch.run(words, b"");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(remedy), "{message}");
    }
    let other = scratch.run(&["watch", "w", "--bogus"], b"");
    assert!(
        !String::from_utf8(other.stderr)
            .unwrap()
            .contains("before the command")
    );
}

#[test]
fn every_shell_gets_completions() {
    let scratch = Scratch::new("completions");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scratch.text(&["completions", shell]);
        assert!(
            script.contains("corkboard") && script.contains("watch"),
            "{shell}"
        );
    }
    assert_eq!(scratch.code(&["completions", "dcl"]), Some(2));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let scratch = Scratch::new("colour");
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    let plain = scratch.text(&["ls"]);
    assert!(plain.contains("NAME") && !plain.contains('\u{1b}'));
    assert!(scratch.on_terminal(&["ls"], "").contains('\u{1b}'));
    let without = scratch.on_terminal(&["ls"], "1");
    assert!(without.contains("NAME") && !without.contains('\u{1b}'));
}

#[test]
fn a_terminal_gets_a_line_break_after_a_value_without_one() {
    let scratch = Scratch::new("terminal");
    let watch = ["watch", "x", "--count", "1"];
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    assert_eq!(scratch.on_terminal(&watch, ""), "v\r\n");
    assert_eq!(scratch.on_terminal(&["get", "x"], ""), "v\r\n");
    assert_eq!(scratch.text(&["get", "x"]), "v");
    assert_eq!(scratch.code(&["put", "x", "--text", "v\n"]), Some(0));
    assert_eq!(scratch.on_terminal(&watch, ""), "v\r\n");
    assert_eq!(scratch.on_terminal(&["get", "x"], ""), "v\r\n");
}

impl Scratch {
    /// What a terminal would show.
    fn on_terminal(&self, arguments: &[&str], no_color: &str) -> String {
        let (mut master, terminal) = terminal();
        let mut child = self
            .command(arguments)
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null())
            .stdout(Stdio::from(terminal))
            .spawn()
            .unwrap();
        let mut shown = Vec::new();
        // The end of a terminal is an error in Linux.
        let _ = master.read_to_end(&mut shown);
        assert!(child.wait().unwrap().success());
        String::from_utf8(shown).unwrap()
    }
}
