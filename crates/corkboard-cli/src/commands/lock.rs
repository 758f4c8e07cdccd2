use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ArgGroup;
use corkboard::lock::{self, Options, RwLock};
use corkboard::{ErrorKind, Space};

use super::parse_duration;
use crate::child;
use crate::exit::{Failure, Outcome, complain};
use crate::output::harmless;

/// Run a command while holding a lock, alone or together with other readers.
///
/// The lock is created if absent, and stays. It is released when CMD has ended; what CMD left
/// running in the background does not hold it.
///
/// A signal that would end this command, like SIGTERM, is passed on to CMD, and the lock is held
/// until CMD ends; those from the terminal's keys reach CMD anyway. If this command is killed all
/// the same (SIGKILL), the kernel releases the lock and kills CMD, but not what CMD has started,
/// nor CMD if it is a set-uid program.
///
/// Exit status: that of CMD, or 128 and the signal's number when a signal ended it; 127 when there
/// is no such command, 126 when it cannot be executed; 1 on time-out, or what
/// --conflict-exit-code says; 2 an error, and CMD was not run.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("which").required(true).args(["name", "at"]))]
#[command(after_help = "\
Examples:
  corkboard lock backup -- rsync -a /home /mnt
  corkboard lock database --shared -- pg_dump app
  corkboard lock cron --timeout 0s --conflict-exit-code 75 -- ./nightly
  corkboard lock --at /mnt/nfs/build.lock -- make install")]
pub struct Arguments {
    /// The lock's name.
    name: Option<String>,
    /// Hold it together with others who do the same, as a reader.
    #[arg(long)]
    shared: bool,
    /// Give up waiting after this time, like 200ms or 3s; 0s tries once.
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// The exit status on time-out; with 0 that is a success, too.
    #[arg(long, value_name = "N", default_value_t = 1)]
    conflict_exit_code: u8,
    /// Lock this file, on any file system, instead of a name.
    ///
    /// Containers and computers that share it exclude each other. It is created if absent; an
    /// existing one keeps its content, unless corkboard made it. Do not delete it: who holds it
    /// would not be alone.
    #[arg(long, value_name = "PATH")]
    at: Option<PathBuf>,
    /// The command to run.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Which lock.
enum Which {
    Named(Space, String),
    At(PathBuf),
}

pub fn run(arguments: Arguments) -> Outcome {
    let which = match (arguments.at, arguments.name) {
        (Some(path), _) => Which::At(path),
        (None, name) => Which::Named(Space::user()?, name.unwrap_or_default()),
    };
    // Whoever lists the lock's holders wants to know what runs, and the process is this one.
    let program = Path::new(&arguments.command[0]).file_name();
    let program = program.unwrap_or(&arguments.command[0]).to_string_lossy();
    let options = Options::new().label(&format!("corkboard lock: {program}"));
    let start = Instant::now();
    loop {
        let left = arguments.timeout.map_or(Duration::MAX, |timeout| {
            timeout.saturating_sub(start.elapsed())
        });
        let mut lock = which.open(&options)?;
        let guard = if arguments.shared {
            lock.read_timeout(left)
        } else {
            lock.write_timeout(left)
        };
        match guard {
            Ok(Some(guard)) => {
                let outcome = child::run(&arguments.command);
                drop(guard);
                return outcome;
            }
            Ok(None) => break,
            // A lock that is created anew is the one to wait for.
            Err(error) if error.kind() == ErrorKind::Removed => {}
            Err(error) => return Err(error.into()),
        }
    }
    complain(&which.gave_up());
    Err(Failure::Status(arguments.conflict_exit_code))
}

impl Which {
    fn open(&self, options: &Options) -> corkboard::Result<RwLock> {
        match self {
            Self::Named(space, name) => options.open(space, name),
            Self::At(path) => options.at(path),
        }
    }

    /// Says that the time has come, and who has the lock, as far as that is known.
    fn gave_up(&self) -> String {
        let (space, name) = match self {
            Self::Named(space, name) => (space, name),
            Self::At(path) => return format!("gave up waiting for lock file {path:?}"),
        };
        let handles = lock::stat(space, name).map(|stat| stat.handles);
        let holder = handles.iter().flatten().find(|handle| handle.is_holder());
        let held = holder.map_or(String::new(), |handle| {
            let label = harmless(&handle.label);
            format!("; process {} ({label}) holds it", handle.pid)
        });
        format!("gave up waiting for lock {name:?}{held}")
    }
}
