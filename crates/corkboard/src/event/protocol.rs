//! The event's two words, and nothing else: no system call.
//!
//! - the *state* word: signalled or not in the lowest bit, above it how often the event was set.
//!   Everyone changes it by exchange. Its low half is what waiters sleep on, so a waiter never
//!   sleeps through a change.
//! - the *waiting* word: how often somebody announced a sleep since it was taken down; 0 when
//!   nobody sleeps. Who sets wakes only when it is not 0.
//!
//! If a process dies: the signal that it was woken for is still there, and whoever else waits
//! finds it after a slice. An announcement that it left costs one needless wake.

use crate::sync::{AtomicU64, Ordering, fence};

const SIGNALLED: u64 = 1;
const SET: u64 = 2;

/// What the state word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State(u64);

impl State {
    #[inline]
    pub(super) fn load(state: &AtomicU64) -> Self {
        // Acquire pairs with the Release in `set`.
        Self(state.load(Ordering::Acquire))
    }

    pub(super) fn of(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(super) fn is_signalled(self) -> bool {
        self.0 & SIGNALLED != 0
    }

    /// How often the event was set.
    #[inline]
    pub(super) fn sets(self) -> u64 {
        self.0 / SET
    }

    /// What a waiter sleeps on.
    #[inline]
    pub(super) fn low_half(self) -> u32 {
        self.0 as u32
    }
}

/// Signals, also when it is signalled already. Returns whether somebody may sleep; the caller
/// then wakes, and says with [`quieten`] if nobody did.
#[inline]
pub(super) fn set(state: &AtomicU64, waiting: &AtomicU64) -> Option<u64> {
    let mut before = state.load(Ordering::Relaxed);
    loop {
        let after = (before | SIGNALLED).wrapping_add(SET);
        // Release pairs with the Acquire in `State::load` and `consume`: what happened before the
        // signal is seen by whoever sees it.
        match state.compare_exchange_weak(before, after, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => break,
            Err(changed) => before = changed,
        }
    }
    // Pairs with the fence in `announce`: either we see the announcement, or the waiter the signal.
    fence(Ordering::SeqCst);
    let seen = waiting.load(Ordering::Relaxed);
    (seen != 0).then_some(seen)
}

/// Takes announcements down that turned out to be of nobody who sleeps. What was announced since
/// stays. Who had announced and did not sleep yet finds the state changed.
#[inline]
pub(super) fn quieten(waiting: &AtomicU64, seen: u64) {
    let _ = waiting.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
}

/// Takes the signal back.
#[inline]
pub(super) fn reset(state: &AtomicU64) {
    state.fetch_and(!SIGNALLED, Ordering::Relaxed);
}

/// Takes the signal, if it is there: of several who try, one does.
#[inline]
pub(super) fn consume(state: &AtomicU64) -> bool {
    let mut before = state.load(Ordering::Relaxed);
    while before & SIGNALLED != 0 {
        let after = before & !SIGNALLED;
        // Acquire pairs with the Release in `set`.
        match state.compare_exchange_weak(before, after, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(changed) => before = changed,
        }
    }
    false
}

/// Says that somebody may sleep. Another look at the state must follow.
#[inline]
pub(super) fn announce(waiting: &AtomicU64) {
    waiting.fetch_add(1, Ordering::Relaxed);
    // Pairs with the fence in `set`.
    fence(Ordering::SeqCst);
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    struct Event {
        state: AtomicU64,
        waiting: AtomicU64,
    }

    impl Event {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                state: AtomicU64::new(0),
                waiting: AtomicU64::new(0),
            })
        }

        /// Returns whether it would wake somebody. Nobody sleeps in a model, so the kernel says
        /// that nobody did.
        fn set(&self) -> bool {
            let seen = set(&self.state, &self.waiting);
            if let Some(seen) = seen {
                quieten(&self.waiting, seen);
            }
            seen.is_some()
        }

        /// One attempt to wait: `None` when the signal was consumed, else what it sleeps on.
        fn wait(&self) -> Option<u32> {
            if consume(&self.state) {
                return None;
            }
            announce(&self.waiting);
            let state = State::load(&self.state);
            if state.is_signalled() {
                return (!consume(&self.state)).then(|| State::load(&self.state).low_half());
            }
            Some(state.low_half())
        }
    }

    #[test]
    fn nobody_sleeps_through_a_set() {
        loom::model(|| {
            let event = Event::new();
            let setter = {
                let event = event.clone();
                thread::spawn(move || event.set())
            };
            let sleeps = event.wait();
            let wakes = setter.join().unwrap();
            if let Some(on) = sleeps {
                let is_unchanged = State::load(&event.state).low_half() == on;
                // The kernel lets nobody sleep on a word that has changed; if it slept before the
                // change, the setter wakes it.
                assert!(!is_unchanged, "asleep on the state after the set");
                assert!(wakes, "asleep before the set, and nobody wakes");
            }
        });
    }

    #[test]
    fn a_set_is_consumed_by_one() {
        loom::model(|| {
            let event = Event::new();
            event.set();
            let other = {
                let event = event.clone();
                thread::spawn(move || consume(&event.state))
            };
            let ours = consume(&event.state);
            let others = other.join().unwrap();
            assert!(ours ^ others, "consumed once");
        });
    }

    #[test]
    fn an_announcement_after_a_wake_is_not_taken_down() {
        loom::model(|| {
            let event = Event::new();
            let setter = {
                let event = event.clone();
                thread::spawn(move || {
                    event.set();
                    event.set()
                })
            };
            // Consumes the first signal, if it is there, and waits for the second.
            let consumed = consume(&event.state);
            let sleeps = event.wait();
            let wakes = setter.join().unwrap();
            if let Some(on) = sleeps {
                let now = State::load(&event.state);
                let slept_on_last = now.low_half() == on;
                assert!(
                    !slept_on_last || (consumed && !now.is_signalled()),
                    "asleep beside a signal"
                );
                if !slept_on_last && !wakes {
                    // It never slept: the word had changed before it could.
                    assert_ne!(now.low_half(), on);
                }
            }
        });
    }

    #[test]
    fn what_happened_before_a_set_is_seen_after_the_wait() {
        loom::model(|| {
            let event = Event::new();
            let data = Arc::new(AtomicU64::new(0));
            let setter = {
                let (event, data) = (event.clone(), data.clone());
                thread::spawn(move || {
                    data.store(1, Ordering::Relaxed);
                    event.set();
                })
            };
            if consume(&event.state) {
                assert_eq!(data.load(Ordering::Relaxed), 1);
            }
            setter.join().unwrap();
        });
    }
}
