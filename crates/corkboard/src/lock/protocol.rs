//! Waking whoever waits for a lock. The lock itself is the kernel's; nothing here decides who has
//! it, and whoever is not woken looks again after a slice.
//!
//! A *bell* is two words: how often it was rung, which listeners sleep on, and whether somebody
//! may listen. Who waits takes a ticket, announces, fences, tries the kernel's lock once more, and
//! sleeps while the bell is as the ticket says. Who releases gives the kernel's lock back, fences,
//! and rings if somebody may listen. So either the try comes after the release, and succeeds, or
//! the releaser sees the announcement, and the sleeper's ticket is no longer good.
//!
//! If a process dies: an announcement that a dead listener left costs one needless ring.

use crate::sync::{AtomicU64, Ordering, fence};
use crate::waking;
pub(super) use crate::waking::ticket;

/// Says that somebody may listen. Another try of the lock must follow.
#[inline]
pub(super) fn announce(listening: &AtomicU64) {
    listening.store(1, Ordering::Relaxed);
    // Pairs with the fence in `is_awaited`.
    fence(Ordering::SeqCst);
}

/// Whether somebody may listen; ask after the release.
#[inline]
pub(super) fn is_awaited(listening: &AtomicU64) -> bool {
    // Pairs with the fence in `announce`.
    fence(Ordering::SeqCst);
    listening.load(Ordering::Relaxed) != 0
}

/// Takes the announcements down and rings. Waking those who sleep must follow.
#[inline]
pub(super) fn ring(rung: &AtomicU64, listening: &AtomicU64) {
    listening.store(0, Ordering::Relaxed);
    // The announcements are down before a ticket says so.
    waking::ring(rung);
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    use super::*;

    /// A lock that the kernel keeps, and its bell. Of the kernel's lock nothing is taken for
    /// granted but that it is taken and released in one step; in truth it also orders accesses.
    struct Lock {
        is_held: AtomicBool,
        rung: AtomicU64,
        listening: AtomicU64,
    }

    impl Lock {
        fn held() -> Arc<Self> {
            Arc::new(Self {
                is_held: AtomicBool::new(true),
                rung: AtomicU64::new(0),
                listening: AtomicU64::new(0),
            })
        }

        fn try_lock(&self) -> bool {
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            self.is_held
                .compare_exchange(false, true, success, failure)
                .is_ok()
        }

        fn release(&self) {
            self.is_held.store(false, Ordering::Relaxed);
            if is_awaited(&self.listening) {
                ring(&self.rung, &self.listening);
            }
        }

        /// One wait: `None` when it has the lock, else the ticket that it sleeps with.
        fn wait(&self) -> Option<u32> {
            if self.try_lock() {
                return None;
            }
            let ticket = ticket(&self.rung);
            announce(&self.listening);
            (!self.try_lock()).then_some(ticket)
        }
    }

    #[test]
    fn nobody_sleeps_on_a_lock_that_is_free() {
        loom::model(|| {
            let lock = Lock::held();
            let holder = {
                let lock = lock.clone();
                thread::spawn(move || lock.release())
            };
            let sleeps = lock.wait();
            holder.join().unwrap();
            if let Some(with) = sleeps {
                assert_ne!(
                    with,
                    ticket(&lock.rung),
                    "asleep, and the bell was not rung"
                );
            }
        });
    }

    #[test]
    fn of_two_who_wait_the_second_is_woken_by_the_first() {
        // Three threads: all orders with up to three preemptions.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let lock = Lock::held();
            let other = {
                let lock = lock.clone();
                thread::spawn(move || match lock.wait() {
                    None => {
                        lock.release();
                        None
                    }
                    Some(ticket) => Some(ticket),
                })
            };
            let holder = {
                let lock = lock.clone();
                thread::spawn(move || lock.release())
            };
            let ours = lock.wait();
            if ours.is_none() {
                lock.release();
            }
            let others = other.join().unwrap();
            holder.join().unwrap();
            for with in [ours, others].into_iter().flatten() {
                assert_ne!(with, ticket(&lock.rung), "asleep on a lock that is free");
            }
        });
    }
}
