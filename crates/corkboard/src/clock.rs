//! Moments and deadlines.

use std::time::{Duration, Instant, SystemTime};

use crate::sys::clock;

/// The wall clock now, in nanoseconds since 1970: the coarse one, which publications carry
/// as well, so that none seems to be older than its board.
pub(crate) fn wall_ns() -> u64 {
    clock::wall_coarse()
}

/// A moment on the wall clock, from nanoseconds since 1970; `None` for 0.
pub(crate) fn moment(wall_ns: u64) -> Option<SystemTime> {
    let since = (wall_ns > 0).then(|| Duration::from_nanos(wall_ns))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// When to look again at what tells nobody of its change. By the clock: a sleep that signals keep
/// interrupting never runs out.
pub(crate) struct Looks {
    every: Duration,
    last: Instant,
}

impl Looks {
    /// First so long from now.
    pub(crate) fn every(every: Duration) -> Self {
        let last = Instant::now();
        Self { every, last }
    }

    /// Whether it is time; then the next time comes as long after.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now.saturating_duration_since(self.last) >= self.every;
        if is_due {
            self.last = now;
        }
        is_due
    }
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
