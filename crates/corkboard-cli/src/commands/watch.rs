use std::io::{ErrorKind as Io, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use corkboard::board::{Reader, Snapshot};
use corkboard::{ErrorKind, Space};

use crate::exit::{Failure, Outcome, complain};
use crate::object::ObjectKind;
use crate::output::{print, print_json, print_value};
use crate::value::{Json, hexdump};
use crate::waiting::{self, Requests, Woken};

/// Print each new value of a board, or run a command on it, as it comes.
///
/// Waits for the board's creation. The newest value counts: those that are replaced while the
/// one before is being printed, or its command runs, are skipped.
///
/// Values are printed exactly, one after the other. On a terminal a line break follows a value
/// that has none at its end; anywhere else only with --lines.
///
/// When the board is removed, watch says so and ends with exit status 1. A damaged value is
/// reported, and watch goes on. When nobody reads its output any more, it ends.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard watch weather --lines
  corkboard watch weather --json | jq .sequence
  corkboard watch config -- sh -c 'cat > /etc/app.conf; echo value $CORKBOARD_SEQUENCE'")]
pub struct Arguments {
    /// The board's name.
    name: String,
    /// End after this many values.
    #[arg(long)]
    count: Option<u64>,
    /// Add a line break after each value.
    #[arg(long, conflicts_with_all = ["json", "hex", "command"])]
    lines: bool,
    /// Print a hexadecimal dump of each value, like hexdump -C.
    #[arg(long, conflicts_with_all = ["json", "command"])]
    hex: bool,
    /// Print one JSON object a line, with the fields of `get --json`.
    #[arg(long, conflicts_with = "command")]
    json: bool,
    /// End with exit status 2 when the command fails.
    #[arg(long, requires = "command")]
    exit_on_error: bool,
    /// Run this command for each value, with the value on its standard input and the environment
    /// variables CORKBOARD_NAME and CORKBOARD_SEQUENCE. One that fails is reported on standard
    /// error.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let prints = arguments.command.is_empty();
    let Some(mut reader) = open(&space, &arguments.name, prints)? else {
        return Ok(());
    };
    let requests = Requests::new()?;
    let news = reader.notifier()?;
    let mut shown = 0;
    while arguments.count.is_none_or(|count| shown < count) {
        match reader.wait(Some(Duration::ZERO)) {
            Ok(None) => match requests.wait(&mut reader, &news, prints, None)? {
                // What comes from now on makes it readable again.
                Woken::News => news.clear()?,
                Woken::OutputGone => return Ok(()),
                Woken::TimeOut => {}
                Woken::Request => {
                    drop(news);
                    drop(reader);
                    return requests.obey();
                }
            },
            Ok(Some(snapshot)) => {
                show(&arguments, &snapshot)?;
                shown += 1;
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => complain(&error.to_string()),
            Err(error) if error.kind() == ErrorKind::Removed => {
                return Err(Failure::Negative(format!(
                    "board {:?} was removed",
                    arguments.name
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for the board's creation; `None` when nobody reads the output any more.
pub fn open(space: &Space, name: &str, prints: bool) -> Result<Option<Reader>, Failure> {
    let board = (ObjectKind::Board, name);
    waiting::created(space, board, prints, None, |patience| {
        Reader::open_timeout(space, name, patience)
    })
}

fn show(arguments: &Arguments, snapshot: &Snapshot<'_>) -> Outcome {
    if let Some((program, rest)) = arguments.command.split_first() {
        return execute(arguments, program, rest, snapshot);
    }
    if arguments.json {
        return print_json(&Json::new(&arguments.name, snapshot));
    }
    if arguments.hex {
        return print(hexdump(snapshot).as_bytes());
    }
    print_value(snapshot, arguments.lines)
}

fn execute(
    arguments: &Arguments,
    program: &str,
    rest: &[String],
    snapshot: &Snapshot<'_>,
) -> Outcome {
    let failed = |source| Failure::Io(format!("cannot run {program}"), source);
    let mut child = Command::new(program)
        .args(rest)
        .env("CORKBOARD_NAME", &arguments.name)
        .env("CORKBOARD_SEQUENCE", snapshot.sequence().to_string())
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let fed = stdin.write_all(snapshot);
    drop(stdin);
    let status = child.wait().map_err(failed)?;
    match fed {
        // A command need not read its input to the end.
        Err(source) if source.kind() != Io::BrokenPipe => return Err(failed(source)),
        _ => {}
    }
    if status.success() {
        return Ok(());
    }
    let message = format!(
        "{program} failed on value {}: {status}",
        snapshot.sequence()
    );
    if arguments.exit_on_error {
        return Err(Failure::Refused(message));
    }
    complain(&message);
    Ok(())
}
