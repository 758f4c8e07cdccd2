//! Sleeping on words shared between processes, see `futex(2)`.

use std::ptr;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use super::clock;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The low 32 bits of `word`, which only the kernel looks at as 32 bits.
fn low_half(word: &AtomicU64) -> *const u32 {
    low_half_of(ptr::from_ref(word).cast())
}

fn low_half_of(word: *const u64) -> *const u32 {
    let half = usize::from(cfg!(target_endian = "big"));
    word.cast::<u32>().wrapping_add(half)
}

/// Sleeps until woken, unless the low half of `word` is not `expected`; at most `timeout`.
/// Returns whether the time ran out. May return early for no reason.
pub(crate) fn wait_low(word: &AtomicU64, expected: u32, timeout: Duration) -> bool {
    wait(low_half(word), expected, timeout)
}

/// Wakes everyone who sleeps in [`wait_low`].
pub(crate) fn wake_low(word: &AtomicU64) {
    wake(low_half(word), EVERYONE);
}

/// As [`wake_low`], `count` at most. Returns how many slept.
pub(crate) fn wake_low_some(word: &AtomicU64, count: u32) -> usize {
    wake(low_half(word), count.min(EVERYONE))
}

/// As [`wait_low`], on 32 bits that this process never touches itself: memory that is gone ends
/// the sleep at once with [`Sleep::Impossible`].
pub(crate) fn wait_untouched(address: *const u32, expected: u32, timeout: Duration) -> Sleep {
    match sleep(address, expected, timeout) {
        Err(Errno::TIMEDOUT) => Sleep::TimedOut,
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Sleep::Ended,
        Err(_) => Sleep::Impossible,
    }
}

/// How a sleep went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    Ended,
    TimedOut,
    Impossible,
}

/// Wakes everyone who sleeps in [`wait_untouched`].
pub(crate) fn wake_untouched(address: *const u32) {
    wake(address, EVERYONE);
}

/// Adds 1 to 32 bits that this process never touches itself, and wakes everyone who sleeps in
/// [`wait_untouched`] on them. Where it may not be changed, only wakes; where the memory is gone,
/// does nothing.
pub(crate) fn bump_and_wake_untouched(address: *const u32) {
    /// `FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)`, see `futex(2)`.
    const ADD_ONE: u32 = 1 << 28 | 1 << 12;
    // SAFETY: the kernel checks both addresses and fails where it may not write.
    let status = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAKE_OP,
            i32::MAX,
            0_usize,
            address,
            ADD_ONE,
        )
    };
    if status == -1 {
        wake_untouched(address);
    }
}

/// As [`bump_and_wake_untouched`], the low half of a word, for those who sleep in [`wait_low`].
pub(crate) fn bump_and_wake_low_untouched(word: *const u64) {
    bump_and_wake_untouched(low_half_of(word));
}

/// As [`wait_low`], on a whole 32-bit word.
pub(crate) fn wait_half(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    wait(ptr::from_ref(word).cast(), expected, timeout)
}

/// Wakes one who sleeps in [`wait_half`].
pub(crate) fn wake_half_one(word: &AtomicU32) {
    wake(ptr::from_ref(word).cast(), 1);
}

#[inline]
fn wait(address: *const u32, expected: u32, timeout: Duration) -> bool {
    sleep(address, expected, timeout) == Err(Errno::TIMEDOUT)
}

#[inline]
fn sleep(address: *const u32, expected: u32, timeout: Duration) -> Result<(), Errno> {
    let time = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    futex::wait(shared(address), Flags::empty(), expected, Some(&time))
}

/// As many as the kernel can count.
const EVERYONE: u32 = i32::MAX as u32;

/// Returns how many slept.
#[inline]
fn wake(address: *const u32, count: u32) -> usize {
    futex::wake(shared(address), Flags::empty(), count).unwrap_or(0)
}

/// A word whose address goes to the kernel, and which is not touched otherwise.
#[inline]
fn shared<'a>(address: *const u32) -> &'a std::sync::atomic::AtomicU32 {
    // SAFETY: aligned, in memory that is mapped as long as who sleeps or wakes there borrows it;
    // that there may be nothing behind it any more matters to the kernel only, which checks.
    unsafe { &*address.cast() }
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
    // Far enough, if it is further than this clock can tell.
    let deadline = Duration::from_nanos(clock::monotonic()).saturating_add(timeout);
    let deadline = Timespec {
        tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: deadline.subsec_nanos().into(),
    };
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
