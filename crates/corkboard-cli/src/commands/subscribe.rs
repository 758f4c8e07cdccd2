use std::io::{BufWriter, Write};
use std::time::Duration;

use corkboard::stream::{From, Message, Subscriber};
use corkboard::{ErrorKind, Space};
use serde::Serialize;

use super::parse_duration;
use crate::exit::{Failure, Outcome, complain};
use crate::object::ObjectKind;
use crate::output::cannot_write;
use crate::value::encode;
use crate::waiting::{self, Requests, Woken};

/// How much is written at a time.
const PIECE: usize = 1 << 16;
/// How long to wait for the next record by the means that are fastest.
const SOON: Duration = Duration::from_millis(10);

/// Print each record of a stream once, in order, with a line break after it.
///
/// Waits for the stream's creation. What is still there is printed first: every record, unless
/// another subscriber has received it before and its place was needed, or it was overwritten.
///
/// Ends at the first end mark, which `pub` sends after its input; with --follow it goes on. The
/// records of an earlier `pub` stay in the stream, with its end mark, until their place is needed:
/// --from says where to begin.
///
/// Records that were overwritten before they were received are reported on standard error, and so
/// is one that is damaged. Then it goes on, and the exit status is 0 all the same; --strict ends it.
///
/// Exit status 0 at the end mark or after --count records, 1 on time-out or when the stream was
/// removed, 2 an error. When nobody reads its output any more, it ends.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard sub numbers
  corkboard sub log --follow --from newest
  corkboard sub log --json | jq -r 'select(.sequence > 100) | .value'
  corkboard sub orders --count 1 --timeout 5s > order.txt")]
pub struct Arguments {
    /// The stream's name.
    name: String,
    /// Where to begin: with the oldest record that is there, with the first one that is sent from
    /// now on (newest), or with the record of this sequence, counted from 1.
    #[arg(long, value_name = "oldest|newest|SEQUENCE", default_value = "oldest", value_parser = parse_from)]
    from: From,
    /// End after this many records.
    #[arg(long)]
    count: Option<u64>,
    /// Go on after end marks.
    #[arg(long)]
    follow: bool,
    /// Give up when nothing has come for this time, like 200ms or 3s.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// End with exit status 2 when a record was missed or is damaged.
    #[arg(long)]
    strict: bool,
    /// Precede each record by its length, four bytes with the lowest first, instead of a line break
    /// after it.
    #[arg(long, conflicts_with = "json")]
    frames: bool,
    /// Print one JSON object a line: name, sequence, size, encoding, value.
    ///
    /// "encoding" says how "value" is to be taken: "utf-8", or "base64" where the bytes are not
    /// text.
    #[arg(long)]
    json: bool,
}

/// The JSON form of a record.
#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    sequence: u64,
    size: usize,
    encoding: &'static str,
    value: String,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let name = &arguments.name;
    let stream = (ObjectKind::Stream, name.as_str());
    let opened = waiting::created(&space, stream, true, arguments.timeout, |patience| {
        Subscriber::open_timeout(&space, name, arguments.from, patience)
    });
    let Some(subscriber) = opened? else {
        return Ok(());
    };
    let mut output = BufWriter::with_capacity(PIECE, std::io::stdout().lock());
    let outcome = receive(&arguments, subscriber, &mut output);
    // What was received before anything went wrong is printed.
    output.flush().map_err(cannot_write)?;
    outcome
}

fn receive(arguments: &Arguments, mut subscriber: Subscriber, output: &mut impl Write) -> Outcome {
    let Arguments { name, timeout, .. } = arguments;
    let requests = Requests::new()?;
    let soon = timeout.map_or(SOON, |timeout| timeout.min(SOON));
    let mut patience = Duration::ZERO;
    let mut received = 0;
    while arguments.count.is_none_or(|count| received < count) {
        match subscriber.recv(Some(patience)) {
            Ok(Some(message)) => {
                show(arguments, &message, output).map_err(cannot_write)?;
                received += 1;
                patience = Duration::ZERO;
            }
            Ok(None) => {
                if subscriber.is_ended() {
                    if !arguments.follow {
                        break;
                    }
                    patience = Duration::ZERO;
                    continue;
                }
                output.flush().map_err(cannot_write)?;
                if patience < soon {
                    patience = soon;
                    continue;
                }
                patience = Duration::ZERO;
                let left = timeout.map(|timeout| timeout.saturating_sub(soon));
                let news = subscriber.notifier()?;
                match requests.wait(&mut subscriber, &news, true, left)? {
                    Woken::News => {}
                    Woken::OutputGone => break,
                    Woken::TimeOut => {
                        return Err(Failure::Negative(format!(
                            "nothing came from stream {name:?}; gave up waiting after {received} records"
                        )));
                    }
                    Woken::Request => {
                        drop(news);
                        drop(subscriber);
                        return requests.obey();
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Removed => {
                return Err(Failure::Negative(format!("stream {name:?} was removed")));
            }
            Err(error) if may_go_on(&error) && !arguments.strict => {
                output.flush().map_err(cannot_write)?;
                complain(&error.to_string());
                patience = Duration::ZERO;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether the records after it can be received all the same.
fn may_go_on(error: &corkboard::Error) -> bool {
    matches!(error.kind(), ErrorKind::Lagged | ErrorKind::Corrupt)
}

fn show(
    arguments: &Arguments,
    message: &Message<'_>,
    output: &mut impl Write,
) -> std::io::Result<()> {
    if arguments.frames {
        let len = u32::try_from(message.len()).map_err(std::io::Error::other)?;
        output.write_all(&len.to_le_bytes())?;
        return output.write_all(message);
    }
    if arguments.json {
        let (encoding, value) = encode(message);
        let json = Json {
            name: &arguments.name,
            sequence: message.sequence(),
            size: message.len(),
            encoding,
            value,
        };
        serde_json::to_writer(&mut *output, &json)?;
    } else {
        output.write_all(message)?;
    }
    output.write_all(b"\n")
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "oldest" => Ok(From::Oldest),
        "newest" => Ok(From::Newest),
        _ => match text.parse() {
            Ok(sequence @ 1..) => Ok(From::Sequence(sequence)),
            Ok(0) => Err("records are counted from 1".into()),
            Err(_) => Err("neither oldest nor newest nor a record's sequence".into()),
        },
    }
}
