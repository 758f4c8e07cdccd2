//! The kernel's clocks, in nanoseconds, see `clock_gettime(2)`. The coarse ones are quick to read,
//! and advance some hundred times a second.

use rustix::time::{ClockId, clock_gettime};

/// Since 1970, by the clock on the wall.
pub(crate) fn wall() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// As [`wall`], coarse.
#[inline]
pub(crate) fn wall_coarse() -> u64 {
    nanoseconds(ClockId::RealtimeCoarse)
}

/// Since some moment before all processes, by a clock that nobody sets.
#[inline]
pub(crate) fn monotonic() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// As [`monotonic`], coarse.
#[inline]
pub(crate) fn monotonic_coarse() -> u64 {
    nanoseconds(ClockId::MonotonicCoarse)
}

#[inline]
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + time.tv_nsec as u64
}
