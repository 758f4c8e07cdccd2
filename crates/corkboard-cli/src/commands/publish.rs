use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::time::{Duration, Instant};

use corkboard::stream::{self, Options, Overflow, Producer, ProducerMode};
use corkboard::{ErrorKind, Kind, Space};

use super::put::quoted;
use super::{parse_bytes, parse_duration};
use crate::exit::{Failure, Outcome, complain};

/// How long to wait for another producer to end.
const TURN: Duration = Duration::from_secs(1);
/// How long to wait for room before saying so.
const PATIENCE: Duration = Duration::from_millis(500);
/// How much is read at a time.
const PIECE: usize = 1 << 16;
/// The bytes of the length before a frame.
const LENGTH: usize = 4;
/// How far sending may fall behind --rate and catch up again.
const SLACK: Duration = Duration::from_millis(100);
/// How often to look whether a held stream was removed.
const LOOK: Duration = Duration::from_millis(100);

/// Send the lines of standard input to a stream, a record each.
///
/// The stream is created if absent, and stays. Every subscriber gets every record, in order. When
/// the stream is full, this waits until the slowest subscriber has received, and without any until
/// one comes: nothing is lost, unless the stream was created with --overwrite.
///
/// A record is a line without its line break; what follows the last line break is one, too. With
/// --frames, records may contain anything.
///
/// At the end of the input an end mark is sent, where subscribers stop: leave it away with --keep
/// when more is to come, or when others send to the same stream. There is none after an error.
///
/// The longest record is a quarter of the capacity. A longer one is an error, which tells its
/// number; the records before it were sent.
///
/// Options that say how a stream is created must match one that exists; left away, they adopt it.
///
/// A stream that was sent to before keeps its end mark, where a subscriber that begins with the
/// oldest record stops first: `sub --follow` goes on.
///
/// Exit status 1 when there was no room until the time-out; it is told how many records were sent.
/// 2 when the stream was removed, or another producer keeps an exclusive one for more than a second.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  seq 1000000 | corkboard pub numbers
  tail -f app.log | corkboard pub log --overwrite --capacity 16MiB
  corkboard pub orders --shared --keep < order.txt")]
pub struct Arguments {
    /// The stream's name.
    name: String,
    /// Take records that are each preceded by their length: four bytes, the lowest first.
    #[arg(long)]
    frames: bool,
    /// Send at most so many records a second.
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Give up waiting for room after this time, like 200ms or 3s; for ever if not given.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How many bytes of records a new stream holds, like 65536 or 64MiB, where each record counts
    /// as a multiple of 64; by default 1 MiB.
    #[arg(long, value_parser = parse_bytes)]
    capacity: Option<usize>,
    /// Overwrite the oldest records of a new stream when it is full, instead of waiting.
    #[arg(long)]
    overwrite: bool,
    /// Let others send to a new stream at the same time; without this, one at a time may.
    #[arg(long)]
    shared: bool,
    /// Send no end mark.
    #[arg(long)]
    keep: bool,
    /// Stay, and keep the stream, until it is removed or this command is ended. On Windows a stream
    /// lives only as long as some process has it open; on Linux it needs nobody.
    #[arg(long)]
    hold: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let mut sender = Sender {
        producer: options(&arguments).producer(&space, &arguments.name)?,
        name: &arguments.name,
        sent: 0,
        pace: arguments.rate.map(Pace::new),
        timeout: arguments.timeout,
        may_tell: std::io::stderr().is_terminal(),
    };
    let mut input = BufReader::with_capacity(PIECE, std::io::stdin().lock());
    let limit = sender.producer.max_len();
    let (what, next): (_, fn(&mut _, usize, &mut Vec<u8>) -> _) = match arguments.frames {
        true => ("frame", next_frame),
        false => ("line", next_line),
    };
    let mut record = Vec::new();
    loop {
        let found = next(&mut input, limit, &mut record);
        let found = found.map_err(|source| sender.unreadable(source))?;
        match found {
            Next::Record => sender.send(&record)?,
            Next::TooLong => return Err(sender.too_long(what, limit)),
            Next::CutShort => return Err(sender.cut_short()),
            Next::End => break,
        }
    }
    if !arguments.keep {
        sender.end()?;
    }
    let Sender { producer, .. } = sender;
    if arguments.hold {
        return hold(&space, &arguments.name, producer);
    }
    drop(producer);
    if cfg!(windows) && is_gone(&space, &arguments.name) {
        complain(&format!(
            "nobody else has stream {:?} open, so it ends with this command; keep it with --hold",
            arguments.name
        ));
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Options {
    let mut options = Options::new().producer_timeout(TURN);
    if let Some(capacity) = arguments.capacity {
        options = options.capacity(capacity);
    }
    if arguments.overwrite {
        options = options.overflow(Overflow::Overwrite);
    }
    if arguments.shared {
        options = options.producer_mode(ProducerMode::Shared);
    }
    options
}

/// What comes next in the input.
enum Next {
    Record,
    /// A record that the stream cannot hold.
    TooLong,
    /// The input ends within a record.
    CutShort,
    End,
}

/// Reads a line without its line break, however long it is no further than the limit.
fn next_line(input: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> std::io::Result<Next> {
    line.clear();
    input.take(limit as u64 + 1).read_until(b'\n', line)?;
    Ok(match line.last() {
        None => Next::End,
        Some(b'\n') => {
            line.pop();
            Next::Record
        }
        Some(_) if line.len() > limit => Next::TooLong,
        Some(_) => Next::Record,
    })
}

/// Reads a length and so many bytes.
fn next_frame(
    input: &mut impl BufRead,
    limit: usize,
    frame: &mut Vec<u8>,
) -> std::io::Result<Next> {
    frame.clear();
    match input.by_ref().take(LENGTH as u64).read_to_end(frame)? {
        0 => return Ok(Next::End),
        LENGTH => {}
        _ => return Ok(Next::CutShort),
    }
    let len = frame
        .first_chunk()
        .map_or(0, |len| u32::from_le_bytes(*len));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > limit {
        return Ok(Next::TooLong);
    }
    frame.clear();
    Ok(match input.by_ref().take(len as u64).read_to_end(frame)? {
        read if read < len => Next::CutShort,
        _ => Next::Record,
    })
}

/// Sends records, and counts them.
struct Sender<'a> {
    producer: Producer,
    name: &'a str,
    sent: u64,
    pace: Option<Pace>,
    timeout: Option<Duration>,
    /// Whether somebody would read that this waits, and was not told yet.
    may_tell: bool,
}

impl Sender<'_> {
    fn send(&mut self, record: &[u8]) -> Outcome {
        if let Some(pace) = &mut self.pace {
            pace.wait();
        }
        let sent = self.producer.try_send(record);
        if sent.map_err(|error| self.failed(error))?.is_none() {
            self.await_room(|producer, timeout| match timeout {
                Some(timeout) => producer.send_timeout(record, timeout),
                None => producer.send(record).map(Some),
            })?;
        }
        self.sent += 1;
        Ok(())
    }

    fn end(&mut self) -> Outcome {
        self.await_room(|producer, timeout| producer.end(timeout))
    }

    /// Sends what needs more room than there may be.
    fn await_room(
        &mut self,
        mut send: impl FnMut(&mut Producer, Option<Duration>) -> corkboard::Result<Option<u64>>,
    ) -> Outcome {
        let start = Instant::now();
        if self.may_tell {
            let patience = self
                .timeout
                .map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
            let sent = send(&mut self.producer, Some(patience));
            if sent.map_err(|error| self.failed(error))?.is_some() {
                return Ok(());
            }
            self.may_tell = false;
            let name = self.name;
            complain(&format!(
                "stream {name:?} is full; waiting for a subscriber to make room (with --follow, if it stops at an earlier end)"
            ));
        }
        let left = self
            .timeout
            .map(|timeout| timeout.saturating_sub(start.elapsed()));
        let sent = send(&mut self.producer, left);
        match sent.map_err(|error| self.failed(error))? {
            Some(_) => Ok(()),
            None => Err(Failure::Negative(format!(
                "stream {:?} is full; gave up waiting for room; {}",
                self.name,
                self.so_far()
            ))),
        }
    }

    fn failed(&self, error: corkboard::Error) -> Failure {
        Failure::Refused(format!("{error}; {}", self.so_far()))
    }

    fn unreadable(&self, source: std::io::Error) -> Failure {
        let what = format!("cannot read standard input; {}", self.so_far());
        Failure::Io(what, source)
    }

    fn too_long(&self, what: &str, limit: usize) -> Failure {
        Failure::Refused(format!(
            "cannot send to stream {:?}: {what} {} has more than {limit} bytes, a quarter of the capacity; remove the stream (corkboard rm {}), and send with a larger --capacity; {}",
            self.name,
            self.sent + 1,
            quoted(self.name),
            self.so_far()
        ))
    }

    fn cut_short(&self) -> Failure {
        Failure::Refused(format!(
            "standard input ends within frame {}; {}",
            self.sent + 1,
            self.so_far()
        ))
    }

    fn so_far(&self) -> String {
        match self.sent {
            1 => "1 record was sent".into(),
            sent => format!("{sent} records were sent"),
        }
    }
}

/// When to send the next record.
struct Pace {
    period: Duration,
    due: Instant,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self {
            period: Duration::from_secs_f64(1.0 / per_second),
            due: Instant::now(),
        }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        let early = self.due.saturating_duration_since(now);
        if !early.is_zero() {
            std::thread::sleep(early);
        } else if now.duration_since(self.due) > SLACK {
            self.due = now;
        }
        self.due += self.period;
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (1e-6..=1e9).contains(&rate) {
        true => Ok(rate),
        false => Err("a rate is from 0.000001 to 1000000000 records a second".into()),
    }
}

/// Whether nobody had the stream open but this process, which has let go of it. Who only keeps it
/// is in no table.
fn is_gone(space: &Space, name: &str) -> bool {
    stream::stat(space, name).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Keeps the stream until it is removed; others may send to it meanwhile.
fn hold(space: &Space, name: &str, producer: Producer) -> Outcome {
    let instance = stream::stat(space, name)?.instance;
    let _keeper = space.keep(Kind::Stream, name)?;
    drop(producer);
    while stream::stat(space, name).is_ok_and(|stat| stat.instance == instance) {
        std::thread::sleep(LOOK);
    }
    Ok(())
}
