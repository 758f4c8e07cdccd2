//! The command as a user meets it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = format!("/dev/shm/corkboard-cli-test-{}-{test}", std::process::id());
        Self(PathBuf::from(path))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corkboard"));
        command.args(arguments).env("CORKBOARD_DIR", &self.0);
        command
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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
    let listed = scratch.run(&["ls"], b"").stdout;
    assert_eq!(String::from_utf8(listed).unwrap().lines().count(), 5);
}

#[test]
fn one_byte_too_many_is_refused_and_the_old_value_stays() {
    let scratch = Scratch::new("large");
    assert!(
        scratch
            .run(&["put", "x", "--capacity", "4"], b"four")
            .status
            .success()
    );
    let output = scratch.run(&["put", "x"], b"fives");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("\"x\"") && message.contains("capacity"),
        "{message}"
    );
    assert_eq!(scratch.run(&["get", "x"], b"").stdout, b"four");
}

#[test]
fn exit_codes_tell_absent_from_wrong() {
    let scratch = Scratch::new("codes");
    let code = |arguments: &[&str]| scratch.run(arguments, b"").status.code();
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
fn get_waits_for_creation_and_watch_shows_the_value() {
    let scratch = Scratch::new("wait");
    let waiting = |arguments: &[&str]| {
        scratch
            .command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let get = waiting(&["get", "天气", "--timeout", "30s"]);
    let watch = waiting(&["watch", "天气", "--count", "1"]);
    assert!(
        scratch
            .run(&["put", "天气", "--text", "rain"], b"")
            .status
            .success()
    );
    for child in [get, watch] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"rain");
    }
}
