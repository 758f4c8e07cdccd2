//! A command for each request.

use std::io::{Read, Write as _};
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use corkboard::call::Request;

use super::{GRACE, Job, SLICE, Stop, TIMED_OUT};
use crate::child::{Task, code, refusal};
use crate::exit::Outcome;

/// How much is read at a time.
const PIECE: usize = 1 << 14;
/// How long to wait at first for the end of a command whose output has ended.
const NAP: Duration = Duration::from_micros(50);

/// Answers each request on a thread of its own.
pub fn office(job: Arc<Job>, tell: Sender<Outcome>) -> Box<dyn FnMut(Request)> {
    Box::new(move |request| {
        let job = job.clone();
        let done = Done(tell.clone());
        // Without a thread the request is let go of, and its caller is told so.
        let _ = thread::Builder::new().spawn(move || {
            answer(&job, request);
            drop(done);
        });
    })
}

/// Says that a request is done with, whatever became of it.
struct Done(Sender<Outcome>);

impl Drop for Done {
    fn drop(&mut self) {
        let _ = self.0.send(Ok(()));
    }
}

/// What came of a command.
enum Answer {
    Reply(Vec<u8>),
    Failed(i32, String),
}

fn answer(job: &Job, request: Request) {
    match execute(job, &request) {
        Some(Answer::Reply(reply)) => job.reply(request, &reply),
        Some(Answer::Failed(code, message)) => job.fail(request, code, &message),
        None => {}
    }
}

/// Runs the command on a request; `None` when nobody wants the answer.
fn execute(job: &Job, request: &Request) -> Option<Answer> {
    let mut task = match Task::start(&job.command, Stdio::piped()) {
        Ok(task) => task,
        Err(error) => return Some(cannot_run(job, &error)),
    };
    match attend(job, request, &mut task) {
        Ok(answer) => Some(answer),
        Err(answer) => {
            task.stop(GRACE);
            answer
        }
    }
}

fn cannot_run(job: &Job, error: &std::io::Error) -> Answer {
    let message = format!("cannot run {}: {error}", job.program());
    Answer::Failed(refusal(error).into(), message)
}

/// Waits for what the command says and for its end; an error when it is to be stopped.
fn attend(job: &Job, request: &Request, task: &mut Task) -> Result<Answer, Option<Answer>> {
    let start = Instant::now();
    let go_on = || match job.stop(request, start) {
        None => Ok(()),
        Some(Stop::Unwanted) => Err(None),
        Some(Stop::TimeOut) => Err(Some(Answer::Failed(TIMED_OUT, job.too_slow()))),
    };
    let (tell, told) = channel();
    if let Some(input) = task.child.stdin.take() {
        feed(input, request.to_vec());
    }
    if let Some(output) = task.child.stdout.take() {
        let tell = tell.clone();
        let limit = job.capacity;
        thread::spawn(move || {
            let mut reply = Vec::new();
            // One byte more, to see that it is too long.
            let _ = output.take(limit as u64 + 1).read_to_end(&mut reply);
            let _ = tell.send(Said::Reply(reply));
        });
    }
    if let Some(complaints) = task.child.stderr.take() {
        let limit = job.capacity;
        thread::spawn(move || {
            let _ = tell.send(Said::Complaints(pass_on(complaints, limit)));
        });
    }
    let (mut reply, mut complaints) = (None, None);
    while reply.is_none() || complaints.is_none() {
        match told.recv_timeout(SLICE) {
            Ok(Said::Reply(said)) if said.len() > job.capacity => {
                return Err(Some(Answer::Reply(said)));
            }
            Ok(Said::Reply(said)) => reply = Some(said),
            Ok(Said::Complaints(said)) => complaints = Some(said),
            Err(RecvTimeoutError::Timeout) => go_on()?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut nap = NAP;
    loop {
        match task.try_wait() {
            Ok(Some(status)) if status.success() => {
                return Ok(Answer::Reply(reply.unwrap_or_default()));
            }
            Ok(Some(status)) => {
                let complaints = complaints.unwrap_or_default();
                return Ok(Answer::Failed(
                    code(status).into(),
                    message(job, status, &complaints),
                ));
            }
            Ok(None) => go_on()?,
            Err(error) => return Err(Some(cannot_run(job, &error))),
        }
        thread::sleep(nap);
        nap = SLICE.min(nap * 2);
    }
}

/// What a command has said, to the end.
enum Said {
    Reply(Vec<u8>),
    Complaints(Vec<u8>),
}

/// Writes the request. A command need not read it to the end.
fn feed(mut input: ChildStdin, request: Vec<u8>) {
    thread::spawn(move || input.write_all(&request));
}

/// Reads to the end, passes all of it on to our standard error, and returns the beginning.
fn pass_on(mut complaints: impl Read, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        match complaints.read(&mut piece) {
            Ok(0) => return kept,
            Ok(len) => {
                // Nobody is left to hear that standard error is closed.
                let _ = std::io::stderr().write_all(&piece[..len]);
                let room = limit - kept.len();
                kept.extend_from_slice(&piece[..len.min(room)]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

/// What the caller is told of a command that failed.
fn message(job: &Job, status: ExitStatus, complaints: &[u8]) -> String {
    match String::from_utf8_lossy(complaints).trim_end() {
        "" => format!("{}: {status}", job.program()),
        complaints => complaints.to_owned(),
    }
}
