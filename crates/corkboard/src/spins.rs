//! How often a wait looks before it sleeps. Looking pays off for whom the next thing comes soon, and
//! holds up everyone else on this processor for others; so waits learn from how long they took.

use std::time::Duration;

/// At most, and at first.
const MAX: u32 = 1024;
pub(crate) const FIRST: u32 = 64;
/// A sleep shorter than this should have been spent looking.
const SOON: Duration = Duration::from_micros(15);

/// How often to look before the next sleep, after one that took so long.
pub(crate) fn after_sleep(spins: u32, slept: Duration) -> u32 {
    if slept < SOON {
        return (spins * 2).clamp(FIRST, MAX);
    }
    spins / 2
}
