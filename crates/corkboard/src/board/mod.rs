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

pub use crate::access::Access;
pub use crate::integrity::Integrity;
pub use loan::Loan;
pub use options::Options;
pub use reader::Reader;
pub use snapshot::{OwnedSnapshot, Snapshot};
pub use stat::{Participant, Stat, ValueType, stat};
pub use writer::Writer;

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
