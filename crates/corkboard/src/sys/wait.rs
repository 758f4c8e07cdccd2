//! Sleeping on words shared between processes, see `futex(2)`.

use std::ptr;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

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

/// A word to sleep on together with others: its low half, while that is what was found.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    word: &'a AtomicU64,
    expected: u32,
}

impl<'a> Target<'a> {
    pub(crate) fn new(word: &'a AtomicU64, expected: u32) -> Self {
        Self { word, expected }
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        self.word.load(Ordering::Relaxed) as u32 == self.expected
    }
}

/// As the kernel takes it, see `futex_waitv(2)`.
#[repr(C)]
struct WaitEntry {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Words of 32 bits, shared between processes.
const SHARED_32: u32 = 2;

/// Sleeps until one of the targets is woken or changes; at most `timeout`, or `short` when the
/// kernel cannot wait for so many. Returns whether the time ran out.
pub(crate) fn wait_any(targets: &[Target<'_>], timeout: Duration, short: Duration) -> bool {
    let first = match targets {
        [] => {
            std::thread::sleep(timeout);
            return true;
        }
        [only] => return wait_low(only.word, only.expected, timeout),
        [first, ..] => first,
    };
    let entries: Vec<WaitEntry> = targets
        .iter()
        .map(|target| WaitEntry {
            expected: u64::from(target.expected),
            address: low_half(target.word) as u64,
            flags: SHARED_32,
            reserved: 0,
        })
        .collect();
    let deadline = clock_gettime(ClockId::Monotonic)
        .checked_add(Timespec::try_from(timeout).unwrap_or(Timespec {
            tv_sec: i64::from(u32::MAX),
            tv_nsec: 0,
        }))
        .unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
    // SAFETY: the entries name live, aligned 32-bit words, which the kernel only reads; entries
    // and deadline outlive the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            entries.as_ptr(),
            entries.len(),
            0,
            &raw const deadline,
            libc::CLOCK_MONOTONIC,
        )
    };
    if status >= 0 {
        return false;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => true,
        Some(libc::EAGAIN | libc::EINTR) => false,
        _ => wait_low(first.word, first.expected, timeout.min(short)),
    }
}
