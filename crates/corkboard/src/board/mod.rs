//! Boards: the latest value of a name, shared between processes.
//!
//! A writer replaces the value, readers see the newest whole one; values in between may be
//! skipped. `docs/design.md` explains the protocol.
//!
//! # Examples
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::board::{Options, Reader};
//! let mut writer = Options::new().writer(&space, "greeting")?;
//! writer.publish(b"hello, world")?;
//! let mut reader = Reader::open(&space, "greeting")?;
//! assert_eq!(&*reader.read()?.expect("published above"), b"hello, world");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod files;
pub(crate) mod layout;
mod mutex;
mod reader;
mod writer;

use std::time::Duration;

pub use crate::space::Access;
pub use reader::{OwnedSnapshot, Reader, Snapshot};
pub use writer::{Loan, Writer};

use crate::error::Result;
use crate::space::Space;

/// What guards a value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// A CRC-64/XZ, computed at publication and checked once per publication by each reader.
    Crc64 = 1,
    /// Nothing; values are still never torn.
    None = 2,
}

/// What a publication's time is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// The kernel's coarse clock: cheap, a few milliseconds of resolution.
    Coarse = 1,
    /// The kernel's fine clock.
    Precise = 2,
    /// No time is recorded.
    None = 3,
}

/// How many handles may publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterMode {
    /// One at a time, for the handle's life; others may stand by.
    Exclusive = 1,
    /// Many, taking turns for each publication.
    Shared = 2,
}

impl Integrity {
    fn from_word(word: u64) -> Option<Self> {
        [Self::Crc64, Self::None]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

impl Timestamp {
    fn from_word(word: u64) -> Option<Self> {
        [Self::Coarse, Self::Precise, Self::None]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

impl WriterMode {
    fn from_word(word: u64) -> Option<Self> {
        [Self::Exclusive, Self::Shared]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

/// How to create or open a board for writing.
///
/// What is left unset adopts an existing board's; what is set must match it. A new board gets a
/// capacity of 1 MiB, 62 readers, [`Integrity::Crc64`], [`Timestamp::Coarse`],
/// [`WriterMode::Exclusive`] and [`Access::Owner`] both ways.
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: Option<usize>,
    max_readers: Option<u32>,
    integrity: Option<Integrity>,
    timestamp: Option<Timestamp>,
    writer_mode: Option<WriterMode>,
    writer_timeout: Option<Duration>,
    readers: Access,
    writers: Access,
}

impl Options {
    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest value in bytes. Memory is used only as values need it.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// How many readers can hold a snapshot in place; more are possible, and copy.
    pub fn max_readers(mut self, readers: u32) -> Self {
        self.max_readers = Some(readers);
        self
    }

    /// What guards the bytes.
    pub fn integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = Some(integrity);
        self
    }

    /// Which clock publications carry.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// How many handles may publish.
    pub fn writer_mode(mut self, mode: WriterMode) -> Self {
        self.writer_mode = Some(mode);
        self
    }

    /// How long to wait for another writer: to end, on an exclusive board (by default not at
    /// all); for its publication, on a shared one (by default a second).
    pub fn writer_timeout(mut self, timeout: Duration) -> Self {
        self.writer_timeout = Some(timeout);
        self
    }

    /// Who may read a board that this call creates, whatever the umask.
    pub fn readers(mut self, access: Access) -> Self {
        self.readers = access;
        self
    }

    /// Who may write to a board that this call creates, whatever the umask.
    pub fn writers(mut self, access: Access) -> Self {
        self.writers = access;
        self
    }

    /// Creates the board, or opens it, for writing.
    ///
    /// # Errors
    /// `InvalidName`; `Incompatible` when an existing board differs from a set option;
    /// `WriterExists` when another exclusive writer is alive after the time-out; `Unsupported`
    /// when the space is not on tmpfs; `Damaged`, `NoSpace`, `Full`, `PermissionDenied`, `Io`.
    ///
    /// # Blocking
    /// On an exclusive board for at most [`writer_timeout`](Self::writer_timeout).
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden directory that nobody opens; a dead
    /// writer's place is taken within two 10 ms slices of its release by the kernel.
    pub fn writer(&self, space: &Space, name: &str) -> Result<Writer> {
        Writer::create_or_open(space, name, self)
    }
}
