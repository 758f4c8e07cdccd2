//! The atomics of the protocol: the standard library's in programs, loom's in model checking.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Stores with Release and makes a full fence.
#[inline]
pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    {
        // An exchange is a full fence on this processor, and quicker than a store and a fence.
        // The language's model does not say so of accesses that follow with weaker orderings;
        // the compiler is kept from moving them.
        word.swap(value, Ordering::SeqCst);
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    {
        word.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}
