//! Memory that processes share: sections backed by the page file, reserved as a whole and committed
//! as it is touched.

use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr::NonNull;

use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, GetLastError, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEM_COMMIT, MEM_FREE,
    MEMORY_BASIC_INFORMATION, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, OpenFileMappingW,
    PAGE_READWRITE, SEC_RESERVE, SECTION_QUERY, UnmapViewOfFile, VirtualAlloc, VirtualQuery,
};

use super::super::map::Protection;
use super::security::Descriptor;
use super::{Errno, owned, wide};

/// Access rights for whom may map a section for writing, for reading, or only keep it.
pub(crate) const WRITE: u32 = FILE_MAP_WRITE | FILE_MAP_READ | SECTION_QUERY;
pub(crate) const READ: u32 = FILE_MAP_READ | SECTION_QUERY;
pub(crate) const KEEP: u32 = SECTION_QUERY;

const PAGE: u64 = 4096;

/// A section. Its name lasts as long as somebody has a handle.
pub(crate) struct Section(OwnedHandle);

impl Section {
    /// A new one, whose name nobody has.
    pub(crate) fn create(name: &str, len: usize, who: &Descriptor) -> Result<Self, Errno> {
        match Self::create_or_open(name, len, who)? {
            (section, true) => Ok(section),
            _ => Err(Errno::EXIST),
        }
    }

    /// Whether it is new comes with it.
    pub(crate) fn create_or_open(
        name: &str,
        len: usize,
        who: &Descriptor,
    ) -> Result<(Self, bool), Errno> {
        // A page more than is used: Wine forgets what was committed where that is a whole view.
        let len = len as u64 + PAGE;
        let (who, name) = (who.attributes(), wide(name));
        // SAFETY: descriptor and name live until the call returns; the handle is ours. The last
        // error also tells whether there was one already; nothing comes in between.
        unsafe {
            let handle = owned(CreateFileMappingW(
                INVALID_HANDLE_VALUE,
                &raw const who,
                PAGE_READWRITE | SEC_RESERVE,
                (len >> 32) as u32,
                len as u32,
                name.as_ptr(),
            ))?;
            let is_new = GetLastError() != ERROR_ALREADY_EXISTS;
            Ok((Self(handle), is_new))
        }
    }

    pub(crate) fn open(name: &str, rights: u32) -> Result<Self, Errno> {
        // SAFETY: the name lives until the call returns; the handle is ours.
        unsafe { owned(OpenFileMappingW(rights, 0, wide(name).as_ptr())) }.map(Self)
    }

    /// Maps it, to use the first `len` bytes.
    pub(crate) fn map(&self, len: usize, protection: Protection) -> Result<View, Errno> {
        let rights = match protection {
            Protection::ReadOnly => FILE_MAP_READ,
            Protection::ReadWrite => FILE_MAP_READ | FILE_MAP_WRITE,
        };
        // SAFETY: the system chooses an address that nothing else uses.
        let view = unsafe { MapViewOfFile(self.0.as_raw_handle(), rights, 0, 0, 0) };
        let base = NonNull::new(view.Value.cast::<u8>()).ok_or_else(Errno::last)?;
        let view = View { base, len };
        // Somebody may have made a shorter one under this name.
        if view.mapped()? < len {
            return Err(Errno::FAULT);
        }
        Ok(view)
    }
}

/// A mapped section.
pub(crate) struct View {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: memory at a fixed address, of which this type gives out only the address.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many bytes are mapped.
    fn mapped(&self) -> Result<usize, Errno> {
        let mut end = self.base().addr();
        loop {
            let found = query(end)?;
            if found.AllocationBase.addr() != self.base().addr() || found.State == MEM_FREE {
                return Ok(end - self.base().addr());
            }
            end = found.BaseAddress.addr() + found.RegionSize;
        }
    }

    /// How many bytes from `offset` on are committed: touching them cannot fail, and what is
    /// committed stays so.
    pub(crate) fn committed_from(&self, offset: usize) -> Result<usize, Errno> {
        let mut end = offset;
        while end < self.len {
            let found = query(self.base().addr() + end)?;
            if found.State != MEM_COMMIT {
                break;
            }
            let region_end = found.BaseAddress.addr() + found.RegionSize;
            end = (region_end - self.base().addr()).max(end + 1);
        }
        Ok(end.min(self.len).saturating_sub(offset))
    }

    /// How many bytes are committed, anywhere.
    pub(crate) fn committed(&self) -> Result<usize, Errno> {
        let (mut at, mut sum) = (0, 0);
        while at < self.len {
            let found = query(self.base().addr() + at)?;
            let end = found.BaseAddress.addr() + found.RegionSize - self.base().addr();
            let end = end.clamp(at + 1, self.len);
            if found.State == MEM_COMMIT {
                sum += end - at;
            }
            at = end;
        }
        Ok(sum)
    }

    /// Commits a range, in all processes.
    pub(crate) fn commit(&self, offset: usize, len: usize) -> Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        assert!(offset <= self.len && self.len - offset >= len);
        // SAFETY: inside the view; what is committed already stays as it is.
        let address = unsafe {
            VirtualAlloc(
                self.base().add(offset).cast(),
                len,
                MEM_COMMIT,
                PAGE_READWRITE,
            )
        };
        match address.is_null() {
            true => Err(Errno::last()),
            false => Ok(()),
        }
    }
}

/// What the system says of the pages from an address on that are alike.
fn query(address: usize) -> Result<MEMORY_BASIC_INFORMATION, Errno> {
    let mut found = MEMORY_BASIC_INFORMATION::default();
    let size = size_of_val(&found);
    // SAFETY: the call touches only `found`, whatever is at the address.
    match unsafe { VirtualQuery(std::ptr::without_provenance(address), &raw mut found, size) } {
        0 => Err(Errno::last()),
        _ => Ok(found),
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let address = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.base().cast(),
        };
        // SAFETY: mapped by `map`, and nothing borrows from a value being dropped.
        unsafe { UnmapViewOfFile(address) };
    }
}

/// Copies `to.len()` bytes that others may be changing.
///
/// # Safety
/// As many bytes from `from` on can be read.
pub(crate) unsafe fn copy_shared(from: *const u8, to: &mut [u8]) {
    use crate::sync::{AtomicU64, Ordering};
    use std::sync::atomic::AtomicU8;

    let is_aligned = from.addr().is_multiple_of(8);
    let (words, _) = to.as_chunks_mut::<8>();
    let mut done = 0;
    if is_aligned {
        for word in words {
            // SAFETY: inside, aligned, and others use these bytes through atomics, too.
            let value = unsafe { &*from.add(done).cast::<AtomicU64>() };
            *word = value.load(Ordering::Relaxed).to_ne_bytes();
            done += 8;
        }
    }
    for (index, byte) in to.iter_mut().enumerate().skip(done) {
        // SAFETY: inside.
        *byte = unsafe { &*from.add(index).cast::<AtomicU8>() }.load(Ordering::Relaxed);
    }
}
