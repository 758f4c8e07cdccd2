//! Streams: what producers and subscribers see of each other.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::Scratch;
#[cfg(unix)]
use corkboard::Space;
use corkboard::stream::{From, Integrity, Options, Overflow, Producer, ProducerMode, Subscriber};
use corkboard::{ErrorKind, Kind};
use proptest::prelude::*;

const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// What is received until nothing is left.
fn drain(subscriber: &mut Subscriber) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(message) = subscriber.try_recv().unwrap() {
        all.push(message.to_vec());
    }
    all
}

#[test]
fn every_subscriber_gets_every_record_in_order() {
    let scratch = Scratch::new();
    let mut producer = Options::new().producer(&scratch.space(), "s").unwrap();
    let mut first = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    for (index, record) in [&b"one"[..], b"", &[7; 5000]].into_iter().enumerate() {
        assert_eq!(producer.send(record).unwrap(), index as u64 + 1);
    }
    let mut second = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    let mut third = Subscriber::open(&scratch.space(), "s", From::Sequence(3)).unwrap();
    let mut last = Subscriber::open(&scratch.space(), "s", From::Newest).unwrap();
    assert_eq!(drain(&mut first), [b"one".to_vec(), vec![], vec![7; 5000]]);
    assert_eq!(drain(&mut second).len(), 3);
    assert_eq!(drain(&mut third), [vec![7; 5000]]);
    assert!(drain(&mut last).is_empty());
    producer.send(b"four").unwrap();
    for subscriber in [&mut first, &mut second, &mut third, &mut last] {
        let message = subscriber.recv(LONG).unwrap().unwrap();
        assert_eq!((message.sequence(), &*message), (4, &b"four"[..]));
    }
}

#[test]
fn a_full_stream_blocks_until_the_slowest_has_received() {
    let scratch = Scratch::new();
    let options = Options::new().capacity(1024);
    let mut producer = options.producer(&scratch.space(), "s").unwrap();
    let mut sent = 0_u64;
    while producer.try_send(&sent.to_ne_bytes()).unwrap().is_some() {
        sent += 1;
    }
    assert_eq!(sent, 16, "also without a subscriber");
    let short = Duration::from_millis(1);
    assert_eq!(producer.send_timeout(b"", short).unwrap(), None);
    let mut fast = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    let mut slow = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    assert_eq!(drain(&mut fast).len(), 16);
    assert_eq!(producer.try_send(b"").unwrap(), None);
    assert_eq!(*slow.recv(LONG).unwrap().unwrap(), 0_u64.to_ne_bytes());
    assert_eq!(producer.try_send(b"17").unwrap(), Some(17));
    assert_eq!(producer.try_send(b"18").unwrap(), None);
    drop(slow);
    assert_eq!(producer.try_send(b"18").unwrap(), Some(18));
    assert_eq!(drain(&mut fast), [b"17", b"18"]);
}

#[test]
fn a_blocked_producer_is_woken() {
    let scratch = Scratch::new();
    let mode = ProducerMode::Shared;
    let options = Options::new().capacity(4096).producer_mode(mode);
    let mut producer = options.producer(&scratch.space(), "s").unwrap();
    let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    let sender = std::thread::spawn(move || {
        for number in 0..100_000_u64 {
            let len = 8 + number as usize % 700;
            let mut record = vec![number as u8; len];
            record[..8].copy_from_slice(&number.to_ne_bytes());
            producer.send(&record).unwrap();
        }
        producer.end(None).unwrap();
    });
    let mut expected = 0_u64;
    while let Some(message) = subscriber.recv(LONG).unwrap() {
        let (head, rest) = message.split_first_chunk().unwrap();
        assert_eq!(u64::from_ne_bytes(*head), expected);
        assert_eq!(rest.len(), expected as usize % 700);
        assert!(rest.iter().all(|byte| *byte == expected as u8));
        expected += 1;
    }
    assert!(subscriber.is_ended());
    assert_eq!(expected, 100_000);
    sender.join().unwrap();
}

#[test]
fn missed_and_received_make_up_what_was_produced() {
    let scratch = Scratch::new();
    let options = Options::new().capacity(8192).overflow(Overflow::Overwrite);
    let mut producer = options.producer(&scratch.space(), "s").unwrap();
    let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    const COUNT: u64 = 300_000;
    let sender = std::thread::spawn(move || {
        for number in 1..=COUNT {
            let record = [number; 40];
            let len = 1 + number as usize % 40;
            let bytes: Vec<u8> = record[..len].iter().flat_map(|n| n.to_ne_bytes()).collect();
            assert_eq!(producer.send(&bytes).unwrap(), number);
        }
    });
    let (mut received, mut missed) = (0, 0);
    while received + missed < COUNT {
        match subscriber.recv(LONG) {
            Ok(message) => {
                let message = message.unwrap();
                received += 1;
                assert_eq!(message.sequence(), received + missed);
                let (words, _) = message.as_chunks::<8>();
                assert_eq!(words.len(), 1 + message.sequence() as usize % 40);
                for word in words {
                    assert_eq!(u64::from_ne_bytes(*word), message.sequence());
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                missed += error.missed();
            }
        }
    }
    sender.join().unwrap();
    assert_eq!(received + missed, COUNT);
}

#[test]
fn who_begins_with_a_record_that_is_gone_is_told() {
    let scratch = Scratch::new();
    let options = Options::new().capacity(1024).overflow(Overflow::Overwrite);
    let mut producer = options.producer(&scratch.space(), "s").unwrap();
    for number in 1..=100_u8 {
        producer.send(&[number]).unwrap();
    }
    let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Sequence(3)).unwrap();
    let error = subscriber.try_recv().unwrap_err();
    let next = 3 + error.missed();
    assert_eq!(subscriber.try_recv().unwrap().unwrap().sequence(), next);
    let mut later = Subscriber::open(&scratch.space(), "s", From::Sequence(103)).unwrap();
    assert!(later.try_recv().unwrap().is_none());
    for number in 101..=103 {
        producer.send(&[number]).unwrap();
    }
    assert_eq!(*later.try_recv().unwrap().unwrap(), [103]);
}

#[test]
fn who_begins_with_the_newest_gets_nothing_that_was_sent_before() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(1024).overflow(Overflow::Overwrite);
    let mut producer = options.producer(&space, "s").unwrap();
    let (sent, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    // Also when an assertion fails: the thread must come to its end.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                sent.store(producer.send(b"x").unwrap(), Ordering::Release);
            }
        });
        let _done = Done(&is_done);
        // Wine takes far longer to open one.
        for _ in 0..if cfg!(windows) { 50 } else { 3000 } {
            let before = sent.load(Ordering::Acquire);
            let mut subscriber = Subscriber::open(&space, "s", From::Newest).unwrap();
            loop {
                match subscriber.recv(LONG) {
                    Ok(message) => break assert!(message.unwrap().sequence() > before),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Lagged, "{error}"),
                }
            }
        }
    });
}

#[test]
fn producers_take_turns_or_exclude_each_other() {
    let scratch = Scratch::new();
    let alone = Options::new().producer(&scratch.space(), "alone").unwrap();
    let error = Producer::open(&scratch.space(), "alone").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterExists);
    let _keeper = scratch.space().keep(Kind::Stream, "alone").unwrap();
    drop(alone);
    let mut next = Producer::open(&scratch.space(), "alone").unwrap();
    assert_eq!(next.send(b"1").unwrap(), 1);
    drop(next);
    let mut next = Producer::open(&scratch.space(), "alone").unwrap();
    assert_eq!(next.send(b"2").unwrap(), 2);

    let shared = Options::new()
        .producer_mode(ProducerMode::Shared)
        .capacity(1 << 16);
    let mut subscriber = {
        let _producer = shared.producer(&scratch.space(), "shared").unwrap();
        Subscriber::open(&scratch.space(), "shared", From::Oldest).unwrap()
    };
    let senders: Vec<_> = (0..4_u64)
        .map(|who| {
            let mut producer = shared.producer(&scratch.space(), "shared").unwrap();
            std::thread::spawn(move || {
                for number in 0..5000_u64 {
                    let mut record = [who, number].map(u64::to_ne_bytes).concat();
                    record.resize(16 + number as usize % 500, 0);
                    producer.send(&record).unwrap();
                }
            })
        })
        .collect();
    let mut expected = [0; 4];
    for _ in 0..20_000 {
        let message = subscriber.recv(LONG).unwrap().unwrap();
        let (words, _) = message[..16].as_chunks::<8>();
        let [who, number] = [0, 1].map(|word| u64::from_ne_bytes(words[word]));
        assert_eq!(expected[who as usize], number);
        expected[who as usize] += 1;
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn loans_are_sent_or_discarded() {
    let scratch = Scratch::new();
    for mode in [ProducerMode::Exclusive, ProducerMode::Shared] {
        let name = format!("{mode:?}");
        let options = Options::new().producer_mode(mode).capacity(1 << 16);
        let mut producer = options.producer(&scratch.space(), &name).unwrap();
        let mut subscriber = Subscriber::open(&scratch.space(), &name, From::Oldest).unwrap();
        for len in [0, 10, 32, 33, 64, 65, 5000, 16384] {
            let mut loan = producer.loan(len).unwrap();
            loan.fill(len as u8);
            loan.send().unwrap();
            drop(producer.loan(len).unwrap());
            let mut loan = producer.loan(len).unwrap();
            loan.fill(9);
            loan.truncate(len / 2);
            loan.send().unwrap();
            assert_eq!(
                *subscriber.try_recv().unwrap().unwrap(),
                vec![len as u8; len]
            );
            assert_eq!(*subscriber.try_recv().unwrap().unwrap(), vec![9; len / 2]);
        }
        let error = producer.loan(16385).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let error = producer.send(&vec![0; 16385]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn an_end_mark_comes_after_what_was_sent_and_more_may_follow() {
    let scratch = Scratch::new();
    let mut producer = Options::new().producer(&scratch.space(), "s").unwrap();
    producer.send(b"a").unwrap();
    assert_eq!(producer.end(None).unwrap(), Some(2));
    producer.send(b"b").unwrap();
    let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    assert_eq!(drain(&mut subscriber), [b"a"]);
    assert!(subscriber.is_ended());
    assert_eq!(drain(&mut subscriber), [b"b"]);
    assert!(!subscriber.is_ended());
}

#[test]
fn options_that_differ_are_refused() {
    let scratch = Scratch::new();
    let _producer = Options::new()
        .integrity(Integrity::None)
        .producer_mode(ProducerMode::Shared)
        .producer(&scratch.space(), "s")
        .unwrap();
    for options in [
        Options::new().capacity(5000),
        Options::new().overflow(Overflow::Overwrite),
        Options::new().integrity(Integrity::Crc64),
        Options::new().producer_mode(ProducerMode::Exclusive),
        Options::new().max_subscribers(1),
    ] {
        let error = options.producer(&scratch.space(), "s").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
    let capacity = Options::new().capacity(usize::MAX);
    let error = capacity.producer(&scratch.space(), "t").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_full_table_refuses_or_makes_observers() {
    let scratch = Scratch::new();
    let open = |name| Subscriber::open(&scratch.space(), name, From::Oldest);
    let options = Options::new().max_subscribers(1);
    let _block = options.producer(&scratch.space(), "block").unwrap();
    let _first = open("block").unwrap();
    assert_eq!(open("block").unwrap_err().kind(), ErrorKind::Full);
    let options = options.overflow(Overflow::Overwrite);
    let mut producer = options.producer(&scratch.space(), "overwrite").unwrap();
    let _first = open("overwrite").unwrap();
    let mut observer = open("overwrite").unwrap();
    assert!(observer.is_observer());
    producer.send(b"x").unwrap();
    assert_eq!(*observer.recv(LONG).unwrap().unwrap(), *b"x");
}

#[test]
fn removal_is_noticed() {
    let scratch = Scratch::new();
    let mut producer = Options::new().producer(&scratch.space(), "s").unwrap();
    let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    let waiting = std::thread::spawn(move || subscriber.recv(LONG).map(|_| ()).unwrap_err().kind());
    scratch.space().remove(Kind::Stream, "s").unwrap();
    assert_eq!(waiting.join().unwrap(), ErrorKind::Removed);
    assert_eq!(producer.send(b"x").unwrap_err().kind(), ErrorKind::Removed);
    let gone = Subscriber::open(&scratch.space(), "s", From::Oldest);
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    let mut anew = Options::new().producer(&scratch.space(), "s").unwrap();
    assert_eq!(anew.send(b"x").unwrap(), 1);
}

#[test]
fn removal_is_noticed_by_producers_that_wait_for_room() {
    let scratch = Scratch::new();
    for mode in [ProducerMode::Exclusive, ProducerMode::Shared] {
        let options = Options::new().capacity(1024).producer_mode(mode);
        let mut producer = options.producer(&scratch.space(), "s").unwrap();
        while producer.try_send(b"x").unwrap().is_some() {}
        let waiting = std::thread::spawn(move || producer.send(b"x").unwrap_err().kind());
        scratch.space().remove(Kind::Stream, "s").unwrap();
        assert_eq!(waiting.join().unwrap(), ErrorKind::Removed);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn handles_of_a_forks_child_are_refused_and_release_nothing() {
    let scratch = Scratch::new();
    for mode in [ProducerMode::Exclusive, ProducerMode::Shared] {
        let name = format!("{mode:?}");
        let options = Options::new().producer_mode(mode).capacity(1 << 16);
        let mut producer = options.producer(&scratch.space(), &name).unwrap();
        let mut subscriber = Subscriber::open(&scratch.space(), &name, From::Oldest).unwrap();
        producer.send(&[1; 5000]).unwrap();
        producer.send(b"2").unwrap();
        // Held in place.
        assert_eq!(subscriber.try_recv().unwrap().unwrap().len(), 5000);
        let is_forked = |result: Result<(), corkboard::Error>| {
            result.is_err_and(|error| error.kind() == ErrorKind::Forked)
        };
        let (sender, receiver) = (&mut producer, &mut subscriber);
        let is_well = common::forked(move || {
            let is_refused = is_forked(sender.send(b"x").map(drop))
                && is_forked(sender.try_send(b"x").map(drop))
                && is_forked(sender.loan(5000).and_then(|loan| loan.send()).map(drop))
                && is_forked(sender.end(None).map(drop))
                && is_forked(receiver.recv(LONG).map(drop))
                && is_forked(receiver.try_recv().map(drop))
                && is_forked(corkboard::wait::any(&mut [receiver], LONG).map(drop));
            // SAFETY: the parent has its own; here they are dropped once, and not used again.
            unsafe {
                std::ptr::drop_in_place(sender);
                std::ptr::drop_in_place(receiver);
            }
            is_refused
        });
        assert!(is_well);
        assert_eq!(*subscriber.try_recv().unwrap().unwrap(), *b"2");
        assert_eq!(producer.send(b"3").unwrap(), 3);
        assert_eq!(*subscriber.try_recv().unwrap().unwrap(), *b"3");
        if mode == ProducerMode::Exclusive {
            let error = Producer::open(&scratch.space(), &name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WriterExists);
        }
    }
}

#[test]
fn several_are_waited_for_together() {
    let scratch = Scratch::new();
    let mut producers =
        ["a", "b"].map(|name| Options::new().producer(&scratch.space(), name).unwrap());
    let mut subscribers =
        ["a", "b"].map(|name| Subscriber::open(&scratch.space(), name, From::Oldest).unwrap());
    let sender = std::thread::spawn(move || {
        for round in 0..2000_u64 {
            producers[round as usize % 2]
                .send(&round.to_ne_bytes())
                .unwrap();
        }
    });
    let mut received = 0;
    while received < 2000 {
        let [a, b] = &mut subscribers;
        let ready = corkboard::wait::any(&mut [a, b], LONG).unwrap().unwrap();
        received += drain(&mut subscribers[ready]).len();
    }
    sender.join().unwrap();
}

/// A stream that is full because of a process that received nothing, and is dead; and a subscriber
/// who received everything.
#[cfg(unix)]
fn full_for_the_dead(space: &Space) -> (Producer, Subscriber) {
    let options = Options::new().capacity(1024);
    let mut producer = options.producer(space, "s").unwrap();
    // First, or it would get the dead one's entry and clear it.
    let mut alive = Subscriber::open(space, "s", From::Oldest).unwrap();
    let die = |space: &Space| {
        std::mem::forget(Subscriber::open(space, "s", From::Oldest).unwrap());
    };
    child_that_dies(die, space);
    for _ in 0..16 {
        assert!(producer.try_send(b"x").unwrap().is_some());
    }
    assert_eq!(drain(&mut alive).len(), 16);
    (producer, alive)
}

#[cfg(unix)]
#[test]
fn who_only_tries_to_send_is_not_held_up_by_the_dead_either() {
    let scratch = Scratch::new();
    let (mut producer, mut alive) = full_for_the_dead(&scratch.space());
    common::until(|| producer.try_send(b"y").unwrap().is_some());
    assert_eq!(drain(&mut alive), [b"y"]);
}

#[cfg(unix)]
#[test]
fn who_is_interrupted_again_and_again_is_not_held_up_by_the_dead_either() {
    let scratch = Scratch::new();
    let (mut producer, _alive) = full_for_the_dead(&scratch.space());
    let _interruptions = common::Interruptions::begin();
    let sent = producer.send_timeout(b"y", Duration::from_secs(60));
    assert_eq!(sent.unwrap(), Some(17));
}

/// Ends a child with SIGKILL, which has the stream open, and what it did before.
#[cfg(unix)]
fn child_that_dies(work: impl FnOnce(&Space), space: &Space) {
    // SAFETY: the child works on its own handles only and ends without running anything of its
    // parent's.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            work(space);
            libc::raise(libc::SIGKILL);
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFSIGNALED(status), "{status}");
    }
}

#[cfg(unix)]
#[test]
fn dead_subscribers_hold_nobody_up_and_dead_producers_are_replaced() {
    let scratch = Scratch::new();
    for mode in [ProducerMode::Exclusive, ProducerMode::Shared] {
        let name = format!("{mode:?}");
        let options = Options::new().producer_mode(mode).capacity(1024);
        child_that_dies(
            |space| {
                let mut producer = options.producer(space, &name).unwrap();
                producer.send(b"of the dead").unwrap();
                std::mem::forget(producer);
            },
            &scratch.space(),
        );
        child_that_dies(
            |space| {
                let mut dead = Subscriber::open(space, &name, From::Oldest).unwrap();
                assert!(dead.try_recv().unwrap().is_some());
                std::mem::forget(dead);
            },
            &scratch.space(),
        );
        let mut producer = options.producer(&scratch.space(), &name).unwrap();
        let mut alive = Subscriber::open(&scratch.space(), &name, From::Oldest).unwrap();
        assert_eq!(*alive.try_recv().unwrap().unwrap(), *b"of the dead");
        for number in 2..200_u64 {
            let record = number.to_ne_bytes();
            let sent = producer.send_timeout(&record, Duration::from_secs(60));
            assert_eq!(sent.unwrap(), Some(number));
            assert_eq!(*alive.recv(LONG).unwrap().unwrap(), record);
        }
    }
}

/// A daemon that forks and is killed: its child has none of its locks.
#[cfg(target_os = "linux")]
#[test]
fn the_child_of_a_dead_process_is_taken_for_nobody() {
    let scratch = Scratch::new();
    let options = Options::new()
        .capacity(1024)
        .producer_mode(ProducerMode::Shared);
    let mut producer = options.producer(&scratch.space(), "s").unwrap();
    let mut alive = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
    child_that_dies(
        |space| {
            let dead = Subscriber::open(space, "s", From::Oldest).unwrap();
            let mut producer = Producer::open(space, "s").unwrap();
            // SAFETY: the child only pauses until it is killed.
            let child = unsafe { libc::fork() };
            if child == 0 {
                loop {
                    // SAFETY: as above.
                    unsafe { libc::pause() };
                }
            }
            producer.send(&child.to_ne_bytes()).unwrap();
            std::mem::forget((dead, producer));
        },
        &scratch.space(),
    );
    let message = alive.recv(LONG).unwrap().unwrap();
    let child = i32::from_ne_bytes(*message.first_chunk().unwrap());
    for number in 0..100_u64 {
        let sent = producer.send_timeout(&number.to_ne_bytes(), Duration::from_secs(60));
        assert!(sent.unwrap().is_some());
        assert_eq!(*alive.recv(LONG).unwrap().unwrap(), number.to_ne_bytes());
    }
    // SAFETY: a process that this test started, which still pauses.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain queue: whatever is sent is received, in order, if there is room.
    #[test]
    fn a_stream_is_a_queue(
        capacity in 256_usize..5000,
        verified: bool,
        steps in proptest::collection::vec((any::<bool>(), 0_usize..1200, any::<u8>()), 1..400),
    ) {
        let scratch = Scratch::new();
        let integrity = if verified { Integrity::Crc64 } else { Integrity::None };
        let options = Options::new().capacity(capacity).integrity(integrity);
        let mut producer = options.producer(&scratch.space(), "s").unwrap();
        let mut subscriber = Subscriber::open(&scratch.space(), "s", From::Oldest).unwrap();
        let mut queue = VecDeque::new();
        for (sends, len, byte) in steps {
            if sends {
                let record = vec![byte; len.min(producer.max_len())];
                match producer.try_send(&record).unwrap() {
                    Some(_) => queue.push_back(record),
                    None => prop_assert!(queue.len() >= 2, "full of {queue:?}"),
                }
            } else {
                let message = subscriber.try_recv().unwrap();
                let expected = queue.pop_front();
                prop_assert_eq!(message.as_deref(), expected.as_deref());
            }
        }
    }
}
