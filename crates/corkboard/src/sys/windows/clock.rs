//! Clocks, in nanoseconds.

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::{
    GetSystemTimeAsFileTime, GetSystemTimePreciseAsFileTime,
};

/// From 1601, where the system's time begins, to 1970, in 100 nanoseconds.
const TO_1970: u64 = 116_444_736_000_000_000;

/// Since 1970, by the clock on the wall.
pub(crate) fn wall() -> u64 {
    let mut time = FILETIME::default();
    // SAFETY: fills in `time`.
    unsafe { GetSystemTimePreciseAsFileTime(&raw mut time) };
    of_filetime(time)
}

/// As [`wall`], by a clock that is quick to read and advances every some milliseconds.
#[inline]
pub(crate) fn wall_coarse() -> u64 {
    let mut time = FILETIME::default();
    // SAFETY: fills in `time`.
    unsafe { GetSystemTimeAsFileTime(&raw mut time) };
    of_filetime(time)
}

fn of_filetime(time: FILETIME) -> u64 {
    since_1970(u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime))
}

/// What the system counts from 1601 on, in 100 nanoseconds.
pub(super) fn since_1970(units: u64) -> u64 {
    units.saturating_sub(TO_1970).saturating_mul(100)
}

/// Since some moment before all processes, by a clock that nobody sets.
#[inline]
pub(crate) fn monotonic() -> u64 {
    let (mut count, mut frequency) = (0, 0);
    // SAFETY: fill in the two numbers; neither fails on any system that this runs on.
    unsafe {
        QueryPerformanceCounter(&raw mut count);
        QueryPerformanceFrequency(&raw mut frequency);
    }
    let nanoseconds = i128::from(count) * 1_000_000_000 / i128::from(frequency.max(1));
    u64::try_from(nanoseconds).unwrap_or(0)
}

/// There is no coarser one with the same beginning.
#[inline]
pub(crate) fn monotonic_coarse() -> u64 {
    monotonic()
}
