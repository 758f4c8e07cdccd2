//! Who is attached: one table entry per handle, alive as long as the kernel says so.
//!
//! A handle claims an entry by locking that entry's byte through the description that maps the
//! table, and then closes the descriptor: the mapping keeps the description, and with it the lock,
//! until it is unmapped or the process ends. An entry whose byte can be locked is free, whatever
//! is written in it; who claims it resets it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::board::layout::{Geometry, HIGH, LOCK_BASE, PINS, Role};
use crate::sys::lock;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;

/// The table of writers or readers, mapped.
pub(crate) struct Table {
    mapping: Mapping,
    len: usize,
}

impl Table {
    /// Maps the table and claims a free entry; `None` when every entry's holder is alive.
    pub(crate) fn claim(
        file: OwnedFd,
        geometry: &Geometry,
        role: Role,
        generation: Generation,
    ) -> Result<Option<(Self, usize)>, Errno> {
        let table = Self::map(file.as_fd(), geometry, role, generation)?;
        for entry in 0..table.len {
            if lock::try_lock(file.as_fd(), LOCK_BASE + entry as u64)? {
                table.pin(entry).store(0, Ordering::Release);
                // Before the first pin, whose fence makes both visible to a scanning writer.
                table.high().fetch_max(entry as u64 + 1, Ordering::Relaxed);
                return Ok(Some((table, entry)));
            }
        }
        Ok(None)
    }

    /// Maps the table without taking part.
    pub(crate) fn map(
        file: BorrowedFd<'_>,
        geometry: &Geometry,
        role: Role,
        generation: Generation,
    ) -> Result<Self, Errno> {
        let mapping = Mapping::new(
            file,
            geometry.file_len(role),
            Protection::ReadWrite,
            Inheritance::Never,
            generation,
        )?;
        let len = geometry.table_len(role);
        Ok(Self { mapping, len })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The slot that entry holds, plus one; 0 for none.
    pub(crate) fn pin(&self, entry: usize) -> &AtomicU64 {
        self.mapping.word(PINS + entry * 8)
    }

    /// Whether any entry holds the slot. Call it after a full fence.
    pub(crate) fn is_pinned(&self, slot: usize) -> bool {
        let high = self.high().load(Ordering::Relaxed);
        let high = usize::try_from(high).map_or(self.len, |high| high.min(self.len));
        (0..high).any(|entry| self.pin(entry).load(Ordering::Relaxed) == slot as u64 + 1)
    }

    fn high(&self) -> &AtomicU64 {
        self.mapping.word(HIGH)
    }
}
