//! The smallest races of the protocol, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p corkboard --lib --release models`

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::*;

/// A ring of two cells and one subscriber. loom reports an access to a payload that races.
struct Ring {
    stamps: [AtomicU64; 2],
    payloads: [UnsafeCell<u64>; 2],
    reclaimed: AtomicU64,
    confirmed: AtomicU64,
    cursor: AtomicU64,
}

// SAFETY: loom checks each access to the payloads.
unsafe impl Sync for Ring {}

impl Ring {
    /// With records 1 and 2, so that it is full.
    fn full() -> Arc<Self> {
        let ring = Self {
            stamps: std::array::from_fn(|_| AtomicU64::new(0)),
            payloads: std::array::from_fn(|_| UnsafeCell::new(0)),
            reclaimed: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
        };
        ring.write(1);
        ring.write(2);
        Arc::new(ring)
    }

    fn write(&self, sequence: u64) {
        let cell = sequence as usize % 2;
        // SAFETY: reclaimed (I3); loom checks it.
        self.payloads[cell].with_mut(|payload| unsafe { *payload = sequence });
        publish(&self.stamps[cell], sequence);
    }

    /// Appends if there is room.
    fn send(&self, sequence: u64) -> bool {
        let wanted = sequence - 2;
        let cursors = || std::iter::once(&self.cursor);
        let free = reclaim(&self.reclaimed, &self.confirmed, wanted, cursors);
        if free < wanted {
            return false;
        }
        self.write(sequence);
        true
    }

    /// Reads the record after this one, if it is there.
    fn receive(&self, after: u64) -> bool {
        let cell = (after + 1) as usize % 2;
        if !is_published(&self.stamps[cell], after + 1) {
            return false;
        }
        // SAFETY: beyond our cursor (I3); loom checks it.
        let found = self.payloads[cell].with(|payload| unsafe { *payload });
        assert_eq!(found, after + 1);
        advance(&self.cursor, after + 1);
        true
    }
}

#[test]
fn what_a_subscriber_reads_is_not_overwritten() {
    loom::model(|| {
        let ring = Ring::full();
        advance(&ring.cursor, 0);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                if ring.send(3) {
                    ring.send(4);
                }
            })
        };
        let mut after = 0;
        while after < 3 && ring.receive(after) {
            after += 1;
        }
        producer.join().unwrap();
    });
}

#[test]
fn one_who_joins_while_records_are_reclaimed_gets_those_that_are_left() {
    loom::model(|| {
        let ring = Ring::full();
        // Another subscriber is done with everything.
        let other = Arc::new(AtomicU64::new(0));
        advance(&other, 2);
        let producer = {
            let (ring, other) = (ring.clone(), other.clone());
            thread::spawn(move || {
                let cursors = || [&ring.cursor, &*other].into_iter();
                if reclaim(&ring.reclaimed, &ring.confirmed, 1, cursors) == 1 {
                    ring.write(3);
                }
            })
        };
        let after = join(&ring.cursor, &ring.reclaimed, 0);
        assert!(after <= 1);
        assert!(ring.receive(after), "whatever it joined at is there");
        producer.join().unwrap();
    });
}

#[test]
fn who_takes_a_dead_producers_place_overwrites_nothing_that_is_needed() {
    loom::model(|| {
        let ring = Ring::full();
        let producers = {
            let ring = ring.clone();
            thread::spawn(move || {
                // One that dies after it stored `reclaimed`; somebody else was done with all.
                store_and_fence(&ring.reclaimed, 1);
                take_back(&ring.reclaimed, &ring.confirmed);
                ring.send(3);
            })
        };
        let after = join(&ring.cursor, &ring.reclaimed, 0);
        assert!(after <= 1);
        assert!(ring.receive(after), "whatever it joined at is there");
        producers.join().unwrap();
    });
}

#[test]
fn a_copy_is_whole_or_known_to_be_lost() {
    loom::model(|| {
        // The stamp, the payload, and the reclaimed word.
        let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        words[1].store(1, Ordering::Relaxed);
        publish(&words[0], 1);
        let producer = {
            let words = words.clone();
            thread::spawn(move || {
                withdraw(&words[2], 1);
                words[1].store(17, Ordering::Relaxed);
                publish(&words[0], 17);
            })
        };
        for sequence in [1, 17] {
            if is_published(&words[0], sequence) {
                let copy = words[1].load(Ordering::Relaxed);
                assert!(!is_there(&words[2], sequence) || copy == sequence);
            }
        }
        producer.join().unwrap();
    });
}
