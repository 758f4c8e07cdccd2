//! The block of the Windows C++ ShareMemory library: one file per action, and what they share.

mod bridge;
mod get;
mod put;
mod stat;
mod watch;

use std::time::Duration;

use corkboard::classic::{self, Dialect, Options};
use corkboard::{ErrorKind, Space};
use serde::Serialize;

use crate::exit::{Failure, Outcome, complain};
use crate::output::{print, print_json, print_value};
use crate::value::{encode, hexdump};

/// How long to wait for the turn among those who use a block.
const TURN: Duration = Duration::from_secs(1);

/// Share values with programs of the Windows C++ ShareMemory library.
///
/// On Windows the block is that library's own memory, with its lock. Elsewhere it is a file of the
/// space with the same bytes, ShareMemoryMap-NAME or SMM-NAME: captures can be put there.
///
/// The block's dialect is recognised, or must be what --dialect says. A block that is absent is
/// created in dialect seed. On Windows a block lasts as long as any program has it open.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard classic put weather --text sunny
  corkboard classic get weather
  corkboard classic watch weather --lines
  corkboard classic bridge weather weather    old writers feed new readers")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Put(put::Arguments),
    Get(get::Arguments),
    Stat(stat::Arguments),
    Watch(watch::Arguments),
    Bridge(bridge::Arguments),
}

pub fn run(arguments: Arguments) -> Outcome {
    match arguments.action {
        Action::Put(arguments) => put::run(arguments),
        Action::Get(arguments) => get::run(arguments),
        Action::Stat(arguments) => stat::run(arguments),
        Action::Watch(arguments) => watch::run(arguments),
        Action::Bridge(arguments) => bridge::run(arguments),
    }
}

/// Which block.
#[derive(clap::Args)]
struct Which {
    /// The block's name.
    name: String,
    /// The library's version; recognised when not given.
    #[arg(long, value_enum)]
    dialect: Option<DialectName>,
    /// When the system was started, in seconds since 1970 of the local time, as dialect current
    /// puts it before the names of its lock files.
    #[arg(long, value_name = "SECONDS")]
    boot_time: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DialectName {
    /// June 2022 to April 2023.
    Seed,
    /// April 2023 to June 2025.
    Untailed,
    /// Since June 2025.
    Current,
}

impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Self {
        match name {
            DialectName::Seed => Self::Seed,
            DialectName::Untailed => Self::Untailed,
            DialectName::Current => Self::Current,
        }
    }
}

impl Which {
    /// The dialect that was asked for, or the block's; `None` when there is no block to look at.
    fn dialect(&self, space: &Space) -> Result<Option<Dialect>, Failure> {
        if let Some(dialect) = self.dialect {
            return Ok(Some(dialect.into()));
        }
        match classic::recognise(space, &self.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            dialect => Ok(Some(dialect?)),
        }
    }

    fn options(&self, dialect: Dialect) -> Options {
        let options = Options::new(dialect).timeout(TURN);
        match self.boot_time {
            Some(seconds) => options.boot_time(seconds),
            None => options,
        }
    }

    /// Opens the block; `None` when it is absent.
    fn reader(&self, space: &Space) -> Result<Option<classic::Reader>, Failure> {
        let Some(dialect) = self.dialect(space)? else {
            return Ok(None);
        };
        match self.options(dialect).reader(space, &self.name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            reader => Ok(Some(reader?)),
        }
    }

    fn absence(&self, space: &Space) -> String {
        let mut absence = format!("there is no classic block {:?}", self.name);
        if let Some(asked) = self.dialect {
            absence += &format!(" of dialect {}", Dialect::from(asked));
        }
        if !cfg!(windows) {
            absence += &format!(" in {}", space.path().display());
        }
        if let Some(asked) = self.dialect
            && let Ok(found) = classic::recognise(space, &self.name)
            && found != asked.into()
        {
            absence += &format!("; there is one of dialect {found}");
        }
        absence
    }

    /// Nobody let us in for so long.
    fn held(&self) -> Failure {
        Failure::Refused(format!(
            "classic block {:?} is locked by another program; gave up waiting for it",
            self.name
        ))
    }

    fn removed(&self) -> Failure {
        Failure::Negative(format!("classic block {:?} was removed", self.name))
    }
}

/// In which form to print values.
#[derive(clap::Args)]
struct Form {
    /// Print a hexadecimal dump, like hexdump -C.
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// Print one JSON object: name, dialect, size, encoding, value.
    ///
    /// "encoding" says how "value" is to be taken: "utf-8", or "base64" where the bytes are not
    /// text.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    dialect: &'static str,
    size: usize,
    encoding: &'static str,
    value: String,
}

impl Form {
    fn show(&self, which: &Which, dialect: Dialect, value: &[u8], lines: bool) -> Outcome {
        if self.json {
            let (encoding, text) = encode(value);
            return print_json(&Json {
                name: &which.name,
                dialect: dialect.as_str(),
                size: value.len(),
                encoding,
                value: text,
            });
        }
        if self.hex {
            return print(hexdump(value).as_bytes());
        }
        print_value(value, lines)
    }
}

/// Whether a reader may go on after this: the next writer heals it.
fn passes(error: &corkboard::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Damaged | ErrorKind::NotFound
    )
}

/// How long to leave a flawed block alone.
const RESPITE: Duration = Duration::from_millis(20);

/// What is wrong with a block, told once until that is another thing.
#[derive(Default)]
struct Complaints(Option<String>);

impl Complaints {
    /// Says it, unless it was said last, and pauses: not every error is one that a reader waits
    /// for the end of by itself.
    fn say(&mut self, error: &corkboard::Error) {
        let message = error.to_string();
        if self.0.as_ref() != Some(&message) {
            complain(&message);
            self.0 = Some(message);
        }
        std::thread::sleep(RESPITE);
    }

    /// All is well again.
    fn forget(&mut self) {
        self.0 = None;
    }
}
