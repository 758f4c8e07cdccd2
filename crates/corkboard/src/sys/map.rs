//! Memory shared between processes.

use super::process::Generation;
use super::{Errno, file::File, region::Region};
use crate::sync::{AtomicU32, AtomicU64};

/// What this process may do with the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    ReadOnly,
    ReadWrite,
}

/// Whether a fork's child gets the mapping, and with it the locks of its file description.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inheritance {
    Child,
    Never,
}

/// A shared mapping of the first bytes of a file.
pub(crate) struct Mapping(Region);

// SAFETY: a mapping is memory at a fixed address; this type gives out only atomics and raw
// pointers, so threads may share it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(
        file: &File,
        len: usize,
        protection: Protection,
        inheritance: Inheritance,
        generation: Generation,
    ) -> Result<Self, Errno> {
        Region::shared(file, len, protection, inheritance, generation).map(Self)
    }

    /// Memory of this process's own in place of a file: zeros.
    pub(crate) fn private(len: usize, generation: Generation) -> Result<Self, Errno> {
        Region::private(len, generation).map(Self)
    }

    /// The word at `offset`, a multiple of 8.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words(offset, 1)[0]
    }

    /// The `count` words from `offset`, a multiple of 8, on.
    #[inline]
    pub(crate) fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        debug_assert!(offset.is_multiple_of(8));
        let first = offset / 8;
        let is_inside = (self.0.len() / 8)
            .checked_sub(first)
            .is_some_and(|left| count <= left);
        assert!(is_inside, "the words are inside the mapping");
        // SAFETY: inside the mapping (checked above), aligned, because pages and whole words are,
        // and alive as long as `self`; other processes access these bytes through atomics, too.
        unsafe { std::slice::from_raw_parts(self.0.base().cast::<AtomicU64>().add(first), count) }
    }

    /// `N` words from `offset`, a multiple of 8, on.
    #[inline]
    pub(crate) fn array<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        let words = self.words(offset, N).first_chunk();
        words.expect("as many as were asked for")
    }

    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        let len = self.0.len();
        assert!(offset.is_multiple_of(4) && offset < len && len - offset >= 4);
        // SAFETY: as in `words`; the layout uses these four bytes as 32 bits only.
        unsafe { &*self.0.base().add(offset).cast::<AtomicU32>() }
    }

    /// Asks the processor to fetch the cache line at `offset`, without waiting for it.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.0.len() {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside the mapping; prefetching neither faults nor changes anything.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.0.base().add(offset).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// As [`prefetch`](Self::prefetch), for writing: other processors' copies go.
    #[inline]
    pub(crate) fn prefetch_exclusive(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.0.len() {
            // SAFETY: inside the mapping; prefetching neither faults nor changes anything, and
            // where this instruction is unknown it does nothing.
            unsafe {
                std::arch::asm!(
                    "prefetchw [{}]",
                    in(reg) self.0.base().add(offset),
                    options(nostack, preserves_flags)
                );
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// The address of `len` bytes at `offset`, checked to be inside.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.0.len() && self.0.len() - offset >= len);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.0.base().add(offset) }
    }

    /// Brings the pages of this range into memory, so that touching them cannot fail: reading
    /// them, or also writing to them.
    pub(crate) fn populate(
        &self,
        offset: usize,
        len: usize,
        access: Protection,
    ) -> Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        let address = self.bytes(offset, len);
        // SAFETY: the range is inside this mapping, checked by `bytes`.
        unsafe { self.0.populate(address, len, access) }
    }

    /// Gives the pages of this range back to the system, where that can be done.
    pub(crate) fn release(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let address = self.bytes(offset, len);
        // SAFETY: the range is inside this mapping (checked by `bytes`) and the caller owns the
        // slot it belongs to; the pages read as zero afterwards, or as before.
        unsafe { self.0.release(address, len) }
    }
}

/// Asks the processor to fetch the cache line after a word's, without waiting for it.
#[inline]
pub(crate) fn prefetch_next_line(word: &AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let next = std::ptr::from_ref(word).cast::<i8>().wrapping_add(64);
        // SAFETY: prefetching neither faults nor changes anything, wherever it is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(next) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
}
