//! What there is to know about a block, and of which dialect it is.

use std::time::Duration;

use super::format::{Dialect, Header};
use super::handle::{Handle, Mode, Target};
use super::{Options, platform};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::space::Space;

/// How long to wait for the lock before the content is called unknown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look at the marks of a block whose header changes meanwhile.
const GUESSES: u32 = 8;

/// A block at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// Which layout and names it has.
    pub dialect: Dialect,
    /// The size that its header states: content, header and tail.
    pub memory_size: usize,
    /// The longest content that there is room for, by that size.
    pub capacity: usize,
    /// The memory that is really there, in bytes.
    pub view_len: usize,
    /// The length of the content.
    pub len: usize,
    /// The checksum that the header states.
    pub checksum: u64,
    /// Whether the content matches it; `None` when a writer held the lock for a second.
    pub is_intact: Option<bool>,
    /// The word at 12: the size of the tail, or padding.
    pub tail_size: i32,
    /// The reserved field.
    pub reserved: i32,
}

/// Looks at a block: of that dialect, or else of the one that it is [recognised](recognise) as.
/// Changes nothing.
///
/// # Errors
/// As [`recognise`] and [`Options::stat`].
///
/// # Blocking
/// As [`Options::stat`].
///
/// # If a process dies
/// *Recovers*: it only looks.
pub fn stat(space: &Space, name: &str, dialect: Option<Dialect>) -> Result<Stat> {
    let dialect = match dialect {
        Some(dialect) => dialect,
        None => recognise(space, name)?,
    };
    Options::new(dialect).stat(space, name)
}

impl Options {
    /// Looks at a block. Changes nothing.
    ///
    /// # Errors
    /// As [`Reader::open`](super::Reader::open). Content that does not match its checksum is none,
    /// but told by [`Stat::is_intact`].
    ///
    /// # Blocking
    /// For a second at most, while a writer holds the lock.
    ///
    /// # If a process dies
    /// *Recovers*: it only looks.
    pub fn stat(&self, space: &Space, name: &str) -> Result<Stat> {
        let mut handle = Handle::open(space, self.target(name)?, Mode::Read)?;
        let shape = handle.shape("look at")?;
        let Header {
            memory_size,
            tail_size,
            crc,
            reserved,
            ..
        } = handle.header()?;
        Ok(Stat {
            dialect: self.dialect,
            memory_size: usize::try_from(memory_size).unwrap_or(0),
            capacity: shape.capacity,
            view_len: handle.view_len()?,
            len: shape.len,
            checksum: crc,
            is_intact: handle.verify(Deadline::after(PATIENCE))?,
            tail_size,
            reserved,
        })
    }
}

/// Tells of which dialect an existing block is, by its name and its marks.
///
/// # Errors
/// `NotFound` when there is none; `Incompatible` when there are two, under the older and the newer
/// name; otherwise as [`Reader::open`](super::Reader::open).
///
/// # If a process dies
/// *Recovers*: it only looks.
pub fn recognise(space: &Space, name: &str) -> Result<Dialect> {
    let target = |dialect| Options::new(dialect).target(name);
    let is_there = |target: &Target| platform::exists(space, target);
    let (older, newer) = (target(Dialect::Seed)?, target(Dialect::Current)?);
    match (is_there(&older)?, is_there(&newer)?) {
        (false, false) => {
            let cause = "it does not exist; start a program that writes to it";
            let (kind, object) = (ErrorKind::NotFound, older.object());
            Err(Error::new(kind, "open", object, cause))
        }
        (true, true) => {
            let cause = "there are two of that name, of an older dialect and of the current one; say which is meant";
            let (kind, object) = (ErrorKind::Incompatible, older.object());
            Err(Error::new(kind, "recognise", object, cause))
        }
        (false, true) => Ok(Dialect::Current),
        (true, false) => {
            let mut guesses = 1;
            loop {
                let header = Handle::attach(space, older.clone(), Mode::Read)?.header()?;
                let dialect = header.dialect();
                match Handle::open(space, target(dialect)?, Mode::Read) {
                    // Its header was being written when we looked at its marks.
                    Err(error) if error.kind() == ErrorKind::Incompatible && guesses < GUESSES => {
                        guesses += 1;
                    }
                    outcome => return outcome.map(|_| dialect),
                }
            }
        }
    }
}
