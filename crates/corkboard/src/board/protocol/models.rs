//! The smallest races of the protocol, in every order that the memory model allows; where there are
//! three threads, of at most three preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p corkboard --lib --release models`
//!
//! The kernel's lock on an entry's byte is a flag here that is exchanged; death is a thread that
//! stops. loom treats accesses as acquire-release at most, so every full fence of the protocol is
//! a `fence(SeqCst)`; the waiter's fence for both sides is one on each side.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::super::layout::{pack, unpack};
use super::*;
use crate::mutex::{self, Outcome};
use crate::participants;
use crate::sync::AtomicU32;
use crate::waking::CONFIRMED;

/// A large board of so many slots and one reader's pin. loom reports an access to a payload that
/// races with another.
struct Large<const SLOTS: usize> {
    latest: AtomicU64,
    stamps: [AtomicU64; SLOTS],
    payloads: [UnsafeCell<u64>; SLOTS],
    pin: AtomicU64,
}

// SAFETY: loom checks each access to the payloads.
unsafe impl<const SLOTS: usize> Sync for Large<SLOTS> {}

impl<const SLOTS: usize> Large<SLOTS> {
    fn new() -> Self {
        Self {
            latest: AtomicU64::new(pack(0, 1)),
            stamps: std::array::from_fn(|slot| AtomicU64::new(u64::from(slot == 0))),
            payloads: std::array::from_fn(|_| UnsafeCell::new(1)),
            pin: AtomicU64::new(0),
        }
    }

    /// One publication, which loads what it needs as after a takeover.
    fn publish(&self, pins: &[&AtomicU64]) {
        let (latest, sequence) = unpack(self.latest.load(Ordering::Acquire));
        let mut avoid = SlotSet::EMPTY;
        loop {
            let mut slots = Reserved::default();
            if let Some(slot) = (0..SLOTS).find(|slot| *slot != latest && !avoid.contains(*slot)) {
                slots.push(slot);
            }
            let stamp_of = |slot: usize| &self.stamps[slot];
            avoid = reserve(&mut slots, stamp_of, pins.iter().copied());
            if let Some(slot) = slots.pop() {
                // SAFETY: reserved (I3); loom checks it.
                self.payloads[slot].with_mut(|payload| unsafe { *payload = sequence + 1 });
                stamp(&self.stamps[slot], sequence + 1);
                self.latest
                    .store(pack(slot, sequence + 1), Ordering::Release);
                return;
            }
        }
    }

    /// One read of a reader that has pinned nothing, `None` when it was overtaken.
    fn read(&self) -> Option<u64> {
        let (slot, sequence) = unpack(self.latest.load(Ordering::Acquire));
        if !pin(&self.pin, &self.stamps[slot], slot, sequence) {
            return None;
        }
        // SAFETY: pinned (I3); loom checks it.
        let value = self.payloads[slot].with(|payload| unsafe { *payload });
        assert_eq!(
            value, sequence,
            "the slot has the value that it is stamped with"
        );
        Some(sequence)
    }
}

#[test]
fn a_pinned_slot_is_not_written() {
    loom::model(|| {
        let board = Arc::new(Large::<3>::new());
        let writer = {
            let board = board.clone();
            thread::spawn(move || {
                board.publish(&[&board.pin]);
                board.publish(&[&board.pin]);
            })
        };
        let _ = board.read();
        unpin(&board.pin);
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_that_moves_its_pin_keeps_the_new_slot() {
    loom::model(|| {
        let board = Arc::new(Large::<3>::new());
        let reader = {
            let board = board.clone();
            thread::spawn(move || {
                let first = board.read();
                let second = board.read();
                assert!(second >= first || second.is_none());
            })
        };
        board.publish(&[&board.pin]);
        board.publish(&[&board.pin]);
        reader.join().unwrap();
    });
}

#[test]
fn a_copy_is_whole_or_discarded() {
    loom::model(|| {
        let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(1)));
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                let sequence = 17;
                mark(&words[0], sequence);
                words[1].store(sequence, Ordering::Relaxed);
                words[2].store(sequence, Ordering::Relaxed);
                stamp(&words[0], sequence);
            })
        };
        for sequence in [1, 17] {
            if !read_begin(&words[0], sequence) {
                continue;
            }
            let copy = [1, 2].map(|word| words[word].load(Ordering::Relaxed));
            let is_whole = copy == [sequence; 2];
            assert!(read_retry(&words[0], sequence) || is_whole, "{copy:?}");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_that_takes_the_next_value_sees_by_the_watched_word_that_there_is_a_newer_one() {
    loom::model(|| {
        // Two slots of a small board: their stamps, then their payloads.
        let words: Arc<[AtomicU64; 4]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let slot = |sequence: u64| sequence as usize % 2;
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                for sequence in 1..=3 {
                    mark(&words[slot(sequence)], sequence);
                    words[2 + slot(sequence)].store(sequence, Ordering::Relaxed);
                    stamp(&words[slot(sequence)], sequence);
                }
            })
        };
        // As `Reader::take_next`, with nothing seen before.
        let watched = words[slot(2)].load(Ordering::Relaxed);
        let mut taken = false;
        if !is_newer(watched, 1) && read_begin(&words[slot(1)], 1) {
            let copy = words[2 + slot(1)].load(Ordering::Relaxed);
            if !read_retry(&words[slot(1)], 1) {
                assert_eq!(copy, 1);
                taken = true;
            }
        }
        writer.join().unwrap();
        let found = words[slot(2)].load(Ordering::Relaxed);
        assert!(!taken || found != watched, "it waits for ever");
    });
}

#[test]
fn a_copy_beside_the_latest_word_is_of_the_sequence_in_it() {
    loom::model(|| {
        // The latest word, the stamp beside it, and what is copied.
        let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(1)));
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                // One that dies before it stores the latest word.
                mark(&words[1], 2);
                words[2].store(99, Ordering::Relaxed);
                stamp(&words[1], 2);
                // Its successor's value 2 is long, value 3 is short.
                mark(&words[1], 2);
                words[0].store(2, Ordering::Release);
                mark(&words[1], 3);
                words[2].store(3, Ordering::Relaxed);
                stamp(&words[1], 3);
                words[0].store(3, Ordering::Release);
            })
        };
        let latest = words[0].load(Ordering::Acquire);
        if read_begin(&words[1], latest) {
            let copy = words[2].load(Ordering::Relaxed);
            if !read_retry(&words[1], latest) {
                assert_eq!(copy, latest);
                assert_ne!(latest, 2, "there is no copy of 2");
            }
        }
        writer.join().unwrap();
    });
}

/// A waiter's and a publisher's words.
#[derive(Default)]
struct Waking {
    latest: AtomicU64,
    waiting: AtomicU64,
    fenced: AtomicU64,
    bell: AtomicU64,
}

impl Waking {
    /// One publication with its full fence, or with none unless it is asked for.
    fn publish(&self, sequence: u64, fences: bool) {
        self.latest.store(sequence, Ordering::Release);
        if fences || is_fenced(self.fenced.load(Ordering::Relaxed)) {
            fence(Ordering::SeqCst);
        }
        self.attend(sequence);
    }

    /// What follows a publication and its fence.
    fn attend(&self, sequence: u64) {
        if take_waiting(&self.waiting, sequence as u32) {
            ring(&self.bell);
        }
    }

    /// A wait that finds nothing: what was awaited, and the ticket.
    fn announced(&self) -> (u64, u32) {
        let ticket = ticket(&self.bell);
        let awaited = self.latest.load(Ordering::Relaxed);
        announce(&self.waiting, awaited as u32);
        fence(Ordering::SeqCst);
        (awaited, ticket)
    }

    /// As [`announced`](Self::announced), if there is nothing newer.
    fn sleeps(&self) -> Option<(u64, u32)> {
        let (awaited, ticket) = self.announced();
        (self.latest.load(Ordering::Relaxed) == awaited).then_some((awaited, ticket))
    }

    /// Whether one who sleeps with this ticket would sleep on: the kernel looks at the bell again
    /// before it puts anybody to sleep, and ends the sleep at each later change.
    fn sleeps_on(&self, ticket: u32) -> bool {
        self.bell.load(Ordering::Relaxed) as u32 == ticket
    }
}

#[test]
fn nobody_sleeps_on_a_value_that_is_published() {
    loom::model(|| {
        let words = Arc::new(Waking::default());
        let writer = {
            let words = words.clone();
            thread::spawn(move || words.publish(1, true))
        };
        let sleeps = words.sleeps();
        writer.join().unwrap();
        if let Some((0, ticket)) = sleeps {
            assert!(!words.sleeps_on(ticket), "asleep, and nobody wakes");
        }
    });
}

#[test]
fn one_who_awaits_the_next_value_is_woken_by_it_and_not_only_by_this_one() {
    loom::model(|| {
        let words = Arc::new(Waking::default());
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                words.publish(1, true);
                words.publish(2, true);
            })
        };
        let sleeps = words.sleeps();
        writer.join().unwrap();
        if let Some((awaited @ 0..2, ticket)) = sleeps {
            assert!(!words.sleeps_on(ticket), "asleep on {awaited}");
        }
    });
}

#[test]
fn one_who_took_a_small_boards_value_by_its_stamp_is_woken_by_the_next() {
    loom::model(|| {
        // Two slots' stamps; the latest word comes after each.
        let stamps: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let words = Arc::new(Waking::default());
        let slot = |sequence: u64| sequence as usize % 2;
        let writer = {
            let (stamps, words) = (stamps.clone(), words.clone());
            thread::spawn(move || {
                for sequence in 1..=2 {
                    stamp(&stamps[slot(sequence)], sequence);
                    words.publish(sequence, true);
                }
            })
        };
        let seen = u64::from(read_begin(&stamps[slot(1)], 1));
        // What is announced is the latest word, which may be behind what was seen.
        let (_, ticket) = words.announced();
        let next = stamps[slot(seen + 1)].load(Ordering::Relaxed);
        writer.join().unwrap();
        if !is_newer(next, seen) {
            assert!(!words.sleeps_on(ticket), "asleep on {seen}");
        }
    });
}

#[test]
fn nobody_sleeps_on_a_board_that_is_removed() {
    loom::model(|| {
        // Live is 0, removed is 1.
        let state = Arc::new(AtomicU64::new(0));
        let words = Arc::new(Waking::default());
        let remover = {
            let (state, words) = (state.clone(), words.clone());
            thread::spawn(move || {
                state.store(1, Ordering::Release);
                words.latest.fetch_or(GONE, Ordering::Relaxed);
                ring(&words.bell);
            })
        };
        let (_, ticket) = words.announced();
        let is_live = state.load(Ordering::Relaxed) == 0;
        remover.join().unwrap();
        if is_live {
            assert!(!words.sleeps_on(ticket), "asleep, and nobody wakes");
        }
    });
}

#[test]
fn of_two_who_await_different_values_neither_hides_the_other() {
    let mut model = loom::model::Builder::new();
    // Three threads: more changes of thread than this need no other order to go wrong.
    model.preemption_bound = Some(3);
    model.check(|| {
        let words = Arc::new(Waking::default());
        let [writer, other] = [true, false].map(|publishes| {
            let words = words.clone();
            thread::spawn(move || {
                if !publishes {
                    return words.sleeps();
                }
                words.publish(1, true);
                words.publish(2, true);
                None
            })
        });
        let ours = words.sleeps();
        writer.join().unwrap();
        let others = other.join().unwrap();
        for (awaited, ticket) in [ours, others].into_iter().flatten() {
            let is_over = awaited == 2 || !words.sleeps_on(ticket);
            assert!(is_over, "asleep on {awaited}, and nobody wakes");
        }
    });
}

#[test]
fn one_who_relies_on_the_writers_fence_is_woken_also_when_fences_end() {
    loom::model(|| {
        let words = Arc::new(Waking::default());
        words.fenced.store(CONFIRMED, Ordering::Relaxed);
        let writer = {
            let words = words.clone();
            thread::spawn(move || {
                end_fences(&words.fenced, &words.waiting);
                words.publish(1, false);
            })
        };
        let (awaited, ticket) = words.announced();
        // One who does not rely on it has the kernel make it: see the next model.
        let relies = ask_for_fences(&words.fenced, || false);
        let sleeps = awaited == 0 && words.latest.load(Ordering::Relaxed) == 0;
        writer.join().unwrap();
        let is_woken = !words.sleeps_on(ticket);
        assert!(!relies || !sleeps || is_woken, "asleep, and nobody wakes");
    });
}

#[test]
fn one_who_relies_on_a_fence_that_another_asked_for_is_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let words = Arc::new(Waking::default());
        // The kernel's: a heavy fence is wanted, and was made on the writer's processor, between
        // two of its steps.
        let heavy: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let writer = {
            let (words, heavy) = (words.clone(), heavy.clone());
            thread::spawn(move || {
                let interrupt = || {
                    if heavy[0].load(Ordering::Acquire) != 0 {
                        fence(Ordering::SeqCst);
                        heavy[1].store(1, Ordering::Release);
                    }
                };
                words.latest.store(1, Ordering::Release);
                interrupt();
                if is_fenced(words.fenced.load(Ordering::Relaxed)) {
                    fence(Ordering::SeqCst);
                }
                interrupt();
                words.attend(1);
            })
        };
        let asker = {
            let words = words.clone();
            thread::spawn(move || {
                ask_for_fences(&words.fenced, || {
                    heavy[0].store(1, Ordering::Release);
                    // Not waited for: what a fence that is still to come would do is what other
                    // orders show.
                    let is_made = heavy[1].load(Ordering::Acquire) != 0;
                    fence(Ordering::SeqCst);
                    is_made
                });
            })
        };
        let (awaited, ticket) = words.announced();
        let relies = ask_for_fences(&words.fenced, || false);
        let sleeps = awaited == 0 && words.latest.load(Ordering::Relaxed) == 0;
        writer.join().unwrap();
        asker.join().unwrap();
        let is_woken = !words.sleeps_on(ticket);
        assert!(!relies || !sleeps || is_woken, "asleep, and nobody wakes");
    });
}

#[test]
fn an_entry_claimed_anew_is_scanned() {
    loom::model(|| {
        let board = Arc::new(Large::<3>::new());
        let high = Arc::new(AtomicU64::new(0));
        let byte = Arc::new(AtomicBool::new(false));
        // What a dead reader left behind.
        board.pin.store(3, Ordering::Relaxed);
        let reader = {
            let (board, high, byte) = (board.clone(), high.clone(), byte.clone());
            thread::spawn(move || {
                let free = byte.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
                assert!(free.is_ok());
                participants::reset(&board.pin, &high, 0);
                let _ = board.read();
            })
        };
        for _ in 0..2 {
            // As `Table::pins`: only entries that were ever claimed are looked at, and the look
            // comes after the fence, so `high` is read by the iterator.
            let (latest, sequence) = unpack(board.latest.load(Ordering::Acquire));
            let slot = (0..3).find(|slot| *slot != latest).unwrap_or(0);
            let other = (0..3).rfind(|slot| *slot != latest).unwrap_or(0);
            for slot in [slot, other] {
                let mut slots = Reserved::default();
                slots.push(slot);
                let pins = std::iter::once_with(|| {
                    (high.load(Ordering::Relaxed) > 0).then_some(&board.pin)
                });
                reserve(&mut slots, |slot| &board.stamps[slot], pins.flatten());
                if slots.pop().is_some() {
                    // SAFETY: reserved (I3); loom checks it.
                    board.payloads[slot].with_mut(|payload| unsafe { *payload = sequence + 1 });
                    stamp(&board.stamps[slot], sequence + 1);
                    board
                        .latest
                        .store(pack(slot, sequence + 1), Ordering::Release);
                    break;
                }
            }
        }
        reader.join().unwrap();
    });
}

/// Two entries' bytes, true while their holders live, and the mutex between them.
struct Turns {
    word: AtomicU32,
    bytes: [AtomicBool; 3],
    inside: UnsafeCell<u32>,
}

// SAFETY: loom checks each access to `inside`.
unsafe impl Sync for Turns {}

impl Turns {
    /// Entry 0 holds the mutex and is dead; 1 and 2 want it.
    fn new() -> Self {
        let turns = Self {
            word: AtomicU32::new(0),
            bytes: std::array::from_fn(|entry| AtomicBool::new(entry > 0)),
            inside: UnsafeCell::new(0),
        };
        assert_eq!(turns.lock(0), Outcome::Locked);
        turns
    }

    fn lock(&self, entry: usize) -> Outcome {
        let zero = std::time::Duration::ZERO;
        mutex::lock(
            &self.word,
            entry,
            self.bytes.len(),
            zero,
            &|dead, exchange| {
                let byte = &self.bytes[dead];
                let locked =
                    byte.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
                if locked.is_ok() {
                    exchange();
                    byte.store(false, Ordering::Release);
                }
                Ok(locked.is_ok())
            },
        )
        .unwrap()
    }

    fn try_in_turn(&self, entry: usize) -> bool {
        if self.lock(entry) != Outcome::Locked {
            return false;
        }
        // SAFETY: the mutex is held; loom checks it.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
        mutex::unlock(&self.word, entry);
        true
    }
}

#[test]
fn a_dead_owner_is_replaced_by_one_at_a_time() {
    loom::model(|| {
        let turns = Arc::new(Turns::new());
        let other = {
            let turns = turns.clone();
            thread::spawn(move || turns.try_in_turn(1))
        };
        let ours = turns.try_in_turn(2);
        let others = other.join().unwrap();
        assert!(ours || others, "somebody takes the dead owner's place");
        assert!(turns.try_in_turn(2), "and gives it back");
    });
}

#[test]
fn an_entry_claimed_anew_frees_the_turn_of_its_dead_holder() {
    loom::model(|| {
        let turns = Arc::new(Turns::new());
        let claimer = {
            let turns = turns.clone();
            thread::spawn(move || {
                let byte = &turns.bytes[0];
                let free = byte.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed);
                if free.is_err() {
                    return;
                }
                // As `Writer::attach`: our own byte, so whoever the word names is dead.
                mutex::unlock(&turns.word, 0);
                turns.try_in_turn(0);
            })
        };
        turns.try_in_turn(1);
        claimer.join().unwrap();
        assert!(turns.try_in_turn(2), "the turn is not lost");
    });
}
