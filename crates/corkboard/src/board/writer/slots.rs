//! Slots to write into, and memory behind them.

use super::super::layout::RELEASES;
use super::super::protocol::{self, BATCH, Reserved, SlotSet};
use super::{WRITE, Writer};
use crate::error::{ErrorKind, Result};
use crate::hook;
use crate::sync::Ordering;
use crate::sys::Errno;
use crate::sys::map::{Protection, no_space};

const ROUNDS: usize = 10_000;
/// Beyond this capacity in bytes, a look at the pins is nothing beside the copy, and slots are
/// reserved one by one: while nobody pins, two take turns, which is the least for near caches.
const MANY_SLOTS_CAPACITY: usize = 64 << 10;

impl Writer {
    /// Whether one look at the pins should serve several publications: they must be short, and
    /// this handle's.
    #[inline]
    pub(super) fn reserves_many(&self) -> bool {
        self.has_turn() && self.board().geometry.capacity <= MANY_SLOTS_CAPACITY
    }

    /// A slot to write into; it stays reserved until it is published or the turn ends.
    #[inline]
    fn reserve(&mut self) -> Result<usize> {
        match self.reserved.last() {
            Some(slot) => Ok(slot),
            None => self.reserve_more(),
        }
    }

    /// Tries the lowest slots that were not pinned at the last look, so that few are in use and
    /// warm; then, with a new look, all others.
    #[cold]
    #[inline(never)]
    pub(super) fn reserve_more(&mut self) -> Result<usize> {
        let count = self.board().slots();
        let wanted = if self.reserves_many() { BATCH } else { 1 };
        let mut avoid = self.pinned;
        // There are more slots than pins, so each look finds a free one, though not always among
        // those tried: readers may announce pins that they then do not take.
        for round in 0..ROUNDS {
            avoid.insert(self.latest.0);
            let mut slots = avoid.lowest_others(count, wanted);
            if slots.last().is_none() {
                if round == 0 {
                    avoid = SlotSet::EMPTY;
                    continue;
                }
                break;
            }
            self.mark(&mut slots);
            if let Some(slot) = slots.last() {
                hook::point("publish.reserved");
                let board = self.board();
                for slot in slots.iter() {
                    // Readers had them last; on their way while nobody waits for them.
                    board.data.prefetch_exclusive(board.payload_at(slot));
                }
                self.reserved = slots;
                return Ok(slot);
            }
            avoid = self.pinned;
        }
        let cause = "the readers' table claims every slot; remove the board and create it anew";
        Err(self.error(ErrorKind::Damaged, cause))
    }

    /// Marks slots and keeps those that nobody pins.
    fn mark(&mut self, slots: &mut Reserved) {
        let board = &*self.held.board;
        // On an exclusive board no writer but this one can pin.
        let others = (!self.has_turn()).then(|| self.control.pins());
        let writers = others.into_iter().flatten();
        let pins = self.readers.pins().chain(writers);
        self.pinned = protocol::reserve(slots, |slot| board.stamp(slot), pins);
    }

    /// A reserved slot that `len` bytes can be written to without fail.
    #[inline]
    pub(in crate::board) fn reserve_for(&mut self, len: usize) -> Result<usize> {
        let slot = self.reserve()?;
        if len <= self.populated[slot] {
            return Ok(slot);
        }
        self.populate(slot, len)
    }

    /// Allocates the slot's memory. When there is none left, makes do with what the other
    /// reserved slots have.
    #[cold]
    fn populate(&mut self, slot: usize, len: usize) -> Result<usize> {
        let wanted = len.next_multiple_of(4096);
        let Err(errno) = self.try_populate(slot, wanted) else {
            return Ok(slot);
        };
        if no_space(errno) != Errno::NOSPC {
            return Err(self.board().os(WRITE, errno));
        }
        let others: Vec<usize> = self.reserved.others().collect();
        if let Some(ready) = others.iter().find(|other| len <= self.populated[**other]) {
            self.reserved.move_last(*ready);
            return Ok(*ready);
        }
        for other in others {
            self.depopulate(other);
        }
        self.depopulate_old();
        if self.try_populate(slot, wanted).is_ok() {
            return Ok(slot);
        }
        let cause =
            format!("no memory left for {len} bytes on its file system; free some or enlarge it");
        Err(self.error(ErrorKind::NoSpace, cause))
    }

    /// Gives back the memory of all slots that this handle wrote to and nobody uses now.
    fn depopulate_old(&mut self) {
        let old: Vec<usize> = (0..self.populated.len())
            .filter(|slot| self.populated[*slot] > 0 && *slot != self.latest.0)
            .filter(|slot| !self.reserved.contains(*slot))
            .collect();
        for group in old.chunks(BATCH) {
            let mut slots = Reserved::default();
            for slot in group {
                slots.push(*slot);
            }
            self.mark(&mut slots);
            // What is marked and not published stays free for later.
            while let Some(slot) = slots.pop() {
                self.depopulate(slot);
            }
        }
    }

    fn try_populate(&mut self, slot: usize, len: usize) -> std::result::Result<(), Errno> {
        let board = self.board();
        let payload = board.payload_at(slot);
        let result = board.data.populate(payload, len, Protection::ReadWrite);
        match result {
            Ok(()) => self.populated[slot] = len,
            Err(_) => self.depopulate(slot),
        }
        result
    }

    /// Gives a reserved slot's memory back. No reader looks into a reserved slot.
    fn depopulate(&mut self, slot: usize) {
        // Relaxed: others look at it in their turn, which comes after ours.
        let releases = self.control.mapping().word(RELEASES);
        self.releases = releases.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let board = self.board();
        let len = board.geometry.capacity.next_multiple_of(4096);
        let _ = board.data.release(board.payload_at(slot), len);
        self.populated[slot] = 0;
    }
}
