//! The time of a publication, on a clock that nobody sets and on the wall's.

use std::time::Duration;

use super::Timestamp;
use crate::sys::clock;

/// How long a difference between the two clocks is believed.
const TRUST_NS: u64 = 1_000_000;

/// Reads one clock a publication; the other one only now and then.
pub(super) struct Clock {
    kind: Timestamp,
    /// The monotonic and the real time, read together.
    known: (u64, u64),
}

impl Clock {
    pub(super) fn new(kind: Timestamp) -> Self {
        Self {
            kind,
            known: (0, 0),
        }
    }

    /// Monotonic and real nanoseconds; zeros where no time is recorded.
    #[inline]
    pub(super) fn now(&mut self) -> (u64, u64) {
        match self.kind {
            Timestamp::None => (0, 0),
            Timestamp::Coarse => {
                let now = clock::monotonic_coarse();
                if now != self.known.0 {
                    self.learn(now, clock::wall_coarse);
                }
                self.known
            }
            Timestamp::Precise => self.precise(),
        }
    }

    #[cold]
    #[inline(never)]
    fn precise(&mut self) -> (u64, u64) {
        let now = clock::monotonic();
        if now.saturating_sub(self.known.0) > TRUST_NS {
            self.learn(now, clock::wall);
        }
        (now, self.known.1 + now.saturating_sub(self.known.0))
    }

    #[cold]
    #[inline(never)]
    fn learn(&mut self, monotonic: u64, wall: fn() -> u64) {
        self.known = (monotonic, wall());
    }
}

/// How long ago that was on the monotonic clock.
pub(super) fn age(monotonic_ns: u64) -> Duration {
    Duration::from_nanos(clock::monotonic().saturating_sub(monotonic_ns))
}
