//! Sleeping on words shared between processes, see `futex(2)`.

use std::ptr;
use std::time::Duration;

use crate::sync::{AtomicU32, AtomicU64};

/// The low 32 bits of `word`, which only the kernel looks at as 32 bits.
fn low_half(word: &AtomicU64) -> *const u32 {
    let half = usize::from(cfg!(target_endian = "big"));
    ptr::from_ref(word).cast::<u32>().wrapping_add(half)
}

/// Sleeps until woken, unless the low half of `word` is not `expected`; at most `timeout`.
/// Returns whether the time ran out. May return early for no reason.
pub(crate) fn wait_low(word: &AtomicU64, expected: u32, timeout: Duration) -> bool {
    wait(low_half(word), expected, timeout)
}

/// Wakes everyone who sleeps in [`wait_low`].
pub(crate) fn wake_low(word: &AtomicU64) {
    wake(low_half(word), i32::MAX);
}

/// As [`wait_low`], on a whole 32-bit word.
pub(crate) fn wait_half(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    wait(ptr::from_ref(word).cast(), expected, timeout)
}

/// Wakes one who sleeps in [`wait_half`].
pub(crate) fn wake_half_one(word: &AtomicU32) {
    wake(ptr::from_ref(word).cast(), 1);
}

fn wait(address: *const u32, expected: u32, timeout: Duration) -> bool {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as _,
    };
    // SAFETY: the address is a live, aligned 32-bit word, which the kernel only reads; `time`
    // outlives the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAIT,
            expected,
            &raw const time,
        )
    };
    status == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT)
}

fn wake(address: *const u32, count: i32) {
    // SAFETY: the kernel uses the address only to find sleepers.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, count) };
}
