//! What every handle on a stream holds: the mapped file, and where everything in it is.

use super::Overflow;
use super::layout::*;
use super::protocol;
use crate::attachment::{self, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::Checksums;
use crate::object::Removal;
use crate::space::Space;
use crate::sync::{AtomicU64, Ordering, copy_words};
use crate::sys::map::{Mapping, Protection};
use crate::sys::wait;

/// Sequences and places beyond this are not believed: nobody lives to see them.
pub(super) const MAX_COUNT: u64 = 1 << 62;
/// So many times the records that a stream has are looked at in search of the newest, at most.
const LAPS: u64 = 16;

/// One stream, mapped.
pub(super) struct Ring {
    pub(super) attachment: Attachment,
    pub(super) geometry: Geometry,
    pub(super) checksums: Checksums,
    /// The geometry's answers, asked once.
    first_cell: usize,
    cell_mask: u64,
    arena: usize,
}

/// The words of a cell.
pub(super) type Cell = [AtomicU64; CELL / 8];

impl Ring {
    pub(super) fn open(space: &Space, name: &str, protection: Protection) -> Result<Self> {
        let (geometry, attachment) = Attachment::open::<Geometry>(space, name, protection)?;
        Ok(Self {
            attachment,
            first_cell: geometry.first_cell(),
            cell_mask: geometry.cells() as u64 - 1,
            arena: geometry.arena(),
            checksums: geometry.integrity.checksums(),
            geometry,
        })
    }

    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        self.attachment.word(offset)
    }

    #[inline]
    pub(super) fn words<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        self.attachment.mapping.array(offset)
    }

    pub(super) fn mutex(&self) -> &crate::sync::AtomicU32 {
        self.attachment.mapping.half_word(MUTEX)
    }

    /// The cell in which a record is, or will be.
    #[inline]
    pub(super) fn cell(&self, sequence: u64) -> &Cell {
        let index = (sequence & self.cell_mask) as usize;
        self.attachment
            .mapping
            .array(self.first_cell + index * CELL)
    }

    /// Asks the processor for the cell that a record will be written to, without waiting for it.
    #[inline]
    pub(super) fn prefetch_cell(&self, sequence: u64) {
        let start = self.first_cell + (sequence & self.cell_mask) as usize * CELL;
        // The line in which the one before ends was asked for with that.
        if start.is_multiple_of(64) {
            self.attachment.mapping.prefetch_exclusive(start);
        }
        self.attachment.mapping.prefetch_exclusive(start + CELL - 8);
    }

    #[inline]
    pub(super) fn stamp(&self, sequence: u64) -> &AtomicU64 {
        &self.cell(sequence)[STAMP]
    }

    #[inline]
    pub(super) fn cells(&self) -> u64 {
        self.cell_mask + 1
    }

    /// The address of `len` bytes of the arena; `None` when they are not inside.
    pub(super) fn payload(&self, place: u64, len: usize) -> Option<*mut u8> {
        let offset = self.payload_offset(place, len)?;
        Some(self.attachment.mapping.bytes(offset, len))
    }

    fn payload_offset(&self, place: u64, len: usize) -> Option<usize> {
        let offset = (place % self.geometry.capacity as u64) as usize;
        let left = self.geometry.capacity - offset;
        (len <= left && offset.is_multiple_of(8)).then_some(self.arena + offset)
    }

    /// Copies words of the arena that may be overwritten meanwhile; `false` when they are not
    /// inside.
    pub(super) fn copy_payload(&self, place: u64, len: usize, to: &mut [u64]) -> bool {
        let Some(offset) = self.payload_offset(place, len) else {
            return false;
        };
        // The arena is a whole number of words, so the last one is inside.
        copy_words(to, self.attachment.mapping.words(offset, len.div_ceil(8)));
        true
    }

    #[inline]
    pub(super) fn overwrites(&self) -> bool {
        self.geometry.overflow == Overflow::Overwrite
    }

    /// The newest record's sequence.
    pub(super) fn newest(&self) -> Result<u64> {
        // Records go on meanwhile, and may have overwritten the one that was the newest lately. But
        // who found that often, and went far each time, was led round in a circle.
        let mut left = LAPS * (self.cells() + 1000);
        for _ in 0..1000 {
            let tail = self.word(TAIL).load(Ordering::Acquire);
            if tail > MAX_COUNT {
                break;
            }
            if (tail == 0 || protocol::is_published(self.stamp(tail), tail))
                && let Some(newest) = self.newest_from(tail, &mut left)
            {
                return Ok(newest);
            }
            if left == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        Err(self.contradictory())
    }

    /// The last of the records that follow one another from `tail` on; `None` when the next one was
    /// overwritten meanwhile, and so is not yet to come, or so many were looked at.
    fn newest_from(&self, tail: u64, left: &mut u64) -> Option<u64> {
        for newest in tail..=tail + self.cells() {
            *left = left.checked_sub(1)?;
            let next = newest + 1;
            match protocol::published(self.stamp(next)).cmp(&next) {
                std::cmp::Ordering::Less => return Some(newest),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// Up to which record they may be overwritten.
    pub(super) fn reclaimed(&self) -> Result<u64> {
        let reclaimed = self.word(RECLAIMED).load(Ordering::Acquire);
        if reclaimed > MAX_COUNT {
            return Err(self.contradictory());
        }
        Ok(reclaimed)
    }

    /// Where in the arena a record is that nobody overwrites now, and where it ends.
    pub(super) fn extent(&self, sequence: u64) -> Result<(u64, u64)> {
        let cell = self.cell(sequence);
        let [len, place] = [LEN, PLACE].map(|word| cell[word].load(Ordering::Relaxed));
        let len = usize::try_from(len & !END).unwrap_or(usize::MAX);
        let is_place = place <= MAX_COUNT && place.is_multiple_of(GRAIN as u64);
        if len > self.geometry.max_len() || !is_place {
            return Err(self.contradictory());
        }
        Ok((place, place + footprint(len)))
    }

    #[cold]
    pub(super) fn contradictory(&self) -> Error {
        let cause = "its cells contradict each other; remove it and create it anew";
        self.attachment.error(ErrorKind::Damaged, "use", cause)
    }
}

/// Removes a stream: handles on it say `Removed`.
pub(super) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    let (found, single) = attachment::to_remove::<Geometry>(space, name);
    let wake = |mapping: &Mapping| {
        let Some(geometry) = found else {
            return;
        };
        // Subscribers sleep at the cell after the newest record; there may be millions of others.
        // One that waits for a record further on looks after a slice.
        let (tail, cells) = (mapping.word(TAIL).load(Ordering::Acquire), geometry.cells());
        let stamp = |sequence: u64| {
            let index = sequence as usize % cells;
            mapping.word(geometry.first_cell() + index * CELL)
        };
        let mut later = (tail.min(MAX_COUNT)..).skip(1).take(cells);
        if let Some(next) = later.find(|next| protocol::published(stamp(*next)) < *next) {
            wait::wake_low(stamp(next));
        }
        wait::wake_low(mapping.word(ROOM));
    };
    single.remove(space, name, removal, |_| Ok(()), wake)
}
