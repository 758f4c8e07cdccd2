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

/// A full fence, right behind an exchange.
#[inline]
pub(crate) fn fence_behind_exchange() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // The exchange is one on this processor, see `store_and_fence`.
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// Copies words that somebody may be overwriting.
#[inline]
pub(crate) fn copy_words(to: &mut [u64], from: &[AtomicU64]) {
    for (to, word) in to.iter_mut().zip(from) {
        *to = word.load(Ordering::Relaxed);
    }
}

/// Stores bytes word by word, for somebody may be copying what was there. The last word is filled
/// up with zeros.
#[inline]
pub(crate) fn store_bytes(to: &[AtomicU64], bytes: &[u8]) {
    let (words, tail) = bytes.as_chunks::<8>();
    for (to, word) in to.iter().zip(words) {
        to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        to[words.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}
