//! Commands that hold a lock.

#![cfg(unix)]

mod common;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Instant;

use common::{DEADLINE, Running, Scratch};
use rustix::process::{Pid, Signal, kill_process};

/// Says that it has the lock, and ends when the event `go` is set.
const HOLD: &str = r#"echo held; exec "$0" event wait go"#;
/// The command under test, for scripts.
const CORKBOARD: &str = env!("CARGO_BIN_EXE_corkboard");

#[test]
fn the_exit_status_of_the_command_is_passed_on() {
    let scratch = Scratch::new("status");
    let status = |script: &str| scratch.code(&["lock", "x", "--", "sh", "-c", script]);
    assert_eq!(status("exit 0"), Some(0));
    assert_eq!(status("exit 1"), Some(1));
    assert_eq!(status("exit 255"), Some(255));
    assert_eq!(status("kill -9 $$"), Some(128 + 9));
    assert_eq!(status("kill -TERM $$"), Some(128 + 15));
}

#[test]
fn a_command_that_cannot_be_started_has_the_status_that_shells_give_it() {
    let scratch = Scratch::new("start");
    let absent = scratch.run(&["lock", "x", "--", "/no/such/command"], b"");
    assert_eq!(absent.status.code(), Some(127));
    let message = String::from_utf8(absent.stderr).unwrap();
    assert!(message.contains("cannot run /no/such/command"), "{message}");
    assert_eq!(scratch.code(&["lock", "x", "--", "/dev/shm"]), Some(126));
    assert_eq!(scratch.code(&["lock", "x", "--", ""]), Some(127));
    assert_eq!(state(&scratch, "x"), "free");
}

#[test]
fn the_command_gets_standard_input_and_its_words_as_they_are() {
    let scratch = Scratch::new("words");
    let output = scratch.run(&["lock", "x", "--", "cat", "-"], b"a\0b");
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(0), &b"a\0b"[..])
    );
    let words = [
        "lock", "x", "--", "printf", "%s|", "--shared", "a b", "--", "",
    ];
    assert_eq!(scratch.text(&words), "--shared|a b|--||");
}

#[test]
fn two_commands_exclude_each_other() {
    let scratch = Scratch::new("exclusion");
    let holder = scratch.hold(&["lock", "x"]);
    let output = scratch.run(&["lock", "x", "--timeout", "0s", "--", "echo", "in"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let message = String::from_utf8(output.stderr).unwrap();
    let holds = format!(
        "process {} (corkboard lock: sh) holds it",
        holder.child.id()
    );
    assert!(
        message.contains("gave up") && message.contains(&holds),
        "{message}"
    );
    let code = scratch.code(&["lock", "x", "--shared", "--timeout", "1ms", "--", "true"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        scratch.code(&["lock", "y", "--timeout", "0s", "--", "true"]),
        Some(0)
    );

    let waiter = scratch.start(&["lock", "x", "--", "echo", "in"]);
    scratch.wait_until(|stat| stat["handles"][1]["does"] == "waits to write");
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end(), (Some(0), vec![], vec![]));
    assert_eq!(waiter.end(), (Some(0), vec!["in".into()], vec![]));
    assert_eq!(state(&scratch, "x"), "free");
}

#[test]
fn no_increment_is_lost_between_many() {
    let scratch = Scratch::new("counter");
    std::fs::create_dir(&scratch.0).unwrap();
    let file = scratch.0.join("counter");
    std::fs::write(&file, "0\n").unwrap();
    let script = r#"for i in 1 2 3 4 5; do
        "$0" lock x -- sh -c 'n=$(cat "$0"); echo $((n + 1)) > "$0"' "$1" || exit
    done"#;
    let words = ["-c", script, CORKBOARD, file.to_str().unwrap()];
    let commands = [(); 6].map(|()| scratch.spawn("sh", &words));
    for command in commands {
        assert_eq!(command.end(), (Some(0), vec![], vec![]));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "30\n");
}

#[test]
fn shared_locks_are_held_together_and_keep_writers_out() {
    let scratch = Scratch::new("shared");
    let first = scratch.hold(&["lock", "x", "--shared"]);
    let second = scratch.hold(&["lock", "x", "--shared"]);
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!(
        (&stat["state"], &stat["writer_waits"]),
        (&"read".into(), &false.into())
    );
    assert_eq!(stat["holders"].as_array().unwrap().len(), 2);
    assert_eq!(
        scratch.code(&["lock", "x", "--timeout", "0s", "--", "true"]),
        Some(1)
    );
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    for holder in [first, second] {
        assert_eq!(holder.end(), (Some(0), vec![], vec![]));
    }
    assert_eq!(
        scratch.code(&["lock", "x", "--timeout", "0s", "--", "true"]),
        Some(0)
    );
}

#[test]
fn the_status_of_a_time_out_can_be_chosen() {
    let scratch = Scratch::new("conflict");
    let _holder = scratch.hold(&["lock", "x"]);
    let code = |code: &str| {
        let timeout = ["lock", "x", "--timeout", "5ms"];
        scratch.code(&[&timeout[..], &["--conflict-exit-code", code, "--", "true"]].concat())
    };
    assert_eq!(code("75"), Some(75));
    assert_eq!(code("0"), Some(0));
    assert_eq!(code("256"), Some(2));
}

#[test]
fn a_time_out_can_be_a_success() {
    let scratch = Scratch::new("conflict-zero");
    let holder = scratch.hold(&["lock", "x"]);
    let lock = ["lock", "x", "--timeout", "0s", "--conflict-exit-code", "0"];
    let output = scratch.run(&[&lock[..], &["--", "echo", "never"]].concat(), b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end().0, Some(0));
}

#[test]
fn a_killed_command_releases_the_lock_and_takes_its_child_along() {
    let scratch = Scratch::new("killed");
    let mut holder = scratch.hold(&["lock", "x"]);
    holder.child.kill().unwrap();
    assert_eq!(scratch.code(&["lock", "x", "--", "true"]), Some(0));
    // Its standard output ends: the child that has it, too, is gone.
    assert_eq!(holder.end(), (None, vec![], vec![]));
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!(
        (&stat["state"], &stat["holders"]),
        (&"free".into(), &serde_json::json!([]))
    );
}

#[test]
fn what_a_command_leaves_behind_does_not_hold_the_lock() {
    let scratch = Scratch::new("behind");
    let script = r#""$0" event wait go > /dev/null 2>&1 & echo left"#;
    let text = scratch.text(&["lock", "x", "--", "sh", "-c", script, CORKBOARD]);
    assert_eq!(text, "left\n");
    assert_eq!(
        scratch.code(&["lock", "x", "--timeout", "0s", "--", "true"]),
        Some(0)
    );
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
}

#[test]
fn a_request_to_end_is_passed_on_and_the_lock_held_until_the_command_ends() {
    let scratch = Scratch::new("term");
    let script = r#"trap 'echo told; read answer < "$1"; exit 7' TERM
        "$0" event wait never > /dev/null 2>&1 &
        echo held; wait"#;
    let pipe = scratch.pipe("answer");
    let holder = scratch.start(&["lock", "x", "--", "sh", "-c", script, CORKBOARD, &pipe]);
    assert_eq!(holder.line(), "held");
    holder.signal(Signal::TERM);
    assert_eq!(holder.line(), "told");
    assert_eq!(
        scratch.code(&["lock", "x", "--timeout", "0s", "--", "true"]),
        Some(1)
    );
    std::fs::write(&pipe, "end\n").unwrap();
    assert_eq!(holder.end(), (Some(7), vec![], vec![]));
    assert_eq!(
        scratch.code(&["lock", "x", "--timeout", "0s", "--", "true"]),
        Some(0)
    );
}

#[test]
fn an_interrupt_from_elsewhere_than_the_terminal_is_passed_on() {
    let scratch = Scratch::new("interrupt");
    let mut command = scratch.command(&["lock", "x", "--", "sh", "-c", HOLD, CORKBOARD]);
    // In a process group of its own, no terminal's keys reach it.
    command.process_group(0);
    let holder = Running::of(command);
    assert_eq!(holder.line(), "held");
    holder.signal(Signal::INT);
    assert_eq!(holder.end(), (Some(128 + 2), vec![], vec![]));
}

#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let scratch = Scratch::new("ignored");
    let script =
        r#"trap '' HUP; exec "$0" lock x -- sh -c 'echo held; exec "$0" event wait go' "$0""#;
    let holder = scratch.spawn("sh", &["-c", script, CORKBOARD]);
    assert_eq!(holder.line(), "held");
    holder.signal(Signal::HUP);
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end(), (Some(0), vec![], vec![]));
}

#[test]
fn a_file_at_any_path_is_a_lock() {
    let scratch = Scratch::new("at");
    let path = std::env::temp_dir().join(format!("corkboard-cli-test-{}", std::process::id()));
    let at = ["lock", "--at", path.to_str().unwrap()];
    let once = |more: &[&str]| scratch.code(&[&at[..], more, &["--", "true"]].concat());
    let holder = scratch.hold(&at);
    assert_eq!(once(&["--timeout", "0s"]), Some(1));
    assert_eq!(
        once(&["--timeout", "5ms", "--conflict-exit-code", "9"]),
        Some(9)
    );
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end(), (Some(0), vec![], vec![]));
    let first = scratch.hold(&[&at[..], &["--shared"]].concat());
    assert_eq!(once(&["--timeout", "0s", "--shared"]), Some(0));
    assert_eq!(once(&["--timeout", "0s"]), Some(1));
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(first.end().0, Some(0));
    assert!(path.is_file());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_lock_file_that_cannot_be_is_an_error_and_not_a_time_out() {
    let scratch = Scratch::new("at-wrong");
    let output = scratch.run(&["lock", "--at", "/no/such/file", "--", "echo", "in"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert_eq!(
        scratch.code(&["lock", "--at", "/dev/null", "--", "true"]),
        Some(2)
    );
    assert_eq!(scratch.code(&["lock", "a/b", "--", "true"]), Some(2));
    assert!(!scratch.0.join("a").exists());
}

#[test]
fn a_name_or_a_path_and_a_command_are_needed() {
    let scratch = Scratch::new("usage");
    assert_eq!(scratch.code(&["lock", "--", "true"]), Some(2));
    assert_eq!(scratch.code(&["lock", "x"]), Some(2));
    assert_eq!(scratch.code(&["lock", "x", "true"]), Some(2));
    assert_eq!(scratch.code(&["lock", "x", "--"]), Some(2));
    let both = ["lock", "x", "--at", "/dev/shm/y", "--", "true"];
    assert_eq!(scratch.code(&both), Some(2));
    assert!(!Path::new("/dev/shm/y").exists());
}

#[test]
fn a_held_lock_is_not_removed_and_a_free_one_is() {
    let scratch = Scratch::new("rm-lock");
    let holder = scratch.hold(&["lock", "x"]);
    let output = scratch.run(&["rm", "x"], b"");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    let pid = holder.child.id().to_string();
    assert!(
        message.contains(&pid) && message.contains("holds it"),
        "{message}"
    );
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end().0, Some(0));
    assert_eq!(scratch.code(&["rm", "x"]), Some(0));
    assert_eq!(scratch.code(&["stat", "x"]), Some(1));
}

#[test]
fn who_waits_for_a_lock_that_is_gone_takes_its_successor() {
    let scratch = Scratch::new("successor");
    let holder = scratch.hold(&["lock", "x"]);
    let waiter = scratch.start(&["lock", "x", "--", "echo", "in"]);
    scratch.wait_until(|stat| stat["handles"][1]["does"] == "waits to write");
    std::fs::remove_file(scratch.0.join("x.lock")).unwrap();
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!(holder.end(), (Some(0), vec![], vec![]));
    assert_eq!(waiter.end(), (Some(0), vec!["in".into()], vec![]));
    assert_eq!(state(&scratch, "x"), "free");
}

#[test]
fn ls_and_stat_tell_who_holds_a_lock_and_who_waits() {
    let scratch = Scratch::new("holders");
    let holder = scratch.hold(&["lock", "x"]);
    let process = holder.child.id();
    let row = &scratch.json(&["ls", "--json"])[1];
    assert_eq!(
        (&row["name"], &row["kind"], &row["state"]),
        (&"x".into(), &"lock".into(), &"written".into())
    );
    assert_eq!((&row["holders"], &row["handles"]), (&1.into(), &1.into()));
    assert!(row["capacity"].is_null() && row["writers"].is_null() && row["error"].is_null());
    let text = scratch.text(&["ls"]);
    assert!(text.contains("x     lock   written, 1 handle\n"), "{text}");

    let waiter = scratch.start(&["lock", "x", "--shared", "--", "true"]);
    scratch.wait_until(|stat| stat["handles"][1]["does"] == "waits to read");
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!(stat["kind"], "lock");
    assert_eq!(stat["mode"], "0600");
    let holders = stat["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{stat}");
    assert_eq!(
        (&holders[0]["pid"], &holders[0]["label"]),
        (&process.into(), &"corkboard lock: sh".into())
    );
    assert_eq!(
        (&holders[0]["does"], &holders[0]["alive"]),
        (&"writes".into(), &true.into())
    );
    for moment in [
        &holders[0]["since"],
        &holders[0]["opened_at"],
        &stat["created_at"],
    ] {
        assert!(moment.as_str().unwrap().ends_with('Z'), "{stat}");
    }
    // Nobody holds a lock before it is open, though the two come from different clocks.
    let moment = |what: &str| holders[0][what].as_str().unwrap();
    assert!(moment("since") >= moment("opened_at"), "{stat}");
    let text = scratch.text(&["stat", "x"]);
    assert!(
        text.starts_with("lock \"x\"\n  state        written\n"),
        "{text}"
    );
    assert!(
        text.contains("ENTRY") && text.contains("waits to read"),
        "{text}"
    );
    assert!(text.contains(&process.to_string()), "{text}");

    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!((holder.end().0, waiter.end().0), (Some(0), Some(0)));
    let text = scratch.text(&["stat", "x"]);
    assert!(text.contains("  state        free\n"), "{text}");
    assert!(text.contains("handles: none"), "{text}");
}

#[test]
fn a_writer_that_waits_for_readers_is_told() {
    let scratch = Scratch::new("awaited");
    let holder = scratch.hold(&["lock", "x", "--shared"]);
    let waiter = scratch.start(&["lock", "x", "--", "true"]);
    scratch.wait_until(|stat| stat["writer_waits"] == true);
    assert!(
        scratch
            .text(&["ls"])
            .contains("read by 1, a writer waits, 2 handles")
    );
    assert!(
        scratch
            .text(&["stat", "x"])
            .contains("read, a writer waits")
    );
    assert_eq!(scratch.code(&["event", "set", "go"]), Some(0));
    assert_eq!((holder.end().0, waiter.end().0), (Some(0), Some(0)));
}

#[test]
fn what_a_killed_holder_leaves_is_told_and_mended() {
    let scratch = Scratch::new("leftover");
    let mut holder = scratch.hold(&["lock", "x"]);
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    let stat = scratch.json(&["stat", "x", "--json"]);
    let dead = &stat["handles"][0];
    assert_eq!(
        (&dead["does"], &dead["alive"]),
        (&"dead".into(), &false.into())
    );
    assert_eq!(scratch.json(&["ls", "--json"])[1]["handles"], 0);
    let told = scratch.run(&["doctor"], b"");
    let told = String::from_utf8(told.stdout).unwrap();
    let finding = format!(
        "note: dead-participant: lock \"x\": process {} (corkboard lock: sh) died",
        holder.child.id()
    );
    assert!(told.contains(&finding), "{told}");
    scratch.run(&["doctor", "--fix"], b"");
    let stat = scratch.json(&["stat", "x", "--json"]);
    assert_eq!(stat["handles"], serde_json::json!([]));
}

fn state(scratch: &Scratch, name: &str) -> String {
    let stat = scratch.json(&["stat", name, "--json"]);
    stat["state"].as_str().unwrap().to_owned()
}

impl Scratch {
    /// Starts a command that holds the lock until the event `go` is set.
    fn hold(&self, lock: &[&str]) -> Running {
        assert_eq!(self.code(&["event", "reset", "go"]), Some(0));
        let command = ["--", "sh", "-c", HOLD, CORKBOARD];
        let running = self.start(&[lock, &command].concat());
        assert_eq!(running.line(), "held");
        running
    }

    /// Waits until `stat` says so of the lock `x`.
    fn wait_until(&self, is_so: impl Fn(&serde_json::Value) -> bool) {
        let start = Instant::now();
        while !is_so(&self.json(&["stat", "x", "--json"])) {
            assert!(start.elapsed() < DEADLINE, "it does not come to that");
            std::thread::yield_now();
        }
    }

    /// Starts another program in this space.
    fn spawn(&self, program: &str, arguments: &[&str]) -> Running {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("CORKBOARD_DIR", &self.0);
        Running::of(command)
    }

    /// A pipe with a name.
    fn pipe(&self, name: &str) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(&self.0).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path.to_str().unwrap().to_owned()
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}
