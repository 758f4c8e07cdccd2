use std::io::IsTerminal as _;
use std::time::Duration;

use corkboard::event::{Event, Reset};
use corkboard::{ErrorKind, Result, Space};

use super::parse_duration;
use crate::exit::{Failure, Outcome, complain};

/// Tell other processes that something happened, or wait for it.
///
/// A manual-reset event stays set until it is reset, and lets everyone through. An auto-reset
/// event lets one waiter through for each time it is set, and is unset by that.
///
/// The event is created if absent, unset and with manual reset, and stays. One that exists is
/// taken as it is, unless --auto or --manual says what it must be.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard event wait ready --timeout 30s && ./start
  corkboard event set ready
  corkboard event reset ready
  corkboard event wait job --auto        one of several workers goes on")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Set the event: let everyone through who waits, or one with an auto-reset event.
    ///
    /// It is created if absent.
    Set(Which),
    /// Unset the event.
    ///
    /// It is created if absent.
    Reset(Which),
    /// Wait until the event is set.
    ///
    /// It is created if absent, so that waiting may begin before anyone sets it.
    ///
    /// Exit status: 0 when it was set, 1 on time-out or when it was removed, 2 an error.
    #[command(after_help = "\
Examples:
  corkboard event wait ready
  corkboard event wait ready --timeout 30s && ./start")]
    Wait {
        #[command(flatten)]
        which: Which,
        /// Give up waiting after this time, like 200ms or 3s; 0s looks once.
        #[arg(long, value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
}

#[derive(clap::Args)]
struct Which {
    /// The event's name.
    name: String,
    /// It must be an auto-reset event; one that is absent becomes one.
    #[arg(long, conflicts_with = "manual")]
    auto: bool,
    /// It must be a manual-reset event, which is what one that is absent becomes.
    #[arg(long)]
    manual: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    match arguments.action {
        Action::Set(which) => Ok(which.change(&space, Event::set)?),
        Action::Reset(which) => Ok(which.change(&space, Event::reset)?),
        Action::Wait { which, timeout } => {
            let name = &which.name;
            let was_absent =
                Event::open(&space, name).is_err_and(|error| error.kind() == ErrorKind::NotFound);
            let event = which.open(&space)?;
            // A name with a mistake in it would be waited for in silence, and for ever.
            if was_absent && std::io::stderr().is_terminal() {
                complain(&format!("waiting for event {name:?} (just created)"));
            }
            match event.wait(timeout) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::Negative(format!(
                    "event {name:?} is not set; gave up waiting for it"
                ))),
                Err(error) if error.kind() == ErrorKind::Removed => {
                    Err(Failure::Negative(format!("event {name:?} was removed")))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

impl Which {
    fn open(&self, space: &Space) -> Result<Event> {
        let name = &self.name;
        if self.auto || self.manual {
            let reset = if self.auto {
                Reset::Auto
            } else {
                Reset::Manual
            };
            return Event::open_or_create(space, name, reset);
        }
        loop {
            match Event::open(space, name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => return result,
            }
            match Event::open_or_create(space, name, Reset::Manual) {
                // Somebody else created it meanwhile, with auto reset.
                Err(error) if error.kind() == ErrorKind::Incompatible => {}
                result => return result,
            }
        }
    }

    /// Applies the change to the event, or to its successor when it is removed meanwhile.
    fn change(&self, space: &Space, change: impl Fn(&Event) -> Result<()>) -> Result<()> {
        loop {
            match change(&self.open(space)?) {
                Err(error) if error.kind() == ErrorKind::Removed => {}
                result => return result,
            }
        }
    }
}
