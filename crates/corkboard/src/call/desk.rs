//! What servers and clients share: the mapped file, and where everything in it is.

use std::sync::atomic::AtomicUsize;

use super::layout::*;
use super::protocol::{self, State};
use crate::attachment::{self, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::{Checksums, seal};
use crate::object::Removal;
use crate::participants::{self, Table, lock_byte};
use crate::prefetch;
use crate::space::Space;
use crate::sync::{AtomicU64, Ordering, copy_words, store_bytes};
use crate::sys::map::{Mapping, Protection, no_space};
use crate::sys::process::no_fork;
use crate::sys::{lock, wait};

/// Where requests are handed in and replies out: one call's file, mapped.
pub(super) struct Desk {
    pub(super) attachment: Attachment,
    pub(super) geometry: Geometry,
    checksums: Checksums,
    /// How many bytes of each slot's payload this process knows to have memory.
    populated: Vec<AtomicUsize>,
    /// Whether only this user can write to the file: what is in place cannot change then.
    is_private: bool,
}

/// A payload that this process may read: in place, or a copy that nobody else can change.
///
/// **D1** `Place` is inside the mapping and has memory, and its slot is this side's (I1) as long as
/// this is in use.
pub(super) enum Payload {
    Place {
        start: *const u8,
        len: usize,
    },
    Short {
        words: [u64; INLINE / 8],
        len: usize,
    },
    Copy(Vec<u8>),
}

// SAFETY: the pointer is into shared memory, no part of which belongs to a thread.
unsafe impl Send for Payload {}
// SAFETY: nothing is changed through it.
unsafe impl Sync for Payload {}

impl Payload {
    /// # Safety
    /// D1 holds: the slot is still this side's.
    #[inline]
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: D1.
            Self::Place { start, len } => unsafe { std::slice::from_raw_parts(*start, *len) },
            // SAFETY: `len` is at most the words' bytes (`Desk::get`).
            Self::Short { words, len } => unsafe {
                std::slice::from_raw_parts(words.as_ptr().cast(), *len)
            },
            Self::Copy(bytes) => bytes,
        }
    }
}

/// The words of a cell.
type Cell = [AtomicU64; CELL / 8];

impl Desk {
    pub(super) fn open(space: &Space, name: &str) -> Result<Self> {
        let writable = Protection::ReadWrite;
        let (geometry, attachment) = Attachment::open::<Geometry>(space, name, writable)?;
        let facts = &attachment.facts;
        Ok(Self {
            is_private: facts.mode & 0o077 == 0 && facts.is_owner_trusted(),
            populated: (0..geometry.slots()).map(|_| AtomicUsize::new(0)).collect(),
            checksums: geometry.integrity.checksums(),
            geometry,
            attachment,
        })
    }

    /// Claims one of these entries of the table; `None` when all are in use.
    pub(super) fn claim(
        &self,
        entries: std::ops::Range<usize>,
        label: &str,
    ) -> Result<Option<(Table, usize)>> {
        // A child would keep the lock on the entry.
        let _no_fork = no_fork();
        let file = self.attachment.reopen_to_claim()?;
        let (shape, generation) = (self.geometry.table(), self.attachment.generation);
        Table::claim_in(file, shape, entries, generation, label)
            .map_err(|errno| self.attachment.failed("open", errno))
    }

    /// The words of the clients there are, or were.
    pub(super) fn clients(&self) -> usize {
        let entries = self.geometry.table().entries;
        participants::used(&self.attachment.mapping, entries).saturating_sub(CLIENTS)
    }

    /// Whether a request may wait.
    #[inline]
    pub(super) fn is_asked(&self) -> bool {
        (0..self.clients()).any(|client| protocol::is_pending(self.pending(client)))
    }

    /// Whether there is a server, according to the kernel.
    pub(super) fn is_served(&self, operation: &'static str) -> Result<bool> {
        self.is_attached(operation, SERVER)
    }

    /// Whether somebody alive has an entry of the table, according to the kernel.
    pub(super) fn is_attached(&self, operation: &'static str, entry: usize) -> Result<bool> {
        let _no_fork = no_fork();
        let file = self.attachment.reopen(operation, Protection::ReadOnly)?;
        lock::is_locked(&file, lock_byte(entry), 1)
            .map_err(|errno| self.attachment.failed(operation, errno))
    }

    #[inline]
    pub(super) fn epoch(&self) -> &AtomicU64 {
        self.attachment.word(EPOCH)
    }

    #[inline]
    pub(super) fn answered(&self) -> &AtomicU64 {
        self.attachment.word(ANSWERED)
    }

    #[inline]
    pub(super) fn bell(&self) -> &AtomicU64 {
        self.attachment.word(BELL)
    }

    /// A client's word of pending requests.
    #[inline]
    pub(super) fn pending(&self, client: usize) -> &AtomicU64 {
        self.attachment.word(self.geometry.pending() + 8 * client)
    }

    /// A client's slots.
    pub(super) fn slots_of(&self, client: usize) -> std::ops::Range<usize> {
        let calls = self.geometry.calls as usize;
        client * calls..(client + 1) * calls
    }

    /// For how many slots a bit stands.
    #[inline]
    pub(super) fn slots_in_bit(&self) -> usize {
        self.geometry.calls as usize / BITS
    }

    #[inline]
    pub(super) fn cell(&self, slot: usize) -> &Cell {
        let offset = self.geometry.first_cell() + slot * CELL;
        self.attachment.mapping.array(offset)
    }

    #[inline]
    pub(super) fn state(&self, slot: usize) -> &AtomicU64 {
        &self.cell(slot)[STATE]
    }

    /// Asks for the lines of a slot's cell, which are on their way while something else is done.
    #[inline]
    pub(super) fn prefetch_cell(&self, slot: usize) {
        let start = std::ptr::from_ref(self.cell(slot)).cast::<u8>();
        prefetch::to_write(start);
        prefetch::to_write(start.wrapping_add(prefetch::LINE));
    }

    /// Fills a slot that is this side's, for the call of this number.
    pub(super) fn put(
        &self,
        operation: &'static str,
        slot: usize,
        number: u64,
        payload: &[u8],
    ) -> Result<()> {
        let len = payload.len();
        if len > self.geometry.capacity {
            let cause = format!(
                "it has {len} bytes, the longest is {}; create the call with more capacity",
                self.geometry.capacity
            );
            return Err(self.attachment.error(ErrorKind::TooLarge, operation, cause));
        }
        let cell = self.cell(slot);
        let crc = if len <= INLINE {
            store_bytes(&cell[HEAD..], payload);
            self.checksums.of(&payload)
        } else {
            let to = self.place(operation, slot, len)?;
            // SAFETY: inside the mapping, with memory (`place`), and this side's (I1). `payload`
            // is not in it: that would be a reference to a slot that is being filled.
            unsafe { self.checksums.copy(to, payload) }
        };
        cell[LEN].store(len as u64, Ordering::Relaxed);
        cell[CRC].store(seal(crc, number), Ordering::Relaxed);
        Ok(())
    }

    /// What is in a slot that is this side's, if it is whole.
    pub(super) fn get(
        &self,
        operation: &'static str,
        slot: usize,
        found: State,
    ) -> Result<Payload> {
        let cell = self.cell(slot);
        let [len, crc] = [LEN, CRC].map(|word| cell[word].load(Ordering::Relaxed));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > self.geometry.capacity {
            let cause = "a slot's length is impossible; remove it and create it anew";
            return Err(self.attachment.error(ErrorKind::Damaged, operation, cause));
        }
        let payload = if len <= INLINE {
            let mut words = [0; INLINE / 8];
            copy_words(&mut words[..len.div_ceil(8)], &cell[HEAD..]);
            Payload::Short { words, len }
        } else {
            let start = self.place(operation, slot, len)?.cast_const();
            if self.is_private {
                Payload::Place { start, len }
            } else {
                Payload::Copy(self.copy(operation, slot, len)?)
            }
        };
        // SAFETY: D1 and I1: the slot is this side's, as the caller vouches.
        let bytes = unsafe { payload.bytes() };
        if self.checksums.are_kept() && seal(self.checksums.of(&bytes), found.number()) != crc {
            let cause = "a payload does not match its checksum; call again";
            return Err(self.attachment.error(ErrorKind::Corrupt, operation, cause));
        }
        Ok(payload)
    }

    /// A copy of a slot's payload that others cannot change. Word by word, for those who may write
    /// to the file may do so meanwhile, whatever the rules are: then the checksum says so.
    fn copy(&self, operation: &'static str, slot: usize, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let words = len.div_ceil(8);
        if bytes.try_reserve_exact(words * 8).is_err() {
            let cause = format!("no memory for a copy of {len} bytes; free some");
            return Err(self.attachment.error(ErrorKind::NoSpace, operation, cause));
        }
        let offset = self.geometry.payload(slot);
        for word in self.attachment.mapping.words(offset, words) {
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// The address of so many bytes of a slot's payload, with memory behind them.
    fn place(&self, operation: &'static str, slot: usize, len: usize) -> Result<*mut u8> {
        let (offset, populated) = (self.geometry.payload(slot), &self.populated[slot]);
        let done = populated.load(Ordering::Relaxed);
        if len > done {
            // Whole pages; one may be another slot's as well.
            let (start, end) = ((offset + done) / PAGE * PAGE, offset + len);
            let writable = Protection::ReadWrite;
            let result = self
                .attachment
                .mapping
                .populate(start, end - start, writable);
            if let Err(errno) = result {
                self.depopulate(slot, done..len);
                return Err(self.attachment.failed(operation, no_space(errno)));
            }
            populated.fetch_max(len, Ordering::Relaxed);
            self.cell(slot)[MEMORY].fetch_max(len as u64, Ordering::Relaxed);
        }
        Ok(self.attachment.mapping.bytes(offset, len))
    }

    /// Gives back what was taken for these bytes of a slot that is this side's, in vain: or one
    /// payload that is too long would leave no memory for anybody else. What the other side knows
    /// to have memory stays.
    #[cold]
    fn depopulate(&self, slot: usize, bytes: std::ops::Range<usize>) {
        if !self.geometry.stride().is_multiple_of(PAGE) {
            // Its pages are other slots' as well.
            return;
        }
        let known = self.cell(slot)[MEMORY].load(Ordering::Relaxed);
        let known = usize::try_from(known).map_or(bytes.end, |known| known.max(bytes.start));
        let start = known.min(bytes.end).next_multiple_of(PAGE);
        let end = bytes.end.next_multiple_of(PAGE);
        if start < end {
            let offset = self.geometry.payload(slot) + start;
            // Where that cannot be done, nothing was taken.
            let _ = self.attachment.mapping.release(offset, end - start);
        }
    }

    /// Wakes the server.
    #[cold]
    pub(super) fn wake_server(&self) {
        wait::wake_low(self.bell());
    }
}

/// Removes a call: handles on it say `Removed`.
pub(super) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    let (found, single) = attachment::to_remove::<Geometry>(space, name);
    let wake = |mapping: &Mapping| {
        let Some(geometry) = found else {
            return;
        };
        for slot in 0..geometry.slots() {
            let state = mapping.word(geometry.first_cell() + slot * CELL);
            // Only those that somebody may sleep on.
            if state.load(Ordering::Relaxed) != 0 {
                wait::wake_low(state);
            }
        }
        wait::wake_low(mapping.word(BELL));
    };
    single.remove(space, name, removal, |_| Ok(()), wake)
}

impl Desk {
    /// A deadline passed.
    #[cold]
    pub(super) fn timed_out(&self, operation: &'static str, cause: &str) -> Error {
        self.attachment.error(ErrorKind::TimedOut, operation, cause)
    }
}
