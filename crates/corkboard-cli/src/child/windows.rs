//! The command is in a job, which the system ends when this process does. What comes from the
//! console's keys reaches the command anyway; this process waits for what it makes of it.

use std::ffi::{OsStr, OsString};
use std::os::windows::io::AsRawHandle as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use win32job::{ExtendedLimitInfo, Job, JobError};

use super::refusal;
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
            return Err(Failure::Status(refusal(&error)));
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
    match code(status) {
        0 => Ok(()),
        code => Err(Failure::Status(code)),
    }
}

/// A command beside others, to be fed and listened to, in a job of its own.
pub struct Task {
    pub child: Child,
    job: Job,
}

impl Task {
    /// Starts the command.
    pub fn start(command: &[OsString], stderr: Stdio) -> std::io::Result<Self> {
        let mut words = command.iter();
        let program = words.next().map_or(OsStr::new(""), OsString::as_os_str);
        let job = Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close())
            .map_err(std::io::Error::other)?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        job.assign_process(child.as_raw_handle().addr().cast_signed())
            .map_err(std::io::Error::other)?;
        Ok(Self { child, job })
    }

    /// Its exit status, once it has ended. What it has left running goes on.
    pub fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.job
                .set_extended_limit_info(&ExtendedLimitInfo::new())
                .map_err(std::io::Error::other)?;
        }
        Ok(status)
    }

    /// Ends the command and what it has started. Nothing can be asked to here.
    pub fn stop(self, _: Duration) {
        let Self { mut child, job } = self;
        drop(job);
        let _ = child.wait();
    }
}

/// As far as there is room for it.
pub fn code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(u8::MAX)
}
