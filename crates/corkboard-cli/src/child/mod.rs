//! Commands that this process runs. Each ends at the latest when this process does, however that
//! ends.

use std::io::ErrorKind as Io;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{ProcessArguments, Task, code, ignored_signals, run, run_process};
#[cfg(windows)]
pub use windows::{Task, code, run};

/// What a shell answers when there is no such command.
const NOT_FOUND: u8 = 127;
/// What a shell answers when the command cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// What a shell answers when a command cannot be started for this reason.
pub fn refusal(error: &std::io::Error) -> u8 {
    match error.kind() {
        Io::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}
