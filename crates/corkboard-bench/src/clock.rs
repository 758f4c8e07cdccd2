//! Time stamps as cheap as the machine has them.
//!
//! On x86-64 a stamp is the processor's time stamp counter, which on every machine of the last
//! decade runs at one constant rate on all cores; elsewhere it is the monotonic clock. Stamps are
//! not serialising: for a single operation of a few nanoseconds they would be wrong, so those are
//! measured in batches.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A stamp, in ticks of unknown but constant length.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the instruction exists on every x86-64 processor and touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// How long a tick is, found once by comparing 50 ms of both clocks.
pub fn ns_per_tick() -> f64 {
    static LENGTH: OnceLock<f64> = OnceLock::new();
    *LENGTH.get_or_init(|| {
        let (start, first) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(50));
        let (elapsed, last) = (start.elapsed(), ticks());
        elapsed.as_nanos() as f64 / (last - first) as f64
    })
}
