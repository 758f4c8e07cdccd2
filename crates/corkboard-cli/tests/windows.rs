//! The command on Windows, as a user meets it there: objects live as long as somebody has them
//! open.

#![cfg(windows)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use corkboard::board::{Options, Reader, WriterMode};
use corkboard::event::{Event, Reset};
use corkboard::{ErrorKind, Kind, Space};

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("corkboard-cli-test-{}-{test}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn space(&self) -> Space {
        Space::at(&self.0).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corkboard"));
        command.args(arguments).env("CORKBOARD_DIR", &self.0);
        command
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses its input need not read it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.text(arguments)).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command at work; killed when the test is over.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it does not come to pass");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn put_says_that_the_board_ends_with_it_and_hold_keeps_it() {
    let scratch = Scratch::new("hold");
    let output = scratch.run(&["put", "x", "--text", "gone"], b"");
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--hold"), "{said}");
    let absent = scratch.run(&["get", "x"], b"");
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
    let mut holder = scratch.start(&["put", "x", "--hold", "--text", "kept"]);
    assert_eq!(scratch.text(&["get", "x", "--timeout", "60s"]), "kept");
    let output = scratch.run(&["put", "x", "--text", "replaced"], b"");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(scratch.text(&["get", "x"]), "replaced");
    scratch.text(&["rm", "x"]);
    assert!(
        holder.child.wait().unwrap().success(),
        "it ends with the board"
    );
}

#[test]
fn get_prints_exactly_what_was_published_and_too_much_is_refused() {
    let scratch = Scratch::new("bytes");
    let space = scratch.space();
    for len in [0, 1, (1 << 20) - 1, 3 << 20] {
        let name = format!("b{len}");
        let options = Options::new().capacity(len).writer_mode(WriterMode::Shared);
        let mut writer = options.writer(&space, &name).unwrap();
        writer.publish(&vec![0; len]).unwrap();
        let value: Vec<u8> = (0..len).map(|i| (i * 7 / 3) as u8).collect();
        let put = scratch.run(&["put", &name], &value);
        assert!(put.status.success(), "{put:?}");
        let get = scratch.run(&["get", &name], b"");
        assert!(get.stdout == value, "{len} bytes");
        let refused = scratch.run(&["put", &name], &vec![1; len + 1]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            scratch.run(&["get", &name], b"").stdout == value,
            "the old value stays"
        );
    }
}

#[test]
fn watch_prints_each_value_and_runs_commands() {
    let scratch = Scratch::new("watch");
    let space = scratch.space();
    let options = Options::new().writer_mode(WriterMode::Shared);
    let mut writer = options.writer(&space, "x").unwrap();
    writer.publish(b"first").unwrap();
    let mut watch = scratch.start(&["watch", "x", "--lines"]);
    assert_eq!(watch.line(), "first");
    writer.publish(b"second").unwrap();
    assert_eq!(watch.line(), "second");
    space.remove(Kind::Board, "x").unwrap();
    assert_eq!(watch.child.wait().unwrap().code(), Some(1));
    let mut writer = options.writer(&space, "y").unwrap();
    writer.publish(b"value").unwrap();
    let ran = scratch.text(&[
        "watch",
        "y",
        "--count",
        "1",
        "--",
        "cmd",
        "/c",
        "echo %CORKBOARD_NAME%",
    ]);
    assert_eq!(ran.trim(), "y");
}

#[test]
fn ls_stat_and_rm_know_what_is_there() {
    let scratch = Scratch::new("list");
    let space = scratch.space();
    let mut writer = Options::new().label("me").writer(&space, "天气").unwrap();
    writer.publish(b"sunny").unwrap();
    let _event = Event::create(&space, "ready", Reset::Auto).unwrap();
    let all = scratch.text(&["ls"]);
    assert!(all.contains("天气") && all.contains("ready"), "{all}");
    if cfg!(feature = "top") {
        let all = scratch.text(&["top", "--once", "--interval", "1ms"]);
        assert!(all.contains("天气") && all.contains("ready"), "{all}");
    }
    let stat = scratch.json(&["stat", "天气", "--json"]);
    assert_eq!(stat["sequence"], 1);
    assert_eq!(stat["writers"][0]["label"], "me");
    assert_eq!(stat["data_mode"], "0600");
    scratch.text(&["rm", "天气"]);
    assert_eq!(writer.publish(b"").unwrap_err().kind(), ErrorKind::Removed);
    let absent = scratch.run(&["stat", "天气"], b"");
    assert_eq!(absent.status.code(), Some(1), "{absent:?}");
}

#[test]
fn names_that_differ_in_case_are_two() {
    let scratch = Scratch::new("case");
    let space = scratch.space();
    let mut lower = Options::new().writer(&space, "name").unwrap();
    let mut upper = Options::new().writer(&space, "NAME").unwrap();
    lower.publish(b"lower").unwrap();
    upper.publish(b"upper").unwrap();
    assert_eq!(scratch.text(&["get", "name"]), "lower");
    assert_eq!(scratch.text(&["get", "NAME"]), "upper");
}

#[test]
fn a_lock_is_held_while_the_command_runs_and_released_when_it_is_killed() {
    let scratch = Scratch::new("lock");
    let marker = scratch.0.join("runs");
    let script = format!("echo x > {} & pause", marker.display());
    let mut command = scratch.command(&["lock", "l", "--", "cmd", "/c", &script]);
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until(|| marker.exists());
    let refused = scratch.run(
        &["lock", "l", "--timeout", "0s", "--", "cmd", "/c", "exit"],
        b"",
    );
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let keeper = scratch.space().keep(Kind::Lock, "l").unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let status = scratch.run(
        &["lock", "l", "--timeout", "60s", "--", "cmd", "/c", "exit 7"],
        b"",
    );
    assert_eq!(status.status.code(), Some(7), "{status:?}");
    drop(keeper);
    let absent = scratch.run(&["lock", "l", "--", "no-such-command"], b"");
    assert_eq!(absent.status.code(), Some(127), "{absent:?}");
}

#[test]
fn an_event_is_set_and_waited_for() {
    let scratch = Scratch::new("event");
    let space = scratch.space();
    let _keeper = Event::create(&space, "ready", Reset::Manual).unwrap();
    let gave_up = scratch.run(&["event", "wait", "ready", "--timeout", "10ms"], b"");
    assert_eq!(gave_up.status.code(), Some(1), "{gave_up:?}");
    let mut waiter = scratch.start(&["event", "wait", "ready"]);
    scratch.text(&["event", "set", "ready"]);
    assert!(waiter.child.wait().unwrap().success());
    scratch.text(&["event", "reset", "ready"]);
    let gave_up = scratch.run(&["event", "wait", "ready", "--timeout", "0s"], b"");
    assert_eq!(gave_up.status.code(), Some(1), "{gave_up:?}");
}

#[test]
fn every_line_that_is_sent_to_a_stream_arrives() {
    let scratch = Scratch::new("stream");
    let lines: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    let mut command = scratch.command(&["sub", "s"]);
    let subscriber = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let subscriber = subscriber.spawn().unwrap();
    let received = std::thread::spawn(|| subscriber.wait_with_output().unwrap());
    let sent = scratch.run(&["pub", "s"], lines.as_bytes());
    assert!(sent.status.success(), "{sent:?}");
    let received = received.join().unwrap();
    assert!(received.status.success() && received.stdout == lines.as_bytes());

    let sent = scratch.run(&["pub", "s", "--capacity", "1KiB"], b"gone\n");
    let said = String::from_utf8(sent.stderr).unwrap();
    assert!(sent.status.success() && said.contains("--hold"), "{said}");
    let gave_up = scratch.run(&["sub", "s", "--timeout", "10ms"], b"");
    assert_eq!(gave_up.status.code(), Some(1), "{gave_up:?}");
    let mut holder = scratch.start(&["pub", "s", "--hold", "--keep"]);
    until(|| scratch.run(&["stat", "s"], b"").status.success());
    let sent = scratch.run(&["pub", "s", "--frames"], b"\x05\0\0\0a\nb\r\n\0\0\0\0");
    assert!(sent.status.success() && sent.stderr.is_empty(), "{sent:?}");
    let framed = scratch.run(&["sub", "s", "--frames"], b"");
    assert_eq!(framed.stdout, b"\x05\0\0\0a\nb\r\n\0\0\0\0");
    let stat = scratch.json(&["stat", "s", "--json"]);
    assert_eq!(
        (&stat["sequence"], &stat["ended"]),
        (&3.into(), &true.into())
    );
    scratch.text(&["rm", "s"]);
    assert!(holder.child.wait().unwrap().success());
}

#[test]
fn requests_are_answered_by_commands_that_end_with_their_server() {
    let scratch = Scratch::new("call");
    let serve = |script: &str| {
        let served = ["serve", "c", "--wait", "60s", "--", "cmd", "/c", script];
        let mut command = scratch.command(&served);
        let running = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        running.unwrap()
    };
    let call = || scratch.run(&["call", "c", "ping", "--timeout", "60s"], b"");
    let mut server = serve("echo pong");
    assert_eq!(call().stdout, b"pong\r\n");
    let stat = scratch.json(&["stat", "c", "--json"]);
    assert_eq!(
        (&stat["answered"], &stat["server"]["pid"]),
        (&1.into(), &server.id().into())
    );
    scratch.text(&["rm", "c"]);
    assert_eq!(server.wait().unwrap().code(), Some(1));

    let mut server = serve("echo oops>&2& exit 7");
    let failed = call();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(3), "{said}");
    assert!(said.contains("error 7: oops"), "{said}");
    server.kill().unwrap();
    server.wait().unwrap();

    let marker = scratch.0.join("runs");
    let mut server = serve(&format!(
        "echo x > {} & ping -n 600 127.0.0.1",
        marker.display()
    ));
    let mut command = scratch.command(&["call", "c", "ping", "--timeout", "60s"]);
    let caller = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut caller = caller.spawn().unwrap();
    until(|| marker.exists());
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(caller.wait().unwrap().code(), Some(1));
}

#[test]
fn doctor_finds_the_file_of_an_object_that_is_gone_and_deletes_it() {
    let scratch = Scratch::new("doctor");
    let mut holder = scratch.start(&["put", "x", "--hold", "--text", "kept"]);
    assert_eq!(scratch.text(&["get", "x", "--timeout", "60s"]), "kept");
    let healthy = scratch.run(&["doctor"], b"");
    assert!(healthy.status.success(), "{healthy:?}");
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    assert_eq!(scratch.text(&["ls", "--json"]).trim(), "[]");
    let files = || std::fs::read_dir(&scratch.0).unwrap().count();
    assert_eq!(files(), 1);
    let found = scratch.run(&["doctor", "--json"], b"");
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("stale-file"), "{found}");
    scratch.run(&["doctor", "--fix"], b"");
    assert_eq!(files(), 0);
    let reader = Reader::open(&scratch.space(), "x").unwrap_err();
    assert_eq!(reader.kind(), ErrorKind::NotFound);
}

#[test]
fn a_classic_block_is_put_read_and_bridged_to_a_board_and_back() {
    let scratch = Scratch::new("classic");
    let space = scratch.space();
    // The names of classic blocks are the session's.
    let block = format!("cli-test-{}", std::process::id());
    let _holder = scratch.start(&["classic", "put", &block, "--hold", "--text", "old value"]);
    until(|| scratch.run(&["classic", "get", &block], b"").stdout == b"old value");
    let stat = scratch.json(&["classic", "stat", &block, "--json"]);
    assert_eq!(
        (&stat["dialect"], &stat["intact"]),
        (&"seed".into(), &true.into())
    );
    let _bridge = scratch.start(&["classic", "bridge", &block, "board"]);
    let mut reader = Reader::open_timeout(&space, "board", PATIENCE).unwrap();
    let first = reader.wait(Some(PATIENCE)).unwrap().unwrap();
    assert_eq!(&*first, b"old value");
    let put = scratch.run(&["classic", "put", &block, "--text", "newer"], b"");
    assert!(put.status.success(), "{put:?}");
    assert_eq!(&*reader.wait(Some(PATIENCE)).unwrap().unwrap(), b"newer");
    let mut writer = Options::new().writer(&space, "new").unwrap();
    writer.publish(b"from a board").unwrap();
    let back = format!("{block}-back");
    let _reverse = scratch.start(&["classic", "bridge", &back, "new", "--reverse"]);
    until(|| scratch.run(&["classic", "get", &back], b"").stdout == b"from a board");
    let too_long = vec![b'x'; 2 << 20];
    let refused = scratch.run(&["classic", "put", &block], &too_long);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(scratch.text(&["classic", "get", &block]), "newer");
}

#[test]
fn what_makes_no_sense_here_says_so() {
    let scratch = Scratch::new("demo");
    let output = scratch.run(&["demo"], b"");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Linux only"), "{said}");
    let mut help = scratch.start(&["--help"]);
    let mut text = String::new();
    help.stdout.read_to_string(&mut text).unwrap();
    assert!(text.contains("LOCALAPPDATA"), "{text}");
}
