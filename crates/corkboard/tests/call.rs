//! Calls: what servers and clients see of each other.

mod common;

use std::time::Duration;

#[cfg(unix)]
use common::forked;
use common::{Scratch, is_ready, move_away, until};
use corkboard::call::{self, Client, Integrity, Options, Pending, Request, Server};
use corkboard::{ErrorKind, Kind, wait};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);
const NOW: Option<Duration> = Some(Duration::ZERO);

fn next(server: &Server) -> Request {
    server.next(Some(LONG)).unwrap().expect("somebody asks")
}

fn backwards(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

/// Answers with what was asked, backwards, until the call is removed.
fn serve_backwards(server: &Server) {
    loop {
        match server.next(None) {
            Ok(request) => {
                let request = request.expect("without a time-out");
                let reply = backwards(&request);
                let _ = request.reply(&reply);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Removed);
                return;
            }
        }
    }
}

#[test]
fn what_is_asked_is_answered_whatever_its_length() {
    let scratch = Scratch::new();
    for integrity in [Integrity::Crc64, Integrity::None] {
        let options = Options::new().capacity(300_000).integrity(integrity);
        let server = Server::create(&scratch.space(), "c", options).unwrap();
        let client = Client::open(&scratch.space(), "c").unwrap();
        assert_eq!((client.capacity(), server.capacity()), (300_000, 300_000));
        std::thread::scope(|scope| {
            scope.spawn(|| serve_backwards(&server));
            for len in [0, 1, 7, 63, 64, 65, 4096, 4097, 300_000, 3] {
                let request: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
                let reply = client.call(&request, LONG).unwrap();
                assert_eq!(*reply, backwards(&request));
            }
            scratch.space().remove(Kind::Call, "c").unwrap();
        });
    }
}

#[test]
fn many_calls_are_on_their_way_and_each_gets_its_own_reply() {
    let scratch = Scratch::new();
    let options = Options::new().calls_per_client(200);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let (server, scratch) = (&server, &scratch);
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| serve_backwards(server)))
            .collect();
        let clients: Vec<_> = (0..4_u64)
            .map(|which| {
                let client = Client::open(&scratch.space(), "c").unwrap();
                scope.spawn(move || {
                    for round in 0..20 {
                        let requests: Vec<Vec<u8>> = (0..256_u64)
                            .map(|number| {
                                let len = (number as usize * 13) % 500;
                                let mut request =
                                    (which << 32 | round << 16 | number).to_ne_bytes().to_vec();
                                request.resize(8 + len, number as u8);
                                request
                            })
                            .collect();
                        let pending: Vec<Pending> = requests
                            .iter()
                            .map(|request| client.start(request, LONG).unwrap())
                            .collect();
                        for (pending, request) in pending.into_iter().zip(requests) {
                            assert_eq!(*pending.wait().unwrap(), backwards(&request));
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        let answered = call::stat(&scratch.space(), "c").unwrap().answered;
        assert_eq!(answered, 4 * 20 * 256);
        scratch.space().remove(Kind::Call, "c").unwrap();
        for server in servers {
            server.join().unwrap();
        }
    });
}

#[test]
fn an_error_that_the_server_answers_with_is_told_from_all_others() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let pending = client.start(b"?", LONG).unwrap();
    next(&server).fail(-42, "no such thing: 天気").unwrap();
    let error = pending.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(error.failure(), Some((-42, "no such thing: 天気")));
    assert!(error.to_string().contains("-42: no such thing"), "{error}");

    let pending = client.start(b"?", LONG).unwrap();
    drop(next(&server));
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.failure()), (ErrorKind::PeerGone, None));
}

#[test]
fn what_is_too_long_is_refused_and_the_client_hears_of_it() {
    let scratch = Scratch::new();
    let options = Options::new().capacity(100);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let error = client.call(&[0; 101], LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("101"), "{error}");
    let pending = client.start(&[0; 100], LONG).unwrap();
    let error = next(&server).reply(&[0; 101]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = pending.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(error.failure().unwrap().0, -1);
    let message = "x".repeat(101);
    let pending = client.start(b"", LONG).unwrap();
    let error = next(&server).fail(1, &message).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Failed);

    // Also where the explanation itself is too long.
    let options = Options::new().capacity(5);
    let server = Server::create(&scratch.space(), "short", options).unwrap();
    let client = Client::open(&scratch.space(), "short").unwrap();
    let pending = client.start(b"", LONG).unwrap();
    let error = next(&server).reply(b"too long").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = pending.wait().unwrap_err();
    assert_eq!(error.failure(), Some((-1, "the a")));
}

#[test]
fn requests_wait_for_a_server_until_their_deadline() {
    let scratch = Scratch::new();
    let options = Options::new();
    let first = Server::create(&scratch.space(), "c", options.clone()).unwrap();
    let _keeper = scratch.space().keep(Kind::Call, "c").unwrap();
    drop(first);
    let client = Client::open(&scratch.space(), "c").unwrap();
    assert!(!client.is_served().unwrap());
    let error = client.call(b"too early", SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("no server"), "{error}");
    let patient = client.start(b"patient", LONG).unwrap();
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    assert!(client.is_served().unwrap());
    let request = next(&server);
    assert_eq!(
        *request, *b"patient",
        "the one that was given up is not asked"
    );
    request.reply(b"at last").unwrap();
    assert_eq!(*patient.wait().unwrap(), *b"at last");
    assert!(server.next(NOW).unwrap().is_none());
}

#[test]
fn who_is_not_served_hears_whether_there_is_a_server() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let error = client.call(b"?", SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("busy"), "{error}");
    drop(server);
    let error = client.call(b"?", SHORT).unwrap_err();
    assert!(error.to_string().contains("start one"), "{error}");
}

#[test]
fn a_late_reply_is_nobodys() {
    let scratch = Scratch::new();
    let options = Options::new().calls_per_client(1);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let first = client.start(b"first", LONG).unwrap();
    let late = next(&server);
    assert!(!late.is_cancelled());
    drop(first);
    assert!(late.is_cancelled());
    let second = client.start(b"second", LONG).unwrap();
    let on_time = next(&server);
    late.reply(b"for the first").unwrap();
    on_time.reply(b"for the second").unwrap();
    assert_eq!(*second.wait().unwrap(), *b"for the second");

    let late = client.start(b"until a deadline", SHORT).unwrap();
    let request = next(&server);
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    request.reply(b"too late").unwrap();
    let call = client.start(b"last", LONG).unwrap();
    next(&server).reply(b"reply").unwrap();
    assert_eq!(*call.wait().unwrap(), *b"reply");
}

#[test]
fn a_client_with_as_many_calls_as_can_be_waits_until_one_is_over() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let mut pending: Vec<Pending> = (0..64).map(|_| client.start(b"?", LONG).unwrap()).collect();
    let error = client.call(b"one too many", SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("64"), "{error}");
    let stat = call::stat(&scratch.space(), "c").unwrap();
    assert_eq!((stat.clients[0].pending, stat.clients[0].taken), (64, 0));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.call(b"one more", LONG).unwrap().to_vec());
        next(&server).reply(b"!").unwrap();
        // Replies take their place until they are dropped.
        let replied = loop {
            let at = pending.remove(0);
            match at.try_wait() {
                Ok(reply) => break reply.unwrap(),
                Err(at) => pending.push(at),
            }
        };
        assert_eq!(*replied, *b"!");
        drop(replied);
        for _ in 0..64 {
            let request = next(&server);
            let reply = backwards(&request);
            request.reply(&reply).unwrap();
        }
        assert_eq!(waits.join().unwrap(), b"erom eno");
    });
    for pending in pending {
        assert_eq!(*pending.wait().unwrap(), *b"?");
    }
}

#[test]
fn no_request_waits_for_ever_behind_those_of_one_who_asks_again_at_once() {
    let scratch = Scratch::new();
    // Three of a client's slots share a bit.
    let options = Options::new().calls_per_client(192);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let clients = [(); 2].map(|()| Client::open(&scratch.space(), "c").unwrap());
    let start = |client: usize, number: u32| {
        let request = [client as u32, number].map(u32::to_ne_bytes).concat();
        clients[client].start(&request, LONG).unwrap()
    };
    let mut calls: Vec<Vec<Pending>> = (0..2)
        .map(|client| (0..130).map(|number| start(client, number)).collect())
        .collect();
    let mut was_answered = vec![[false; 130]; 2];
    // In one round each gets its turn, though every place is taken again at once.
    for _ in 0..2 * 130 {
        let request = next(&server);
        let words = request.as_chunks::<4>().0;
        let [client, number] = [0, 1].map(|at| u32::from_ne_bytes(words[at]) as usize);
        request.reply(b"").unwrap();
        was_answered[client][number] = true;
        let place = calls[client].iter_mut().enumerate();
        let at = place.map(|(at, _)| at).nth(number).unwrap();
        let old = calls[client].remove(at);
        drop(old.wait().unwrap());
        calls[client].insert(at, start(client, number as u32));
    }
    let answered = was_answered.iter().flatten().filter(|is| **is).count();
    assert_eq!(answered, 2 * 130);
}

#[test]
fn calls_that_are_made_and_removed_all_the_time_are_there_or_not() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                if let Err(error) = Client::open_timeout(&space, "c", SHORT) {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                }
            }
        });
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = space.remove(Kind::Call, "c");
            }
        });
        let options = Options::new().max_clients(2).server_timeout(LONG);
        // Wine takes far longer to make files and memory.
        for _ in 0..if cfg!(windows) { 20 } else { 300 } {
            let created = Server::create(&space, "c", options.clone());
            if let Err(error) = created {
                is_over.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("{error}");
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn there_is_one_server_at_a_time_and_others_stand_by() {
    let scratch = Scratch::new();
    let options = Options::new().label("the first");
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let error = Server::create(&scratch.space(), "c", Options::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterExists);
    assert!(error.to_string().contains("the first"), "{error}");
    let client = Client::open(&scratch.space(), "c").unwrap();
    let calls = ["taken", "waits"].map(|text| client.start(text.as_bytes(), LONG).unwrap());
    let taken = next(&server);
    std::thread::scope(|scope| {
        let next_one = scope.spawn(|| {
            let options = Options::new().server_timeout(LONG);
            Server::create(&scratch.space(), "c", options).unwrap()
        });
        drop(server);
        // What was taken keeps the server alive until it is answered.
        taken.reply(b"by the first").unwrap();
        let second = next_one.join().unwrap();
        next(&second).reply(b"by the second").unwrap();
    });
    let replies = calls.map(|call| call.wait().unwrap().to_vec());
    assert_eq!(
        replies,
        [b"by the first".to_vec(), b"by the second".to_vec()]
    );
}

#[test]
fn a_process_serves_and_calls_under_one_name() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let servers = ["a", "b"].map(|name| Server::create(&space, name, Options::new()).unwrap());
    let (to_a, to_b) = (
        Client::open(&space, "a").unwrap(),
        Client::open(&space, "b").unwrap(),
    );
    // Whoever is asked asks back, down to nothing.
    let ask_back = |server: &Server, back: &Client| {
        while let Ok(request) = server.next(None) {
            let request = request.expect("without a time-out");
            let reply = match request.split_last() {
                Some((_, rest)) => back.call(rest, LONG).unwrap().to_vec(),
                None => b"end".to_vec(),
            };
            request.reply(&reply).unwrap();
        }
    };
    let ([a, b], ask_back) = (&servers, &ask_back);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| ask_back(a, &to_b));
            scope.spawn(|| ask_back(b, &to_a));
        }
        for _ in 0..50 {
            // Two requests to each server: as many threads as each has.
            assert_eq!(*to_a.call(&[0; 3], LONG).unwrap(), *b"end");
        }
        for name in ["a", "b"] {
            space.remove(Kind::Call, name).unwrap();
        }
    });
}

#[test]
fn a_removed_call_says_so_to_everybody() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for moves_away in [false, true] {
        let server = Server::create(&space, "c", Options::new()).unwrap();
        let client = Client::open(&space, "c").unwrap();
        let pending = client.start(b"?", LONG).unwrap();
        let request = next(&server);
        std::thread::scope(|scope| {
            let waits = [
                scope.spawn(|| client.call(b"?", LONG).map(drop)),
                scope.spawn(|| pending.wait().map(drop)),
            ];
            let serves = scope.spawn(|| {
                // The one that was just asked, and then nothing more.
                next(&server).reply(b"!").unwrap();
                server.next(None).map(drop)
            });
            assert!(waits.len() == 2);
            let [answered, waits] = waits;
            answered.join().unwrap().unwrap();
            match moves_away {
                false => space.remove(Kind::Call, "c").unwrap(),
                true => move_away(&space, ".call"),
            }
            let kind = |result: corkboard::Result<()>| result.unwrap_err().kind();
            assert_eq!(kind(waits.join().unwrap()), ErrorKind::Removed);
            assert_eq!(kind(serves.join().unwrap()), ErrorKind::Removed);
        });
        let kind = request.reply(b"!").unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Removed);
        assert_eq!(
            client.call(b"?", LONG).unwrap_err().kind(),
            ErrorKind::Removed
        );
        let _ = std::fs::remove_file(space.path().join("moved away"));
    }
    assert_eq!(
        Client::open(&space, "c").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_handle_does_not_take_what_was_made_in_its_place_for_damage() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new();
    let first = Server::create(&space, "c", options.clone().capacity(1000)).unwrap();
    let client = Client::open(&space, "c").unwrap();
    space.remove(Kind::Call, "c").unwrap();
    let _second = Server::create(&space, "c", options.capacity(5000)).unwrap();
    let error = client.is_served().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Removed, "{error}");
    drop(first);
}

#[test]
fn options_must_match_what_is_there() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(1000).calls_per_client(65);
    let first = Server::create(&space, "c", options.clone()).unwrap();
    let _keeper = space.keep(Kind::Call, "c").unwrap();
    drop(first);
    drop(Server::create(&space, "c", options).unwrap());
    drop(Server::create(&space, "c", Options::new()).unwrap());
    for other in [
        Options::new().capacity(1001),
        Options::new().calls_per_client(64),
        Options::new().max_clients(1),
        Options::new().integrity(Integrity::None),
    ] {
        let error = Server::create(&space, "c", other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
    for impossible in [
        Options::new().capacity(usize::MAX),
        Options::new().capacity(0),
        Options::new().max_clients(0),
        Options::new().max_clients(u32::MAX),
        Options::new().calls_per_client(u32::MAX),
    ] {
        let error = Server::create(&space, "other", impossible).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn a_full_table_refuses_one_more_client() {
    let scratch = Scratch::new();
    let options = Options::new().max_clients(2);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let first = Client::open(&scratch.space(), "c").unwrap();
    let second = Client::open(&scratch.space(), "c").unwrap();
    let error = Client::open(&scratch.space(), "c").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let left = first.start(b"left", LONG).unwrap();
    let request = next(&server);
    std::mem::forget(left);
    drop((first, second));
    // An entry that was left is whole again, but for what the server has.
    let client = Client::open(&scratch.space(), "c").unwrap();
    request.reply(b"to nobody").unwrap();
    let call = client.start(b"?", LONG).unwrap();
    next(&server).reply(b"!").unwrap();
    assert_eq!(*call.wait().unwrap(), *b"!");
}

#[test]
fn requests_and_replies_are_waited_for_together_with_other_things() {
    let scratch = Scratch::new();
    let mut server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    assert_eq!(wait::any(&mut [&mut server], NOW).unwrap(), None);
    let mut calls = [&b"1"[..], b"2"].map(|text| client.start(text, LONG).unwrap());
    let [one, two] = &mut calls;
    assert_eq!(
        wait::any(&mut [one, two, &mut server], None).unwrap(),
        Some(2)
    );
    drop(next(&server));
    std::thread::scope(|scope| {
        scope.spawn(|| next(&server).reply(b"!").unwrap());
        let first = wait::any(&mut [two], Some(LONG)).unwrap();
        assert_eq!(first, Some(0));
    });
    let mut late = client.start(b"3", SHORT).unwrap();
    assert_eq!(wait::any(&mut [&mut late], None).unwrap(), Some(0));
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn an_event_loop_sees_requests_and_replies() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let asked = server.notifier().unwrap();
    for round in 0..50 {
        let pending = client.start(b"?", LONG).unwrap();
        let answered = pending.notifier().unwrap();
        assert!(is_ready(&asked, LONG), "round {round}");
        asked.clear().unwrap();
        let request = server.next(NOW).unwrap().expect("it said so");
        assert!(server.next(NOW).unwrap().is_none());
        request.reply(b"!").unwrap();
        assert!(is_ready(&answered, LONG));
        assert_eq!(*pending.wait().unwrap(), *b"!");
    }
}

/// As long as they wait: the client of one may have died before it could tell anybody.
#[test]
fn an_event_loop_is_reminded_of_requests_that_it_leaves() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let server = Server::create(&space, "x", Options::new()).unwrap();
    let client = Client::open(&space, "x").unwrap();
    let asked = server.notifier().unwrap();
    let pending = client.start(b"?", LONG).unwrap();
    for _ in 0..3 {
        assert!(is_ready(&asked, LONG));
        asked.clear().unwrap();
    }
    next(&server).reply(b"!").unwrap();
    assert_eq!(&*pending.wait().unwrap(), b"!");
}

#[test]
fn a_notifier_does_not_keep_a_server_s_place() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for _ in 0..50 {
        let server = Server::create(&space, "x", Options::new()).unwrap();
        let asked = server.notifier().unwrap();
        drop(server);
        let another = Server::create(&space, "x", Options::new()).unwrap();
        let more = another.notifier().unwrap();
        drop((asked, more, another));
    }
}

#[test]
fn threads_and_an_event_loop_wait_for_the_same_requests() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let asked = server.notifier().unwrap();
    std::thread::scope(|scope| {
        let servers = [(); 2].map(|()| scope.spawn(|| serve_backwards(&server)));
        let clients = [(); 2].map(|()| {
            let client = Client::open(&scratch.space(), "c").unwrap();
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(*client.call(b"ab", LONG).unwrap(), *b"ba");
                }
            })
        });
        for client in clients {
            client.join().unwrap();
        }
        assert!(is_ready(&asked, LONG));
        asked.clear().unwrap();
        scratch.space().remove(Kind::Call, "c").unwrap();
        for server in servers {
            server.join().unwrap();
        }
    });
    assert!(is_ready(&asked, LONG), "it says that the call was removed");
}

#[cfg(feature = "async")]
#[test]
fn futures_wait_for_requests_and_replies() {
    use std::future::Future;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    let scratch = Scratch::new();
    let mut server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                block_on(server.asked()).unwrap();
                server
                    .next(NOW)
                    .unwrap()
                    .expect("asked")
                    .reply(b"!")
                    .unwrap();
            }
        });
        for _ in 0..20 {
            let mut pending = client.start(b"?", LONG).unwrap();
            block_on(pending.answered()).unwrap();
            assert_eq!(*pending.wait().unwrap(), *b"!");
        }
    });
}

#[test]
fn who_is_attached_is_seen_from_outside() {
    let scratch = Scratch::new();
    let options = Options::new().label("the server").capacity(1000);
    let server = Server::create(&scratch.space(), "c", options).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let pending = ["a", "b"].map(|text| client.start(text.as_bytes(), LONG).unwrap());
    let request = next(&server);
    let stat = call::stat(&scratch.space(), "c").unwrap();
    assert_eq!((stat.capacity, stat.servers, stat.answered), (1000, 1, 0));
    let seen = stat.server.unwrap();
    assert_eq!((seen.label.as_str(), seen.is_alive), ("the server", true));
    assert_eq!(seen.pid, std::process::id());
    assert_eq!(stat.clients.len(), 1);
    assert_eq!((stat.clients[0].pending, stat.clients[0].taken), (1, 1));
    drop((request, pending, client));
    until(|| {
        call::stat(&scratch.space(), "c")
            .unwrap()
            .clients
            .is_empty()
    });
    assert_eq!(call::stat(&scratch.space(), "c").unwrap().answered, 1);
}

#[cfg(unix)]
#[test]
fn a_forks_child_is_told_and_changes_nothing() {
    let scratch = Scratch::new();
    let server = Server::create(&scratch.space(), "c", Options::new()).unwrap();
    let client = Client::open(&scratch.space(), "c").unwrap();
    let mut all = Some((
        client.start(b"waits", LONG).unwrap(),
        client.start(b"taken", LONG).unwrap(),
    ));
    let mut request = Some(next(&server));
    let mut answered = Some(client.start(b"answered", LONG).unwrap());
    let others = [(); 2].map(|()| next(&server));
    let [unanswered, last] = others;
    last.reply(b"3").unwrap();
    let is_well = forked(|| {
        let kinds = [
            client.call(b"?", LONG).map(drop).unwrap_err().kind(),
            server.next(NOW).map(drop).unwrap_err().kind(),
            answered.take().unwrap().wait().unwrap_err().kind(),
        ];
        drop((all.take(), request.take()));
        kinds == [ErrorKind::Forked; 3]
    });
    assert!(is_well);
    let (waits, taken) = all.unwrap();
    request.unwrap().reply(b"1").unwrap();
    unanswered.reply(b"2").unwrap();
    assert_eq!(*waits.wait().unwrap(), *b"1");
    assert_eq!(*taken.wait().unwrap(), *b"2");
    assert_eq!(*answered.unwrap().wait().unwrap(), *b"3");
}
