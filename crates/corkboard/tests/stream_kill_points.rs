//! Processes that are killed at named points inside streams.
//!
//! The story: a producer or a subscriber dies with SIGKILL at exactly this point. The others go on,
//! and every record is there as a whole, once and in order, or was never sent.
//!
//! Run with `--features test-hooks`.

mod common;
#[path = "common/records.rs"]
mod records;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Scratch, is_killed, mend, this_program};
use corkboard::stream::{From, Options, Overflow, Producer, ProducerMode, Subscriber};
use corkboard::{ErrorKind, Keeper, Kind, Problem, Space};
use records::{check, len_of, record};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "x";
/// Records of more than 4 KiB fit, and a lap takes a few hundred records.
const CAPACITY: usize = 1 << 15;
/// Enough for several laps.
const LAPS: u64 = 1500;

const OVERFLOWS: [Overflow; 2] = [Overflow::Block, Overflow::Overwrite];
const MODES: [ProducerMode; 2] = [ProducerMode::Exclusive, ProducerMode::Shared];

fn options(overflow: Overflow, mode: ProducerMode) -> Options {
    Options::new()
        .capacity(CAPACITY)
        .max_subscribers(4)
        .overflow(overflow)
        .producer_mode(mode)
}

/// Not a test of its own: what the killed process does.
#[test]
fn child_plays_its_part_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    match part.as_str() {
        "send" => send(Options::new().producer(&space, NAME).unwrap()),
        "receive" => {
            let mut subscriber = Subscriber::open(&space, NAME, From::Sequence(1)).unwrap();
            let mut received = Received::default();
            while received.one(&mut subscriber, PATIENCE) {}
        }
        "remove" => space.remove(Kind::Stream, NAME).unwrap(),
        other => panic!("no part {other}"),
    }
}

/// Sends for ever, now and then by a loan.
fn send(mut producer: Producer) {
    let who = u64::from(std::process::id());
    for number in 0.. {
        let len = len_of(number, producer.max_len());
        if number % 3 == 0 {
            let mut loan = producer.loan(len).unwrap();
            records::fill(&mut loan, who, number);
            loan.send().unwrap();
        } else {
            let sent = producer.send_timeout(&record(who, number, len), PATIENCE);
            sent.unwrap().expect("there is room");
        }
    }
}

fn command(part: &str, space: &Space) -> Command {
    let mut command = this_program();
    command
        .args(["--exact", "child_plays_its_part_until_it_is_killed"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", space.path())
        .stdout(Stdio::piped());
    command
}

fn start(point: &str, part: &str, space: &Space) -> Child {
    let mut command = command(part, space);
    command.env("CORKBOARD_TEST_KILL_AT", point);
    command.spawn().unwrap()
}

fn assert_killed(child: Child, point: &str) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        is_killed(output.status),
        "it did not come to {point}: {said}"
    );
}

/// Runs a part in a process of its own, which must die at the point.
fn die_at(point: &str, part: &str, space: &Space) {
    assert_killed(start(point, part, space), point);
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

/// What a subscriber has received, each record exactly once.
#[derive(Default)]
struct Received {
    sequence: u64,
    missed: u64,
    /// Of whom the last record was, and which.
    last: Option<(u64, u64)>,
}

impl Received {
    /// Receives one record, if it comes in time.
    fn one(&mut self, subscriber: &mut Subscriber, timeout: Duration) -> bool {
        let message = match subscriber.recv(Some(timeout)) {
            Ok(None) => return false,
            Ok(Some(message)) => message,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                self.sequence += error.missed();
                self.missed += error.missed();
                self.last = None;
                return true;
            }
        };
        self.sequence += 1;
        assert_eq!(message.sequence(), self.sequence);
        let (who, number) = check(&message);
        match self.last {
            Some((last, before)) if last == who => assert_eq!(number, before + 1),
            _ if self.missed == 0 => assert_eq!(number, 0),
            _ => {}
        }
        self.last = Some((who, number));
        true
    }

    fn all(&mut self, subscriber: &mut Subscriber) {
        while self.one(subscriber, Duration::ZERO) {}
    }
}

/// A stream that lives, and somebody who receives all of it.
fn stream(options: &Options, space: &Space) -> (Keeper, Subscriber) {
    let producer = options.producer(space, NAME).unwrap();
    let keeper = space.keep(Kind::Stream, NAME).unwrap();
    drop(producer);
    (keeper, Subscriber::open(space, NAME, From::Oldest).unwrap())
}

/// The next producer goes on where the dead one was, for several laps.
fn check_it_goes_on(space: &Space, subscriber: &mut Subscriber, received: &mut Received) {
    received.all(subscriber);
    let mut late = Subscriber::open(space, NAME, From::Oldest).unwrap();
    let mut producer = Producer::open(space, NAME).unwrap();
    received.last = None;
    for number in 0..LAPS {
        let len = len_of(number, producer.max_len());
        let sent = producer.send_timeout(&record(1, number, len), PATIENCE);
        assert_eq!(sent.unwrap(), Some(received.sequence + 1));
        assert!(received.one(subscriber, PATIENCE));
        assert_eq!(received.last, Some((1, number)));
        while let Some(message) = late.try_recv().unwrap() {
            check(&message);
        }
    }
    drop((producer, late));
    mend(space);
}

#[test]
fn a_producer_killed_anywhere_leaves_whole_records_and_the_next_goes_on() {
    for (overflow, mode) in OVERFLOWS.into_iter().flat_map(|overflow| {
        let with = move |mode| (overflow, mode);
        MODES.map(with)
    }) {
        let mut points = vec!["claim.locked", "claim.signed", "turn.taken"];
        points.extend(["send.copied", "send.copied:1000", "send.stamped:1001"]);
        points.extend(["send.reclaimed", "send.reclaimed:30", "send.waking"]);
        if overflow == Overflow::Block {
            points.extend(["send.scanning", "send.scanning:40", "send.scanning:41"]);
        }
        if mode == ProducerMode::Shared {
            points.extend(["turn.taken:1000", "turn.ending:1000"]);
        }
        for point in points {
            let scratch = Scratch::new();
            let space = scratch.space();
            let (_keeper, mut subscriber) = stream(&options(overflow, mode), &space);
            let mut received = Received::default();
            let mut child = start(point, "send", &space);
            while !has_ended(&mut child) {
                received.one(&mut subscriber, Duration::from_millis(5));
            }
            assert_killed(child, point);
            check_it_goes_on(&space, &mut subscriber, &mut received);
            let may_miss = overflow == Overflow::Overwrite;
            assert!(received.missed == 0 || may_miss, "{point}");
        }
    }
}

#[test]
fn a_producer_killed_while_it_waits_for_room_is_followed_by_one_that_finds_it() {
    for mode in MODES {
        for point in ["send.waiting", "send.waiting:3"] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let (_keeper, mut subscriber) = stream(&options(Overflow::Block, mode), &space);
            die_at(point, "send", &space);
            let mut received = Received::default();
            check_it_goes_on(&space, &mut subscriber, &mut received);
        }
    }
}

/// The turn of a dead producer is taken by one that was there before, and dies of it.
#[test]
fn who_dies_taking_a_dead_producers_turn_is_followed_by_the_next() {
    for point in ["takeover.locked", "takeover.exchanged"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = options(Overflow::Block, ProducerMode::Shared);
        let (_keeper, mut subscriber) = stream(&options, &space);
        // It has an entry of its own before the first of the two, so nobody frees the turn by
        // claiming a dead one's.
        let mut producer = Producer::open(&space, NAME).unwrap();
        let mut second = start(point, "send", &space);
        let from_whom = |subscriber: &mut Subscriber| {
            let message = subscriber.recv(Some(PATIENCE)).unwrap();
            check(&message.expect("somebody sends"))
        };
        from_whom(&mut subscriber);
        let mut first = start("turn.taken:10", "send", &space);
        while !has_ended(&mut first) || !has_ended(&mut second) {
            let message = subscriber.recv(Some(Duration::from_millis(5))).unwrap();
            message.as_deref().map(check);
        }
        assert_killed(first, "turn.taken");
        assert_killed(second, point);
        while let Some(message) = subscriber.try_recv().unwrap() {
            check(&message);
        }
        let sent = producer.send_timeout(&record(7, 7, 100), PATIENCE);
        assert!(sent.unwrap().is_some());
        assert_eq!(from_whom(&mut subscriber), (7, 7));
    }
}

#[test]
fn a_subscriber_killed_anywhere_holds_nobody_up_and_others_get_everything() {
    for (overflow, mode) in [
        (Overflow::Block, ProducerMode::Exclusive),
        (Overflow::Block, ProducerMode::Shared),
        (Overflow::Overwrite, ProducerMode::Exclusive),
    ] {
        let mut points = vec!["claim.locked", "claim.signed", "join.joined"];
        points.extend(["recv.copied", "recv.copied:1000", "recv.advanced:1000"]);
        if overflow == Overflow::Block {
            points.extend(["recv.waking", "recv.waking:3"]);
        }
        for point in points {
            let scratch = Scratch::new();
            let space = scratch.space();
            let (_keeper, mut subscriber) = stream(&options(overflow, mode), &space);
            let mut received = Received::default();
            let child = std::sync::Mutex::new(start(point, "receive", &space));
            std::thread::scope(|threads| {
                let sender = threads.spawn(|| {
                    let mut producer = Producer::open(&space, NAME).unwrap();
                    let mut left = LAPS;
                    for number in 0.. {
                        let record = record(1, number, len_of(number, producer.max_len()));
                        let sent = producer.send_timeout(&record, PATIENCE).unwrap();
                        sent.expect("nobody is held up");
                        // So many more once it is dead.
                        left -= u64::from(has_ended(&mut child.lock().unwrap()));
                        if left == 0 {
                            return number + 1;
                        }
                    }
                    unreachable!()
                });
                while !sender.is_finished() {
                    received.one(&mut subscriber, Duration::from_millis(1));
                }
                received.all(&mut subscriber);
                assert_eq!(received.sequence, sender.join().unwrap(), "{point}");
            });
            let may_miss = overflow == Overflow::Overwrite;
            assert!(received.missed == 0 || may_miss, "{point}");
            assert_killed(child.into_inner().unwrap(), point);
        }
    }
}

#[test]
fn a_subscriber_killed_in_its_sleep_costs_one_needless_wake() {
    for point in ["recv.announced", "recv.announced:3"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = options(Overflow::Block, ProducerMode::Exclusive);
        let (_keeper, mut subscriber) = stream(&options, &space);
        die_at(point, "receive", &space);
        check_it_goes_on(&space, &mut subscriber, &mut Received::default());
    }
}

#[test]
fn who_dies_clearing_what_a_dead_subscriber_left_is_followed_by_the_next() {
    for mode in MODES {
        for point in ["reap.locked", "reap.cleared"] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let (_keeper, mut subscriber) = stream(&options(Overflow::Block, mode), &space);
            die_at("join.joined", "receive", &space);
            let mut received = Received::default();
            let mut child = start(point, "send", &space);
            while !has_ended(&mut child) {
                received.one(&mut subscriber, Duration::from_millis(5));
            }
            assert_killed(child, point);
            check_it_goes_on(&space, &mut subscriber, &mut received);
            // No entry is lost.
            let open = || Subscriber::open(&space, NAME, From::Oldest).unwrap();
            let _others = [open(), open(), open()];
        }
    }
}

#[test]
fn streams_are_whole_or_absent_when_their_creator_dies() {
    for point in ["create.begun", "create.file", "create.renamed"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        die_at(point, "send", &space);
        let listed = space.entries().unwrap().len();
        let is_whole = cfg!(unix) && point == "create.renamed";
        assert_eq!(listed, usize::from(is_whole), "{point}");
        if !is_whole {
            let found = space.diagnose().unwrap();
            assert_eq!(found[0].problem(), Problem::StaleFile);
        }
        let adopted = Options::new().capacity(1 << 20);
        let (_keeper, mut subscriber) = stream(&adopted, &space);
        check_it_goes_on(&space, &mut subscriber, &mut Received::default());
    }
}

#[test]
fn a_removal_whose_remover_dies_can_be_finished() {
    for point in ["remove.marked", "remove.deleted"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = options(Overflow::Block, ProducerMode::Shared);
        let (keeper, mut subscriber) = stream(&options, &space);
        let mut producer = Producer::open(&space, NAME).unwrap();
        let waiting = std::thread::spawn(move || {
            let kind = subscriber
                .recv(Some(PATIENCE))
                .map(drop)
                .unwrap_err()
                .kind();
            assert_eq!(kind, ErrorKind::Removed);
        });
        die_at(point, "remove", &space);
        waiting.join().unwrap();
        let kind = producer.send(b"x").unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Removed);
        drop((producer, keeper));
        let (_keeper, mut subscriber) = stream(&options, &space);
        check_it_goes_on(&space, &mut subscriber, &mut Received::default());
    }
}

#[cfg(unix)]
mod stopped {
    use super::*;

    /// Starts a part that stops itself at the point, and waits until it has.
    fn stopped_at(point: &str, part: &str, space: &Space) -> Child {
        let mut command = command(part, space);
        let child = command.env("CORKBOARD_TEST_STOP_AT", point).spawn();
        let child = child.unwrap();
        common::await_stop(&child);
        child
    }

    fn signal(child: &Child, signal: libc::c_int) {
        // SAFETY: a signal to a child of ours, which was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    }

    #[test]
    fn a_stopped_subscriber_is_not_dead_and_gets_what_it_was_waited_for() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = options(Overflow::Block, ProducerMode::Exclusive);
        let mut producer = options.producer(&space, NAME).unwrap();
        let mut child = stopped_at("join.joined", "receive", &space);
        let mut sent = 0;
        while producer.try_send(&record(1, sent, 24)).unwrap().is_some() {
            sent += 1;
        }
        let short = Duration::from_millis(30);
        let record = record(1, sent, 24);
        assert_eq!(producer.send_timeout(&record, short).unwrap(), None);
        signal(&child, libc::SIGCONT);
        assert!(producer.send_timeout(&record, PATIENCE).unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_stopped_producer_keeps_its_turn() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = options(Overflow::Overwrite, ProducerMode::Shared);
        let mut producer = options.producer(&space, NAME).unwrap();
        let mut subscriber = Subscriber::open(&space, NAME, From::Oldest).unwrap();
        let mut child = stopped_at("send.copied", "send", &space);
        assert_eq!(producer.try_send(b"").unwrap(), None);
        let short = Duration::from_millis(30);
        assert_eq!(producer.send_timeout(b"", short).unwrap(), None);
        assert!(subscriber.try_recv().unwrap().is_none());
        signal(&child, libc::SIGCONT);
        let sent = producer.send_timeout(&record(1, 0, 24), PATIENCE).unwrap();
        assert!(sent.unwrap() > 1, "the stopped one was first");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
