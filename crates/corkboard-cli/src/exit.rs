//! Exit statuses: 0 success, 1 a negative answer, 2 an error, 3 an error that a server answered
//! with. A broken pipe is success. Who runs another command for the caller passes that one's status
//! on.

use std::io::{ErrorKind as Io, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use corkboard::Error;

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

/// How a command can fail.
pub enum Failure {
    /// The question was answered with no.
    Negative(String),
    /// The library refused.
    Library(Error),
    /// The command itself refused.
    Refused(String),
    /// Reading or writing a stream or file failed.
    Io(String, std::io::Error),
    /// Everything was said, and this is the status.
    Status(u8),
    /// Several things were tried, and these failed; the worst decides.
    Several(Vec<Failure>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // An object that is absent is a negative answer, which `object::absent` gives; what else
        // there may not be, like the space's directory, is an error.
        Self::Library(error)
    }
}

impl Failure {
    /// Says what went wrong on standard error and returns the exit status.
    fn say(self) -> u8 {
        let (message, code) = match self {
            Self::Io(_, source) if source.kind() == Io::BrokenPipe => return 0,
            Self::Several(failures) => {
                return failures.into_iter().map(Self::say).max().unwrap_or(0);
            }
            Self::Status(code) => return code,
            Self::Negative(message) => (message, 1),
            Self::Refused(message) => (message, 2),
            Self::Library(error) => (error.to_string(), 2),
            Self::Io(what, source) => (format!("{what}: {source}"), 2),
        };
        complain(&message);
        code
    }
}

/// Prints a diagnostic to standard error.
pub fn complain(message: &str) {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    // Nobody is left to hear that standard error is closed.
    let _ = writeln!(anstream::stderr(), "{style}corkboard{style:#}: {message}");
}

/// Says what went wrong on standard error and turns it into an exit status.
pub fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.say()),
    }
}
