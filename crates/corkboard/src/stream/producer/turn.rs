//! Whose turn it is to append.

use std::time::Duration;

use super::super::ProducerMode;
use super::super::layout::{CONFIRMED, PRODUCERS, RECLAIMED, TAIL};
use super::super::protocol;
use super::{Producer, SEND};
use crate::error::Result;
use crate::hook;
use crate::mutex::{self, Outcome};
use crate::participants;
use crate::sync::Ordering;
use crate::sys::map::Protection;

impl Producer {
    /// Whether the turn lasts as long as the handle: the stream is exclusive.
    #[inline]
    pub(in crate::stream) fn has_turn(&self) -> bool {
        self.ring.geometry.mode == ProducerMode::Exclusive
    }

    /// Takes the turn, or returns who keeps it.
    pub(super) fn take_turn(&mut self, timeout: Duration) -> Result<Option<usize>> {
        let ring = self.ring.clone();
        let while_dead = |holder, exchange: &mut dyn FnMut()| {
            let open = || ring.attachment.reopen(SEND, Protection::ReadWrite);
            participants::while_dead(&ring.attachment.object(), holder, open, exchange)
        };
        let outcome = mutex::lock(ring.mutex(), self.entry, PRODUCERS, timeout, &while_dead)
            .map_err(|error| error.on(ring.attachment.object()))?;
        if let Outcome::HeldBy(holder) = outcome {
            return Ok(Some(holder));
        }
        hook::point("turn.taken");
        self.look_up()
            .inspect_err(|_| mutex::unlock(ring.mutex(), self.entry))?;
        Ok(None)
    }

    /// Finds out where the last producer was.
    fn look_up(&mut self) -> Result<()> {
        let ring = &*self.ring;
        let newest = ring.newest()?;
        let reclaimed = ring.word(RECLAIMED);
        let free = match ring.overwrites() {
            true => reclaimed.load(Ordering::Relaxed),
            false => protocol::take_back(reclaimed, ring.word(CONFIRMED)),
        };
        self.next = newest + 1;
        self.head = match newest {
            0 => 0,
            newest => ring.extent(newest)?.1,
        };
        self.set_free(free)
    }

    /// Remembers where those begin to look who look for the newest record.
    pub(super) fn note_tail(&self) {
        // Release: who finds it finds that record stamped.
        self.ring.word(TAIL).store(self.next - 1, Ordering::Release);
    }
}
