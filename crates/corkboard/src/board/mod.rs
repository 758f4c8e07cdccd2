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

mod attached;
pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod layout;
mod loan;
mod options;
pub(crate) mod protocol;
mod reader;
mod small;
mod snapshot;
mod stat;
mod typed;
mod watching;
mod writer;

pub use crate::space::Access;
pub use loan::Loan;
pub use options::Options;
pub use reader::Reader;
pub use snapshot::{OwnedSnapshot, Snapshot};
pub use stat::{Participant, Stat, ValueType, stat};
pub use writer::Writer;

use crate::integrity::Checksums;

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
    pub(crate) fn checksums(self) -> Checksums {
        match self {
            Self::Crc64 => Checksums::new(),
            Self::None => Checksums::NONE,
        }
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
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
