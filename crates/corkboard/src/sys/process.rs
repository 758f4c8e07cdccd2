//! Noticing that this process is the child of a fork.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Names the process that made a handle: a fork's child finds its word wiped by the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Generation {
    word: &'static AtomicU64,
    value: u64,
}

impl Generation {
    /// The generation of this process.
    pub(crate) fn current() -> Result<Self, Errno> {
        static WORD: OnceLock<&'static AtomicU64> = OnceLock::new();
        static LAST: AtomicU64 = AtomicU64::new(0);
        let word = match WORD.get() {
            Some(word) => *word,
            None => {
                let fresh = wiped_on_fork()?;
                WORD.get_or_init(|| fresh)
            }
        };
        if word.load(Ordering::Relaxed) == 0 {
            let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(Self {
            word,
            value: word.load(Ordering::Relaxed),
        })
    }

    /// Whether this is still the process that made the handle.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.value
    }
}

/// A word that the kernel sets to zero in a fork's child; it lives until the process ends.
fn wiped_on_fork() -> Result<&'static AtomicU64, Errno> {
    let len = 4096;
    // SAFETY: the kernel chooses an address that nothing else uses; the page is never unmapped,
    // so a reference to its first word lives as long as the process.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let page = mm::mmap_anonymous(std::ptr::null_mut(), len, flags, MapFlags::PRIVATE)?;
        mm::madvise(page, len, Advice::LinuxWipeOnFork)?;
        Ok(&*page.cast::<AtomicU64>())
    }
}
