use std::time::{Duration, Instant};

use corkboard::board::{Reader, Snapshot};
use corkboard::{ErrorKind, Space};

use super::parse_duration;
use crate::exit::{Failure, Outcome};
use crate::object::{ObjectKind, absence};
use crate::output::{print, print_json, print_value};
use crate::value::{Json, hexdump};

/// Print a board's newest value, exactly its bytes.
///
/// On a terminal a line break follows a value that has none at its end.
///
/// Exit status 1 when there is no such board, or no value on it yet.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard get weather
  corkboard get weather --timeout 5s && echo published
  corkboard get camera > frame.rgb
  corkboard get weather --json | jq -r .published_at")]
pub struct Arguments {
    /// The board's name.
    name: String,
    /// Wait for the board's creation and for its first value.
    #[arg(long)]
    wait: bool,
    /// Give up waiting after this time, like 200ms or 3s; implies --wait.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Print a hexadecimal dump, like hexdump -C.
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// Print one JSON object: name, sequence, size, published_at, age_seconds, encoding, value.
    ///
    /// "encoding" says how "value" is to be taken: "utf-8", or "base64" where the bytes are not
    /// text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let start = Instant::now();
    let waits = arguments.wait || arguments.timeout.is_some();
    let limit = if waits {
        arguments.timeout
    } else {
        Some(Duration::ZERO)
    };
    let left = || limit.map(|limit| limit.saturating_sub(start.elapsed()));
    loop {
        let open = left().unwrap_or(Duration::MAX);
        let mut reader = match Reader::open_timeout(&space, &arguments.name, open) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let absence = |hint| absence(&space, ObjectKind::Board, &arguments.name, hint);
                return Err(Failure::Negative(match waits {
                    true => absence("")? + "; gave up waiting for it",
                    false => absence("; wait for it with --wait")?,
                }));
            }
            reader => reader?,
        };
        match reader.wait(left()) {
            Ok(Some(snapshot)) => return show(&arguments, &snapshot),
            Ok(None) => break,
            // A board that is created anew is the one to wait for.
            Err(error) if error.kind() == ErrorKind::Removed => {}
            Err(error) => return Err(error.into()),
        }
    }
    let name = &arguments.name;
    Err(Failure::Negative(if waits {
        format!("board {name:?} has no value yet; gave up waiting for it")
    } else {
        format!("board {name:?} has no value yet; wait for it with --wait")
    }))
}

fn show(arguments: &Arguments, snapshot: &Snapshot<'_>) -> Outcome {
    if arguments.json {
        print_json(&Json::new(&arguments.name, snapshot))
    } else if arguments.hex {
        print(hexdump(snapshot).as_bytes())
    } else {
        print_value(snapshot, false)
    }
}
