//! Room for the next record: what may be overwritten, and waiting until something may.

use std::time::Duration;

use super::super::layout::*;
use super::super::protocol;
use super::{Producer, SEND};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::hook;
use crate::participants::lock_byte;
use crate::sync::Ordering;
use crate::sys::map::Protection;
use crate::sys::process::no_fork;
use crate::sys::{barrier, lock, wait};
use crate::waking;

/// How often a producer without room looks for subscribers that died, and whether the stream is
/// still there.
pub(super) const SLICE: Duration = Duration::from_millis(5);
/// The same, where subscribers may not have seen that it waits.
const SHORT_SLICE: Duration = Duration::from_millis(2);
/// How often a wait for room looks before it sleeps, at most, and how long it pauses in between: who
/// looks takes the subscriber's line away from it.
pub(super) const MAX_SPINS: u32 = 64;
const PAUSES: u32 = 16;
/// Who does not look any more tries once in so many waits whether that would pay off again.
const RETRY: u32 = 16;
/// Room is made for one in so many of the records there are, at a time.
const SHARE: u64 = 8;

impl Producer {
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.fits(len, self.free, self.floor)
    }

    /// Whether there is room when records up to `free` may be overwritten, and what comes after
    /// them begins at `floor`.
    fn fits(&self, len: usize, free: u64, floor: u64) -> bool {
        let capacity = self.ring.geometry.capacity;
        let footprint = footprint(len);
        self.next - free <= self.ring.cells()
            && (footprint == 0
                || place(self.head, footprint, capacity) + footprint - floor <= capacity as u64)
    }

    /// Where in the arena what comes after this record begins.
    fn floor_after(&self, sequence: u64) -> Result<u64> {
        if sequence + 1 == self.next {
            return Ok(self.head);
        }
        let (place, _) = self.ring.extent(sequence + 1)?;
        if place > self.head {
            return Err(self.ring.contradictory());
        }
        Ok(place)
    }

    /// Reclaims records; `false` when subscribers still need too many.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(&mut self, len: usize) -> Result<bool> {
        self.note_tail();
        let newest = self.next - 1;
        let mut needed = self.free;
        while needed < newest && !self.fits(len, needed, self.floor_after(needed)?) {
            needed += 1;
        }
        let wanted = (needed + (newest - needed) / SHARE).min(newest);
        let reclaimed = self.ring.word(RECLAIMED);
        let free = if self.ring.overwrites() {
            protocol::withdraw(reclaimed, wanted);
            wanted
        } else {
            let (confirmed, table) = (self.ring.word(CONFIRMED), &self.table);
            let cursors = || {
                hook::point("send.scanning");
                table.pins().skip(PRODUCERS)
            };
            self.wanted = wanted;
            protocol::reclaim(reclaimed, confirmed, wanted, cursors)
        };
        hook::point("send.reclaimed");
        self.set_free(free)?;
        Ok(self.fits(len, self.free, self.floor))
    }

    /// May overwrite records up to this one.
    pub(super) fn set_free(&mut self, free: u64) -> Result<()> {
        // Who changed the words may have taken back what was confirmed.
        let used = (self.next - 1).checked_sub(free);
        if used.is_none_or(|used| used > self.ring.cells()) {
            return Err(self.ring.contradictory());
        }
        self.free = free;
        self.floor = self.floor_after(free)?;
        if self.has_turn() {
            self.limit = free + self.ring.cells() + 1;
        }
        Ok(())
    }

    /// Clears what dead subscribers left, if it is time to look for them, or sleeps until live ones
    /// have come far enough, or for a slice. `false` when there is no time left.
    pub(super) fn wait_for_room(&mut self, deadline: Deadline) -> Result<bool> {
        // By the clock: a sleep that signals keep interrupting never runs out, and who only tries
        // does not sleep.
        if self.looks.is_due() {
            self.ring.attachment.check_in_place(SEND)?;
            if self.reap()? {
                return Ok(true);
            }
        }
        let left = deadline.left();
        if left.is_zero() {
            return Ok(false);
        }
        if self.ring.overwrites() {
            return Ok(true);
        }
        if self.look_for_room() {
            return Ok(true);
        }
        let (room, wanted) = (self.ring.word(ROOM), self.ring.word(WANTED));
        let ticket = waking::ticket(room);
        let ours = self.wanted + 1;
        let _ = wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |found| {
            (found == 0 || ours < found).then_some(ours)
        });
        // Pairs with the subscribers' light fence: they see that we wait, or we their cursors.
        let slice = if barrier::heavy() { SLICE } else { SHORT_SLICE };
        if self.is_far_enough() {
            return Ok(true);
        }
        hook::point("send.waiting");
        wait::wait_low(room, ticket, left.min(slice));
        Ok(true)
    }

    /// Whether the subscribers have come as far as this producer waits for.
    fn is_far_enough(&self) -> bool {
        let cursors = self.table.pins().skip(PRODUCERS);
        protocol::slowest(cursors).is_some_and(|free| free >= self.wanted)
    }

    /// Waits without sleeping, for as long as that has been worth it lately: how long a sleep took
    /// says nothing, for waking alone may take longer than making room.
    fn look_for_room(&mut self) -> bool {
        self.waits = self.waits.wrapping_add(1);
        let spins = match self.waits.is_multiple_of(RETRY) {
            true => MAX_SPINS,
            false => self.spins,
        };
        for _ in 0..spins {
            if self.is_far_enough() {
                self.spins = MAX_SPINS;
                return true;
            }
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        self.spins /= 2;
        false
    }

    /// Clears the cursors of dead subscribers that hold us up; returns whether there were any.
    fn reap(&self) -> Result<bool> {
        let failed = |errno| Error::os(SEND, self.ring.attachment.object(), errno);
        let mut file = None;
        let mut is_any = false;
        for (index, cursor) in self.table.pins().skip(PRODUCERS).enumerate() {
            let found = cursor.load(Ordering::Relaxed);
            if found == 0 || found > self.wanted {
                continue;
            }
            // Through a description of its own, of which no child gets a copy: the file is closed
            // before others may fork.
            let (file, _no_fork) = match &file {
                Some(opened) => opened,
                None => {
                    let no_fork = no_fork();
                    &*file.insert((
                        self.ring.attachment.reopen(SEND, Protection::ReadWrite)?,
                        no_fork,
                    ))
                }
            };
            let byte = lock_byte(PRODUCERS + index);
            if lock::try_lock(file, byte).map_err(failed)? {
                hook::point("reap.locked");
                is_any |= cursor
                    .compare_exchange(found, 0, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
                hook::point("reap.cleared");
                lock::unlock(file, byte).map_err(failed)?;
            }
        }
        Ok(is_any)
    }
}
