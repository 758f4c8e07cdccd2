use std::time::Duration;

use corkboard::Space;
use corkboard::board::Reader;

use super::print;
use crate::exit::Failure;

/// Print each new value of a board, as it comes; waits for the board's creation.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board's name.
    name: String,
    /// End after this many values.
    #[arg(long)]
    count: Option<u64>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let space = Space::user()?;
    let mut reader = Reader::open_timeout(&space, &arguments.name, Duration::MAX)?;
    let mut shown = 0;
    while arguments.count.is_none_or(|count| shown < count) {
        if let Some(snapshot) = reader.wait(None)? {
            print(&snapshot)?;
            shown += 1;
        }
    }
    Ok(())
}
