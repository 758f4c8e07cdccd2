//! Waiting for several boards and streams at once: from a thread, an event loop, a future.

mod common;

use std::time::Duration;

use common::{Scratch, is_ready};
use corkboard::board::{Options, Reader, Writer};
#[cfg(target_os = "linux")]
use corkboard::call::{self, Client, Server};
#[cfg(target_os = "linux")]
use corkboard::event::{Event, Reset};
#[cfg(target_os = "linux")]
use corkboard::lock::RwLock;
use corkboard::stream::{self, From, Overflow, Producer, Subscriber};
use corkboard::{ErrorKind, Kind, Space, wait};

const PATIENCE: Duration = Duration::from_secs(30);

fn boards(space: &Space, count: usize) -> (Vec<Writer>, Vec<Reader>) {
    (0..count)
        .map(|index| {
            // Small and large ones take turns.
            let options = Options::new().capacity(if index % 2 == 0 { 64 } else { 5000 });
            let name = index.to_string();
            let writer = options.writer(space, &name).unwrap();
            (writer, Reader::open(space, &name).unwrap())
        })
        .unzip()
}

fn any(readers: &mut [Reader], timeout: Duration) -> corkboard::Result<Option<usize>> {
    let mut items: Vec<&mut dyn wait::Waitable> =
        readers.iter_mut().map(|reader| reader as _).collect();
    wait::any(&mut items, Some(timeout))
}

#[test]
fn any_tells_which_board_has_something_new() {
    let scratch = Scratch::new();
    // One word, several, and more than the kernel waits for at once.
    for count in [1, 2, 5, 140] {
        let space = Space::at(scratch.0.join(count.to_string())).unwrap();
        let (mut writers, mut readers) = boards(&space, count);
        assert_eq!(any(&mut readers, Duration::ZERO).unwrap(), None);
        assert_eq!(any(&mut readers, Duration::from_millis(5)).unwrap(), None);
        for round in 0..6 {
            let index = (round * 7 + 3) % count;
            let thread = std::thread::spawn(move || {
                let ready = any(&mut readers, PATIENCE).unwrap();
                (readers, ready)
            });
            writers[index].publish(&[round as u8]).unwrap();
            let ready;
            (readers, ready) = thread.join().unwrap();
            assert_eq!(ready, Some(index));
            let snapshot = readers[index].read().unwrap().unwrap();
            assert_eq!(*snapshot, [round as u8]);
        }
    }
}

#[test]
fn any_sees_each_value_of_writers_that_wait_for_the_answer() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (mut writers, mut readers) = boards(&space, 3);
    let mut answer = Options::new().writer(&space, "answer").unwrap();
    let mut answers = Reader::open(&space, "answer").unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..2000 {
            let index = any(&mut readers, PATIENCE).unwrap().expect("not stuck");
            let value = readers[index].read().unwrap().unwrap().to_vec();
            answer.publish(&value).unwrap();
        }
    });
    for round in 0..2000_u32 {
        let value = round.to_ne_bytes();
        writers[round as usize % 3].publish(&value).unwrap();
        let snapshot = answers.wait(Some(PATIENCE)).unwrap().expect("not stuck");
        assert_eq!(*snapshot, value);
    }
    thread.join().unwrap();
}

#[test]
fn any_reports_a_removed_board() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (_writers, mut readers) = boards(&space, 3);
    let thread = std::thread::spawn(move || any(&mut readers, PATIENCE).unwrap_err().kind());
    space.remove(Kind::Board, "1").unwrap();
    assert_eq!(thread.join().unwrap(), ErrorKind::Removed);
}

#[test]
fn a_descriptor_becomes_readable_at_each_publication() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = capacity.to_string();
        let mut writer = Options::new()
            .capacity(capacity)
            .writer(&space, &name)
            .unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        let notifier = reader.notifier().unwrap();
        assert!(!is_ready(&notifier, Duration::ZERO));
        for round in 0..500_u32 {
            writer.publish(&round.to_ne_bytes()).unwrap();
            assert!(is_ready(&notifier, PATIENCE));
            notifier.clear().unwrap();
            assert!(!is_ready(&notifier, Duration::ZERO));
            assert_eq!(*reader.read().unwrap().unwrap(), round.to_ne_bytes());
        }
        // What was there before counts as new, if the reader has not seen it.
        let fresh = reader.try_clone().unwrap();
        assert!(is_ready(&fresh.notifier().unwrap(), PATIENCE));
    }
}

/// Somebody deletes the board's files, as `rm -r` does.
#[cfg(target_os = "linux")]
fn delete(space: &Space, name: &str) {
    std::fs::remove_dir_all(space.path().join(format!("{name}.board"))).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_becomes_readable_a_last_time_when_the_object_is_gone() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (_writers, mut readers) = boards(&space, 2);
    let notifiers: Vec<_> = readers.iter().map(|r| r.notifier().unwrap()).collect();
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    let of_event = event.notifier().unwrap();
    space.remove(Kind::Board, "0").unwrap();
    delete(&space, "1");
    std::fs::remove_file(space.path().join("x.event")).unwrap();
    for notifier in notifiers.iter().chain([&of_event]) {
        assert!(is_ready(notifier, PATIENCE));
        notifier.clear().unwrap();
        assert!(!is_ready(notifier, Duration::from_millis(20)), "again");
    }
    for reader in &mut readers {
        let error = reader.wait(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Removed);
    }
    let error = event.wait(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed);
}

fn stream(space: &Space, name: &str, overflow: Overflow) -> (Producer, Subscriber) {
    let options = stream::Options::new().capacity(1024).overflow(overflow);
    let producer = options.producer(space, name).unwrap();
    let subscriber = Subscriber::open(space, name, From::Oldest).unwrap();
    (producer, subscriber)
}

#[test]
fn any_waits_for_boards_and_streams_together() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (mut writers, mut readers) = boards(&space, 1);
    let (mut producer, mut subscriber) = stream(&space, "s", Overflow::Block);
    let (mut answers, mut answered) = stream(&space, "answers", Overflow::Block);
    let thread = std::thread::spawn(move || {
        for round in 0..2000_u32 {
            let mut items: [&mut dyn wait::Waitable; 2] = [&mut readers[0], &mut subscriber];
            let ready = wait::any(&mut items, Some(PATIENCE)).unwrap();
            assert_eq!(ready, Some(round as usize % 2));
            let value = match round % 2 {
                0 => readers[0].read().unwrap().unwrap().to_vec(),
                _ => subscriber.try_recv().unwrap().unwrap().to_vec(),
            };
            answers.send(&value).unwrap();
        }
        (readers, subscriber)
    });
    for round in 0..2000_u32 {
        let value = round.to_ne_bytes();
        match round % 2 {
            0 => writers[0].publish(&value).unwrap(),
            _ => producer.send(&value).unwrap(),
        };
        let message = answered.recv(Some(PATIENCE)).unwrap();
        assert_eq!(*message.expect("not stuck"), value);
    }
    let (mut readers, mut subscriber) = thread.join().unwrap();
    let thread = std::thread::spawn(move || {
        let mut items: [&mut dyn wait::Waitable; 2] = [&mut readers[0], &mut subscriber];
        wait::any(&mut items, Some(PATIENCE)).unwrap_err().kind()
    });
    space.remove(Kind::Stream, "s").unwrap();
    assert_eq!(thread.join().unwrap(), ErrorKind::Removed);
}

#[test]
fn a_descriptor_becomes_readable_at_each_record() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for overflow in [Overflow::Block, Overflow::Overwrite] {
        let name = format!("{overflow:?}");
        let (mut producer, mut subscriber) = stream(&space, &name, overflow);
        let notifier = subscriber.notifier().unwrap();
        assert!(!is_ready(&notifier, Duration::ZERO));
        for round in 0..200_u32 {
            producer.send(&round.to_ne_bytes()).unwrap();
            assert!(is_ready(&notifier, PATIENCE));
            notifier.clear().unwrap();
            assert!(!is_ready(&notifier, Duration::ZERO));
            let message = subscriber.try_recv().unwrap().unwrap();
            assert_eq!(*message, round.to_ne_bytes());
        }
        // Also who has not received for laps hears of each new one.
        for round in 0..100_u32 {
            if producer.try_send(&round.to_ne_bytes()).unwrap().is_some() {
                assert!(is_ready(&notifier, PATIENCE), "{round}");
                notifier.clear().unwrap();
            }
        }
        assert!(
            is_ready(&subscriber.notifier().unwrap(), PATIENCE),
            "old ones"
        );
        space.remove(Kind::Stream, &name).unwrap();
        assert!(is_ready(&notifier, PATIENCE), "removed");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_deletion_of_a_stream_is_noticed_also_by_one_whom_signals_keep_interrupting() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (mut producer, mut subscriber) = stream(&space, "s", Overflow::Block);
    let notifier = subscriber.notifier().unwrap();
    std::fs::remove_file(space.path().join("s.stream")).unwrap();
    let _interruptions = common::Interruptions::begin();
    let error = subscriber.recv(Some(PATIENCE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed);
    let error = loop {
        match producer.send_timeout(b"x", PATIENCE) {
            Ok(sent) => assert!(sent.is_some(), "not noticed"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Removed);
    assert!(is_ready(&notifier, PATIENCE));
}

/// Each would wait for ever if a signal made it begin its time anew.
#[cfg(target_os = "linux")]
#[test]
fn time_runs_out_also_for_one_whom_signals_keep_interrupting() {
    const TIMEOUT: Duration = Duration::from_millis(20);
    let scratch = Scratch::new();
    let space = scratch.space();
    let (_writers, mut readers) = boards(&space, 3);
    let (mut producer, mut subscriber) = stream(&space, "s", Overflow::Block);
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    let server = Server::create(&space, "c", call::Options::new()).unwrap();
    let client = Client::open(&space, "c").unwrap();
    let mut holder = RwLock::open(&space, "l").unwrap();
    let mut lock = RwLock::open(&space, "l").unwrap();
    let _guard = holder.write().unwrap();

    let _interruptions = common::Interruptions::begin();
    assert!(readers[0].wait(Some(TIMEOUT)).unwrap().is_none());
    assert!(any(&mut readers, TIMEOUT).unwrap().is_none());
    assert!(subscriber.recv(Some(TIMEOUT)).unwrap().is_none());
    while producer.send_timeout(&[0; 200], TIMEOUT).unwrap().is_some() {}
    assert!(!event.wait(Some(TIMEOUT)).unwrap());
    assert!(server.next(Some(TIMEOUT)).unwrap().is_none());
    assert!(lock.write_timeout(TIMEOUT).unwrap().is_none());
    assert!(lock.read_timeout(TIMEOUT).unwrap().is_none());

    let from = From::Oldest;
    let refused = [
        client.call(b"?", TIMEOUT).map(drop).unwrap_err(),
        Reader::open_timeout(&space, "none", TIMEOUT).unwrap_err(),
        Subscriber::open_timeout(&space, "none", from, TIMEOUT).unwrap_err(),
        Client::open_timeout(&space, "none", TIMEOUT).unwrap_err(),
        Options::new()
            .writer_timeout(TIMEOUT)
            .writer(&space, "0")
            .unwrap_err(),
        stream::Options::new()
            .producer_timeout(TIMEOUT)
            .producer(&space, "s")
            .unwrap_err(),
        Server::create(&space, "c", call::Options::new().server_timeout(TIMEOUT)).unwrap_err(),
    ];
    let kinds = refused.map(|error| error.kind());
    use ErrorKind::{NotFound, TimedOut, WriterExists};
    let (absent, taken) = ([NotFound; 3], [WriterExists; 3]);
    assert_eq!(kinds, [&[TimedOut][..], &absent, &taken].concat()[..]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_deletion_is_noticed_also_by_one_whom_signals_keep_interrupting() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (_writers, mut readers) = boards(&space, 3);
    let event = Event::create(&space, "x", Reset::Auto).unwrap();
    delete(&space, "0");
    delete(&space, "2");
    std::fs::remove_file(space.path().join("x.event")).unwrap();
    let _interruptions = common::Interruptions::begin();
    let error = readers[0].wait(Some(PATIENCE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed);
    let error = any(&mut readers[1..], PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed);
    let error = event.wait(Some(PATIENCE)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed);
}

#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_gets_no_notifier_of_its_parents_reader() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (mut writers, readers) = boards(&space, 2);
    for (writer, reader) in writers.iter_mut().zip(&readers) {
        let notifier = reader.notifier().unwrap();
        writer.publish(b"news").unwrap();
        assert!(is_ready(&notifier, PATIENCE));
        let is_forked = |error: corkboard::Error| error.kind() == ErrorKind::Forked;
        assert!(common::forked(|| notifier.clear().is_err_and(is_forked)));
        assert!(is_ready(&notifier, Duration::ZERO), "a child cleared it");
        assert!(common::forked(|| {
            drop(notifier);
            reader.notifier().is_err_and(is_forked)
        }));
    }
    let (_producer, subscriber) = stream(&space, "s", Overflow::Block);
    let notifier = subscriber.notifier().unwrap();
    assert!(common::forked(|| {
        drop(notifier);
        matches!(subscriber.notifier(), Err(error) if error.kind() == ErrorKind::Forked)
    }));
}

#[cfg(feature = "async")]
mod futures {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::{Arc, Mutex, mpsc};
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::Thread;

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// The smallest runtime there is.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            std::thread::park();
        }
    }

    #[test]
    fn a_future_is_ready_at_each_publication() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (mut writers, mut readers) = boards(&space, 2);
        let mut answer = Options::new().writer(&space, "answer").unwrap();
        let mut answers = Reader::open(&space, "answer").unwrap();
        let thread = std::thread::spawn(move || {
            block_on(async {
                for round in 0..1000 {
                    let reader = &mut readers[round % 2];
                    reader.changed().await.unwrap();
                    let value = reader.read().unwrap().unwrap().to_vec();
                    answer.publish(&value).unwrap();
                }
            });
        });
        for round in 0..1000_u32 {
            writers[round as usize % 2]
                .publish(&round.to_ne_bytes())
                .unwrap();
            let snapshot = answers.wait(Some(PATIENCE)).unwrap().expect("not stuck");
            assert_eq!(*snapshot, round.to_ne_bytes());
        }
        thread.join().unwrap();
    }

    #[test]
    fn a_future_is_ready_at_each_record_and_when_the_stream_is_removed() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (mut producer, mut subscriber) = stream(&space, "s", Overflow::Block);
        let (mut answers, mut answered) = stream(&space, "answers", Overflow::Block);
        let thread = std::thread::spawn(move || {
            block_on(async {
                loop {
                    if let Err(error) = subscriber.arrived().await {
                        return error.kind();
                    }
                    let message = subscriber.try_recv().unwrap().unwrap();
                    answers.send(&message).unwrap();
                }
            })
        });
        for round in 0..1000_u32 {
            producer.send(&round.to_ne_bytes()).unwrap();
            let message = answered.recv(Some(PATIENCE)).unwrap();
            assert_eq!(*message.expect("not stuck"), round.to_ne_bytes());
        }
        space.remove(Kind::Stream, "s").unwrap();
        assert_eq!(thread.join().unwrap(), ErrorKind::Removed);
    }

    #[test]
    fn a_future_ends_with_an_error_when_the_board_is_removed() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (_writers, mut readers) = boards(&space, 1);
        let thread = std::thread::spawn(move || {
            let mut reader = readers.pop().unwrap();
            block_on(reader.changed()).unwrap_err().kind()
        });
        space.remove(Kind::Board, "0").unwrap();
        assert_eq!(thread.join().unwrap(), ErrorKind::Removed);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_future_ends_with_an_error_when_the_object_is_deleted() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (_writers, mut readers) = boards(&space, 1);
        let mut event = Event::create(&space, "x", Reset::Manual).unwrap();
        let thread = std::thread::spawn(move || {
            let of_board = block_on(readers[0].changed()).unwrap_err().kind();
            (of_board, block_on(event.signalled()).unwrap_err().kind())
        });
        delete(&space, "0");
        std::fs::remove_file(space.path().join("x.event")).unwrap();
        let gone = (ErrorKind::Removed, ErrorKind::Removed);
        assert_eq!(thread.join().unwrap(), gone);
    }

    /// A task that only its waker keeps, and that says when it is gone.
    struct Task {
        future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
        gone: mpsc::Sender<()>,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Task {
        fn drop(&mut self) {
            *self.future.get_mut().unwrap() = None;
            self.gone.send(()).unwrap();
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker's own business");
        }
    }

    #[test]
    fn wakers_may_drop_their_task_or_panic() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (mut writers, mut readers) = boards(&space, 3);
        let witness = readers.pop().unwrap();
        let mut second = readers.pop().unwrap();
        let mut first = readers.pop().unwrap();

        let (gone, is_gone) = mpsc::channel();
        let future = Mutex::new(None);
        let task = Arc::new(Task { future, gone });
        let waker = Waker::from(task.clone());
        let mut future = Box::pin(async move {
            first.changed().await.unwrap();
        });
        let mut context = Context::from_waker(&waker);
        assert!(future.as_mut().poll(&mut context).is_pending());
        *task.future.lock().unwrap() = Some(future);
        drop((task, waker));
        writers[0].publish(b"news").unwrap();
        is_gone.recv_timeout(PATIENCE).expect("the task is dropped");

        let waker = Waker::from(Arc::new(Panics));
        let mut changed = pin!(second.changed());
        let mut context = Context::from_waker(&waker);
        assert!(changed.as_mut().poll(&mut context).is_pending());
        writers[1].publish(b"news").unwrap();
        block_on(changed).unwrap();

        let notifier = witness.notifier().unwrap();
        writers[2].publish(b"news").unwrap();
        assert!(is_ready(&notifier, PATIENCE), "others are served still");
    }

    #[test]
    fn a_future_can_be_dropped_and_made_again() {
        let scratch = Scratch::new();
        let space = scratch.space();
        let (mut writers, mut readers) = boards(&space, 1);
        let reader = &mut readers[0];
        for _ in 0..100 {
            let mut changed = pin!(reader.changed());
            let mut context = Context::from_waker(Waker::noop());
            assert!(changed.as_mut().poll(&mut context).is_pending());
        }
        writers[0].publish(b"news").unwrap();
        block_on(reader.changed()).unwrap();
        assert_eq!(&*reader.read().unwrap().unwrap(), b"news");
    }
}
