//! The command gets our signals.
//!
//! Between us and the command is a process of this program, for a moment: it asks the kernel to be
//! killed when we die, and then becomes the command. To ask that for another process takes code
//! between fork and exec, which is unsafe.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use signal_hook::consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::{NOT_EXECUTABLE, refusal};
use crate::exit::{Failure, Outcome, complain};

/// What ends a process, or tells it something.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// How often to look whether a command that was asked to end has.
const LOOK: Duration = Duration::from_millis(2);

/// Runs the command to its end; its exit status comes as a [`Failure::Status`] unless it is 0.
pub fn run(command: &[OsString]) -> Outcome {
    let failed = |source| Failure::Io("cannot run the command".into(), source);
    let ignored = ignored_signals();
    let passed_on = PASSED_ON.into_iter().filter(|signal| !ignored(*signal));
    // Before the command is there, so that it misses nothing.
    let mut signals = Signals::new(passed_on.chain([SIGCHLD])).map_err(failed)?;
    let mut child = tied(command).spawn().map_err(failed)?;
    loop {
        for signal in signals.wait() {
            if signal != SIGCHLD {
                pass_on(&child, signal);
            }
        }
        if let Some(status) = child.try_wait().map_err(failed)? {
            return match code(status) {
                0 => Ok(()),
                code => Err(Failure::Status(code)),
            };
        }
    }
}

/// The process that becomes the command.
fn tied(command: &[OsString]) -> Command {
    // Not by its path: another version may have been installed meanwhile.
    let mut tied = Command::new("/proc/self/exe");
    tied.arg("child")
        .arg(std::process::id().to_string())
        .arg("--")
        .args(command);
    tied
}

/// A command beside others, to be fed and listened to. It has a process group of its own, so that
/// what it has started can be ended with it; the terminal's keys are this process's alone.
pub struct Task {
    pub child: Child,
}

impl Task {
    /// Starts the command, which ends at the latest when the calling thread does.
    pub fn start(command: &[OsString], stderr: Stdio) -> std::io::Result<Self> {
        let child = tied(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its exit status, once it has ended. What it has left running goes on.
    pub fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks the command and what it has started to end, and sees to it after `grace`.
    pub fn stop(mut self, grace: Duration) {
        let leader = Pid::from_child(&self.child);
        let deadline = Instant::now() + grace;
        // A group that nobody is in any more cannot be told anything, and need not be.
        let _ = rustix::process::kill_process_group(leader, Signal::TERM);
        while !has_ended(leader) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Whether a child has, without waiting for it: the number stays its own and its group's.
fn has_ended(child: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        waitid(WaitId::Pid(child), look),
        Ok(None) | Err(Errno::INTR)
    )
}

/// As shells tell it: 128 and the signal's number when a signal ended it.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

fn pass_on(child: &Child, signal: i32) {
    if matches!(signal, SIGINT | SIGQUIT) && is_in_foreground() {
        // From the terminal, most likely, which has sent it to the command, too. Many programs
        // take a second one for impatience.
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It has not been waited for, so the number is still its own.
        let _ = rustix::process::kill_process(Pid::from_child(child), signal);
    }
}

/// Whether the keys of our terminal send signals to us.
fn is_in_foreground() -> bool {
    File::open("/dev/tty")
        .ok()
        .and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok())
        .is_some_and(|foreground| foreground == rustix::process::getpgrp())
}

/// Tells which signals whoever started us wants to be ignored, as `nohup` does. Catching one would
/// make the command die of it.
pub fn ignored_signals() -> impl Fn(i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    move |signal| mask >> (signal - 1) & 1 == 1
}

/// Arguments of the process that becomes the command.
#[derive(clap::Args)]
pub struct ProcessArguments {
    /// The process that must live for the command to live.
    parent: u32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run_process(arguments: ProcessArguments) -> Outcome {
    let failed = |errno: rustix::io::Errno| {
        Failure::Io(
            "cannot tie the command to this process".into(),
            errno.into(),
        )
    };
    // It outlives exec, except into a set-uid program.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_pid().cast_unsigned());
    if parent != Some(arguments.parent) {
        // It died before we asked.
        return Err(Failure::Status(NOT_EXECUTABLE));
    }
    let mut words = arguments.command.iter();
    let program = words.next().map_or(OsStr::new(""), OsString::as_os_str);
    let error = Command::new(program).args(words).exec();
    complain(&format!("cannot run {}: {error}", program.display()));
    Err(Failure::Status(refusal(&error)))
}
