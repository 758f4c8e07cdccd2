//! The live view, once as text and on a terminal.

#![cfg(all(unix, feature = "top"))]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::Instant;

use common::{DEADLINE, Scratch, terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// The view on a terminal.
struct Shown {
    child: Child,
    master: File,
    terminal: File,
    shown: String,
    /// The end of what was waited for last.
    found: usize,
}

impl Shown {
    fn start(scratch: &Scratch) -> Self {
        let (master, terminal) = terminal();
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).unwrap();
        let of = || Stdio::from(terminal.try_clone().unwrap());
        let child = scratch
            .command(&["top", "--interval", "50ms"])
            .env("TERM", "xterm")
            .stdin(of())
            .stdout(of())
            .stderr(of())
            .spawn()
            .unwrap();
        Self {
            child,
            master,
            terminal,
            shown: String::new(),
            found: 0,
        }
    }

    /// Reads until this is shown, after what was waited for before.
    fn until(&mut self, wanted: &str) {
        let mut piece = [0; 4096];
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown[self.found..].find(wanted) {
                self.found += at + wanted.len();
                return;
            }
            let left = DEADLINE.saturating_sub(start.elapsed());
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(&mut fds, Some(&Timespec::try_from(left).unwrap())).unwrap();
            assert!(ready > 0, "{wanted:?} is not shown");
            let len = self.master.read(&mut piece).unwrap();
            self.shown += &String::from_utf8_lossy(&piece[..len]);
        }
    }

    /// Waits for its end, after which the terminal must be as it was.
    fn end(mut self) -> std::process::ExitStatus {
        self.until(LEAVE);
        let status = self.child.wait().unwrap();
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        assert!(modes.contains(rustix::termios::LocalModes::ICANON));
        status
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_frame_is_plain_text_and_needs_no_terminal() {
    let scratch = Scratch::new("top-once");
    assert_eq!(scratch.code(&["put", "b", "--text", "v"]), Some(0));
    assert_eq!(scratch.code(&["event", "set", "e"]), Some(0));
    assert_eq!(scratch.code(&["put", "x", "--text", "v"]), Some(0));
    std::fs::write(scratch.0.join("x.board/data"), b"").unwrap();
    let text = scratch.text(&["top", "--once", "--interval", "1ms"]);
    let lines: Vec<&str> = text.lines().collect();
    let titles: Vec<&str> = lines[0].split_whitespace().collect();
    let expected = [
        "NAME", "KIND", "SIZE", "CAPACITY", "SEQUENCE", "RATE", "AGE", "WRITERS", "READERS", "LAG",
    ];
    assert_eq!(titles, expected);
    let board: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        board[..8],
        ["b", "board", "1", "B", "1.0", "MiB", "1", "0/s"]
    );
    assert!(lines[2].contains("set, manual-reset"), "{text}");
    assert!(lines[3].contains("cannot open board"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn what_is_no_terminal_is_refused_with_a_remedy() {
    let scratch = Scratch::new("top-refused");
    let output = scratch.run(&["top"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--once"), "{told}");
}

#[test]
fn a_terminal_shows_what_happens_and_is_given_back_by_a_key() {
    let scratch = Scratch::new("top-key");
    assert_eq!(scratch.code(&["put", "weather", "--text", "v"]), Some(0));
    let mut top = Shown::start(&scratch);
    top.until(ENTER);
    top.until("weather");
    assert_eq!(scratch.code(&["event", "set", "printed"]), Some(0));
    top.until("manual-reset");
    top.master.write_all(b"\r").unwrap();
    top.until("instance");
    top.master.write_all(b"q").unwrap();
    assert_eq!(top.end().code(), Some(0));
}

#[test]
fn a_terminal_is_given_back_by_signals_too() {
    let scratch = Scratch::new("top-signals");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut top = Shown::start(&scratch);
        top.until("q quit");
        kill_process(Pid::from_child(&top.child), signal).unwrap();
        assert_eq!(top.end().signal(), Some(signal.as_raw()));
    }
}
