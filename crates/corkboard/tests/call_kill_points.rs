//! Servers and clients that are killed at named points of a call.
//!
//! The story: a process dies with SIGKILL at exactly this point. A client whose server died gets the
//! reply or `PeerGone`, or the next server gets the request; a server whose client died goes on; the
//! dead one's entry and slots are used again; and what a remover or creator left is cleared away.
//!
//! Run with `--features test-hooks`.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Scratch, is_killed, mend, this_program, until};
use corkboard::call::{self, Client, Options, Pending, Request, Server};
use corkboard::{Error, ErrorKind, Keeper, Kind, Space, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Option<Duration> = Some(Duration::ZERO);
const NAME: &str = "x";
/// Long enough not to fit into a cell.
const LEN: usize = 10_000;

/// Not a test of its own: what the killed process does.
#[test]
fn child_plays_its_part_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    match part.as_str() {
        "serve" => {
            let server = serve(&space);
            loop {
                reply(next(&server));
            }
        }
        "serve nobody" => drop(serve(&space).next(Some(PATIENCE)).unwrap()),
        "drop requests" => {
            let server = serve(&space);
            loop {
                drop(next(&server));
            }
        }
        "call" => {
            let client = Client::open(&space, NAME).unwrap();
            for _ in 0..70 {
                drop(client.call(&[7; LEN], PATIENCE).unwrap());
            }
        }
        "give up" => {
            let client = Client::open(&space, NAME).unwrap();
            drop(client.start(&[7; LEN], PATIENCE).unwrap());
        }
        "time out" => {
            let client = Client::open(&space, NAME).unwrap();
            let _ = client.call(&[7; LEN], Duration::from_millis(1));
        }
        "remove" => space.remove(Kind::Call, NAME).unwrap(),
        other => panic!("no part {other}"),
    }
}

fn serve(space: &Space) -> Server {
    let options = Options::new().max_clients(2).server_timeout(PATIENCE);
    Server::create(space, NAME, options).unwrap()
}

fn next(server: &Server) -> Request {
    server.next(Some(PATIENCE)).unwrap().expect("somebody asks")
}

fn reply(request: Request) {
    let reply: Vec<u8> = request.iter().map(|byte| byte + 1).collect();
    request.reply(&reply).unwrap();
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
    command
        .env("CORKBOARD_TEST_KILL_AT", point)
        .spawn()
        .unwrap()
}

fn assert_killed(child: Child, point: &str, part: &str) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_killed = is_killed(output.status);
    assert!(is_killed, "{part} did not come to {point}: {said}");
}

fn die_at(point: &str, part: &str, space: &Space) {
    assert_killed(start(point, part, space), point, part);
}

#[test]
fn a_server_finds_out_that_whoever_asked_is_dead() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let server = serve(&space);
    let part = "call";
    let client = start("call.asleep", part, &space);
    let request = next(&server);
    assert_killed(client, "call.asleep", part);
    until(|| request.is_cancelled());
    drop(request);
    let client = Client::open(&space, NAME).unwrap();
    let pending = client.start(b"?", PATIENCE).unwrap();
    let request = next(&server);
    assert!(!request.is_cancelled());
    reply(request);
    assert_eq!(*pending.wait().unwrap(), [b'?' + 1]);
}

/// A call that nobody serves yet, and what keeps it.
fn created(space: &Space) -> Keeper {
    let _server = serve(space);
    space.keep(Kind::Call, NAME).unwrap()
}

/// Each place that the call has for calls can be used, whoever had it before.
fn check_works(server: &Server, clients: &[Client]) {
    while let Some(left) = server.next(NOW).unwrap() {
        reply(left);
    }
    for client in clients {
        let pending: Vec<Pending> = (0..64)
            .map(|number| client.start(&[number; LEN], PATIENCE).unwrap())
            .collect();
        for _ in 0..64 {
            reply(next(server));
        }
        for (number, pending) in pending.into_iter().enumerate() {
            assert_eq!(*pending.wait().unwrap(), [number as u8 + 1; LEN]);
        }
    }
    assert!(server.next(NOW).unwrap().is_none());
}

#[test]
fn a_server_killed_anywhere_leaves_an_answer_or_peer_gone_or_the_request() {
    for (point, answers) in [
        ("claim.locked", &["later"][..]),
        ("claim.signed", &["later"]),
        ("serve.claimed", &["later"]),
        ("serve.begun", &["later"]),
        ("serve.listening", &["later"]),
        ("serve.found", &["later"]),
        ("serve.taken", &["gone"]),
        ("serve.answering", &["gone"]),
        ("serve.answered", &["reply"]),
        ("serve.found:2", &["reply", "later"]),
        ("serve.taken:2", &["reply", "gone"]),
        ("serve.answering:2", &["reply", "gone"]),
        ("serve.answered:2", &["reply", "reply"]),
    ] {
        for is_asleep in [false, true] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let _keeper = created(&space);
            let client = Client::open(&space, NAME).unwrap();
            // The first point of sleep is met only while there is nothing to do.
            let listens = point == "serve.listening";
            let ask = |_: &&str| client.start(&[7; LEN], PATIENCE).unwrap();
            let mut calls: Vec<Pending> = Vec::new();
            if !listens {
                calls = answers.iter().map(ask).collect();
            }
            let what = |result: Result<call::Reply, Error>| match result {
                Ok(reply) => {
                    assert_eq!(*reply, [8; LEN]);
                    "reply"
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::PeerGone, "{point}: {error}");
                    "gone"
                }
            };
            let outcomes = std::thread::scope(|scope| {
                let waits = |calls: Vec<Pending>| {
                    let wait = |call: Pending| scope.spawn(move || what(call.wait()));
                    calls.into_iter().map(wait).collect::<Vec<_>>()
                };
                let mut waiting = Vec::new();
                if is_asleep {
                    waiting = waits(std::mem::take(&mut calls));
                }
                die_at(point, "serve", &space);
                if listens {
                    calls = answers.iter().map(ask).collect();
                }
                waiting.extend(waits(std::mem::take(&mut calls)));
                // What ended, ended without the next server.
                let ended = answers.iter().filter(|answer| **answer != "later").count();
                until(|| waiting.iter().filter(|wait| wait.is_finished()).count() >= ended);
                let server = serve(&space);
                let waits_still = waiting.iter().filter(|wait| !wait.is_finished()).count();
                assert_eq!(waits_still, answers.len() - ended, "{point}");
                for _ in ended..answers.len() {
                    reply(next(&server));
                }
                assert!(server.next(NOW).unwrap().is_none(), "{point}");
                let join = |wait: std::thread::ScopedJoinHandle<_>| wait.join().unwrap();
                waiting.into_iter().map(join).collect::<Vec<_>>()
            });
            let mut expected: Vec<&str> = answers
                .iter()
                .map(|answer| match *answer {
                    "later" => "reply",
                    answer => answer,
                })
                .collect();
            let mut outcomes = outcomes;
            outcomes.sort_unstable();
            expected.sort_unstable();
            assert_eq!(outcomes, expected, "{point}");
            let server = serve(&space);
            check_works(&server, &[client, Client::open(&space, NAME).unwrap()]);
            let stat = call::stat(&space, NAME).unwrap();
            let seen = stat.server.unwrap();
            assert!(seen.is_alive && seen.pid == std::process::id());
            drop(server);
            mend(&space);
        }
    }
}

#[test]
fn a_server_killed_while_it_lets_go_of_a_request_leaves_peer_gone() {
    for point in ["serve.taken", "serve.answering", "serve.answered"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let _keeper = created(&space);
        let client = Client::open(&space, NAME).unwrap();
        let call = client.start(b"?", PATIENCE).unwrap();
        die_at(point, "drop requests", &space);
        let error = call.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerGone, "{point}");
        check_works(&serve(&space), &[client]);
        mend(&space);
    }
}

#[test]
fn whoever_only_looks_or_waits_for_several_hears_of_the_death_too() {
    for way in ["try", "any", "notifier"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let _keeper = created(&space);
        let client = Client::open(&space, NAME).unwrap();
        let mut call = client.start(b"?", PATIENCE).unwrap();
        die_at("serve.taken", "serve", &space);
        let result = match way {
            "try" => loop {
                match call.try_wait() {
                    Ok(result) => break result,
                    Err(again) => call = again,
                }
                std::thread::yield_now();
            },
            "any" => {
                let ready = wait::any(&mut [&mut call], Some(PATIENCE)).unwrap();
                assert_eq!(ready, Some(0));
                call.try_wait().unwrap()
            }
            _ => {
                let notifier = call.notifier().unwrap();
                assert!(common::is_ready(&notifier, PATIENCE));
                call.try_wait().unwrap()
            }
        };
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerGone, "{way}");
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_server_is_not_dead_and_a_stopped_client_holds_up_nobody() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let _keeper = created(&space);
    let client = Client::open(&space, NAME).unwrap();
    let mut call = client.start(&[7; LEN], PATIENCE).unwrap();
    let mut stopped = command("serve", &space);
    let mut server = stopped
        .env("CORKBOARD_TEST_STOP_AT", "serve.taken")
        .spawn()
        .unwrap();
    common::await_stop(&server);
    // Longer than it takes to hear of a death.
    let long = Some(Duration::from_millis(150));
    assert_eq!(wait::any(&mut [&mut call], long).unwrap(), None);
    let error = Server::create(&space, NAME, Options::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterExists);
    // SAFETY: a signal to a child of ours.
    unsafe { libc::kill(server.id() as i32, libc::SIGCONT) };
    assert_eq!(*call.wait().unwrap(), [8; LEN]);
    server.kill().unwrap();
    server.wait().unwrap();

    let server = serve(&space);
    let mut stopped = command("call", &space);
    let mut other = stopped
        .env("CORKBOARD_TEST_STOP_AT", "call.pending")
        .spawn()
        .unwrap();
    common::await_stop(&other);
    check_works(&server, &[client]);
    // SAFETY: as above.
    unsafe { libc::kill(other.id() as i32, libc::SIGCONT) };
    for _ in 0..70 {
        reply(next(&server));
    }
    assert!(other.wait().unwrap().success());
}

#[test]
fn a_client_killed_anywhere_leaves_its_entry_and_all_its_places() {
    for (point, part) in [
        ("claim.locked", "call"),
        ("claim.signed", "call"),
        ("call.claimed", "call"),
        ("call.put", "call"),
        ("call.pending", "call"),
        ("call.asked", "call"),
        ("call.asleep", "call"),
        ("call.replied", "call"),
        ("call.replied:65", "call"),
        ("call.put:65", "call"),
        ("call.dropped", "give up"),
        // Each place is given up once when the entry is claimed.
        ("call.given-up", "give up"),
        ("call.given-up:65", "give up"),
        ("call.giving-up", "time out"),
        ("call.timed-out", "time out"),
    ] {
        // Whether the server has the request when it is answered at last, or the client's death
        // comes first.
        for serves_meanwhile in [false, true] {
            let needs_answers =
                part == "call" && (point.starts_with("call.replied") || point.ends_with(":65"));
            let needs_none = part == "time out" || point == "call.asleep";
            if (needs_answers && !serves_meanwhile) || (needs_none && serves_meanwhile) {
                continue;
            }
            let scratch = Scratch::new();
            let space = scratch.space();
            let server = serve(&space);
            let other = Client::open(&space, NAME).unwrap();
            let mut child = start(point, part, &space);
            let mut kept = None;
            while serves_meanwhile && child.try_wait().unwrap().is_none() {
                let short = Some(Duration::from_millis(5));
                let Some(request) = server.next(short).unwrap() else {
                    continue;
                };
                match needs_answers {
                    true => reply(request),
                    false => kept = Some(request),
                }
            }
            assert_killed(child, point, part);
            if kept.is_none() && !needs_answers {
                kept = server.next(NOW).unwrap();
            }
            // The dead one's entry, with a place that the server has still, perhaps.
            let next_one = Client::open(&space, NAME).unwrap();
            if let Some(request) = kept {
                assert!(request.is_cancelled(), "{point} {part}");
                reply(request);
            }
            check_works(&server, &[other, next_one]);
            drop(server);
            mend(&space);
        }
    }
}

#[test]
fn a_server_that_dies_and_then_its_client_leave_all_places() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let _keeper = created(&space);
    for _ in 0..3 {
        let client = command("call", &space)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        die_at("serve.taken", "serve", &space);
        // `PeerGone` is not what it expects.
        let output = client.wait_with_output().unwrap();
        assert!(!output.status.success());
    }
    let server = serve(&space);
    let clients = [(); 2].map(|()| Client::open(&space, NAME).unwrap());
    check_works(&server, &clients);
}

#[test]
fn calls_are_whole_or_absent_when_their_creator_dies() {
    for point in ["create.begun", "create.file", "create.renamed"] {
        let scratch = Scratch::new();
        let space = scratch.space();
        die_at(point, "serve nobody", &space);
        let is_whole = cfg!(unix) && point == "create.renamed";
        assert_eq!(space.entries().unwrap().len(), usize::from(is_whole));
        let server = serve(&space);
        let clients = [(); 2].map(|()| Client::open(&space, NAME).unwrap());
        check_works(&server, &clients);
        drop((server, clients));
        mend(&space);
    }
}

#[test]
fn a_removal_whose_remover_dies_can_be_finished() {
    for point in ["remove.marked", "remove.deleted"] {
        for mend_first in [false, true] {
            let scratch = Scratch::new();
            let space = scratch.space();
            let server = serve(&space);
            let client = Client::open(&space, NAME).unwrap();
            let call = client.start(b"?", PATIENCE).unwrap();
            let request = next(&server);
            die_at(point, "remove", &space);
            assert_eq!(server.next(None).unwrap_err().kind(), ErrorKind::Removed);
            assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Removed);
            assert_eq!(request.reply(b"!").unwrap_err().kind(), ErrorKind::Removed);
            drop((server, client));
            if mend_first {
                mend(&space);
            }
            let server = serve(&space);
            let clients = [(); 2].map(|()| Client::open(&space, NAME).unwrap());
            check_works(&server, &clients);
        }
    }
}
