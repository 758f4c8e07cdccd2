//! Streams: a log of records, shared between processes. Producers append, and every subscriber
//! gets each record once, in order.
//!
//! A stream holds so many records and bytes. When it is full, a producer either waits for the
//! slowest subscriber ([`Overflow::Block`], the default: nothing is lost), or overwrites the oldest
//! records ([`Overflow::Overwrite`]: nobody waits, and who was overtaken is told how many it
//! missed). `docs/design.md` explains the protocol.
//!
//! # Examples
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-stream-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::stream::{From, Options, Subscriber};
//! let mut producer = Options::new().producer(&space, "log")?;
//! producer.send(b"started")?;
//! // In any other process:
//! let mut subscriber = Subscriber::open(&space, "log", From::Oldest)?;
//! let message = subscriber.recv(None)?.expect("sent above");
//! assert_eq!((message.sequence(), &*message), (1, &b"started"[..]));
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod layout;
mod loan;
mod options;
mod producer;
mod protocol;
mod ring;
mod stat;
mod subscriber;
mod watching;

use crate::error::Result;
use crate::object::Removal;
use crate::space::Space;

pub use crate::access::Access;
pub use crate::integrity::Integrity;
pub use loan::Loan;
pub use options::Options;
pub use producer::Producer;
pub(crate) use stat::wipe;
pub use stat::{Participant, Stat, stat};
pub use subscriber::{Message, Subscriber};

/// What happens when a stream is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Producers wait until the slowest live subscriber needs the oldest records no longer. Without
    /// a subscriber they wait, too.
    Block = 1,
    /// The oldest records are overwritten.
    Overwrite = 2,
}

/// How many handles may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerMode {
    /// One at a time, for the handle's life; others may stand by.
    Exclusive = 1,
    /// Many, taking turns for each record.
    Shared = 2,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the oldest record that is still there.
    Oldest,
    /// With the first record that is sent from now on.
    Newest,
    /// With this record, which may be yet to come. If it is gone, the first thing to be received
    /// is how many were missed.
    Sequence(u64),
}

impl Overflow {
    fn from_word(word: u64) -> Option<Self> {
        [Self::Block, Self::Overwrite]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

impl ProducerMode {
    fn from_word(word: u64) -> Option<Self> {
        [Self::Exclusive, Self::Shared]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

/// Removes a stream: handles on it say `Removed`.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    ring::remove(space, name, removal)
}
