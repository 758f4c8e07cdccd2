use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use corkboard::call::{Client, Pending, Reply};
use corkboard::{Error, ErrorKind, Space, wait};
use serde::Serialize;

use super::parse_duration;
use crate::exit::{Failure, Outcome, complain};
use crate::object::ObjectKind;
use crate::output::{harmless, print, print_json, print_value};
use crate::value::{encode, hexdump};
use crate::waiting::{self, Requests};

/// The exit status when the server answered with an error.
const FAILED: u8 = 3;
/// How soon a request to end is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// Make a request, and print the reply: exactly its bytes.
///
/// The request is DATA, or standard input to its end. The call, and a server that answers, are
/// waited for until the time-out. On a terminal a line break follows a reply that has none at its
/// end.
///
/// When this command is asked to end, like by Ctrl-C, the call is given up, and `serve` ends the
/// command that it runs for it. When the server dies with the request, this says so at once; whether it acted on it before is
/// not known.
///
/// Exit status 0 when there was a reply; 1 when there was none: on time-out, when the server was
/// gone, or the call was removed; 2 an error, and nothing was asked; 3 when the server answered
/// with an error, whose code and message are told on standard error. With --lines, an error of the
/// server does not end it, and the status is 3 in the end.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard call up hello
  echo hi | corkboard call up -
  corkboard call resize < photo.png > small.png
  corkboard call sum '1 + 2' --json | jq -r .value
  seq 1000 | corkboard call sum --lines --jobs 8")]
pub struct Arguments {
    /// The call's name.
    name: String,
    /// The request's text; - or nothing for standard input.
    #[arg(value_name = "DATA|-")]
    data: Option<String>,
    /// Give up after this time, like 200ms or 3s; with --lines for each request.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Make a request of each line of standard input, without its line break, and print the
    /// replies in the same order, with a line break after each.
    #[arg(long, conflicts_with = "data")]
    lines: bool,
    /// Have so many requests on their way at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "lines",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    jobs: u32,
    /// Print a hexadecimal dump of the reply, like hexdump -C.
    #[arg(long, conflicts_with_all = ["json", "lines"])]
    hex: bool,
    /// Print one JSON object: name, size, encoding, value, and error, which is null or the server's
    /// with its code and message.
    ///
    /// "encoding" says how "value" is to be taken: "utf-8", or "base64" where the bytes are not
    /// text.
    #[arg(long)]
    json: bool,
}

/// The JSON form of an answer.
#[derive(Serialize, Default)]
struct Json<'a> {
    name: &'a str,
    size: Option<usize>,
    encoding: Option<&'static str>,
    value: Option<String>,
    error: Option<JsonError<'a>>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    code: i32,
    message: &'a str,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let start = Instant::now();
    if arguments.lines {
        return match open(&space, &arguments, start)? {
            Some(client) => call_lines(&arguments, client),
            None => Ok(()),
        };
    }
    let request = match &arguments.data {
        Some(data) if data != "-" => data.clone().into_bytes(),
        data => read_input(data.is_none())?,
    };
    let Some(client) = open(&space, &arguments, start)? else {
        return Ok(());
    };
    let left = arguments.timeout.saturating_sub(start.elapsed());
    let requests = Requests::held_back()?;
    match await_answer(client.start(&request, left), &requests)? {
        Some(answer) => show(&arguments, answer),
        None => requests.obey(),
    }
}

/// Waits for an answer. When this process is asked to end, the call is given up, so that the server
/// learns that nobody wants it any more.
fn await_answer(
    asked: corkboard::Result<Pending>,
    requests: &Requests,
) -> Result<Option<corkboard::Result<Reply>>, Failure> {
    let mut pending = match asked {
        Ok(pending) => pending,
        Err(error) => return Ok(Some(Err(error))),
    };
    loop {
        pending = match pending.try_wait() {
            Ok(answer) => return Ok(Some(answer)),
            Err(pending) => pending,
        };
        if requests.is_asked() {
            return Ok(None);
        }
        if let Err(error) = wait::any(&mut [&mut pending], Some(SLICE)) {
            return Ok(Some(Err(error)));
        }
    }
}

/// The whole of standard input. Nobody is made to wonder what a terminal is waiting for.
fn read_input(is_implied: bool) -> Result<Vec<u8>, Failure> {
    let mut input = std::io::stdin().lock();
    if is_implied && input.is_terminal() {
        let message = "say what to ask, or - for standard input up to Ctrl-D";
        return Err(Failure::Refused(message.into()));
    }
    let mut request = Vec::new();
    input.read_to_end(&mut request).map_err(unreadable)?;
    Ok(request)
}

fn unreadable(source: std::io::Error) -> Failure {
    Failure::Io("cannot read standard input".into(), source)
}

/// Waits for the call's creation; `None` when nobody reads the output any more.
fn open(space: &Space, arguments: &Arguments, start: Instant) -> Result<Option<Client>, Failure> {
    let call = (ObjectKind::Call, arguments.name.as_str());
    let left = arguments.timeout.saturating_sub(start.elapsed());
    waiting::created(space, call, true, Some(left), |patience| {
        Client::open_timeout(space, &arguments.name, patience)
    })
}

fn show(arguments: &Arguments, answer: corkboard::Result<Reply>) -> Outcome {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return Err(refused(arguments, error)?),
    };
    if arguments.json {
        let (encoding, value) = encode(&reply);
        print_json(&Json {
            name: &arguments.name,
            size: Some(reply.len()),
            encoding: Some(encoding),
            value: Some(value),
            ..Json::default()
        })
    } else if arguments.hex {
        print(hexdump(&reply).as_bytes())
    } else {
        print_value(&reply, arguments.lines)
    }
}

/// Tells of a call without a reply, and what that comes to.
fn refused(arguments: &Arguments, error: Error) -> Result<Failure, Failure> {
    if let Some((code, message)) = error.failure() {
        if arguments.json {
            print_json(&Json {
                name: &arguments.name,
                error: Some(JsonError { code, message }),
                ..Json::default()
            })?;
        }
        let lines = error.to_string();
        let lines: Vec<String> = lines.lines().map(harmless).collect();
        complain(&lines.join("\n"));
        return Ok(Failure::Status(FAILED));
    }
    Ok(match error.kind() {
        ErrorKind::TimedOut | ErrorKind::PeerGone | ErrorKind::Removed => {
            Failure::Negative(error.to_string())
        }
        _ => error.into(),
    })
}

/// Asks each line, and prints the answers as they come, in order.
fn call_lines(arguments: &Arguments, client: Client) -> Outcome {
    let (give, room) = channel();
    for _ in 0..arguments.jobs {
        let _ = give.send(());
    }
    let requests = Requests::held_back()?;
    let mut has_failed = false;
    for asked in ask_lines(client, arguments.timeout, room) {
        let Some(answer) = await_answer(asked?, &requests)? else {
            return requests.obey();
        };
        match show(arguments, answer) {
            Err(Failure::Status(FAILED)) => has_failed = true,
            outcome => outcome?,
        }
        // Nobody is left to take it when the input is over.
        let _ = give.send(());
    }
    match has_failed {
        true => Err(Failure::Status(FAILED)),
        false => Ok(()),
    }
}

/// A request on its way, unless it could not be made, or standard input cannot be read.
type Asked = Result<corkboard::Result<Pending>, Failure>;

/// Makes requests of the lines of standard input, on a thread, as long as there is room for them.
fn ask_lines(client: Client, timeout: Duration, room: Receiver<()>) -> Receiver<Asked> {
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().split(b'\n');
        while let Some(line) = lines.next()
            && room.recv().is_ok()
        {
            let asked = line
                .map_err(unreadable)
                .map(|line| client.start(&line, timeout));
            if tell.send(asked).is_err() {
                break;
            }
        }
    });
    asked
}
