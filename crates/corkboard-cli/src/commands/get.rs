use std::time::{Duration, Instant};

use corkboard::Space;
use corkboard::board::Reader;

use super::parse_duration;
use crate::exit::{Failure, Outcome};
use crate::output::{print, print_json};
use crate::value::{Json, hexdump};

/// Print a board's newest value, exactly its bytes.
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
    let mut reader = Reader::open_timeout(&space, &arguments.name, limit.unwrap_or(Duration::MAX))?;
    let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
    match reader.wait(left)? {
        Some(snapshot) if arguments.json => print_json(&Json::new(&arguments.name, &snapshot)),
        Some(snapshot) if arguments.hex => print(hexdump(&snapshot).as_bytes()),
        Some(snapshot) => print(&snapshot),
        None => Err(Failure::Negative(format!(
            "board {:?} has no value yet; {}",
            arguments.name,
            if waits {
                "gave up waiting for it"
            } else {
                "wait for it with --wait"
            }
        ))),
    }
}
