//! Moments.

use std::time::{Duration, SystemTime};

/// The wall clock now, in nanoseconds since 1970.
pub(crate) fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A moment on the wall clock, from nanoseconds since 1970; `None` for 0.
pub(crate) fn moment(wall_ns: u64) -> Option<SystemTime> {
    let since = (wall_ns > 0).then(|| Duration::from_nanos(wall_ns))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}
