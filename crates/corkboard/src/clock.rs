//! Moments and deadlines.

use std::time::{Duration, Instant, SystemTime};

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

/// When to give up.
#[derive(Clone, Copy)]
pub(crate) enum Deadline {
    Never,
    /// Without waiting at all.
    Now,
    At(Instant),
}

impl Deadline {
    /// So long from now; never, if that is longer than the clock can tell.
    pub(crate) fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Self::Now;
        }
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Never, Self::At)
    }

    /// As [`after`](Self::after), or never.
    pub(crate) fn within(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::Never, Self::after)
    }

    /// What is left; zero when the time has come.
    pub(crate) fn left(self) -> Duration {
        match self {
            Self::Never => Duration::MAX,
            Self::Now => Duration::ZERO,
            Self::At(moment) => moment.saturating_duration_since(Instant::now()),
        }
    }
}
