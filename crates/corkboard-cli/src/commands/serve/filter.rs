//! One command for all requests, which answers line by line.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use corkboard::call::Request;

use super::{GRACE, Job, LOOK, SLICE, Stop, TIMED_OUT};
use crate::child::{Task, code};
use crate::exit::{Failure, Outcome, complain};

/// The code of the error for a request that is no line.
const NO_LINE: i32 = 2;
/// The code of the error when the filter ended well, but without an answer.
const NO_ANSWER: i32 = 1;

/// How often to look whether one that is about to end has.
const NAP: Duration = Duration::from_millis(1);

/// Answers requests one after the other, on a thread that has the filter.
pub fn office(job: Arc<Job>, tell: Sender<Outcome>) -> Box<dyn FnMut(Request)> {
    let (hand, handed) = channel();
    thread::spawn(move || {
        if let Err(failure) = serve(&job, &handed, &tell) {
            let _ = tell.send(Err(failure));
        }
    });
    Box::new(move |request| {
        // Without the filter it is let go of; why there is none was said.
        let _ = hand.send(request);
    })
}

fn serve(job: &Job, requests: &Receiver<Request>, tell: &Sender<Outcome>) -> Outcome {
    let mut filter = Filter::start(job)?;
    loop {
        match requests.recv_timeout(LOOK) {
            Ok(request) => {
                filter = filter.answer(job, request)?;
                let _ = tell.send(Ok(()));
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Ok(Some(_)) = filter.task.try_wait() {
                    return Err(filter.ended(job, None));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                filter.close();
                return Ok(());
            }
        }
    }
}

struct Filter {
    task: Task,
    /// What is to be written.
    input: Sender<Vec<u8>>,
    /// Its lines, without line breaks.
    lines: Receiver<Vec<u8>>,
}

impl Filter {
    fn start(job: &Job) -> Result<Self, Failure> {
        let failed = |source| Failure::Io(format!("cannot run {}", job.program()), source);
        let mut task = Task::start(&job.command, Stdio::inherit()).map_err(failed)?;
        let (input, to_write) = channel::<Vec<u8>>();
        if let Some(mut stdin) = task.child.stdin.take() {
            thread::spawn(move || {
                for line in to_write {
                    if stdin.write_all(&line).is_err() {
                        break;
                    }
                }
            });
        }
        // One that says more than it was asked for waits.
        let (tell, lines) = sync_channel(1);
        if let Some(stdout) = task.child.stdout.take() {
            let limit = job.capacity;
            thread::spawn(move || {
                let mut output = BufReader::new(stdout);
                while let Ok(Some(line)) = next_line(&mut output, limit)
                    && tell.send(line).is_ok()
                {}
            });
        }
        Ok(Self { task, input, lines })
    }

    /// Answers one request, and returns the filter for the next one.
    fn answer(self, job: &Job, request: Request) -> Result<Self, Failure> {
        // `echo` adds one that is not meant.
        let line = request.strip_suffix(b"\n").unwrap_or(&request);
        if line.contains(&b'\n') {
            let message = "the request has a line break in it, and is served line by line";
            job.fail(request, NO_LINE, message);
            return Ok(self);
        }
        while let Ok(line) = self.lines.try_recv() {
            complain(&format!(
                "{} has printed a line that nobody asked for, of {} bytes; dropped it",
                job.program(),
                line.len()
            ));
        }
        let start = Instant::now();
        let _ = self.input.send([line, b"\n"].concat());
        loop {
            match self.lines.recv_timeout(SLICE) {
                Ok(line) => {
                    job.reply(request, &line);
                    return Ok(self);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended(job, Some(request))),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if job.is_over() {
                return Ok(self);
            }
            // Who gave up is answered all the same: the next line must not be taken for the next
            // request's.
            if let Some(Stop::TimeOut) = job.stop(&request, start) {
                self.task.stop(GRACE);
                job.fail(request, TIMED_OUT, &job.too_slow());
                return Self::start(job);
            }
        }
    }

    /// Lets it end by the end of its input, or sees to it.
    fn close(self) {
        let Self {
            mut task, input, ..
        } = self;
        drop(input);
        if let Ok(None) = await_end(&mut task) {
            task.stop(GRACE);
        }
    }

    /// What it comes to that the filter is gone, for a request that it had and for this process.
    fn ended(mut self, job: &Job, request: Option<Request>) -> Failure {
        let (code, message) = match await_end(&mut self.task) {
            Ok(Some(status)) => (code(status).into(), format!("ended: {status}")),
            Ok(None) => {
                self.task.stop(GRACE);
                (NO_ANSWER, "closed its output".to_owned())
            }
            Err(error) => (NO_ANSWER, error.to_string()),
        };
        let message = format!("{} {message}", job.program());
        if let Some(request) = request {
            job.fail(request, NO_ANSWER.max(code), &message);
        }
        Failure::Refused(message)
    }
}

/// Waits a little for a filter that is about to end.
fn await_end(task: &mut Task) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        let status = task.try_wait()?;
        if status.is_some() || start.elapsed() >= GRACE {
            return Ok(status);
        }
        thread::sleep(NAP);
    }
}

/// Reads a line without its line break; of one that is too long only the beginning, one byte more
/// than the limit.
fn next_line(input: &mut impl BufRead, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(limit as u64 + 1)
        .read_until(b'\n', &mut line)?;
    match line.last() {
        None => return Ok(None),
        Some(b'\n') => {
            line.pop();
        }
        Some(_) if line.len() > limit => {
            input.skip_until(b'\n')?;
        }
        Some(_) => {}
    }
    Ok(Some(line))
}
