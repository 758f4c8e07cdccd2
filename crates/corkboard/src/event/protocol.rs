//! The event's one word, and nothing else: no system call.
//!
//! It says whether the event is signalled (bit 0), whether somebody may sleep (bit 1), and above
//! that how often it was set. Everyone changes it by exchange, and waiters sleep on its low half.
//! So whoever would sleep on a word that says anything else by now does not, and no two words need
//! be kept in order.
//!
//! - **E1** Who sleeps has fallen asleep on a word with bit 1 set, and the bit is cleared only by
//!   who wakes everyone after that.
//!
//! If a process dies: the signal that it was woken for is still there, and whoever else waits
//! finds it after a slice. A bit that it left costs one needless wake.

use crate::sync::{AtomicU64, Ordering};

const SIGNALLED: u64 = 1;
const AWAITED: u64 = 2;
const SET: u64 = 4;

/// What the word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State(u64);

impl State {
    pub(super) fn of(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(super) fn load(word: &AtomicU64) -> Self {
        // Acquire pairs with the Release in `set`.
        Self(word.load(Ordering::Acquire))
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

    /// Whether somebody may sleep.
    #[inline]
    pub(super) fn is_awaited(self) -> bool {
        self.0 & AWAITED != 0
    }

    /// What a waiter sleeps on.
    #[inline]
    pub(super) fn low_half(self) -> u32 {
        self.0 as u32
    }
}

/// How many a signal lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passing {
    One,
    All,
}

/// Signals, also when it is signalled already. Returns whether somebody may sleep, whom the caller
/// then wakes: one, or everyone.
#[inline]
pub(super) fn set(word: &AtomicU64, passing: Passing) -> bool {
    let mut before = word.load(Ordering::Relaxed);
    loop {
        let mut after = (before | SIGNALLED).wrapping_add(SET);
        if passing == Passing::All {
            // Everyone is woken: E1.
            after &= !AWAITED;
        }
        // Release pairs with the Acquire in `State::load` and `consume`: what happened before the
        // signal is seen by whoever sees it.
        match word.compare_exchange_weak(before, after, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return before & AWAITED != 0,
            Err(changed) => before = changed,
        }
    }
}

/// Says that nobody sleeps. Everyone who does all the same must be woken after that (E1).
#[inline]
pub(super) fn quieten(word: &AtomicU64) {
    word.fetch_and(!AWAITED, Ordering::Relaxed);
}

/// Takes the signal back.
#[inline]
pub(super) fn reset(word: &AtomicU64) {
    word.fetch_and(!SIGNALLED, Ordering::Relaxed);
}

/// Takes the signal, if it is there: of several who try, one does.
#[inline]
pub(super) fn consume(word: &AtomicU64) -> bool {
    let mut before = word.load(Ordering::Relaxed);
    while before & SIGNALLED != 0 {
        let after = before & !SIGNALLED;
        // Acquire pairs with the Release in `set`.
        match word.compare_exchange_weak(before, after, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(changed) => before = changed,
        }
    }
    false
}

/// Says that somebody may sleep on the word as it is, and returns it; `None` when `may_sleep` says
/// no to it.
#[inline]
pub(super) fn announce(word: &AtomicU64, may_sleep: impl Fn(State) -> bool) -> Option<State> {
    loop {
        let found = State::load(word);
        if !may_sleep(found) {
            return None;
        }
        let awaited = found.0 | AWAITED;
        if found.is_awaited()
            || word
                .compare_exchange_weak(found.0, awaited, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            return Some(State(awaited));
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;

    /// The word, and the kernel's queue of those who sleep on it. As in the kernel, looking at the
    /// word and joining the queue are one step for who wakes.
    struct Event {
        word: AtomicU64,
        queue: Mutex<u32>,
        passing: Passing,
    }

    impl Event {
        fn new(passing: Passing) -> Arc<Self> {
            Arc::new(Self {
                word: AtomicU64::new(0),
                queue: Mutex::new(0),
                passing,
            })
        }

        /// Wakes as many as that, and returns how many there were.
        fn wake(&self, count: u32) -> u32 {
            let mut queue = self.queue.lock().unwrap();
            let woken = count.min(*queue);
            *queue -= woken;
            woken
        }

        fn set(&self) {
            if !set(&self.word, self.passing) {
                return;
            }
            let count = match self.passing {
                Passing::One => 1,
                Passing::All => 10,
            };
            if self.wake(count) == 0 && self.passing == Passing::One {
                quieten(&self.word);
                self.wake(10);
            }
        }

        /// One attempt to wait: `true` when the signal was had, `false` when it is in the queue or
        /// would look again.
        fn wait(&self) -> bool {
            if consume(&self.word) {
                return true;
            }
            if let Some(awaited) = announce(&self.word, |state| !state.is_signalled()) {
                self.sleep(awaited);
            }
            false
        }

        fn sleep(&self, awaited: State) {
            let mut queue = self.queue.lock().unwrap();
            if State::load(&self.word).low_half() == awaited.low_half() {
                *queue += 1;
            }
        }

        /// Whether nobody sleeps beside a signal, and whoever sleeps would be woken.
        fn check(&self) {
            let asleep = *self.queue.lock().unwrap();
            let state = State::load(&self.word);
            if asleep > 0 {
                assert!(!state.is_signalled(), "asleep beside a signal");
                assert!(state.is_awaited(), "asleep, and nobody would wake");
            }
        }
    }

    #[test]
    fn nobody_sleeps_through_a_set() {
        for passing in [Passing::One, Passing::All] {
            loom::model(move || {
                let event = Event::new(passing);
                let waiter = {
                    let event = event.clone();
                    thread::spawn(move || event.wait())
                };
                event.set();
                waiter.join().unwrap();
                event.check();
            });
        }
    }

    #[test]
    fn who_sleeps_after_a_signal_that_it_took_is_woken_by_the_next() {
        loom::model(|| {
            let event = Event::new(Passing::One);
            // Somebody announced a sleep and died.
            announce(&event.word, |_| true).unwrap();
            let waiter = {
                let event = event.clone();
                thread::spawn(move || {
                    event.wait();
                    event.wait();
                })
            };
            event.set();
            event.set();
            waiter.join().unwrap();
            event.check();
        });
    }

    #[test]
    fn who_was_told_of_a_signal_sleeps_beside_it_until_the_next() {
        loom::model(|| {
            let event = Event::new(Passing::One);
            event.set();
            let told = State::load(&event.word);
            let waiter = {
                let event = event.clone();
                thread::spawn(move || {
                    if let Some(awaited) =
                        announce(&event.word, |state| state.sets() == told.sets())
                    {
                        event.sleep(awaited);
                    }
                })
            };
            consume(&event.word);
            event.set();
            waiter.join().unwrap();
            let asleep = *event.queue.lock().unwrap();
            assert_eq!(asleep, 0, "asleep on what was before the second set");
        });
    }

    #[test]
    fn of_two_who_wait_each_set_wakes_one() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let event = Event::new(Passing::One);
            let waiters = [(); 2].map(|()| {
                let event = event.clone();
                thread::spawn(move || event.wait())
            });
            event.set();
            let passed = waiters.map(|waiter| waiter.join().unwrap());
            assert!(!(passed[0] && passed[1]), "one set lets one through");
            // One may have been woken, and would look again; the other is still to be found.
            let asleep = *event.queue.lock().unwrap();
            assert!(asleep < 2 || !State::load(&event.word).is_signalled());
            assert!(asleep == 0 || State::load(&event.word).is_awaited());
        });
    }

    #[test]
    fn what_happened_before_a_set_is_seen_after_the_wait() {
        loom::model(|| {
            let event = Event::new(Passing::One);
            let data = Arc::new(UnsafeCell::new(0));
            let waiter = {
                let (event, data) = (event.clone(), data.clone());
                thread::spawn(move || {
                    if consume(&event.word) {
                        // SAFETY: nobody writes after the set; loom checks it.
                        assert_eq!(data.with(|data| unsafe { *data }), 1);
                    }
                })
            };
            // SAFETY: nobody looks before the set; loom checks it.
            data.with_mut(|data| unsafe { *data = 1 });
            event.set();
            waiter.join().unwrap();
        });
    }
}
