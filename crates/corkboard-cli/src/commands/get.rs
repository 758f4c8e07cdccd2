use std::time::{Duration, Instant};

use corkboard::Space;
use corkboard::board::Reader;

use super::{parse_duration, print};
use crate::exit::Failure;

/// Print a board's newest value, exactly its bytes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board's name.
    name: String,
    /// Wait for the board's creation and for its first value.
    #[arg(long)]
    wait: bool,
    /// Give up waiting after this time, like 200ms or 3s; implies --wait.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
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
        Some(snapshot) => print(&snapshot),
        None => Err(Failure::Negative(format!(
            "board {:?} has no value yet; wait for it with --wait",
            arguments.name
        ))),
    }
}
