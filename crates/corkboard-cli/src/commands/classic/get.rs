use std::time::{Duration, Instant};

use corkboard::Space;

use super::{Form, TURN, Which};
use crate::commands::parse_duration;
use crate::exit::{Failure, Outcome};

/// How long to sleep before looking again whether there is a block.
const PAUSE: Duration = Duration::from_millis(5);

/// Print a block's content, exactly its bytes.
///
/// On a terminal a line break follows content that has none at its end. Waits at most one second
/// while a program writes.
///
/// Exit status 1 when there is no such block.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard classic get weather
  corkboard classic get weather --dialect untailed --hex
  corkboard classic get weather --timeout 5s && echo there")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Wait for so long for the block's creation, and for programs that write; like 200ms or 3s.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    form: Form,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let (which, start) = (&arguments.which, Instant::now());
    let left = || {
        arguments
            .timeout
            .map(|limit| limit.saturating_sub(start.elapsed()))
    };
    let mut reader = loop {
        if let Some(reader) = which.reader(&space)? {
            break reader;
        }
        match left() {
            None => return Err(Failure::Negative(which.absence(&space))),
            Some(Duration::ZERO) => {
                let absence = which.absence(&space) + "; gave up waiting for it";
                return Err(Failure::Negative(absence));
            }
            Some(left) => std::thread::sleep(left.min(PAUSE)),
        }
    };
    let mut value = Vec::new();
    if !reader.read_timeout(&mut value, left().unwrap_or(TURN))? {
        return Err(which.held());
    }
    arguments.form.show(which, reader.dialect(), &value, false)
}
