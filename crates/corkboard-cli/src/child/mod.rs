//! A command that runs in our stead: it ends when we do, and its exit status is ours.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{ProcessArguments, ignored_signals, run, run_process};
#[cfg(windows)]
pub use windows::run;

/// What a shell answers when there is no such command.
const NOT_FOUND: u8 = 127;
/// What a shell answers when the command cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
