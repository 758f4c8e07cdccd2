#[cfg(target_os = "linux")]
use crate::demo;
use crate::exit::{Failure, Outcome};

/// Show on this machine that values stay whole while processes are killed.
///
/// One process publishes samples of this machine a hundred times a second, another frames of
/// 6 MiB sixty times a second, or as often as the machine manages. Readers that sleep, spin, or
/// hold their values verify every byte. Then the writer of the frames is killed half-way through
/// one, the writer of the samples at any moment, and a reader while it holds a frame: standbys
/// take over, and publishing goes on.
///
/// The story goes to standard error, the result to standard output. The boards are in a directory
/// of their own below /dev/shm, which is removed at the end. WAKE-UP is the time from a writer's
/// look at the clock, just before it publishes, to the checked value in the hand of a sleeping
/// reader; TAKE-OVER the time from the kill to the standby's first value.
///
/// Exit status 0 when everything held, 2 with what failed otherwise.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard demo
  corkboard demo --seconds 60 --json | jq '.boards[].wake_up'")]
pub struct Arguments {
    /// About how long to run.
    #[arg(long, default_value = "8", value_name = "N", value_parser = parse_seconds)]
    seconds: f64,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// It stops processes half-way through what they do, which takes signals.
#[cfg(windows)]
pub fn run(_: Arguments) -> Outcome {
    let message = "the demonstration runs on Linux only; see put, get and watch".into();
    Err(Failure::Refused(message))
}

#[cfg(target_os = "linux")]
pub fn run(arguments: Arguments) -> Outcome {
    if !std::path::Path::new("/dev/shm").is_dir() {
        let message = "the demonstration needs /dev/shm, and there is none".into();
        return Err(Failure::Refused(message));
    }
    demo::run(arguments.seconds, arguments.json)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.5..=86400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("a demonstration lasts from 0.5 seconds to a day".into())
    }
}
