//! Serving and making calls.

#![cfg(unix)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Instant;

use common::{DEADLINE, Running, Scratch};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Waits for something that another process does.
fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "it does not happen");
        std::thread::yield_now();
    }
}

/// Longer than any test.
const LONG: &str = "600s";

impl Scratch {
    fn serve(&self, arguments: &[&str]) -> Running {
        self.start(&[&["serve"], arguments].concat())
    }

    /// Makes a call that must get a reply.
    fn call(&self, name: &str, request: &[u8]) -> Vec<u8> {
        let output = self.run(&["call", name, "-", "--timeout", LONG], request);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    /// The exit status and what was told on standard error, of a call that gets no reply.
    fn refused(&self, arguments: &[&str], request: &[u8]) -> (Option<i32>, String) {
        let output = self.run(&[&["call"], arguments].concat(), request);
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn stat(&self, name: &str) -> serde_json::Value {
        self.json(&["stat", name, "--kind", "call", "--json"])
    }

    fn is_served(&self, name: &str) -> bool {
        let is_ours = self.code(&["stat", name, "--kind", "call"]) == Some(0);
        is_ours && self.stat(name)["server"]["alive"] == true
    }

    /// A command that says its number and waits until it is ended.
    fn sleeper(&self) -> String {
        let path = self.0.join("pid");
        format!(
            "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
            path.display()
        )
    }

    /// The number of the sleeper, if it got so far as to say it.
    fn begun(&self) -> Option<Pid> {
        let path = self.0.join("pid");
        let number = std::fs::read_to_string(&path).ok()?;
        std::fs::remove_file(path).unwrap();
        Some(Pid::from_raw(number.trim().parse().unwrap()).unwrap())
    }

    /// Waits for the end of the sleeper, if it began.
    fn has_ended(&self) -> bool {
        self.begun()
            .inspect(|sleeper| until(|| is_gone(*sleeper)))
            .is_some()
    }

    /// The number of the sleeper that runs.
    fn sleeping(&self) -> Pid {
        let mut sleeper = None;
        until(|| {
            sleeper = self.begun();
            sleeper.is_some()
        });
        sleeper.unwrap()
    }
}

/// Whether a process has ended, also if nobody has asked for its status yet.
fn is_gone(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let state = |stat: String| Some(stat.rsplit_once(") ")?.1.starts_with('Z'));
    test_kill_process(process).is_err() || stat.ok().and_then(state) == Some(true)
}

/// For what must not happen before its time is up, and must have begun by then: as long as the
/// machine needs. As it is given, and as it is told.
const TIMES: [(&str, &str); 4] = [
    ("100ms", "100 ms"),
    ("2s", "2.0 s"),
    ("20s", "20.0 s"),
    ("120s", "2 min"),
];

#[test]
fn a_request_is_the_input_of_a_command_and_its_output_the_reply() {
    let scratch = Scratch::new("calls-up");
    // Whoever is first.
    let early = scratch.start(&["call", "up", "early", "--timeout", LONG]);
    let _serve = scratch.serve(&["up", "--", "tr", "a-z", "A-Z"]);
    assert_eq!(early.end(), (Some(0), vec!["EARLY".into()], vec![]));
    assert_eq!(scratch.call("up", b"hi\n"), b"HI\n");
    assert_eq!(scratch.text(&["call", "up", "hi"]), "HI");
    // Also where nothing says that it is standard input.
    assert_eq!(scratch.run(&["call", "up"], b"hi").stdout, b"HI");
    assert_eq!(scratch.call("up", b""), b"");
    let json = scratch.json(&["call", "up", "hi", "--json"]);
    let expected = serde_json::json!({
        "name": "up", "size": 2, "encoding": "utf-8", "value": "HI", "error": null
    });
    assert_eq!(json, expected);
    let hex = scratch.text(&["call", "up", "hi", "--hex"]);
    assert!(hex.starts_with("00000000  48 49 "), "{hex}");
}

#[test]
fn a_thousand_calls_eight_at_a_time_are_all_answered_right() {
    let scratch = Scratch::new("calls-thousand");
    let serve = scratch.serve(&["up", "--count", "1000", "--", "tr", "a-z", "A-Z"]);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let scratch = &scratch;
            scope.spawn(move || {
                for number in 0..125 {
                    let request = format!("caller {caller}, call {number}\n");
                    let reply = scratch.call("up", request.as_bytes());
                    assert_eq!(String::from_utf8(reply).unwrap(), request.to_uppercase());
                }
            });
        }
    });
    assert_eq!(serve.end(), (Some(0), vec![], vec![]));
    assert_eq!(scratch.stat("up")["answered"], 1000);
}

#[test]
fn lines_are_calls_and_their_replies_come_in_order() {
    let scratch = Scratch::new("calls-lines");
    // The earlier ones take longer.
    let command = "read n; [ $n -lt 4 ] && sleep 0.1; echo reply $n | tr -d '\\n'";
    let _serve = scratch.serve(&["s", "--jobs", "8", "--", "sh", "-c", command]);
    let call = ["call", "s", "--lines", "--jobs", "8", "--timeout", LONG];
    let output = scratch.run(&call, b"1\n2\n3\n4\n5\n6\n7\n8\n9");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let replies: String = (1..=9).map(|number| format!("reply {number}\n")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), replies);
    assert!(scratch.run(&call, b"").stdout.is_empty());
}

#[test]
fn a_command_that_fails_answers_with_an_error() {
    let scratch = Scratch::new("calls-errors");
    let script = "read what; case $what in \
        words) echo out; printf 'first\\nsecond\\n' >&2; exit 7;; \
        silent) exit 9;; \
        signal) kill -KILL $$;; \
        fine) echo careful >&2; echo fine;; esac";
    let serve = scratch.serve(&["s", "--", "sh", "-c", script]);
    let failed = |what: &[u8]| {
        let (code, told) = scratch.refused(&["s", "-", "--timeout", LONG], what);
        assert_eq!(code, Some(3), "{told}");
        told
    };
    let told = failed(b"words\n");
    assert!(
        told.contains("answered with error 7: first\nsecond\n"),
        "{told}"
    );
    let told = failed(b"silent\n");
    assert!(told.contains("error 9: sh: exit status: 9"), "{told}");
    let told = failed(b"signal\n");
    assert!(told.contains("error 137: sh: signal: 9"), "{told}");
    // What is said without failing is for the server to see.
    assert_eq!(scratch.call("s", b"fine\n"), b"fine\n");
    for word in ["first", "second", "careful"] {
        assert_eq!(serve.stderr.recv_timeout(DEADLINE).unwrap(), word);
    }
    let output = scratch.run(&["call", "s", "-", "--json", "--timeout", LONG], b"words\n");
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = serde_json::json!({"code": 7, "message": "first\nsecond"});
    assert_eq!((&json["error"], &json["value"]), (&error, &().into()));
    // The lines after it are asked all the same.
    let lines = ["call", "s", "--lines", "--timeout", LONG];
    let output = scratch.run(&lines, b"silent\nother\nwords\nother");
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(3), &b"\n\n"[..])
    );
}

#[test]
fn a_command_that_does_not_exist_is_an_error_for_each_caller() {
    let scratch = Scratch::new("calls-absent-command");
    let _serve = scratch.serve(&["s", "--", "no-such-command"]);
    let (code, told) = scratch.refused(&["s", "x", "--timeout", LONG], b"");
    assert_eq!(code, Some(3));
    assert!(
        told.contains("error 127: ") && told.contains("cannot run no-such-command"),
        "{told}"
    );
}

#[test]
fn requests_and_replies_are_any_bytes_and_may_be_long() {
    let scratch = Scratch::new("calls-bytes");
    let _serve = scratch.serve(&["echo", "--capacity", "8MiB", "--", "cat"]);
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(scratch.call("echo", &every), every);
    let long: Vec<u8> = every.iter().copied().cycle().take(5 << 20).collect();
    assert!(scratch.call("echo", &long) == long);
    let json = scratch
        .run(&["call", "echo", "-", "--json"], b"\xff\x00")
        .stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["encoding"], &json["value"]),
        (&"base64".into(), &"/wA=".into())
    );
}

#[test]
fn what_is_longer_than_the_capacity_is_an_error_both_ways() {
    let scratch = Scratch::new("calls-capacity");
    let script = "read what; case $what in yes) yes;; fail) yes >&2 | head -c 5000; exit 1;; esac";
    let serve = scratch.serve(&["s", "--capacity", "1KiB", "--", "sh", "-c", script]);
    let (code, told) = scratch.refused(&["s", "-", "--timeout", LONG], &[b'x'; 1025]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("1024"), "{told}");
    let (code, told) = scratch.refused(&["s", "-", "--timeout", LONG], b"yes\n");
    assert_eq!(code, Some(3), "{told}");
    assert!(
        told.contains("error -1: the answer is longer than the capacity"),
        "{told}"
    );
    let told = serve.stderr.recv_timeout(DEADLINE).unwrap();
    assert!(told.contains("cannot reply to call \"s\""), "{told}");
    // It serves on.
    assert_eq!(scratch.call("s", b"nothing\n"), b"");
}

#[test]
fn a_message_is_shortened_to_what_fits() {
    let scratch = Scratch::new("calls-shortened");
    let script = "for n in 1 2 3 4; do printf '天气天气天气天气' >&2; done; exit 1";
    let _serve = scratch.serve(&["s", "--capacity", "50", "--", "sh", "-c", script]);
    let (code, told) = scratch.refused(&["s", "x", "--timeout", LONG], b"");
    assert_eq!(code, Some(3));
    let message = told.trim_end().split("error 1: ").nth(1).unwrap();
    assert_eq!(message, "天气".repeat(8));
}

#[test]
fn who_calls_where_nobody_serves_gives_up_in_time() {
    let scratch = Scratch::new("calls-nobody");
    let call = ["s", "x", "--timeout", "20ms"];
    let (code, told) = scratch.refused(&call, b"");
    assert_eq!(code, Some(1));
    assert!(told.contains("there is no call \"s\""), "{told}");
    assert_eq!(
        scratch.code(&["serve", "s", "--count", "0", "--", "cat"]),
        Some(0)
    );
    let (code, told) = scratch.refused(&call, b"");
    assert_eq!(code, Some(1));
    assert!(
        told.contains("no server took the request in time"),
        "{told}"
    );
    assert_eq!(scratch.code(&["event", "set", "e"]), Some(0));
    let (code, told) = scratch.refused(&["e", "x", "--timeout", "0s"], b"");
    assert!(
        code == Some(1) && told.contains("is an event, not a call"),
        "{told}"
    );
}

#[test]
fn a_server_that_is_killed_takes_its_commands_with_it_and_callers_are_told() {
    let scratch = Scratch::new("calls-killed");
    let mut serve = scratch.serve(&["s", "--", "sh", "-c", &scratch.sleeper()]);
    let call = scratch.start(&["call", "s", "x", "--timeout", LONG]);
    let command = scratch.sleeping();
    serve.child.kill().unwrap();
    serve.child.wait().unwrap();
    let (code, stdout, stderr) = call.end();
    assert_eq!((code, stdout.len()), (Some(1), 0));
    assert!(
        stderr[0].contains("the server died while it had the request"),
        "{stderr:?}"
    );
    until(|| is_gone(command));
    // The next one goes on.
    let _serve = scratch.serve(&["s", "--", "cat"]);
    assert_eq!(scratch.call("s", b"again"), b"again");
}

#[test]
fn a_server_that_is_asked_to_end_leaves_nothing_behind() {
    let scratch = Scratch::new("calls-asked");
    for signal in [Signal::INT, Signal::TERM] {
        for lines in [&[][..], &["--lines"]] {
            let sleeper = scratch.sleeper();
            let command = ["--", "sh", "-c", &sleeper];
            let mut serve = scratch.serve(&[&["s"], lines, &command].concat());
            let call = scratch.start(&["call", "s", "x", "--timeout", LONG]);
            let command = scratch.sleeping();
            until(|| scratch.stat("s")["server"]["taken"] == 1);
            kill_process(Pid::from_child(&serve.child), signal).unwrap();
            let (code, stdout, stderr) = call.end();
            assert_eq!((code, stdout.len()), (Some(1), 0), "{stderr:?}");
            assert!(stderr[0].contains("the server"), "{stderr:?}");
            assert_eq!(serve.child.wait().unwrap().signal(), Some(signal.as_raw()));
            assert!(is_gone(command));
            assert!(scratch.stat("s")["server"].is_null());
        }
    }
}

#[test]
fn commands_end_when_nobody_wants_their_answer() {
    let scratch = Scratch::new("calls-unwanted");
    // The shell waits for what it has started.
    let script = format!(
        "({}); true",
        scratch.sleeper().replace("$$", "$(sh -c 'echo $PPID')")
    );
    let has_ended = TIMES.iter().any(|(timeout, limit)| {
        let _serve = scratch.serve(&["s", "--timeout", timeout, "--", "sh", "-c", &script]);
        let (code, told) = scratch.refused(&["s", "x", "--timeout", LONG], b"");
        assert_eq!(code, Some(3), "{told}");
        let expected = format!("error 124: sh had no answer within {limit}");
        assert!(told.contains(&expected), "{told}");
        scratch.has_ended()
    });
    assert!(has_ended, "no command began");
    let _serve = scratch.serve(&["s", "--", "sh", "-c", &script]);
    until(|| scratch.is_served("s"));
    let has_ended = TIMES.iter().any(|(timeout, _)| {
        let (code, told) = scratch.refused(&["s", "x", "--timeout", timeout], b"");
        assert_eq!(code, Some(1), "{told}");
        scratch.has_ended()
    });
    assert!(has_ended, "no command began");
    for lines in [false, true] {
        let mut call = scratch.command(&["call", "s", "--timeout", LONG]);
        if lines {
            call.arg("--lines");
        }
        let mut call = call.stdin(Stdio::piped()).spawn().unwrap();
        writeln!(call.stdin.take().unwrap(), "x").unwrap();
        let command = scratch.sleeping();
        kill_process(Pid::from_child(&call), Signal::INT).unwrap();
        assert_eq!(call.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
        until(|| is_gone(command));
    }
}

#[test]
fn a_filter_answers_line_by_line() {
    let scratch = Scratch::new("calls-filter");
    let serve = scratch.serve(&["s", "--lines", "--", "sed", "-u", "s/^/> /"]);
    assert_eq!(scratch.text(&["call", "s", "hi"]), "> hi");
    assert_eq!(scratch.call("s", b""), b"> ");
    // As `echo` has it.
    assert_eq!(scratch.call("s", b"hi\n"), b"> hi");
    let (code, told) = scratch.refused(&["s", "-"], b"two\nlines\n");
    assert_eq!(code, Some(3));
    assert!(told.contains("has a line break in it"), "{told}");
    let call = ["call", "s", "--lines", "--jobs", "3", "--timeout", LONG];
    let output = scratch.run(&call, b"1\n2\n3\n4\n");
    assert_eq!(output.stdout, b"> 1\n> 2\n> 3\n> 4\n");
    kill_process(Pid::from_child(&serve.child), Signal::TERM).unwrap();
    assert_eq!(serve.end().0, None);
    // One process for all of them.
    let numbers = scratch.serve(&["s", "--lines", "--count", "3", "--", "sed", "-un", "="]);
    assert_eq!(scratch.run(&call, b"a\nb\nc\n").stdout, b"1\n2\n3\n");
    assert_eq!(numbers.end(), (Some(0), vec![], vec![]));
    // It gets to know that there is no more.
    let path = scratch.0.join("over");
    let script = format!(
        "while read line; do echo $line; done; echo > {}",
        path.display()
    );
    let last = scratch.serve(&["s", "--lines", "--count", "1", "--", "sh", "-c", &script]);
    assert_eq!(scratch.call("s", b"x"), b"x");
    assert_eq!(last.end().0, Some(0));
    assert!(path.exists());
}

#[test]
fn a_filter_that_ends_ends_the_server_with_an_error() {
    let scratch = Scratch::new("calls-filter-ends");
    let script = "read line; echo $line; read line; exit 5";
    let serve = scratch.serve(&["s", "--lines", "--", "sh", "-c", script]);
    assert_eq!(scratch.call("s", b"one"), b"one");
    let (code, told) = scratch.refused(&["s", "two"], b"");
    assert_eq!(code, Some(3));
    assert!(told.contains("error 5: sh ended: exit status: 5"), "{told}");
    let (code, _, stderr) = serve.end();
    assert_eq!(code, Some(2));
    assert!(stderr[0].contains("sh ended: exit status: 5"), "{stderr:?}");
    // Also when nobody asks it anything.
    let (code, _, stderr) = scratch.serve(&["s", "--lines", "--", "true"]).end();
    assert_eq!(code, Some(2));
    assert!(
        stderr[0].contains("true ended: exit status: 0"),
        "{stderr:?}"
    );
}

#[test]
fn a_filter_without_an_answer_is_started_anew() {
    let scratch = Scratch::new("calls-filter-slow");
    let script = "while read line; do [ \"$line\" = slow ] && sleep 1000; echo $line; done";
    let is_answered = TIMES.iter().any(|(timeout, _)| {
        let filter = ["--", "sh", "-c", script];
        let _serve =
            scratch.serve(&[&["s", "--lines", "--timeout", timeout], &filter[..]].concat());
        let (code, told) = scratch.refused(&["s", "slow", "--timeout", LONG], b"");
        assert_eq!(code, Some(3));
        assert!(told.contains("error 124: "), "{told}");
        let quick = ["call", "s", "--lines", "--timeout", LONG];
        let output = scratch.run(&quick, b"quick");
        println!("within {timeout}: {output:?}");
        output.stdout == b"quick\n"
    });
    assert!(is_answered);
}

#[test]
fn a_call_that_is_removed_ends_its_server() {
    let scratch = Scratch::new("calls-removed");
    let serve = scratch.serve(&["s", "--", "cat"]);
    assert_eq!(scratch.call("s", b"x"), b"x");
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    let (code, _, stderr) = serve.end();
    assert_eq!(code, Some(1));
    assert!(stderr[0].contains("call \"s\" was removed"), "{stderr:?}");
    // Also who waits for an answer is told.
    let serve = scratch.serve(&["s", "--", "sh", "-c", &scratch.sleeper()]);
    let call = scratch.start(&["call", "s", "x", "--timeout", LONG]);
    let command = scratch.sleeping();
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    let (code, _, stderr) = call.end();
    assert_eq!(code, Some(1));
    assert!(stderr[0].contains("removed"), "{stderr:?}");
    assert_eq!(serve.end().0, Some(1));
    assert!(is_gone(command));
}

#[test]
fn one_server_at_a_time_and_the_next_one_stands_by() {
    let scratch = Scratch::new("calls-standby");
    let mut first = scratch.serve(&["s", "--", "echo", "first"]);
    assert_eq!(scratch.call("s", b"x"), b"first\n");
    let output = scratch.run(&["serve", "s", "--wait", "1ms", "--", "cat"], b"");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&first.child.id().to_string()), "{told}");
    let _next = scratch.serve(&["s", "--wait", LONG, "--", "echo", "next"]);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert_eq!(scratch.call("s", b"x"), b"next\n");
    assert_eq!(scratch.stat("s")["servers"], 2);
}

#[test]
fn calls_are_listed_shown_and_removed_like_other_objects() {
    let scratch = Scratch::new("calls-listed");
    let mut serve = scratch.serve(&["s", "--capacity", "64KiB", "--", "cat"]);
    assert_eq!(scratch.call("s", b"x"), b"x");
    let row = &scratch.json(&["ls", "--json"])[0];
    for (what, wanted) in [
        ("kind", serde_json::json!("call")),
        ("capacity", 65536.into()),
        ("answered", 1.into()),
        ("pending", 0.into()),
        ("writers", 1.into()),
        ("readers", 0.into()),
        ("sequence", ().into()),
    ] {
        assert_eq!(row[what], wanted, "{what} in {row}");
    }
    assert!(row["rate"].as_f64().unwrap() > 0.0);
    let text = scratch.text(&["ls"]);
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        words[..9],
        ["s", "call", "-", "64.0", "KiB", "1", "-", "1", "0"]
    );
    let text = scratch.text(&["stat", "s"]);
    for wanted in [
        "call \"s\"\n  answered     1\n",
        "  capacity     64.0 KiB (65536 bytes)\n",
        "corkboard serve: cat\n",
        "\nclients: none\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert_eq!(scratch.stat("s")["server"]["pid"], serve.child.id());
    serve.child.kill().unwrap();
    serve.child.wait().unwrap();
    // Who waits for a server is listed.
    let mut call = scratch.start(&["call", "s", "x", "--timeout", LONG]);
    until(|| scratch.json(&["ls", "--json"])[0]["pending"] == 1);
    let client = &scratch.stat("s")["clients"][0];
    assert_eq!(
        (&client["pending"], &client["taken"]),
        (&1.into(), &0.into())
    );
    assert_eq!(client["pid"], call.child.id());
    call.child.kill().unwrap();
    call.child.wait().unwrap();

    let told = String::from_utf8(scratch.run(&["doctor"], b"").stdout).unwrap();
    for role in ["server", "client"] {
        let note = format!("note: dead-participant: call \"s\": {role} ");
        assert!(told.contains(&note), "{told}");
    }
    scratch.run(&["doctor", "--fix"], b"");
    let stat = scratch.stat("s");
    assert!(
        stat["server"].is_null() && stat["clients"] == serde_json::json!([]),
        "{stat}"
    );
    assert_eq!(scratch.code(&["put", "s", "--text", "v"]), Some(0));
    let output = scratch.run(&["rm", "s"], b"");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--kind board or --kind call"), "{told}");
    assert_eq!(scratch.code(&["rm", "s", "--kind", "call"]), Some(0));
}

#[test]
fn a_damaged_call_is_listed_reported_and_removed() {
    let scratch = Scratch::new("calls-damaged");
    assert_eq!(
        scratch.code(&["serve", "s", "--count", "0", "--", "cat"]),
        Some(0)
    );
    std::fs::write(scratch.0.join("s.call"), b"").unwrap();
    assert!(scratch.json(&["ls", "--json"])[0]["error"].is_string());
    let told = String::from_utf8(scratch.run(&["doctor"], b"").stdout).unwrap();
    assert!(told.contains("damaged: call \"s\""), "{told}");
    assert_eq!(scratch.code(&["stat", "s"]), Some(2));
    assert_eq!(scratch.code(&["call", "s", "x"]), Some(2));
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    assert_eq!(scratch.text(&["ls", "--json"]), "[]\n");
}

#[test]
fn a_terminal_is_not_read_unless_it_is_asked_for() {
    let scratch = Scratch::new("calls-terminal");
    let (mut master, terminal) = common::terminal();
    let mut call = scratch
        .command(&["call", "s"])
        .stdin(Stdio::from(terminal.try_clone().unwrap()))
        .stderr(Stdio::from(terminal))
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // The end of a terminal is an error in Linux.
    let _ = master.read_to_end(&mut shown);
    assert_eq!(call.wait().unwrap().code(), Some(2));
    assert!(
        String::from_utf8(shown)
            .unwrap()
            .contains("say what to ask")
    );
}
