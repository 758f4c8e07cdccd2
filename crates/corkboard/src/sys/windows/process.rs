//! There is no fork here: a handle is always used by the process that made it.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Errno;
use super::file::File;

/// Names the process that made a handle.
#[derive(Clone, Copy)]
pub(crate) struct Generation;

impl Generation {
    pub(crate) fn current() -> Result<Self, Errno> {
        Ok(Self)
    }

    #[inline]
    pub(crate) fn is_current(self) -> bool {
        true
    }
}

/// A value of which each process has its own.
pub(crate) struct OfProcess<T: 'static>(OnceLock<T>);

impl<T: Default + Send + Sync> OfProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn get(&'static self) -> Result<&'static T, Errno> {
        Ok(self.0.get_or_init(T::default))
    }
}

/// A word of its holder's own.
pub(crate) struct WipedWord(Box<AtomicU64>);

impl WipedWord {
    /// A word that is zero.
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self(Box::default()))
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn store(&mut self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// An open file. Handles are not inherited.
pub(crate) struct ParentsFile(File);

impl ParentsFile {
    /// Runs `open`, which opens it and perhaps more.
    pub(crate) fn open<T, E>(
        _: Generation,
        open: impl FnOnce() -> Result<(File, T), E>,
    ) -> Result<(Self, T), E> {
        open().map(|(file, more)| (Self(file), more))
    }

    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        true
    }
}

impl Deref for ParentsFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// Elsewhere, what keeps `fork` waiting.
pub(crate) struct NoFork;

pub(crate) fn no_fork() -> NoFork {
    NoFork
}
