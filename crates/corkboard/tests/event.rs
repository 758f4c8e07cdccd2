//! Events, as their users see them.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, is_ready, move_away, until};
#[cfg(target_os = "linux")]
use corkboard::Problem;
use corkboard::board::{Options, Reader};
use corkboard::event::{self, Event, Reset};
use corkboard::{ErrorKind, Kind};

const MINUTE: Duration = Duration::from_secs(60);
const PATIENCE: Option<Duration> = Some(MINUTE);
const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_manual_event_lets_everyone_through_until_it_is_reset() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Manual).unwrap();
    assert!(!event.wait(NOW).unwrap());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let event = Event::open(&space, "x").unwrap();
            thread::spawn(move || event.wait(PATIENCE).unwrap())
        })
        .collect();
    event.set().unwrap();
    for waiter in waiters {
        assert!(waiter.join().unwrap());
    }
    assert!(event.wait(NOW).unwrap() && event.wait(NOW).unwrap());
    event.reset().unwrap();
    assert!(!event.wait(NOW).unwrap());
}

#[test]
fn an_auto_event_lets_one_through() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    event.set().unwrap();
    event.set().unwrap();
    assert!(event.wait(NOW).unwrap());
    assert!(!event.wait(NOW).unwrap(), "set twice is signalled once");
    event.set().unwrap();
    event.reset().unwrap();
    assert!(!event.wait(NOW).unwrap());
}

#[test]
fn each_set_of_an_auto_event_is_consumed_by_one_of_several() {
    const SETS: u32 = 10_000;
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    let consumed = Arc::new(AtomicU32::new(0));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let event = Event::open(&space, "x").unwrap();
            let consumed = consumed.clone();
            thread::spawn(move || {
                while event.wait(PATIENCE).unwrap() {
                    if consumed.fetch_add(1, Ordering::Relaxed) >= SETS {
                        return;
                    }
                }
            })
        })
        .collect();
    for number in 1..=SETS {
        event.set().unwrap();
        until(|| consumed.load(Ordering::Relaxed) == number);
    }
    assert!(!event.wait(NOW).unwrap());
    until(|| {
        event.set().unwrap();
        waiters.iter().all(|waiter| waiter.is_finished())
    });
}

#[test]
fn unpaced_sets_let_through_at_least_once_and_never_too_often() {
    const SETS: u32 = 50_000;
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Arc::new(Event::create(&space, "x", Reset::Auto).unwrap());
    let setter = {
        let event = event.clone();
        thread::spawn(move || (0..SETS).for_each(|_| event.set().unwrap()))
    };
    let mut passed = 0;
    while !setter.is_finished() {
        passed += u32::from(event.wait(Some(Duration::from_millis(1))).unwrap());
    }
    setter.join().unwrap();
    passed += u32::from(event.wait(NOW).unwrap());
    assert!((1..=SETS).contains(&passed), "{passed}");
    event.set().unwrap();
    assert!(
        event.wait(NOW).unwrap(),
        "a wait after the last set succeeds"
    );
}

#[test]
fn a_pulse_lets_those_through_who_wait() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Manual).unwrap();
    for with_others in [false, true] {
        let waiting = Arc::new(AtomicU32::new(0));
        let waiter = {
            let mut event = Event::open(&space, "x").unwrap();
            let waiting = waiting.clone();
            thread::spawn(move || {
                waiting.store(1, Ordering::Release);
                match with_others {
                    false => event.wait(PATIENCE).unwrap(),
                    true => corkboard::wait::any(&mut [&mut event], PATIENCE).unwrap() == Some(0),
                }
            })
        };
        until(|| waiting.load(Ordering::Acquire) == 1);
        until(|| {
            event.set().unwrap();
            event.reset().unwrap();
            waiter.is_finished()
        });
        assert!(waiter.join().unwrap());
    }
}

#[test]
fn time_outs_are_never_early_and_the_longest_is_for_ever() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Manual).unwrap();
    for timeout in [0, 1, 30].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(!event.wait(Some(timeout)).unwrap());
        assert!(start.elapsed() >= timeout);
    }
    let waiter = {
        let event = Event::open(&space, "x").unwrap();
        thread::spawn(move || event.wait(Some(Duration::MAX)).unwrap())
    };
    event.set().unwrap();
    assert!(waiter.join().unwrap());
}

#[test]
fn events_are_created_opened_and_compared() {
    let scratch = Scratch::new();
    let space = scratch.space();
    assert_eq!(
        Event::open(&space, "x").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let creator = Event::create(&space, "x", Reset::Auto).unwrap();
    creator.set().unwrap();
    // On Windows, an event's signal lasts as long as somebody has a handle.
    let _heir = cfg!(windows).then(|| Event::open(&space, "x").unwrap());
    drop(creator);
    let error = Event::create(&space, "x", Reset::Auto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = Event::open_or_create(&space, "x", Reset::Manual).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    let opened = Event::open_or_create(&space, "x", Reset::Auto).unwrap();
    assert_eq!(opened.reset_kind(), Reset::Auto);
    assert!(opened.wait(NOW).unwrap(), "it outlives its creator");
    let bad = Event::create(&space, "a/b", Reset::Auto).unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidName);
    let stat = event::stat(&space, "x").unwrap();
    assert_eq!(
        (stat.reset, stat.is_signalled, stat.sets),
        (Reset::Auto, false, 1)
    );
}

#[test]
fn those_who_wait_for_a_removed_or_deleted_event_are_told() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for removed in [true, false] {
        let event = Event::create(&space, "x", Reset::Manual).unwrap();
        let waiter = {
            let event = Event::open(&space, "x").unwrap();
            thread::spawn(move || event.wait(PATIENCE).unwrap_err().kind())
        };
        match removed {
            true => space.remove(Kind::Event, "x").unwrap(),
            false => move_away(&space, ".event"),
        }
        assert_eq!(waiter.join().unwrap(), ErrorKind::Removed);
        if removed {
            assert_eq!(event.set().unwrap_err().kind(), ErrorKind::Removed);
            assert_eq!(event.reset().unwrap_err().kind(), ErrorKind::Removed);
        }
    }
}

#[test]
fn events_and_boards_are_waited_for_together() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().writer(&space, "x").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    let mut auto = Event::create(&space, "a", Reset::Auto).unwrap();
    let mut manual = Event::create(&space, "m", Reset::Manual).unwrap();
    let any = |reader: &mut Reader, auto: &mut Event, manual: &mut Event, timeout| {
        corkboard::wait::any(&mut [reader, auto, manual], timeout).unwrap()
    };
    assert_eq!(any(&mut reader, &mut auto, &mut manual, NOW), None);
    Event::open(&space, "m").unwrap().set().unwrap();
    assert_eq!(any(&mut reader, &mut auto, &mut manual, PATIENCE), Some(2));
    Event::open(&space, "a").unwrap().set().unwrap();
    assert_eq!(any(&mut reader, &mut auto, &mut manual, PATIENCE), Some(1));
    // Its signal was consumed.
    assert_eq!(any(&mut reader, &mut auto, &mut manual, PATIENCE), Some(2));
    manual.reset().unwrap();
    writer.publish(b"news").unwrap();
    assert_eq!(any(&mut reader, &mut auto, &mut manual, PATIENCE), Some(0));
    assert_eq!(reader.read().unwrap().as_deref(), Some(&b"news"[..]));
    let setter = thread::spawn({
        let auto = Event::open(&space, "a").unwrap();
        move || auto.set().unwrap()
    });
    assert_eq!(any(&mut reader, &mut auto, &mut manual, PATIENCE), Some(1));
    setter.join().unwrap();
}

#[test]
fn who_leaves_with_one_event_passes_the_others_on() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let names = ["a", "b"];
    let events = names.map(|name| Event::create(&space, name, Reset::Auto).unwrap());
    for _ in 0..200 {
        let passed = Arc::new(AtomicU32::new(0));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let [mut a, mut b] = names.map(|name| Event::open(&space, name).unwrap());
                let passed = passed.clone();
                thread::spawn(move || {
                    let ready = corkboard::wait::any(&mut [&mut a, &mut b], PATIENCE).unwrap();
                    passed.fetch_add(1 << (16 * ready.unwrap()), Ordering::Relaxed);
                })
            })
            .collect();
        for event in &events {
            event.set().unwrap();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(
            passed.load(Ordering::Relaxed),
            1 << 16 | 1,
            "each event once"
        );
    }
}

#[test]
fn a_notifier_tells_of_each_signal_and_consumes_none() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    let notifier = event.notifier().unwrap();
    for _ in 0..3 {
        event.set().unwrap();
        assert!(is_ready(&notifier, MINUTE));
        notifier.clear().unwrap();
        assert!(event.wait(NOW).unwrap());
    }
}

#[test]
fn a_notifier_knows_nothing_of_signals_before_it() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Manual).unwrap();
    event.set().unwrap();
    event.reset().unwrap();
    let notifier = event.notifier().unwrap();
    // The thread has looked at this one by the time it tells of the other.
    let other = Event::create(&space, "other", Reset::Manual).unwrap();
    let later = other.notifier().unwrap();
    other.set().unwrap();
    assert!(is_ready(&later, MINUTE));
    assert!(!is_ready(&notifier, Duration::ZERO));
    event.set().unwrap();
    assert!(is_ready(&notifier, MINUTE));
}

#[cfg(target_os = "linux")]
#[test]
fn damaged_events_are_errors_that_name_them_and_can_be_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let file = space.path().join("x.event");
    Event::create(&space, "x", Reset::Auto).unwrap();
    let pristine = std::fs::read(&file).unwrap();
    let mut flipped = pristine.clone();
    flipped[40] ^= 1;
    for content in [
        &b""[..],
        b"nonsense",
        &pristine[..2000],
        &flipped,
        &[0xFF; 4096],
    ] {
        std::fs::write(&file, content).unwrap();
        let error = Event::open(&space, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("event \"x\""), "{error}");
        let findings = space.diagnose().unwrap();
        assert!(
            findings
                .iter()
                .any(|found| found.problem() == Problem::Damaged)
        );
        space.remove(Kind::Event, "x").unwrap();
        Event::create(&space, "x", Reset::Auto).unwrap();
    }
    let mut words = pristine.clone();
    words[320..].fill(0xFF);
    std::fs::write(&file, &words).unwrap();
    let event = Event::open(&space, "x").unwrap();
    assert!(event.wait(NOW).unwrap());
    event.set().unwrap();
    assert!(event.wait(NOW).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn the_child_of_a_fork_may_set_an_event() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    // SAFETY: the child only sets the event and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(event.set().is_err());
        // SAFETY: ends this process; nothing of it is used afterwards.
        unsafe { libc::_exit(code) };
    }
    assert!(event.wait(PATIENCE).unwrap());
    // SAFETY: collects the child started above.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}
