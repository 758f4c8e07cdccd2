//! Mapped memory of files.

use std::os::windows::io::OwnedHandle;
use std::sync::Arc;

use super::super::map::{Inheritance, Protection};
use super::Errno;
use super::file::{File, Keepers};
use super::park;
use super::process::Generation;
use super::section::View;
use crate::sync::AtomicU64;

/// Mapped memory, with the handles that its object lives by.
pub(crate) enum Region {
    Shared {
        view: View,
        _keepers: Arc<Keepers>,
        /// The handle that has this mapping's locks.
        _disk: Arc<OwnedHandle>,
    },
    Private(Box<[AtomicU64]>),
}

impl Region {
    pub(crate) fn shared(
        file: &File,
        len: usize,
        protection: Protection,
        _: Inheritance,
        _: Generation,
    ) -> Result<Self, Errno> {
        let part = file.part().ok_or(Errno::OPNOTSUPP)?;
        let view = part.section.map(len, protection)?;
        park::register(view.base().addr(), len, part.lot.clone());
        Ok(Self::Shared {
            view,
            _keepers: part.keepers.clone(),
            _disk: file.disk().clone(),
        })
    }

    pub(crate) fn private(len: usize, _: Generation) -> Result<Self, Errno> {
        let words = (0..len.div_ceil(8)).map(|_| AtomicU64::new(0));
        Ok(Self::Private(words.collect()))
    }

    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        match self {
            Self::Shared { view, .. } => view.base(),
            Self::Private(words) => words.as_ptr().cast_mut().cast(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Shared { view, .. } => view.len(),
            Self::Private(words) => words.len() * 8,
        }
    }

    /// # Safety
    /// The range is inside the region.
    pub(crate) unsafe fn populate(
        &self,
        address: *mut u8,
        len: usize,
        access: Protection,
    ) -> Result<(), Errno> {
        let Self::Shared { view, .. } = self else {
            return Ok(());
        };
        let offset = address.addr() - view.base().addr();
        match access {
            Protection::ReadWrite => view.commit(offset, len),
            Protection::ReadOnly if view.committed_from(offset)? >= len => Ok(()),
            Protection::ReadOnly => Err(Errno::FAULT),
        }
    }

    /// Committed memory of a section stays committed.
    ///
    /// # Safety
    /// The range is inside the region, and its bytes are nobody's.
    pub(crate) unsafe fn release(&self, _: *mut u8, _: usize) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Self::Shared { view, .. } = self {
            // Before it is unmapped, and the address somebody else's.
            park::unregister(view.base().addr());
        }
    }
}
