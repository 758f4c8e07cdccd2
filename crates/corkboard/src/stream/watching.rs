//! Waiting for a stream's next record, apart from the handle that will receive it.

use std::sync::Arc;
use std::time::Duration;

use super::Subscriber;
use super::layout::WAITING;
use super::ring::{MAX_COUNT, Ring};
use super::subscriber::RECEIVE;
use crate::error::Result;
use crate::participants::Table;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::map::Protection;
use crate::sys::wait::Target;
use crate::wait::sealed::{self, Sleeper};
use crate::wait::{Notifier, Waitable};
use crate::waking;

/// A sleeping subscriber looks this often whether the stream is still there.
pub(super) const SLICE: Duration = Duration::from_millis(50);
/// One that nobody can wake looks this often for a record.
pub(super) const OBSERVER_SLICE: Duration = Duration::from_millis(2);

/// Says that somebody who has seen this record may sleep, if it may write there; for how long at
/// most. A fence and another look must follow.
pub(super) fn announce(ring: &Ring, seen: u64) -> Duration {
    if ring.attachment.protection == Protection::ReadOnly {
        return OBSERVER_SLICE;
    }
    waking::announce(ring.word(WAITING), seen as u32);
    SLICE
}

/// What a subscriber has seen.
struct Watching {
    ring: Arc<Ring>,
    /// Keeps the subscriber's entry as long as somebody watches for it.
    _table: Option<Arc<Table>>,
    seen: AtomicU64,
}

impl Watching {
    fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// The stamp at which the record after the last one seen will be; 0 for what no stamp can be.
    fn next_stamp(&self) -> u64 {
        let found = self.ring.stamp(self.seen() + 1).load(Ordering::Acquire);
        if found > MAX_COUNT { 0 } else { found }
    }

    fn is_newer(&self) -> bool {
        self.next_stamp() > self.seen()
    }
}

impl Sleeper for Watching {
    fn is_ready(&self) -> bool {
        self.is_gone() || self.is_newer()
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        let stamp = self.ring.stamp(self.seen() + 1);
        // Before the look, so that it is not the stamp of a newer one.
        let found = stamp.load(Ordering::Relaxed);
        if self.is_ready() {
            return None;
        }
        let slice = announce(&self.ring, self.seen());
        Some((Target::new(stamp, found as u32), slice))
    }

    fn acknowledge(&self) {
        // One that was lapped goes on with what is left.
        let left = self.ring.reclaimed().unwrap_or(0);
        let mut seen = self.seen().max(left);
        for _ in 0..self.ring.cells() {
            if self.ring.stamp(seen + 1).load(Ordering::Relaxed) != seen + 1 {
                break;
            }
            seen += 1;
        }
        self.seen.store(seen, Ordering::Relaxed);
        // What contradicts all that is told once, too.
        let ahead = self.next_stamp();
        if ahead > seen + 1 {
            self.seen.store(ahead, Ordering::Relaxed);
        }
    }

    fn is_gone(&self) -> bool {
        !self.ring.attachment.is_usable()
    }

    fn is_in_place(&self) -> bool {
        self.ring.attachment.is_in_place()
    }
}

impl Waitable for Subscriber {}

impl sealed::Waitable for Subscriber {
    fn is_ready(&mut self) -> Result<bool> {
        self.ring().attachment.check_usable(RECEIVE)?;
        Ok(Subscriber::is_ready(self))
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        Box::new(Watching {
            ring: self.ring().clone(),
            _table: self.table().cloned(),
            seen: AtomicU64::new(self.seen()),
        })
    }

    fn check_in_place(&self) -> Result<()> {
        self.ring().attachment.check_in_place(RECEIVE)
    }
}

impl Subscriber {
    /// A file descriptor that becomes readable when there is a record that this handle has not
    /// received, at each record after that, and when the stream is removed.
    ///
    /// # Errors
    /// `Forked`, `Removed`; `Io` when the process has no descriptors or threads left.
    ///
    /// # If a process dies
    /// *Recovers*, as [`recv`](Self::recv).
    pub fn notifier(&self) -> Result<Notifier> {
        self.ring().attachment.check_usable(RECEIVE)?;
        Notifier::new(self)
    }

    /// Is ready when there is something to receive; then [`try_recv`](Self::try_recv) it. Needs no
    /// particular runtime, and can be dropped at any time.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # If a process dies
    /// *Recovers*, as [`recv`](Self::recv).
    #[cfg(feature = "async")]
    pub fn arrived(&mut self) -> crate::wait::Changed<'_> {
        crate::wait::Changed::new(self)
    }
}
