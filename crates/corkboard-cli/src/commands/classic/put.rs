use std::path::PathBuf;

use corkboard::Space;
use corkboard::classic::Dialect;

use super::{TURN, Which};
use crate::commands::{parse_bytes, put};
use crate::exit::{Failure, Outcome, complain};

/// Write a block's content: a file's bytes, standard input's, or a text.
///
/// The block is created if absent. Content that is longer than the block's capacity is refused, and
/// what was there stays. Waits at most one second for its turn.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  date | corkboard classic put clock
  corkboard classic put weather --text sunny --dialect untailed
  corkboard classic put weather --text sunny --hold &")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The file to write; `-`, the default, is standard input.
    file: Option<PathBuf>,
    /// Write this text instead.
    #[arg(long, conflicts_with = "file", value_name = "VALUE")]
    text: Option<String>,
    /// The longest content that there must be room for, like 65536 or 64MiB; a new block has 1 MiB,
    /// or the content's length if that is more.
    #[arg(long, value_parser = parse_bytes)]
    capacity: Option<usize>,
    /// Keep the block open until this process is ended: on Windows it would be gone otherwise,
    /// unless another program has it open.
    #[arg(long)]
    hold: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let which = &arguments.which;
    let existing = match which.reader(&space)? {
        Some(mut reader) => Some((reader.dialect(), reader.capacity()?)),
        None => None,
    };
    let asked = which.dialect.map(Dialect::from);
    let dialect = asked.or(existing.map(|(dialect, _)| dialect));
    let limit = existing
        .map(|(_, capacity)| capacity)
        .or(arguments.capacity);
    let value = put::value(arguments.text.as_deref(), arguments.file.as_deref(), limit)?;
    if let Some(limit) = limit.filter(|limit| value.len() > *limit) {
        let remedy = match existing {
            Some(_) => "shorten it, or create the block anew",
            None => "give a larger --capacity",
        };
        return Err(Failure::Refused(format!(
            "cannot write to classic block {:?}: the content is longer than the capacity of {limit}; {remedy}",
            which.name
        )));
    }
    let mut options = which.options(dialect.unwrap_or(Dialect::Seed));
    if let Some(capacity) = arguments.capacity {
        options = options.capacity(capacity);
    } else if existing.is_none() {
        options = options.capacity(value.len().max(1 << 20));
    }
    let mut writer = options.writer(&space, &which.name)?;
    if !writer.write_timeout(&value, TURN)? {
        return Err(which.held());
    }
    if arguments.hold {
        loop {
            std::thread::park();
        }
    }
    if cfg!(windows) && existing.is_none() {
        complain(&format!(
            "classic block {:?} goes now, unless another program has it open; keep it with --hold",
            which.name
        ));
    }
    Ok(())
}
