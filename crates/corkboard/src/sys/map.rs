//! Shared mappings of files.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use super::process::Generation;
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

/// A shared mapping of the first `len` bytes of a file.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    inheritance: Inheritance,
    generation: Generation,
}

// SAFETY: a mapping is memory at a fixed address; this type gives out only atomics and raw
// pointers, so threads may share it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        len: usize,
        protection: Protection,
        inheritance: Inheritance,
        generation: Generation,
    ) -> Result<Self, Errno> {
        let flags = match protection {
            Protection::ReadOnly => ProtFlags::READ,
            Protection::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: the kernel chooses an address that nothing else uses.
        let base = unsafe { mm::mmap(std::ptr::null_mut(), len, flags, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let mapping = Self {
            base,
            len,
            inheritance,
            generation,
        };
        if inheritance == Inheritance::Never {
            mapping.advise(0, len, Advice::LinuxDontFork)?;
        }
        Ok(mapping)
    }

    /// Memory of this process's own in place of a file: zeros.
    pub(crate) fn private(len: usize, generation: Generation) -> Result<Self, Errno> {
        let (flags, none) = (ProtFlags::READ | ProtFlags::WRITE, std::ptr::null_mut());
        // SAFETY: the kernel chooses an address that nothing else uses.
        let base = unsafe { mm::mmap_anonymous(none, len, flags, MapFlags::PRIVATE)? };
        Ok(Self {
            base: NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?,
            len,
            inheritance: Inheritance::Child,
            generation,
        })
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
        let is_inside = (self.len / 8)
            .checked_sub(first)
            .is_some_and(|left| count <= left);
        assert!(is_inside, "the words are inside the mapping");
        // SAFETY: inside the mapping (checked above), aligned, because pages and whole words are,
        // and alive as long as `self`; other processes access these bytes through atomics, too.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().cast::<AtomicU64>().add(first), count)
        }
    }

    /// `N` words from `offset`, a multiple of 8, on.
    #[inline]
    pub(crate) fn array<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        let words = self.words(offset, N).first_chunk();
        words.expect("as many as were asked for")
    }

    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset < self.len && self.len - offset >= 4);
        // SAFETY: as in `words`; the layout uses these four bytes as 32 bits only.
        unsafe { &*self.base.as_ptr().add(offset).cast::<AtomicU32>() }
    }

    /// Asks the processor to fetch the cache line at `offset`, without waiting for it.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.len {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside the mapping; prefetching neither faults nor changes anything.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.base.as_ptr().add(offset).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// As [`prefetch`](Self::prefetch), for writing: other processors' copies go.
    #[inline]
    pub(crate) fn prefetch_exclusive(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if offset < self.len {
            // SAFETY: inside the mapping; prefetching neither faults nor changes anything, and
            // where this instruction is unknown it does nothing.
            unsafe {
                std::arch::asm!(
                    "prefetchw [{}]",
                    in(reg) self.base.as_ptr().add(offset),
                    options(nostack, preserves_flags)
                );
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// The address of `len` bytes at `offset`, checked to be inside.
    pub(crate) fn bytes(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && self.len - offset >= len);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Brings the pages of this range into memory, so that touching them cannot fail: reading
    /// them, or also writing to them.
    pub(crate) fn populate(
        &self,
        offset: usize,
        len: usize,
        access: Protection,
    ) -> Result<(), Errno> {
        let advice = match access {
            Protection::ReadOnly => Advice::LinuxPopulateRead,
            Protection::ReadWrite => Advice::LinuxPopulateWrite,
        };
        if len == 0 {
            return Ok(());
        }
        self.advise(offset, len, advice)
    }

    /// Gives the pages of this range back to the file system.
    pub(crate) fn release(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let address = self.bytes(offset, len);
        // SAFETY: the range is inside this shared mapping (checked by `bytes`) and the caller owns
        // the slot it belongs to; the pages read as zero afterwards.
        let status = unsafe { libc::madvise(address.cast(), len, libc::MADV_REMOVE) };
        if status == 0 {
            return Ok(());
        }
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }

    fn advise(&self, offset: usize, len: usize, advice: Advice) -> Result<(), Errno> {
        let address = self.bytes(offset, len);
        // SAFETY: the range is inside this mapping, checked by `bytes`; no advice used here
        // changes the bytes.
        unsafe { mm::madvise(address.cast(), len, advice) }
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

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.inheritance == Inheritance::Never && !self.generation.is_current() {
            // A fork's child never had this mapping; the address may be somebody else's by now.
            return;
        }
        // SAFETY: made by `mmap` in `new`, and nothing borrows from a value being dropped.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
