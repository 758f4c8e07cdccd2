//! Looking at streams, and waiting for them.

mod common;

use std::time::{Duration, SystemTime};

use common::Scratch;
use corkboard::stream::{
    From, Integrity, Options, Overflow, Producer, ProducerMode, Subscriber, stat,
};
use corkboard::{ErrorKind, Kind};

#[test]
fn a_fresh_stream_has_the_shape_it_was_made_with_and_nothing_in_it() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let before = SystemTime::now() - Duration::from_secs(1);
    let options = Options::new().capacity(1000).max_subscribers(3);
    let options = options
        .overflow(Overflow::Overwrite)
        .integrity(Integrity::None)
        .producer_mode(ProducerMode::Shared);
    let _producer = options.producer(&space, "s").unwrap();
    let stat = stat(&space, "s").unwrap();
    assert_eq!((stat.capacity, stat.max_len), (1024, 256));
    assert_eq!((stat.max_records, stat.max_subscribers), (16, 3));
    assert_eq!(stat.overflow, Overflow::Overwrite);
    assert_eq!(stat.integrity, Integrity::None);
    assert_eq!(stat.producer_mode, ProducerMode::Shared);
    assert!(stat.created_at > before && stat.created_at <= SystemTime::now());
    assert_eq!((stat.sequence, stat.oldest, stat.len), (0, None, None));
    assert!(!stat.is_ended && stat.subscribers.is_empty());
    assert!(stat.allocated_bytes > 0);
    #[cfg(unix)]
    assert_eq!(stat.mode, 0o600);
}

#[test]
fn who_is_attached_is_listed_and_how_far_each_has_come() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut producer = Options::new().label("p").producer(&space, "s").unwrap();
    let _keeper = space.keep(Kind::Stream, "s").unwrap();
    let mut subscriber = Subscriber::open(&space, "s", From::Oldest).unwrap();
    let newest = Subscriber::open(&space, "s", From::Newest).unwrap();
    for record in [&b"one"[..], b"", b"three"] {
        producer.send(record).unwrap();
    }
    subscriber.try_recv().unwrap().unwrap();
    let look = || stat(&space, "s").unwrap();
    let now = look();
    assert_eq!((now.sequence, now.oldest, now.len), (3, Some(1), Some(5)));
    let [only] = &now.producers[..] else {
        panic!("{now:?}");
    };
    assert_eq!((only.label.as_str(), only.pid), ("p", std::process::id()));
    assert!(only.is_alive && only.has_turn && only.since.is_some());
    assert_eq!((only.position, only.lag), (None, None));
    let positions: Vec<_> = now
        .subscribers
        .iter()
        .map(|one| (one.is_alive, one.has_turn, one.position, one.lag))
        .collect();
    let first = (true, false, Some(1), Some(2));
    let second = (true, false, Some(0), Some(3));
    assert_eq!(positions, [first, second]);

    assert_eq!(producer.end(None).unwrap(), Some(4));
    let now = look();
    assert_eq!((now.sequence, now.len, now.is_ended), (4, None, true));
    drop((producer, subscriber, newest));
    let now = look();
    assert!(now.producers.is_empty() && now.subscribers.is_empty());
}

#[test]
fn the_newest_record_is_found_wherever_the_ring_is() {
    for overflow in [Overflow::Block, Overflow::Overwrite] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let options = Options::new().capacity(1024).overflow(overflow);
        let mut producer = options.producer(&space, "s").unwrap();
        let mut subscriber = Subscriber::open(&space, "s", From::Oldest).unwrap();
        for sequence in 1..=100 {
            producer.send(&[7; 10][..sequence % 10]).unwrap();
            let now = stat(&space, "s").unwrap();
            assert_eq!(now.sequence, sequence as u64);
            assert_eq!(now.len, Some(sequence % 10));
            let oldest = now.oldest.unwrap();
            assert!(oldest <= now.sequence && now.sequence - oldest < 16);
            let mut late = Subscriber::open(&space, "s", From::Oldest).unwrap();
            assert_eq!(late.try_recv().unwrap().unwrap().sequence(), oldest);
            subscriber.try_recv().unwrap().unwrap();
        }
    }
}

#[test]
fn a_look_while_others_overwrite_is_never_taken_for_damage() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let overflow = Overflow::Overwrite;
    let options = Options::new().capacity(1024).overflow(overflow);
    let mut producer = options.producer(&space, "s").unwrap();
    let _keeper = space.keep(Kind::Stream, "s").unwrap();
    let sender = std::thread::spawn(move || {
        for _ in 0..300_000 {
            producer.send(b"x").unwrap();
        }
    });
    let mut seen = 0;
    while !sender.is_finished() {
        let now = stat(&space, "s").unwrap();
        assert!(now.sequence >= seen, "{} after {seen}", now.sequence);
        seen = now.sequence;
    }
    sender.join().unwrap();
    assert_eq!(stat(&space, "s").unwrap().sequence, 300_000);
}

#[test]
fn what_is_no_stream_is_told() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let kind = |name: &str| stat(&space, name).unwrap_err().kind();
    assert_eq!(kind("s"), ErrorKind::NotFound);
    assert_eq!(kind("a/b"), ErrorKind::InvalidName);
    let producer = Options::new().producer(&space, "s").unwrap();
    space.remove(Kind::Stream, "s").unwrap();
    assert_eq!(kind("s"), ErrorKind::NotFound);
    drop(producer);
}

#[test]
fn a_subscriber_can_wait_for_the_stream() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let open = |timeout| Subscriber::open_timeout(&space, "s", From::Oldest, timeout);
    for timeout in [Duration::ZERO, Duration::from_millis(5)] {
        assert_eq!(open(timeout).unwrap_err().kind(), ErrorKind::NotFound);
    }
    std::thread::scope(|threads| {
        let subscribed = threads.spawn(|| {
            let mut subscriber = open(Duration::from_secs(60)).unwrap();
            let patience = Some(Duration::from_secs(60));
            let record = subscriber.recv(patience).unwrap().unwrap().to_vec();
            (record, subscriber)
        });
        let mut producer = Options::new().producer(&space, "s").unwrap();
        producer.send(b"first").unwrap();
        let (record, _subscriber) = subscribed.join().unwrap();
        assert_eq!(record, b"first");
    });
}

/// Not a test of its own: attaches to a stream and is killed.
#[test]
fn child_attaches_until_it_is_killed() {
    let Ok(directory) = std::env::var("CORKBOARD_TEST_ATTACHES") else {
        return;
    };
    let space = corkboard::Space::at(&directory).unwrap();
    let _subscriber = Subscriber::open(&space, "s", From::Oldest).unwrap();
    let _producer = Producer::open(&space, "s").unwrap();
    println!("attached");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_a_dead_subscriber_keeps_is_found_and_given_back() {
    use std::io::BufRead as _;
    use std::process::Stdio;

    let scratch = Scratch::new();
    let space = scratch.space();
    let mode = ProducerMode::Shared;
    let options = Options::new().capacity(1024).producer_mode(mode);
    let mut producer = options.producer(&space, "s").unwrap();
    let mut child = common::this_program()
        .args([
            "--exact",
            "child_attaches_until_it_is_killed",
            "--nocapture",
        ])
        .env("CORKBOARD_TEST_ATTACHES", &scratch.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let is_attached = |line: std::io::Result<String>| line.unwrap().contains("attached");
    assert!(lines.into_iter().any(is_attached));
    let mut subscriber = Subscriber::open(&space, "s", From::Oldest).unwrap();
    while producer.try_send(b"x").unwrap().is_some() {
        subscriber.try_recv().unwrap().unwrap();
    }
    let is_participant =
        |finding: &corkboard::Finding| finding.problem() == corkboard::Problem::DeadParticipant;
    assert!(!space.diagnose().unwrap().iter().any(is_participant));
    child.kill().unwrap();
    child.wait().unwrap();

    let now = stat(&space, "s").unwrap();
    let dead: Vec<_> = now.subscribers.iter().filter(|one| !one.is_alive).collect();
    assert_eq!(
        (dead.len(), dead[0].pid, dead[0].lag),
        (1, child.id(), Some(16))
    );
    let findings = space.diagnose().unwrap();
    let findings: Vec<_> = findings.into_iter().filter(is_participant).collect();
    let [of_producer, of_subscriber] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert!(of_producer.is_harmless() && of_producer.to_string().contains("producer"));
    assert!(!of_subscriber.is_harmless() && of_subscriber.is_fixable());
    let message = of_subscriber.to_string();
    assert!(message.contains("keeps the last 16 records"), "{message}");
    for finding in &findings {
        finding.fix().unwrap();
    }
    let now = stat(&space, "s").unwrap();
    assert_eq!((now.producers.len(), now.subscribers.len()), (1, 1));
    assert!(now.subscribers[0].is_alive && now.producers[0].is_alive);
    assert!(producer.try_send(b"x").unwrap().is_some());
    // Who is alive keeps its entry, whatever was found before.
    let stayed = Subscriber::open(&space, "s", From::Oldest).unwrap();
    for finding in &findings {
        finding.fix().unwrap();
    }
    assert_eq!(stat(&space, "s").unwrap().subscribers.len(), 2);
    drop(stayed);
}
