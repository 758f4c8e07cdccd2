//! The slots of a small board, checked once, so that publishing and reading need not check again.

use std::ptr::NonNull;

use super::attached::{Attached, Descriptor, HEAD};
use super::layout::{BESIDE_LEN, SMALL_SLOTS, STAMP, small_slot};
use crate::prefetch::{self, LINE};
use crate::sync::{AtomicU64, Ordering, copy_words, store_bytes};

/// Words of a payload in the descriptor's cache line.
const NEAR_WORDS: usize = LINE / 8 - HEAD;
/// Words of a payload in the two lines that a short value takes up, in any slot.
const SHORT_WORDS: usize = BESIDE_LEN / 8;

/// Where the slots are.
///
/// **S1** `SMALL_SLOTS` runs of `stride` words, at least a descriptor and the capacity each, are
/// inside the mapping of the board that this was made from, which outlives this.
#[derive(Clone, Copy)]
pub(super) struct SmallSlots {
    first: NonNull<AtomicU64>,
    stride: usize,
}

// SAFETY: S1: a place in memory that belongs to no thread; only atomics are reached through it.
unsafe impl Send for SmallSlots {}
// SAFETY: as above.
unsafe impl Sync for SmallSlots {}

/// One slot: its descriptor's words and its payload's. A large board has one, too, beside the
/// latest word.
#[derive(Clone, Copy)]
pub(super) struct SmallSlot<'a> {
    head: &'a [AtomicU64; HEAD],
    payload: &'a [AtomicU64],
}

impl SmallSlots {
    /// The slots of a board, if it is small and mapped.
    ///
    /// # Safety
    /// The board outlives what this returns.
    pub(super) unsafe fn new(board: &Attached) -> Option<Self> {
        if !board.is_small() || !board.is_mapped {
            return None;
        }
        let words = board.small_words();
        let stride = words.len() / SMALL_SLOTS;
        assert!(stride >= HEAD + board.geometry.capacity.div_ceil(8));
        Some(Self {
            first: NonNull::from(words).cast(),
            stride,
        })
    }

    /// The slot in which `sequence` is, or will be.
    #[inline]
    pub(super) fn of(&self, sequence: u64) -> SmallSlot<'_> {
        let slot = small_slot(sequence);
        // SAFETY: S1; `slot` is below `SMALL_SLOTS`.
        unsafe {
            let first = self.first.add(slot * self.stride);
            let payload = first.add(HEAD).as_ptr();
            SmallSlot {
                head: first.cast().as_ref(),
                payload: std::slice::from_raw_parts(payload, self.stride - HEAD),
            }
        }
    }

    /// The stamp of that slot.
    #[inline]
    pub(super) fn stamp(&self, sequence: u64) -> &AtomicU64 {
        self.of(sequence).stamp()
    }
}

impl<'a> SmallSlot<'a> {
    /// A slot in these words.
    #[inline]
    pub(super) fn new(words: &'a [AtomicU64; HEAD + SHORT_WORDS]) -> Self {
        let (head, payload) = words.split_first_chunk().expect("a descriptor");
        Self { head, payload }
    }

    #[inline]
    pub(super) fn stamp(self) -> &'a AtomicU64 {
        &self.head[STAMP / 8]
    }

    #[inline]
    pub(super) fn word(self, field: usize) -> u64 {
        self.head[field / 8].load(Ordering::Relaxed)
    }

    /// Asks for the cache lines of a short value, to write to them.
    #[inline]
    pub(super) fn prefetch(self) {
        let start = std::ptr::from_ref(self.stamp()).cast::<u8>();
        prefetch::to_write(start);
        prefetch::to_write(start.wrapping_add(LINE));
    }

    /// Writes everything but the stamp.
    #[inline]
    pub(super) fn fill(self, sequence: u64, found: Descriptor, value: &[u8]) {
        found.store(sequence, self.head);
        let (lines, rest) = value.as_chunks::<64>();
        let (payload_lines, payload_rest) = self.payload.as_chunks::<8>();
        for (to, line) in payload_lines.iter().zip(lines) {
            for (to, word) in to.iter().zip(line.as_chunks::<8>().0) {
                to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
        }
        if !rest.is_empty() {
            let to = match payload_lines.get(lines.len()) {
                Some(line) => line,
                None => payload_rest,
            };
            fill_rest(to, rest);
        }
    }

    /// Copies the payload's words, and perhaps some behind it.
    #[inline]
    pub(super) fn copy_to(self, to: &mut [u64], len: usize) {
        // So many words whatever the length is, for counting takes longer than copying.
        if len <= SHORT_WORDS * 8
            && let Some(from) = self.payload.first_chunk::<SHORT_WORDS>()
            && let Some(to) = to.first_chunk_mut::<SHORT_WORDS>()
        {
            let (near, far) = from.split_at(NEAR_WORDS);
            let (to_near, to_far) = to.split_at_mut(NEAR_WORDS);
            copy_words(to_near, near);
            if len > NEAR_WORDS * 8 {
                copy_words(to_far, far);
            }
            return;
        }
        self.copy_long_to(to, len);
    }

    #[inline(never)]
    fn copy_long_to(self, to: &mut [u64], len: usize) {
        let from = &self.payload[..len.div_ceil(8).min(self.payload.len())];
        copy_words(to, from);
    }
}

/// Stores fewer bytes than a line has. Apart, so that whole lines need fewer registers.
#[inline(never)]
fn fill_rest(to: &[AtomicU64], rest: &[u8]) {
    store_bytes(to, rest);
}
