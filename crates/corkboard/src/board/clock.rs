//! The time of a publication, on a clock that nobody sets and on the wall's.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Timestamp;

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
                let now = nanoseconds(ClockId::MonotonicCoarse);
                if now != self.known.0 {
                    self.learn(now, ClockId::RealtimeCoarse);
                }
                self.known
            }
            Timestamp::Precise => self.precise(),
        }
    }

    #[inline(never)]
    fn precise(&mut self) -> (u64, u64) {
        let now = nanoseconds(ClockId::Monotonic);
        if now.saturating_sub(self.known.0) > TRUST_NS {
            self.learn(now, ClockId::Realtime);
        }
        (now, self.known.1 + now.saturating_sub(self.known.0))
    }

    #[cold]
    #[inline(never)]
    fn learn(&mut self, monotonic: u64, real: ClockId) {
        self.known = (monotonic, nanoseconds(real));
    }
}

/// How long ago that was on the monotonic clock.
pub(super) fn age(monotonic_ns: u64) -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::Monotonic).saturating_sub(monotonic_ns))
}

/// What a clock says.
#[inline]
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
