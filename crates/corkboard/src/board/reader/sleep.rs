//! Waiting for a value that is newer.

use std::time::{Duration, Instant};

use super::super::layout::STATE_LIVE;
use super::super::protocol;
use super::super::watching::{self, OBSERVER_SLICE, SLICE};
use super::fetch::ATTEMPTS;
use super::{READ, Reader};
use crate::error::Result;
use crate::hook;
use crate::spins;
use crate::sync::{Ordering, fence};
use crate::sys::{barrier, clock, wait};

impl Reader {
    /// Looks for a newer value for as long as that has been worth it; whether there is one.
    #[inline(never)]
    pub(super) fn spin(&mut self) -> bool {
        for _ in 0..self.spins {
            if self.is_newer() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Sleeps until there is a newer value, and takes it; `false` on time-out.
    #[inline(never)]
    pub(super) fn await_newer(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.map_or(u64::MAX, nanoseconds);
        let mut left = timeout;
        if left == 0 {
            return Ok(false);
        }
        let begin = clock::monotonic();
        let (mut last_look, mut futile) = (begin, 0);
        loop {
            let timed_out = self.sleep(left);
            if self.take_newer()? {
                return Ok(true);
            }
            // Something is there that cannot be had, so nobody sleeps.
            futile = if self.is_newer() { futile + 1 } else { 0 };
            if futile > ATTEMPTS {
                return Err(self.board().contradictory(READ));
            }
            let now = clock::monotonic();
            // By the clock: a sleep that signals keep interrupting never runs out.
            if timed_out || now.saturating_sub(last_look) >= nanoseconds(SLICE) {
                last_look = now;
                self.check_in_place()?;
            }
            left = timeout.saturating_sub(now.saturating_sub(begin));
            if left == 0 {
                return Ok(false);
            }
        }
    }

    /// Sleeps for at most so many nanoseconds; returns whether they, or a slice, went by.
    #[inline]
    fn sleep(&mut self, left: u64) -> bool {
        let table = self.table().map(|table| &**table);
        let (word, expected, slice) = watching::announce(self.board(), table);
        // Pairs with the writer's fence after publishing, if it makes one.
        fence(Ordering::SeqCst);
        let is_settled = table.is_none_or(|table| {
            let [_, fenced, _] = table.wake_words();
            protocol::ask_for_fences(fenced, barrier::heavy)
        });
        let slice = if is_settled { slice } else { OBSERVER_SLICE };
        let state = self.board().state().load(Ordering::Relaxed);
        if state != STATE_LIVE || self.is_newer() {
            return false;
        }
        hook::point("wait.announced");
        let slice = Duration::from_nanos(left.min(nanoseconds(slice)));
        // Who does not look any more finds out now and then whether that would pay off again.
        let sleeps = self.sleeps.wrapping_add(1);
        let learns = self.spins > 0 || sleeps.is_multiple_of(16);
        let begin = learns.then(Instant::now);
        let timed_out = wait::wait_low(word, expected, slice);
        self.sleeps = sleeps;
        if let Some(begin) = begin {
            self.spins = spins::after_sleep(self.spins, begin.elapsed());
        }
        timed_out
    }
}

/// As many as fit; those of a time-out that does not are for ever.
#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
