//! Waiting for a board's next value, apart from the handle that will read it.

use std::sync::Arc;
use std::time::Duration;

use super::attached::Attached;
use super::layout::unpack;
use super::protocol::{self, BUSY, GONE};
use super::reader::{READ, Reader};
use super::small::SmallSlots;
use crate::error::Result;
use crate::participants::Table;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::wait::Target;
use crate::wait::sealed::{self, Sleeper};
use crate::wait::{Notifier, Waitable};

/// A sleeping reader looks this often whether the board is still there.
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// One that nobody can wake looks this often for a value.
pub(super) const OBSERVER_SLICE: Duration = Duration::from_millis(2);

/// What a reader may sleep on: a word, while its low half is that, and for how long at most.
pub(super) type Sleep<'a> = (&'a AtomicU64, u32, Duration);

/// Says that a reader may sleep, if it has a table to say it in. A fence and another look must
/// follow.
#[inline]
pub(super) fn announce<'a>(board: &'a Attached, table: Option<&'a Table>) -> Sleep<'a> {
    let latest = board.latest();
    let Some(table) = table else {
        return (
            latest,
            latest.load(Ordering::Relaxed) as u32,
            OBSERVER_SLICE,
        );
    };
    let [waiting, _, bell] = table.wake_words();
    let ticket = protocol::ticket(bell);
    protocol::announce(waiting, latest.load(Ordering::Relaxed) as u32);
    (bell, ticket, SLICE)
}

const WAIT: &str = "wait for";

/// What a reader has seen, and where the next value will be.
struct Watching {
    board: Arc<Attached>,
    /// The slots of a small board, which `board` outlives.
    small: Option<SmallSlots>,
    table: Option<Arc<Table>>,
    seen: AtomicU64,
}

impl Watching {
    /// The newest published sequence, at least as new as what a reader could see by now.
    fn newest(&self) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        let stamp = match &self.small {
            // Before the latest word, which is then one behind it at most.
            Some(small) => small.stamp(seen + 1).load(Ordering::Acquire),
            None => 0,
        };
        let (_, latest) = unpack(self.board.latest().load(Ordering::Acquire));
        // The writer may not have come to the latest word yet, or have died before it. What is
        // further ahead no writer left there: it would be told for ever.
        if protocol::is_newer(stamp, seen) && stamp & !(BUSY | GONE) <= latest + 2 {
            latest.max(seen + 1)
        } else {
            latest
        }
    }
}

impl Sleeper for Watching {
    fn is_ready(&self) -> bool {
        // An error that passes is no news; any other one makes the board gone.
        let is_fresh = self.board.refresh(READ).is_ok();
        self.is_gone() || is_fresh && self.newest() > self.seen.load(Ordering::Relaxed)
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        if self.board.refresh(READ).is_err() && self.is_gone() {
            return None;
        }
        if self.is_ready() {
            return None;
        }
        let (word, expected, slice) = announce(&self.board, self.table.as_deref());
        Some((Target::new(word, expected), slice))
    }

    fn came_meanwhile(&self) -> bool {
        // What is not mapped does not change meanwhile.
        self.board.is_mapped && self.is_ready()
    }

    fn acknowledge(&self) {
        self.seen.store(self.newest(), Ordering::Relaxed);
    }

    fn is_gone(&self) -> bool {
        !self.board.is_usable()
    }

    fn is_in_place(&self) -> bool {
        self.board.is_in_place()
    }
}

impl Waitable for Reader {}

impl sealed::Waitable for Reader {
    fn is_ready(&mut self) -> Result<bool> {
        self.held().board.refresh(READ)?;
        self.held().board.check_usable(READ)?;
        Ok(self.is_newer())
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        let board = self.held().board.clone();
        Box::new(Watching {
            // SAFETY: the sleeper owns a share of the board as long as it has the slots.
            small: unsafe { SmallSlots::new(&board) },
            table: self.table().cloned(),
            seen: AtomicU64::new(self.seen()),
            board,
        })
    }

    fn check_in_place(&self) -> Result<()> {
        self.check_in_place()
    }
}

impl Reader {
    /// A file descriptor that becomes readable when there is a value newer than the last one this
    /// handle returned, at each publication after that, and when the board is removed.
    ///
    /// As long as it lives, the notifier shares this handle's entry in the readers' table, and a
    /// value that the handle held in place when it was dropped stays there.
    ///
    /// # Errors
    /// `Forked`; `Io` when the process has no descriptors or threads left.
    ///
    /// # If a process dies
    /// *Recovers*, as [`wait`](Self::wait).
    pub fn notifier(&self) -> Result<Notifier> {
        self.held().board.check_generation(WAIT)?;
        Notifier::new(self)
    }

    /// Is ready when there is a value newer than the last one this handle returned; then
    /// [`read`](Self::read) it. Needs no particular runtime, and can be dropped at any time.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// *Recovers*, as [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub fn changed(&mut self) -> crate::wait::Changed<'_> {
        crate::wait::Changed::new(self)
    }
}
