use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use corkboard::board::{Options, Writer, WriterMode};
use corkboard::{ErrorKind, Space};

use super::parse_bytes;
use crate::exit::Failure;

/// Publish a value: a file's bytes, standard input's, or a text.
#[derive(clap::Args)]
pub struct Arguments {
    /// The board's name; it is created if absent.
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
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let space = Space::user()?;
    let value = value(&arguments)?;
    let turn = Duration::from_secs(1);
    let mut options = Options::new().writer_timeout(turn);
    if let Some(capacity) = arguments.capacity {
        options = options.capacity(capacity);
    }
    let mut writer = match Writer::open(&space, &arguments.name) {
        Ok(writer)
            if arguments
                .capacity
                .is_none_or(|bytes| bytes == writer.capacity()) =>
        {
            writer
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let capacity = arguments.capacity.unwrap_or(value.len().max(1 << 20));
            let shared = options
                .clone()
                .capacity(capacity)
                .writer_mode(WriterMode::Shared);
            match shared.writer(&space, &arguments.name) {
                // Somebody else created it meanwhile, with other options.
                Err(error) if error.kind() == ErrorKind::Incompatible => {
                    options.writer(&space, &arguments.name)?
                }
                result => result?,
            }
        }
        // An exclusive writer has it, or the capacity differs: wait for the turn, or be told.
        Ok(_) => options.writer(&space, &arguments.name)?,
        Err(error) if error.kind() == ErrorKind::WriterExists => {
            options.writer(&space, &arguments.name)?
        }
        Err(error) => return Err(error.into()),
    };
    writer.publish(&value)?;
    Ok(())
}

fn value(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    if let Some(text) = &arguments.text {
        return Ok(text.clone().into_bytes());
    }
    match arguments
        .file
        .as_deref()
        .filter(|file| file.as_os_str() != "-")
    {
        Some(file) => std::fs::read(file)
            .map_err(|source| Failure::Io(format!("cannot read {}", file.display()), source)),
        None => {
            let mut value = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut value)
                .map_err(|source| Failure::Io("cannot read standard input".into(), source))?;
            Ok(value)
        }
    }
}
