//! Exit statuses: 0 success, 1 a negative answer, 2 an error. A broken pipe is success.

use std::io::{ErrorKind as Io, IsTerminal as _};
use std::process::ExitCode;

use corkboard::{Error, ErrorKind};

/// How a command can fail.
pub enum Failure {
    /// The question was answered with no.
    Negative(String),
    /// The library refused.
    Library(Error),
    /// Reading or writing a stream or file failed.
    Io(String, std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Negative(error.to_string()),
            _ => Self::Library(error),
        }
    }
}

/// Says what went wrong on standard error and turns it into an exit status.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    let (message, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Io(_, source)) if source.kind() == Io::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Negative(message)) => (message, 1),
        Err(Failure::Library(error)) => (error.to_string(), 2),
        Err(Failure::Io(what, source)) => (format!("{what}: {source}"), 2),
    };
    let name = if std::io::stderr().is_terminal() {
        "\u{1b}[1;31mcorkboard\u{1b}[0m"
    } else {
        "corkboard"
    };
    eprintln!("{name}: {message}");
    ExitCode::from(code)
}
