//! Streams between real processes, which are killed at random moments.
//!
//! Whoever lives gets every record as a whole, once, in its producer's order: all of them where
//! producers wait, and exactly those that it is not told it missed where they do not.

mod common;
#[path = "common/random.rs"]
mod random;
#[path = "common/records.rs"]
mod records;

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, is_killed, this_program};
use corkboard::stream::{From, Options, Overflow, Producer, ProducerMode, Subscriber};
use corkboard::{ErrorKind, Keeper, Kind, Space};
use random::Random;
use records::{MIN_LEN, check, fill};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "x";
/// Where processes say that they are there, and what came of it.
const REPORTS: &str = "reports";

fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(count) => count.parse().expect("a number"),
        Err(_) => default,
    }
}

/// How many processes to kill at random; more in the long run of the gate.
fn kills() -> u64 {
    number_from("CORKBOARD_TEST_KILLS", 200)
}

/// How many records to send where producers wait for room; ten times as many where they do not.
fn records() -> u64 {
    number_from("CORKBOARD_TEST_RECORDS", 20_000)
}

/// How many of them are each producer's.
fn share() -> u64 {
    records() / PRODUCERS
}

const PRODUCERS: u64 = 4;
const SUBSCRIBERS: u64 = 4;

/// Not a test of its own: the part of the processes below. Each has a number of its own.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    let who = number_from("CORKBOARD_TEST_WHO", 0);
    match part.as_str() {
        "producer" => produce(&space, who, u64::MAX),
        "producer of its share" => produce(&space, who, share()),
        "subscriber" => {
            let mut subscriber = Subscriber::open(&space, NAME, From::Newest).unwrap();
            let mut log = Log::begun_late();
            while log.receive(&mut subscriber, PATIENCE) {}
            panic!("nothing came for so long");
        }
        "subscriber to everything" => {
            let mut subscriber = Subscriber::open(&space, NAME, From::Oldest).unwrap();
            report(&space, 0);
            let mut log = Log::default();
            while log.received < PRODUCERS * share() {
                assert!(log.receive(&mut subscriber, PATIENCE), "nothing came");
            }
            log.check_complete();
            report(&space, log.received);
        }
        "producer of numbers" => produce_numbers(&space, 10 * records()),
        other => panic!("no part {other}"),
    }
}

/// Sends so many records of all kinds, now and then by a loan.
fn produce(space: &Space, who: u64, count: u64) {
    let options = Options::new().producer_timeout(PATIENCE);
    let mut producer = options.producer(space, NAME).unwrap();
    let mut random = Random(who);
    let mut buffer = vec![0; producer.max_len()];
    for number in 0..count {
        let longest = match random.below(20) {
            0 => producer.max_len(),
            1..4 => 1000,
            _ => 64,
        };
        let len = MIN_LEN + random.below((longest - MIN_LEN) as u64 + 1) as usize;
        if random.below(3) == 0 {
            let mut loan = producer.loan(len).unwrap();
            fill(&mut loan, who, number);
            loan.send().unwrap();
        } else {
            fill(&mut buffer[..len], who, number);
            let sent = producer.send_timeout(&buffer[..len], PATIENCE);
            sent.unwrap().expect("nobody is held up for so long");
        }
    }
}

/// What a subscriber received.
#[derive(Default)]
struct Log {
    /// The last record's, or how many there were.
    sequence: u64,
    received: u64,
    missed: u64,
    lags: u64,
    /// What comes next from each producer.
    next: HashMap<u64, u64>,
    /// The first that is received of a producer need not be the first that it sent.
    is_late: bool,
}

impl Log {
    fn begun_late() -> Self {
        Self {
            is_late: true,
            ..Self::default()
        }
    }

    /// Receives a record or hears of missed ones, and checks that it is what had to come; `false`
    /// if nothing comes.
    fn receive(&mut self, subscriber: &mut Subscriber, timeout: Duration) -> bool {
        let message = match subscriber.recv(Some(timeout)) {
            Ok(Some(message)) => message,
            Ok(None) => return false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                self.sequence += error.missed();
                self.missed += error.missed();
                self.lags += 1;
                return true;
            }
        };
        if self.is_late && self.received == 0 {
            self.sequence = message.sequence() - 1;
        }
        self.sequence += 1;
        self.received += 1;
        assert_eq!(message.sequence(), self.sequence, "lost or twice");
        let (who, number) = check(&message);
        match self.next.insert(who, number + 1) {
            Some(next) if self.missed == 0 => assert_eq!(number, next, "of {who}"),
            Some(next) => assert!(number >= next, "{number} of {who} after {next}"),
            None => assert!(number == 0 || self.is_late || self.missed > 0),
        }
        true
    }

    /// Fails unless each producer's share was received.
    fn check_complete(&self) {
        assert_eq!(self.next.len() as u64, PRODUCERS);
        assert!(self.next.values().all(|next| *next == share()));
    }
}

/// Says a number to the process that started this one.
fn report(space: &Space, number: u64) {
    let mut producer = Producer::open(space, REPORTS).unwrap();
    producer.send(&number.to_le_bytes()).unwrap();
}

/// The next number that somebody reports.
fn reported(reports: &mut Subscriber) -> u64 {
    let message = reports.recv(Some(PATIENCE)).unwrap().expect("a report");
    u64::from_le_bytes(*message.first_chunk().unwrap())
}

/// A process, for as long as it is wanted.
struct Worker {
    part: &'static str,
    child: Child,
}

impl Worker {
    fn start(part: &'static str, who: u64, space: &Space) -> Self {
        let child = this_program()
            .args(["--exact", "child_plays_its_part"])
            .env("CORKBOARD_TEST_PART", part)
            .env("CORKBOARD_TEST_WHO", who.to_string())
            .env("CORKBOARD_TEST_SPACE", space.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { part, child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(is_killed(status), "{} ended by itself", self.part);
    }

    fn finish(mut self) {
        assert!(self.child.wait().unwrap().success(), "{}", self.part);
    }
}

/// Creates a stream, which lives as long as what is returned.
fn create(options: &Options, space: &Space, name: &str) -> Keeper {
    let _producer = options.producer(space, name).unwrap();
    space.keep(Kind::Stream, name).unwrap()
}

/// What was measured, as it is printed.
fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!(
        "{:?} (p50), {:?} (p99), {:?} (longest)",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

#[test]
fn whoever_is_killed_the_others_get_what_was_sent() {
    let shapes = [
        (Overflow::Block, ProducerMode::Exclusive, 1 << 12),
        (Overflow::Block, ProducerMode::Shared, 1 << 18),
        (Overflow::Overwrite, ProducerMode::Exclusive, 1 << 18),
        (Overflow::Overwrite, ProducerMode::Shared, 1 << 14),
    ];
    for (shape, (overflow, mode, capacity)) in shapes.into_iter().enumerate() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = Options::new()
            .capacity(capacity)
            .max_subscribers(6)
            .overflow(overflow)
            .producer_mode(mode);
        let _keeper = create(&options, &space, NAME);
        let mut subscriber = Subscriber::open(&space, NAME, From::Oldest).unwrap();
        let mut log = Log::default();
        let mut next_who = 0;
        let mut start = |part| {
            next_who += 1;
            Worker::start(part, next_who, &space)
        };
        let mut workers: Vec<Worker> = ["producer", "producer", "subscriber", "subscriber"]
            .map(&mut start)
            .into();
        let mut random = Random(0x9E37_79B9 + shape as u64);
        let mut stalls = Vec::new();
        for _ in 0..kills() / 4 {
            let until = Instant::now() + Duration::from_nanos(random.below(6_000_000));
            while Instant::now() < until {
                log.receive(&mut subscriber, Duration::from_millis(1));
            }
            let which = random.below(workers.len() as u64) as usize;
            let part = workers[which].part;
            workers.remove(which).kill();
            let killed = Instant::now();
            assert!(log.receive(&mut subscriber, PATIENCE), "somebody sends");
            stalls.push(killed.elapsed());
            workers.push(start(part));
        }
        for worker in workers {
            worker.kill();
        }
        while log.receive(&mut subscriber, Duration::ZERO) {}
        // What was stamped last was received, or it was told that it was missed.
        let mut producer = Producer::open(&space, NAME).unwrap();
        let mut buffer = vec![0; MIN_LEN];
        fill(&mut buffer, u64::MAX, 0);
        let sent = producer.send_timeout(&buffer, PATIENCE).unwrap().unwrap();
        while log.sequence < sent {
            assert!(log.receive(&mut subscriber, PATIENCE));
        }
        assert_eq!(log.received + log.missed, sent);
        assert!(overflow == Overflow::Overwrite || log.missed == 0);
        // No entry is lost.
        let others = [(); 5].map(|()| Subscriber::open(&space, NAME, From::Newest).unwrap());
        assert!(others.iter().all(|other| !other.is_observer()));
        println!(
            "{overflow:?}, {mode:?}: of {sent} records {} received, {} missed; after a kill the next within {}",
            log.received,
            log.missed,
            quantiles(stalls)
        );
    }
}

/// The record with this number: its words all say so.
fn numbered(words: &mut [u64; 32], number: u64) -> usize {
    let len = match number % 16 {
        0 => 32,
        short => 1 + short as usize % 12,
    };
    words[..len].fill(number.to_le());
    len
}

fn produce_numbers(space: &Space, count: u64) {
    let mut producer = Producer::open(space, NAME).unwrap();
    let mut words = [0; 32];
    let mut bytes = [0; 256];
    for number in 1..=count {
        let len = numbered(&mut words, number);
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(&words[..len]) {
            *bytes = word.to_ne_bytes();
        }
        assert_eq!(producer.send(&bytes[..8 * len]).unwrap(), number);
    }
    producer.end(None).unwrap();
}

#[test]
fn missed_and_received_make_up_exactly_what_was_produced() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new()
        .capacity(1 << 16)
        .overflow(Overflow::Overwrite);
    let _keeper = create(&options, &space, NAME);
    let mut subscriber = Subscriber::open(&space, NAME, From::Oldest).unwrap();
    let producer = Worker::start("producer of numbers", 0, &space);
    let (mut received, mut missed, mut lags) = (0_u64, 0, 0_u64);
    let mut words = [0; 32];
    let begin = Instant::now();
    loop {
        match subscriber.recv(Some(PATIENCE)) {
            Ok(Some(message)) => {
                received += 1;
                assert_eq!(message.sequence(), received + missed, "lost or twice");
                let len = numbered(&mut words, message.sequence());
                assert_eq!(message.len(), 8 * len, "torn");
                let (found, _) = message.as_chunks();
                let is_whole = |(word, bytes): (&u64, &[u8; 8])| word.to_ne_bytes() == *bytes;
                assert!(words.iter().zip(found).all(is_whole), "torn");
                // Slower than the producer, now and then by far.
                if received % 4096 == 0 {
                    (0..10_000).for_each(|_| std::hint::spin_loop());
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged, "{error}");
                missed += error.missed();
                lags += 1;
            }
            Ok(None) => break,
        }
    }
    assert!(subscriber.is_ended(), "nothing came");
    assert_eq!(received + missed, 10 * records());
    println!(
        "Overwrite: of {} records {received} received, {missed} missed in {lags} gaps, in {:?}",
        received + missed,
        begin.elapsed()
    );
    producer.finish();
}

#[test]
fn everybody_gets_everything_in_each_producers_order_while_subscribers_are_killed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new()
        .capacity(1 << 18)
        .max_subscribers(8)
        .producer_mode(ProducerMode::Shared);
    let _keepers = [NAME, REPORTS].map(|name| create(&options, &space, name));
    let mut reports = Subscriber::open(&space, REPORTS, From::Oldest).unwrap();
    let subscribers: Vec<Worker> = (0..SUBSCRIBERS)
        .map(|who| Worker::start("subscriber to everything", who, &space))
        .collect();
    for _ in &subscribers {
        assert_eq!(reported(&mut reports), 0);
    }
    let mut subscriber = Subscriber::open(&space, NAME, From::Oldest).unwrap();
    let begin = Instant::now();
    let producers: Vec<Worker> = (0..PRODUCERS)
        .map(|who| Worker::start("producer of its share", who, &space))
        .collect();
    let mut random = Random(4);
    let mut log = Log::default();
    // Receives for a while; returns the longest time between two records.
    let mut listen = |log: &mut Log| {
        let mut last = Instant::now();
        let until = last + Duration::from_millis(20 + random.below(80));
        let mut longest = Duration::ZERO;
        while last < until && log.received < PRODUCERS * share() {
            assert!(log.receive(&mut subscriber, PATIENCE), "nothing came");
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    };
    let (mut usual, mut stalls) = (Vec::new(), Vec::new());
    while log.received < PRODUCERS * share() {
        let victim = Worker::start("subscriber", 0, &space);
        usual.push(listen(&mut log));
        victim.kill();
        stalls.push(listen(&mut log));
    }
    let took = begin.elapsed();
    log.check_complete();
    for worker in producers {
        worker.finish();
    }
    for worker in subscribers {
        assert_eq!(reported(&mut reports), PRODUCERS * share());
        worker.finish();
    }
    println!(
        "Block: {} records to {} subscribers in {took:?}; {} more killed; the longest pause after each {}, before each {}",
        log.received,
        SUBSCRIBERS + 1,
        stalls.len(),
        quantiles(stalls),
        quantiles(usual)
    );
}
