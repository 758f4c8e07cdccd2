//! Mappings of files, see `mmap(2)`.

use std::ptr::NonNull;

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use super::super::map::{Inheritance, Protection};
use super::Errno;
use super::file::File;
use super::process::Generation;

/// Mapped memory.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    inheritance: Inheritance,
    generation: Generation,
}

impl Region {
    pub(crate) fn shared(
        file: &File,
        len: usize,
        protection: Protection,
        inheritance: Inheritance,
        generation: Generation,
    ) -> Result<Self, Errno> {
        let flags = match protection {
            Protection::ReadOnly => ProtFlags::READ,
            Protection::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        let none = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address that nothing else uses.
        let base = unsafe { mm::mmap(none, len, flags, MapFlags::SHARED, file, 0)? };
        let region = Self {
            base: NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?,
            len,
            inheritance,
            generation,
        };
        if inheritance == Inheritance::Never {
            // SAFETY: the region just mapped; the advice changes no bytes.
            unsafe { mm::madvise(base, len, Advice::LinuxDontFork)? };
        }
        Ok(region)
    }

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

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// The range is inside the region.
    pub(crate) unsafe fn populate(
        &self,
        address: *mut u8,
        len: usize,
        access: Protection,
    ) -> Result<(), Errno> {
        let advice = match access {
            Protection::ReadOnly => Advice::LinuxPopulateRead,
            Protection::ReadWrite => Advice::LinuxPopulateWrite,
        };
        // SAFETY: inside the region, as the caller vouches; the advice changes no bytes.
        unsafe { mm::madvise(address.cast(), len, advice) }
    }

    /// # Safety
    /// The range is inside the region, and its bytes are nobody's.
    pub(crate) unsafe fn release(&self, address: *mut u8, len: usize) -> Result<(), Errno> {
        // SAFETY: as the caller vouches.
        let status = unsafe { libc::madvise(address.cast(), len, libc::MADV_REMOVE) };
        if status == 0 {
            return Ok(());
        }
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.inheritance == Inheritance::Never && !self.generation.is_current() {
            // A fork's child never had this mapping; the address may be somebody else's by now.
            return;
        }
        // SAFETY: made by `mmap`, and nothing borrows from a value being dropped.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
