use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corkboard::board::{self, Options, Reader, Writer, WriterMode};
use corkboard::{ErrorKind, Kind, Space};
use indicatif::{ProgressBar, ProgressStyle};

use super::parse_bytes;
use crate::exit::{Failure, Outcome, complain};

/// How long reading lasts before a progress bar appears.
const PATIENCE: Duration = Duration::from_millis(500);

/// Publish a value: a file's bytes, standard input's, or a text.
///
/// The board is created if absent, so that several can publish to it; each waits at most one
/// second for its turn. A value longer than the board's capacity is refused, and the old value
/// stays; a board keeps its capacity until it is removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  date | corkboard put clock
  corkboard put weather --text sunny
  corkboard put camera frame.rgb --capacity 64MiB")]
pub struct Arguments {
    /// The board's name.
    name: String,
    /// The file to publish; `-`, the default, is standard input.
    file: Option<PathBuf>,
    /// Publish this text instead.
    #[arg(long, conflicts_with = "file", value_name = "VALUE")]
    text: Option<String>,
    /// The longest value that a new board holds, like 65536 or 64MiB; by default 1 MiB, or the
    /// value's length if that is more.
    #[arg(long, value_parser = parse_bytes)]
    capacity: Option<usize>,
    /// Stay, and keep the board, until it is removed or this command is ended. On Windows a board
    /// lives only as long as some process has it open; on Linux it needs nobody.
    #[arg(long)]
    hold: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let existing = board::stat(&space, &arguments.name).ok();
    let existing = existing.map(|stat| stat.capacity);
    // Endless input must not fill the memory before it is refused, and a value that is too long
    // must not leave a board without a value behind.
    let limit = arguments.capacity.or(existing);
    let value = value(arguments.text.as_deref(), arguments.file.as_deref(), limit)?;
    match limit {
        Some(limit) if value.len() > limit => {
            return Err(too_long(&arguments, existing, limit, &value));
        }
        _ => {}
    }
    let (mut writer, is_new) = open(&space, &arguments.name, arguments.capacity, value.len())?;
    if let Err(error) = writer.publish(&value) {
        drop(writer);
        if is_new {
            discard(&space, &arguments.name);
        }
        return Err(error.into());
    }
    if arguments.hold {
        return hold(&space, &arguments.name, writer);
    }
    if cfg!(windows) && is_alone(&space, &arguments.name) {
        complain(&format!(
            "nobody else has board {:?} open, so it ends with this command; keep it with --hold",
            arguments.name
        ));
    }
    Ok(())
}

/// Whether nobody but this process has the board open.
fn is_alone(space: &Space, name: &str) -> bool {
    board::stat(space, name).is_ok_and(|stat| {
        let (writers, readers) = (stat.writers.as_deref(), stat.readers.as_deref());
        let all = writers
            .unwrap_or_default()
            .iter()
            .chain(readers.unwrap_or_default());
        all.filter(|participant| participant.is_alive)
            .all(|participant| participant.pid == std::process::id())
    })
}

/// Keeps the board until it is removed; others may write to it meanwhile.
fn hold(space: &Space, name: &str, writer: Writer) -> Outcome {
    let mut reader = Reader::open(space, name)?;
    drop(writer);
    loop {
        match reader.wait(None) {
            Err(error) if error.kind() == ErrorKind::Removed => return Ok(()),
            // What is wrong with a value is no reason to let go.
            _ => {}
        }
    }
}

fn too_long(arguments: &Arguments, existing: Option<usize>, limit: usize, value: &[u8]) -> Failure {
    let name = &arguments.name;
    // Reading stopped there.
    let has = match arguments.text {
        Some(_) => format!("has {} bytes", value.len()),
        None => "is longer".to_owned(),
    };
    let remedy = match existing {
        Some(_) => format!(
            "remove the board (corkboard rm {}), and put with a larger --capacity",
            quoted(name)
        ),
        None => "give a larger --capacity".into(),
    };
    Failure::Refused(format!(
        "cannot write to board {name:?}: the value {has}, the capacity is {limit}; {remedy}"
    ))
}

/// As a shell takes it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Removes the board that this process has created and could not publish to, unless somebody uses
/// it: it would have the wrong capacity for a corrected try.
fn discard(space: &Space, name: &str) {
    let is_unused = board::stat(space, name).is_ok_and(|stat| {
        let writers = stat.writers.unwrap_or_default();
        let is_anyone = writers.iter().any(|writer| writer.is_alive);
        stat.sequence == 0 && !is_anyone
    });
    if is_unused {
        // What went wrong before is what is told.
        let _ = space.remove(Kind::Board, name);
    }
}

/// Opens the board or creates it, and tells whether it did.
pub fn open(
    space: &Space,
    name: &str,
    capacity: Option<usize>,
    len: usize,
) -> Result<(Writer, bool), Failure> {
    let mut options = Options::new().writer_timeout(Duration::from_secs(1));
    if let Some(capacity) = capacity {
        options = options.capacity(capacity);
    }
    match options.open_writer(space, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => return Ok((result?, false)),
    }
    let capacity = capacity.unwrap_or(len.max(1 << 20));
    let shared = options
        .clone()
        .capacity(capacity)
        .writer_mode(WriterMode::Shared);
    match shared.writer(space, name) {
        // Somebody else created it meanwhile, with other options.
        Err(error) if error.kind() == ErrorKind::Incompatible => {
            Ok((options.writer(space, name)?, false))
        }
        result => Ok((result?, true)),
    }
}

/// The text, or what is in the file or standard input: to its end, or one byte more than the
/// limit.
pub fn value(
    text: Option<&str>,
    file: Option<&Path>,
    limit: Option<usize>,
) -> Result<Vec<u8>, Failure> {
    if let Some(text) = text {
        return Ok(text.as_bytes().to_vec());
    }
    let file = file.filter(|file| *file != Path::new("-"));
    let what = match file {
        Some(file) => format!("cannot read {}", file.display()),
        None => "cannot read standard input".into(),
    };
    let failed = |source| Failure::Io(what.clone(), source);
    let (mut input, len): (Box<dyn Read>, _) = match file {
        Some(file) => {
            let file = File::open(file).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        }
        None => (Box::new(std::io::stdin().lock()), None),
    };
    // Who types the value knows how far it got.
    let is_typed = file.is_none() && std::io::stdin().is_terminal();
    let may_show = std::io::stderr().is_terminal() && !is_typed;
    read(&mut input, len, limit, may_show).map_err(failed)
}

/// Reads to the end, or one byte more than the limit. Who waits long for it sees how far it got,
/// if there is anyone to see it.
fn read(
    mut input: &mut dyn Read,
    len: Option<u64>,
    limit: Option<usize>,
    may_show: bool,
) -> std::io::Result<Vec<u8>> {
    const PIECE: u64 = 1 << 20;
    let mut value = Vec::new();
    let start = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let most = limit.map_or(u64::MAX, |limit| limit as u64 + 1);
    loop {
        let wanted = PIECE.min(most - value.len() as u64);
        if wanted == 0 || (&mut input).take(wanted).read_to_end(&mut value)? == 0 {
            break;
        }
        if bar.is_none() && may_show && start.elapsed() > PATIENCE {
            bar = Some(progress(len));
        }
        if let Some(bar) = &bar {
            bar.set_position(value.len() as u64);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(value)
}

fn progress(len: Option<u64>) -> ProgressBar {
    let (bar, template) = match len {
        Some(len) => (
            ProgressBar::new(len),
            "reading {wide_bar} {bytes}/{total_bytes} {elapsed}",
        ),
        None => (ProgressBar::no_length(), "reading {bytes} {elapsed}"),
    };
    bar.with_elapsed(PATIENCE)
        .with_style(ProgressStyle::with_template(template).expect("the template is well formed"))
}
