//! Noticing that this process is the child of a fork.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

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
                let fresh = &wiped_page()?[0];
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

/// A word of its holder's own that a fork's child finds zero.
pub(crate) struct WipedWord(&'static AtomicU64);

/// Words that nobody holds. Each is alone on its cache line, so that handles of different threads
/// do not slow each other down.
static FREE: Mutex<Vec<&'static AtomicU64>> = Mutex::new(Vec::new());

impl WipedWord {
    /// A word that is zero.
    pub(crate) fn new() -> Result<Self, Errno> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            free.extend(wiped_page()?.iter().step_by(64 / size_of::<AtomicU64>()));
        }
        let word = free.pop().ok_or(Errno::NOMEM)?;
        word.store(0, Ordering::Relaxed);
        Ok(Self(word))
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

impl Drop for WipedWord {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.0);
    }
}

/// Words that the kernel sets to zero in a fork's child; they live until the process ends.
fn wiped_page() -> Result<&'static [AtomicU64], Errno> {
    let len = 4096;
    // SAFETY: the kernel chooses an address that nothing else uses; the page is zeroed and never
    // unmapped, so references to its words live as long as the process.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let page = mm::mmap_anonymous(std::ptr::null_mut(), len, flags, MapFlags::PRIVATE)?;
        mm::madvise(page, len, Advice::LinuxWipeOnFork)?;
        Ok(std::slice::from_raw_parts(
            page.cast(),
            len / size_of::<AtomicU64>(),
        ))
    }
}
