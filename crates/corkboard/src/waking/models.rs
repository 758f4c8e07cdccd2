//! One who sleeps on what is published itself, as a stream's subscribers do: exactly the publication
//! that it awaits must wake it. Boards' readers sleep on a bell, see their own models.

use loom::sync::Arc;
use loom::thread;

use super::*;

#[test]
fn nobody_sleeps_on_a_value_that_is_published() {
    loom::model(|| {
        // Word 0 is the latest word, word 1 the waiting word.
        let words: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                words[0].store(1, Ordering::Release);
                fence(Ordering::SeqCst);
                take_waiting(&words[1], 1)
            })
        };
        announce(&words[1], 0);
        fence(Ordering::SeqCst);
        let sleeps = words[0].load(Ordering::Relaxed) == 0;
        let wakes = writer.join().unwrap();
        assert!(!sleeps || wakes, "asleep, and nobody wakes");
    });
}

#[test]
fn one_who_awaits_the_next_value_is_woken_by_it_and_not_by_this_one() {
    loom::model(|| {
        // Word 0 is the latest word, word 1 the waiting word.
        let words: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                [1, 2].map(|sequence| {
                    words[0].store(sequence, Ordering::Release);
                    fence(Ordering::SeqCst);
                    take_waiting(&words[1], sequence as u32)
                })
            })
        };
        let awaited = words[0].load(Ordering::Relaxed);
        announce(&words[1], awaited as u32);
        fence(Ordering::SeqCst);
        let sleeps = words[0].load(Ordering::Relaxed) == awaited;
        let [_, wakes] = writer.join().unwrap();
        assert!(
            !sleeps || awaited != 1 || wakes,
            "asleep on 1, and nobody wakes at 2"
        );
    });
}

#[test]
fn of_two_who_await_different_values_neither_hides_the_other() {
    let mut model = loom::model::Builder::new();
    // Three threads: more changes of thread than this need no other order to go wrong.
    model.preemption_bound = Some(3);
    model.check(|| {
        // Word 0 is the latest word, word 1 the waiting word.
        let words: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        // What a waiter sleeps on, if it sleeps.
        fn wait(words: &[AtomicU64; 2]) -> Option<u64> {
            let awaited = words[0].load(Ordering::Relaxed);
            announce(&words[1], awaited as u32);
            fence(Ordering::SeqCst);
            (words[0].load(Ordering::Relaxed) == awaited).then_some(awaited)
        }
        let [writer, other] = [true, false].map(|publishes| {
            let words = words.clone();
            thread::spawn(move || {
                if !publishes {
                    return (wait(&words), [false; 2]);
                }
                let wakes = [1, 2].map(|sequence| {
                    words[0].store(sequence, Ordering::Release);
                    fence(Ordering::SeqCst);
                    take_waiting(&words[1], sequence as u32)
                });
                (None, wakes)
            })
        });
        let ours = wait(&words);
        let (_, wakes) = writer.join().unwrap();
        let (others, _) = other.join().unwrap();
        for awaited in [ours, others].into_iter().flatten() {
            let is_woken = wakes.get(awaited as usize).is_none_or(|wakes| *wakes);
            assert!(is_woken, "asleep on {awaited}, and nobody wakes");
        }
    });
}

#[test]
fn one_who_relies_on_the_writers_fence_is_woken_also_when_fences_end() {
    loom::model(|| {
        // The latest, the waiting and the fenced word.
        let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        words[2].store(CONFIRMED, Ordering::Relaxed);
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                end_fences(&words[2], &words[1]);
                words[0].store(1, Ordering::Release);
                if is_fenced(words[2].load(Ordering::Relaxed)) {
                    fence(Ordering::SeqCst);
                }
                take_waiting(&words[1], 1)
            })
        };
        announce(&words[1], 0);
        fence(Ordering::SeqCst);
        // One who does not rely on it has the kernel make it: see the next model.
        let relies = ask_for_fences(&words[2], || false);
        let sleeps = words[0].load(Ordering::Relaxed) == 0;
        let wakes = writer.join().unwrap();
        assert!(!relies || !sleeps || wakes, "asleep, and nobody wakes");
    });
}

#[test]
fn one_who_relies_on_a_fence_that_another_asked_for_is_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        // The latest, the waiting and the fenced word; then the kernel's: a heavy fence is wanted,
        // and was made on the writer's processor, between two of its steps.
        let words: Arc<[AtomicU64; 5]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                let interrupt = || {
                    if words[3].load(Ordering::Acquire) != 0 {
                        fence(Ordering::SeqCst);
                        words[4].store(1, Ordering::Release);
                    }
                };
                words[0].store(1, Ordering::Release);
                interrupt();
                if is_fenced(words[2].load(Ordering::Relaxed)) {
                    fence(Ordering::SeqCst);
                }
                interrupt();
                take_waiting(&words[1], 1)
            })
        };
        let asker = {
            let words = words.clone();
            thread::spawn(move || {
                ask_for_fences(&words[2], || {
                    words[3].store(1, Ordering::Release);
                    // Not waited for: what a fence that is still to come would do is what other
                    // orders show.
                    let is_made = words[4].load(Ordering::Acquire) != 0;
                    fence(Ordering::SeqCst);
                    is_made
                });
            })
        };
        announce(&words[1], 0);
        fence(Ordering::SeqCst);
        let relies = ask_for_fences(&words[2], || false);
        let sleeps = words[0].load(Ordering::Relaxed) == 0;
        let wakes = writer.join().unwrap();
        asker.join().unwrap();
        assert!(!relies || !sleeps || wakes, "asleep, and nobody wakes");
    });
}
