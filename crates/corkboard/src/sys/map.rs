//! Memory shared between processes.

use super::process::Generation;
use super::{Errno, file::File, region::Region};
use crate::prefetch;
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

    /// Asks for the cache line at `offset`, to be read.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        prefetch::to_read(self.0.base().wrapping_add(offset));
    }

    /// Asks for the cache line at `offset`, to be written to.
    #[inline]
    pub(crate) fn prefetch_exclusive(&self, offset: usize) {
        prefetch::to_write(self.0.base().wrapping_add(offset));
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

    /// With memory behind the first bytes, as they had when the file was made: somebody may have
    /// made holes in it since. `NOSPC` when there is none left.
    pub(crate) fn in_memory(self, len: usize, access: Protection) -> Result<Self, Errno> {
        self.populate(0, len, access).map_err(no_space)?;
        Ok(self)
    }

    /// Gives the pages of this range back to the system, where that can be done.
    pub(crate) fn release(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let address = self.bytes(offset, len);
        // SAFETY: the range is inside this mapping (checked by `bytes`) and the caller owns the
        // slot it belongs to; the pages read as zero afterwards, or as before.
        unsafe { self.0.release(address, len) }
    }
}

/// What [`populate`](Mapping::populate) says, where it means that there is no memory left.
pub(crate) fn no_space(errno: Errno) -> Errno {
    match errno {
        Errno::FAULT | Errno::NOMEM => Errno::NOSPC,
        errno => errno,
    }
}
