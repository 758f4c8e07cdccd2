//! Asking the processor for cache lines ahead of their use, without waiting for them.
//!
//! It neither faults nor changes anything, whatever the address. Elsewhere than on x86-64 it does
//! nothing.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// The line of an address, to be read.
#[inline(always)]
pub(crate) fn to_read(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that the language knows of.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The line of an address, to be written to: other processors' copies go.
#[inline(always)]
pub(crate) fn to_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above; where this instruction is unknown it does nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
