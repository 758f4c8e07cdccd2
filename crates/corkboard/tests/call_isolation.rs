//! Calls between processes that the kernel keeps apart: by user, by PID namespace, by a file system
//! that is full.
//!
//! These need root, and are ignored by default; `.ci/run` runs them with `--ignored`.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/root.rs"]
mod root;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Scratch, this_program, until};
use corkboard::call::{self, Access, Client, Options, Server};
use corkboard::{ErrorKind, Kind, Space};
use root::{Mounted, become_nobody, space_for_everyone};

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Option<Duration> = Some(Duration::ZERO);
/// Long enough not to fit into a cell.
const LEN: usize = 5000;

/// Not a test of its own: the process that is kept apart.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let path = std::env::var("CORKBOARD_TEST_SPACE").unwrap();
    match part.as_str() {
        "another user" => call_as_another_user(&path),
        "serve" => serve(&path),
        "give up rights" => give_up_rights(&path),
        other => panic!("no part {other}"),
    }
}

/// The part's command line, after a wrapper's if there is one.
fn part(wrapper: &[&str], part: &str, space: &Path) -> Command {
    let test = this_program();
    let wrapper = wrapper.iter().map(OsStr::new);
    let mut words = wrapper.chain([test.get_program()]).chain(test.get_args());
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args(["--exact", "child_plays_its_part", "--nocapture"])
        .env("CORKBOARD_TEST_PART", part)
        .env("CORKBOARD_TEST_SPACE", space)
        .stdout(Stdio::piped());
    command
}

fn say_done() {
    println!("done");
    std::io::stdout().flush().unwrap();
}

/// Answers with what was asked, until somebody asks for the end; keeps what begins with a 1.
fn serve(path: &str) {
    let space = Space::at(path).unwrap();
    let options = Options::new().server_timeout(PATIENCE);
    let server = Server::create(&space, "x", options).unwrap();
    let mut kept = Vec::new();
    loop {
        let request = server.next(None).unwrap().unwrap();
        match request.first() {
            Some(1) => kept.push(request),
            _ => {
                let reply = request.to_vec();
                request.reply(&reply).unwrap();
            }
        }
    }
}

fn call_as_another_user(path: &str) {
    become_nobody();
    let space = Space::at(path).unwrap();
    let client = Client::open(&space, "everyones").unwrap();
    assert!(client.is_served().unwrap());
    for len in [0, 10, LEN] {
        let reply = client.call(&vec![3; len], PATIENCE).unwrap();
        assert_eq!(*reply, vec![3; len]);
    }
    assert!(call::stat(&space, "everyones").unwrap().server.is_some());
    for name in ["private", "groups"] {
        let error = Client::open(&space, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Server::create(&space, name, Options::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = space.remove(Kind::Call, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    // One that may look and nothing else.
    let error = Client::open(&space, "readable").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(call::stat(&space, "readable").unwrap().servers, 1);
    say_done();
}

#[test]
#[ignore = "needs root, to become another user"]
fn another_user_calls_what_is_everyones_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let space = space_for_everyone(&scratch);
    let serve = |name: &str, access| {
        let options = Options::new().access(access);
        Server::create(&space, name, options).unwrap()
    };
    let server = serve("everyones", Access::Everyone);
    let _others = [
        serve("private", Access::Owner),
        serve("groups", Access::Group),
        serve("readable", Access::Owner),
    ];
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(space.path().join("readable.call"), readable).unwrap();
    let child = part(&[], "another user", space.path()).spawn().unwrap();
    for _ in 0..3 {
        let request = server.next(Some(PATIENCE)).unwrap().unwrap();
        let reply = request.to_vec();
        request.reply(&reply).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("done"));
}

#[test]
#[ignore = "needs root, to make PID namespaces"]
fn a_server_in_another_pid_namespace_is_alive_until_it_dies() {
    let scratch = Scratch::new();
    let space = scratch.space();
    drop(Server::create(&space, "x", Options::new()).unwrap());
    let client = Client::open(&space, "x").unwrap();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    for servers in 2..4 {
        let mut child = part(&unshare, "serve", space.path()).spawn().unwrap();
        assert_eq!(*client.call(&[7; LEN], PATIENCE).unwrap(), [7; LEN]);
        let stat = call::stat(&space, "x").unwrap();
        let server = stat.server.unwrap();
        assert_eq!(
            (server.pid, server.is_alive, stat.servers),
            (1, true, servers)
        );
        let kept = client.start(&[1], PATIENCE).unwrap();
        until(|| call::stat(&space, "x").unwrap().clients[0].taken == 1);
        // Long enough to look whether it is alive.
        let short = Duration::from_millis(120);
        let error = client.call(&[1], short).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(kept.wait().unwrap_err().kind(), ErrorKind::PeerGone);
    }
}

fn give_up_rights(path: &str) {
    let space = Space::at(path).unwrap();
    let server = Server::create(&space, "x", Options::new()).unwrap();
    let client = Client::open(&space, "x").unwrap();
    become_nobody();
    // The space is root's alone: nobody may ask any more whether the server is alive.
    let call = client.start(&[7; LEN], PATIENCE).unwrap();
    let request = server.next(Some(PATIENCE)).unwrap().unwrap();
    let late = client.start(&[7; LEN], Duration::from_millis(120)).unwrap();
    let kept = server.next(Some(PATIENCE)).unwrap().unwrap();
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(kept.is_cancelled());
    request.reply(&[8; LEN]).unwrap();
    assert_eq!(*call.wait().unwrap(), [8; LEN]);
    say_done();
}

#[test]
#[ignore = "needs root, to give up its rights"]
fn handles_outlive_the_right_to_open_them() {
    let scratch = Scratch::new();
    let space = scratch.0.join("private");
    let output = part(&[], "give up rights", &space).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("done"), "{said}");
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_full_file_system_is_an_error_and_both_sides_go_on() {
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "2m");
    let space = Space::at(mounted.0).unwrap();
    let options = Options::new().max_clients(2).capacity(16 << 20);
    let server = Server::create(&space, "x", options).unwrap();
    let client = Client::open(&space, "x").unwrap();
    let asked = |request: &[u8]| {
        let pending = client.start(request, PATIENCE).unwrap();
        (server.next(NOW).unwrap().unwrap(), pending)
    };
    // A reply without memory: the client is told.
    let (request, pending) = asked(b"much");
    let error = request.reply(&vec![1; 8 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let error = pending.wait().unwrap_err();
    assert_eq!(error.failure().unwrap().0, -1, "{error}");
    // A request without memory was not made.
    let error = client.start(&vec![1; 8 << 20], PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(server.next(NOW).unwrap().is_none());
    // Neither took anything, and what there was has its memory still.
    for len in [LEN, 700_000] {
        let (request, pending) = asked(&vec![2; len]);
        request.reply(&vec![3; len]).unwrap();
        assert_eq!(*pending.wait().unwrap(), vec![3; len]);
        let (request, pending) = asked(b"much again");
        request.reply(&vec![1; 8 << 20]).unwrap_err();
        pending.wait().unwrap_err();
    }
    // What is full stays full, and short ones go on; so does everything that has memory.
    mounted.fill();
    let mut all = Vec::new();
    for number in 0..64_u8 {
        let (request, pending) = asked(&[number; 64]);
        assert_eq!(*request, [number; 64]);
        request.reply(&[number + 1; 64]).unwrap();
        let reply = pending.wait().unwrap();
        assert_eq!(*reply, [number + 1; 64]);
        all.push(reply);
    }
    drop(all);
    let error = Server::create(&space, "another", Options::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    // With memory everything is as before.
    std::fs::remove_file(mounted.0.join("filler")).unwrap();
    for len in [LEN, 100_000] {
        let (request, pending) = asked(&vec![2; len]);
        request.reply(&vec![3; len]).unwrap();
        assert_eq!(*pending.wait().unwrap(), vec![3; len]);
    }
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn holes_on_a_full_file_system_are_an_error() {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new();
    let mounted = Mounted::new(&scratch.0, "1m");
    let space = Space::at(mounted.0).unwrap();
    let options = Options::new().max_clients(2).capacity(LEN);
    let server = Server::create(&space, "x", options).unwrap();
    let client = Client::open(&space, "x").unwrap();
    let pending = client.start(&[7; LEN], PATIENCE).unwrap();
    // Somebody says that the request is in another slot, one without memory.
    let path = mounted.0.join("x.call");
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let file = file.unwrap();
    let mut cell = [0; 64];
    let first = 4096;
    file.read_exact_at(&mut cell, first).unwrap();
    mounted.fill();
    file.write_all_at(&cell, first + 5 * 128).unwrap();
    let mut pending_word = [0; 8];
    pending_word[0] = 1 << 5 | 1;
    let words = (512 + 3 * 128_u64).next_multiple_of(128);
    file.write_all_at(&pending_word, words).unwrap();
    let request = server.next(NOW).unwrap().unwrap();
    assert_eq!(*request, [7; LEN]);
    request.reply(&[8; LEN]).unwrap();
    assert_eq!(*pending.wait().unwrap(), [8; LEN]);
    let error = server.next(NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(server.next(NOW).unwrap().is_none());
}
