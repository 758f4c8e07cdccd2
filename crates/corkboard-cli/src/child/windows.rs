//! The command is in a job, which the system ends when this process does. What comes from the
//! console's keys reaches the command anyway; this process waits for what it makes of it.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind as Io;
use std::os::windows::io::AsRawHandle as _;
use std::process::Command;

use win32job::{ExtendedLimitInfo, Job, JobError};

use super::{NOT_EXECUTABLE, NOT_FOUND};
use crate::exit::{Failure, Outcome, complain};

/// Runs the command to its end; its exit status comes as a [`Failure::Status`] unless it is 0.
pub fn run(command: &[OsString]) -> Outcome {
    let cannot_tie = |error: JobError| {
        let source = std::io::Error::other(error);
        Failure::Io("cannot tie the command to this process".into(), source)
    };
    let mut words = command.iter();
    let program = words.next().map_or(OsStr::new(""), OsString::as_os_str);
    let job = Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close())
        .map_err(cannot_tie)?;
    // Should it fail, the keys end both.
    let _ = ctrlc::set_handler(|| {});
    let mut child = match Command::new(program).args(words).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("cannot run {}: {error}", program.display()));
            return Err(Failure::Status(match error.kind() {
                Io::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            }));
        }
    };
    // What it has started before this is not in the job.
    job.assign_process(child.as_raw_handle().addr().cast_signed())
        .map_err(cannot_tie)?;
    let status = child.wait();
    // What the command left behind goes on.
    job.set_extended_limit_info(&ExtendedLimitInfo::new())
        .map_err(cannot_tie)?;
    let status = status.map_err(|source| Failure::Io("cannot run the command".into(), source))?;
    match status.code() {
        Some(0) => Ok(()),
        code => {
            let code = code.and_then(|code| u8::try_from(code).ok());
            Err(Failure::Status(code.unwrap_or(u8::MAX)))
        }
    }
}
