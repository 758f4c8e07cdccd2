//! The kernel's clocks, in nanoseconds, see `clock_gettime(2)`. The coarse ones are quick to read,
//! and advance some hundred times a second.

/// Since 1970, by the clock on the wall.
pub(crate) fn wall() -> u64 {
    nanoseconds(libc::CLOCK_REALTIME)
}

/// As [`wall`], coarse.
#[inline]
pub(crate) fn wall_coarse() -> u64 {
    nanoseconds(libc::CLOCK_REALTIME_COARSE)
}

/// Since some moment before all processes, by a clock that nobody sets.
#[inline]
pub(crate) fn monotonic() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC)
}

/// As [`monotonic`], coarse.
#[inline]
pub(crate) fn monotonic_coarse() -> u64 {
    nanoseconds(libc::CLOCK_MONOTONIC_COARSE)
}

/// The C library finds the kernel's function for this in every program, static or under valgrind:
/// publications must not pay for a system call.
#[inline]
fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the function only writes to `time`, which lives. It does not fail for these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Wrapping: after five centuries.
    (time.tv_sec.max(0) as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}
