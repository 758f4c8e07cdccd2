//! Answering a call's requests with commands.

mod each;
mod filter;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use corkboard::call::{Options, Request, Server};
use corkboard::{ErrorKind, Space};

use super::{parse_bytes, parse_duration};
use crate::exit::{Failure, Outcome, complain};
use crate::output::time;
use crate::waiting::Requests;

/// How often to look, while commands run, whether they still should.
const SLICE: Duration = Duration::from_millis(20);
/// How soon it is noticed that this process shall end, or that an idle filter has ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long a command that was asked to end has for it.
const GRACE: Duration = Duration::from_secs(1);
/// The code of the error when there was no answer in time, as `timeout` has it.
const TIMED_OUT: i32 = 124;

/// Answer the requests of `call` with a command: its input is the request, its output the reply.
///
/// The call is created if absent, and stays. Requests that come while nobody serves wait for the
/// next server until their time-out.
///
/// CMD is run once for each request, several at the same time. When it fails, the caller gets an
/// error: its code is the exit status of CMD, or 128 and the signal's number when a signal ended
/// it, and its message what CMD has written to standard error. That appears here, too. A reply is
/// whole when CMD has ended and its output is closed.
///
/// With --lines, CMD is run once, and stays: each request is a line of its input, and the reply is
/// the next line of its output, without the line break. A request that has a line break in it, but
/// for one at its end, is answered with an error. When CMD ends, so does this command, with exit status 2, and who
/// waited for a line gets an error. Many programs keep their output back when it is no terminal,
/// and then there is no answer: look for an option, like `sed -u` or `grep --line-buffered`, or
/// put `stdbuf -oL` before them.
///
/// When a caller gives up, or --timeout is over, CMD is asked to end (SIGTERM), with what it has
/// started, and is killed a second later; a filter (--lines) is started anew after --timeout, and
/// its answer to a caller that gave up is dropped. The same happens to every CMD when this command
/// is asked to end; their callers are told that the server is gone. A filter's input ends first. If this command is killed
/// (SIGKILL), the kernel kills every CMD, but not what CMD has started.
///
/// Exit status 0 after --count requests, 1 when the call was removed, 2 an error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard serve up -- tr a-z A-Z
  corkboard serve resize --jobs 4 --timeout 30s -- convert - -resize 50% png:-
  corkboard serve sum --lines -- stdbuf -oL bc -q
  corkboard serve up --wait 1h -- tr a-z A-Z     stand by for the one that serves now")]
pub struct Arguments {
    /// The call's name.
    name: String,
    /// Run at most so many commands at the same time; by default as many as there are processors,
    /// and at least 2.
    #[arg(long, value_name = "N", conflicts_with = "lines",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Run CMD once, as a filter that answers line by line.
    #[arg(long)]
    lines: bool,
    /// Answer with an error (code 124) when CMD takes longer than this, like 200ms or 3s.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// End after so many requests.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait so long for another server to end.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    wait: Duration,
    /// The longest request and the longest reply of a new call, like 65536 or 64MiB; by default
    /// 1 MiB.
    #[arg(long, value_parser = parse_bytes)]
    capacity: Option<usize>,
    /// How many clients a new call can have at the same time; by default 62.
    #[arg(long, value_name = "N")]
    max_clients: Option<u32>,
    /// The command to run.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What everybody who answers requests knows.
struct Job {
    command: Vec<OsString>,
    /// The longest reply.
    capacity: usize,
    timeout: Option<Duration>,
    /// Whether this process ends, and nothing is to be answered any more.
    is_over: AtomicBool,
}

/// Why a command is not waited for any longer.
enum Stop {
    /// Nobody wants its answer, or this process ends.
    Unwanted,
    TimeOut,
}

impl Job {
    fn program(&self) -> std::path::Display<'_> {
        Path::new(&self.command[0]).display()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Why not to wait any longer for a command that has had the request since then.
    fn stop(&self, request: &Request, since: Instant) -> Option<Stop> {
        if self.timeout.is_some_and(|limit| since.elapsed() >= limit) {
            Some(Stop::TimeOut)
        } else if self.is_over() || request.is_cancelled() {
            Some(Stop::Unwanted)
        } else {
            None
        }
    }

    fn too_slow(&self) -> String {
        let limit = time(self.timeout.unwrap_or_default());
        format!("{} had no answer within {limit}", self.program())
    }

    fn reply(&self, request: Request, reply: &[u8]) {
        tell(request.reply(reply));
    }

    /// Answers with an error, and as much of the message as fits.
    fn fail(&self, request: Request, code: i32, message: &str) {
        let len = message.floor_char_boundary(self.capacity);
        tell(request.fail(code, &message[..len]));
    }
}

/// Says that an answer could not be given. That the call was removed is said once, at the end.
fn tell(answered: corkboard::Result<()>) {
    match answered {
        Err(error) if error.kind() != ErrorKind::Removed => complain(&error.to_string()),
        _ => {}
    }
}

/// Requests on their way to whoever answers them, and word of those that were answered.
struct Office {
    /// At most so many at the same time.
    jobs: usize,
    running: usize,
    start: Box<dyn FnMut(Request)>,
    done: Receiver<Outcome>,
}

/// Why serving is over.
enum End {
    Count,
    Asked,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let server = Server::create(&space, &arguments.name, options(&arguments))?;
    let requests = Requests::held_back()?;
    let job = Arc::new(Job {
        capacity: server.capacity(),
        timeout: arguments.timeout,
        is_over: AtomicBool::new(false),
        command: arguments.command,
    });
    let (tell, done) = channel();
    let mut office = match arguments.lines {
        true => Office::new(1, filter::office(job.clone(), tell), done),
        false => {
            let jobs = arguments.jobs.map_or_else(processors, |jobs| jobs as usize);
            Office::new(jobs, each::office(job.clone(), tell), done)
        }
    };
    let end = serve(&server, &requests, &mut office, arguments.count);
    job.is_over.store(true, Ordering::Relaxed);
    office.close();
    drop(server);
    match end {
        Ok(End::Count) => Ok(()),
        Ok(End::Asked) => requests.obey(),
        Err(Failure::Library(error)) if error.kind() == ErrorKind::Removed => Err(
            Failure::Negative(format!("call {:?} was removed", arguments.name)),
        ),
        Err(failure) => Err(failure),
    }
}

fn options(arguments: &Arguments) -> Options {
    // Whoever lists a call's server wants to know what runs, and the process is this one.
    let program = Path::new(&arguments.command[0]).file_name();
    let program = program.unwrap_or(&arguments.command[0]).to_string_lossy();
    let mut options = Options::new()
        .server_timeout(arguments.wait)
        .label(&format!("corkboard serve: {program}"));
    if let Some(capacity) = arguments.capacity {
        options = options.capacity(capacity);
    }
    if let Some(clients) = arguments.max_clients {
        options = options.max_clients(clients);
    }
    options
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, |number| number.get().max(2))
}

/// Hands requests over as long as there is somebody who can answer them: the others are for the
/// next server, should this one end.
fn serve(
    server: &Server,
    requests: &Requests,
    office: &mut Office,
    count: Option<u64>,
) -> Result<End, Failure> {
    let mut taken = 0;
    loop {
        office.look()?;
        if requests.is_asked() {
            return Ok(End::Asked);
        }
        let is_last = count.is_some_and(|count| taken >= count);
        if is_last && office.running == 0 {
            return Ok(End::Count);
        }
        if is_last || office.running == office.jobs {
            office.wait()?;
            continue;
        }
        match server.next(Some(LOOK)) {
            Ok(Some(request)) => {
                taken += 1;
                office.take(request);
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => complain(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Office {
    fn new(jobs: usize, start: Box<dyn FnMut(Request)>, done: Receiver<Outcome>) -> Self {
        Self {
            jobs,
            running: 0,
            start,
            done,
        }
    }

    fn take(&mut self, request: Request) {
        self.running += 1;
        (self.start)(request);
    }

    /// Hears of what is done.
    fn look(&mut self) -> Outcome {
        while let Ok(outcome) = self.done.try_recv() {
            outcome?;
            self.running -= 1;
        }
        Ok(())
    }

    /// Waits a little for something to be done.
    fn wait(&mut self) -> Outcome {
        if let Ok(outcome) = self.done.recv_timeout(SLICE) {
            outcome?;
            self.running -= 1;
        }
        Ok(())
    }

    /// Waits for everybody who still answers, or ends.
    fn close(self) {
        let Self { start, done, .. } = self;
        drop(start);
        while done.recv().is_ok() {}
    }
}
