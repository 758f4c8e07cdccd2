//! Calls between real processes that are killed at random moments.
//!
//! Clients keep thousands of calls on their way to a server that dies with SIGKILL again and again,
//! and now and then a client does. Each call must end in exactly one of a reply, an error that the
//! server answered with, `PeerGone` and its deadline; none may hang, and none may get what was meant
//! for another.

mod common;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Scratch, is_killed, this_program, until};
use corkboard::call::{self, Client, Options, Pending, Request, Server};
use corkboard::{ErrorKind, Kind, Space};

const CLIENTS: usize = 8;
const CAPACITY: usize = 32 << 10;
/// So long that it would be a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many processes to kill at random in other tests of this kind; here each kill ends thousands
/// of calls.
fn kills() -> u32 {
    match std::env::var("CORKBOARD_TEST_KILLS") {
        Ok(count) => count.parse().expect("a number of kills"),
        Err(_) => 200,
    }
}

/// How often the server is killed, and how many calls each client has on their way at a time.
fn size() -> (u32, usize) {
    match kills() {
        10_000.. => (50, 1250),
        kills => ((kills / 20).clamp(5, 50), 150),
    }
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_nanos() as u64
}

/// One of the numbers that follow from others, spread evenly.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (number ^ number >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ number >> 32
}

/// Mostly short, and some as long as can be.
fn len(number: u64) -> usize {
    let limit = match number % 16 {
        0 => CAPACITY,
        1..4 => 4000,
        4..8 => 64,
        _ => 300,
    };
    16 + (number >> 8) as usize % (limit - 15)
}

/// Bytes that say which number they belong to, wherever one looks.
fn bytes(number: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len(mixed(number)).div_ceil(8) as u64)
        .flat_map(|at| (number ^ mixed(at)).to_le_bytes())
        .collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.truncate(len(mixed(number)));
    bytes
}

/// What the server is to do with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Reply,
    Fail,
    Drop,
}

fn wish(number: u64) -> Wish {
    match mixed(number) >> 48 & 15 {
        0 => Wish::Fail,
        1 => Wish::Drop,
        _ => Wish::Reply,
    }
}

fn reply_to(number: u64) -> Vec<u8> {
    bytes(!number)
}

fn failure_of(number: u64) -> (i32, String) {
    (number as i32, format!("no answer to {number:x}"))
}

/// Not a test of its own: the parts that the killed processes play.
#[test]
fn child_works_until_it_is_killed() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_CHILD") else {
        return;
    };
    let space = Space::at(std::env::var("CORKBOARD_TEST_SPACE").unwrap()).unwrap();
    match part.as_str() {
        "server" => serve(&space),
        "client" => call_until_told(&space),
        other => panic!("no part {other}"),
    }
}

fn answer(request: Request) {
    let number = u64::from_le_bytes(*request.first_chunk().unwrap());
    assert!(*request == bytes(number), "a request is torn");
    // Who asked may be gone.
    let _ = match wish(number) {
        Wish::Reply => request.reply(&reply_to(number)),
        Wish::Fail => {
            let (code, message) = failure_of(number);
            request.fail(code, &message)
        }
        Wish::Drop => Ok(()),
    };
}

/// Two threads that have many requests at a time, and answer them in any order.
fn serve(space: &Space) {
    let options = Options::new().server_timeout(PATIENCE);
    let server = Server::create(space, "x", options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let server = &server;
            scope.spawn(move || {
                let mut held = Vec::new();
                for turn in thread.. {
                    let timeout = Duration::from_millis(u64::from(held.is_empty()) * 1000);
                    let next = server.next(Some(timeout)).unwrap();
                    let is_idle = next.is_none();
                    held.extend(next);
                    if !held.is_empty() && (is_idle || held.len() == 100) {
                        let at = mixed(turn) as usize % held.len();
                        answer(held.swap_remove(at));
                    }
                }
            });
        }
    });
}

/// How a client's calls ended.
#[derive(Default)]
struct Ends {
    started: u64,
    replied: u64,
    failed: u64,
    let_go: u64,
    died: u64,
    timed_out: u64,
    /// When waits for a dead server began and ended.
    waits: Vec<(u64, u64)>,
}

impl Ends {
    fn end(&mut self, number: u64, is_patient: bool, call: Pending) {
        let began = now_ns();
        self.started += 1;
        let error = match call.wait() {
            Ok(reply) => {
                assert!(wish(number) == Wish::Reply);
                assert!(*reply == reply_to(number), "another's reply, or a torn one");
                self.replied += 1;
                return;
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Failed => {
                let (code, message) = failure_of(number);
                assert!(wish(number) == Wish::Fail);
                assert_eq!(error.failure(), Some((code, message.as_str())));
                self.failed += 1;
            }
            ErrorKind::PeerGone if error.to_string().contains("died") => {
                self.died += 1;
                self.waits.push((began, now_ns()));
            }
            ErrorKind::PeerGone => {
                assert!(wish(number) == Wish::Drop);
                self.let_go += 1;
            }
            ErrorKind::TimedOut => {
                assert!(!is_patient, "it would have hung: {error}");
                self.timed_out += 1;
            }
            _ => panic!("{error}"),
        }
    }

    fn write(&self, path: &Path) {
        let counts = [
            self.started,
            self.replied,
            self.failed,
            self.let_go,
            self.died,
            self.timed_out,
        ];
        let waits = self
            .waits
            .iter()
            .flat_map(|(began, ended)| [*began, *ended]);
        let words = counts.into_iter().chain(waits);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        std::fs::write(path, bytes).unwrap();
    }

    fn add_from(&mut self, path: &Path) {
        let bytes = std::fs::read(path).unwrap();
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (counts, waits) = words.split_at(6);
        self.started += counts[0];
        self.replied += counts[1];
        self.failed += counts[2];
        self.let_go += counts[3];
        self.died += counts[4];
        self.timed_out += counts[5];
        let (waits, _) = waits.as_chunks::<2>();
        self.waits
            .extend(waits.iter().map(|[began, ended]| (*began, *ended)));
    }
}

fn call_until_told(space: &Space) {
    let client = Client::open(space, "x").unwrap();
    let calls = std::env::var("CORKBOARD_TEST_CALLS").unwrap();
    let calls: u64 = calls.parse().unwrap();
    let mut ends = Ends::default();
    let first = u64::from(std::process::id()) << 32;
    for round in 0.. {
        if space.path().join("over").exists() {
            break;
        }
        let start = |call| {
            let number = first + round * calls + call;
            let is_patient = mixed(number) >> 40 & 63 != 0;
            let timeout = match is_patient {
                true => PATIENCE,
                false => Duration::from_micros(mixed(number) >> 32 & 0xFFFF),
            };
            let call = client.start(&bytes(number), timeout).unwrap();
            (number, is_patient, call)
        };
        let on_their_way: Vec<_> = (0..calls).map(start).collect();
        for (number, is_patient, call) in on_their_way {
            ends.end(number, is_patient, call);
        }
    }
    let process = std::process::id();
    ends.write(&space.path().join(format!("ends-{process}")));
}

/// A process that plays a part.
struct Worker(Child);

impl Worker {
    fn start(part: &'static str, space: &Space) -> Self {
        let child = this_program()
            .args(["--exact", "child_works_until_it_is_killed", "--nocapture"])
            .env("CORKBOARD_TEST_CHILD", part)
            .env("CORKBOARD_TEST_SPACE", space.path())
            .env("CORKBOARD_TEST_CALLS", size().1.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert!(is_killed(status), "it ended by itself");
    }
}

#[test]
fn each_call_ends_once_and_gets_its_own_answer_whoever_is_killed() {
    let (kills, calls) = size();
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new()
        .capacity(CAPACITY)
        .max_clients(CLIENTS as u32 + 1)
        .calls_per_client(calls as u32 + 30);
    let first = Server::create(&space, "x", options).unwrap();
    let _keeper = space.keep(Kind::Call, "x").unwrap();
    drop(first);
    let mut server = Worker::start("server", &space);
    let mut clients: Vec<Worker> = (0..CLIENTS)
        .map(|_| Worker::start("client", &space))
        .collect();
    let answered = || call::stat(&space, "x").unwrap().answered;
    let mut deaths = Vec::new();
    let mut killed_clients = 0;
    let mut most_on_their_way = 0;
    for turn in 0..u64::from(kills) {
        let before = answered();
        until(|| answered() > before);
        let random = mixed(turn);
        std::thread::sleep(Duration::from_micros(random % 60_000));
        if turn % 5 == 4 {
            let which = (random >> 32) as usize % clients.len();
            clients.remove(which).kill();
            clients.push(Worker::start("client", &space));
            killed_clients += 1;
        }
        let stat = call::stat(&space, "x").unwrap();
        let on_their_way = stat
            .clients
            .iter()
            .map(|client| client.pending + client.taken);
        most_on_their_way = most_on_their_way.max(on_their_way.sum());
        let death = now_ns();
        server.kill();
        deaths.push(death);
        server = Worker::start("server", &space);
    }
    std::fs::write(space.path().join("over"), b"").unwrap();
    let start = Instant::now();
    let mut ends = Ends::default();
    for mut client in clients {
        // Its calls have deadlines; this only tells which process hangs.
        while client.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < 2 * PATIENCE, "a client hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(client.0.wait().unwrap().success());
        ends.add_from(&space.path().join(format!("ends-{}", client.0.id())));
    }
    server.kill();
    let ended = ends.replied + ends.failed + ends.let_go + ends.died + ends.timed_out;
    assert_eq!(ends.started, ended);
    assert!(ends.replied > 0 && ends.died > 0);

    // Nothing is left of anybody: each place of each client can be used.
    let server = Server::create(&space, "x", Options::new()).unwrap();
    let clients: Vec<Client> = (0..=CLIENTS)
        .map(|_| Client::open(&space, "x").unwrap())
        .collect();
    for client in &clients {
        let pending: Vec<_> = (0..calls)
            .map(|_| client.start(b"?", PATIENCE).unwrap())
            .collect();
        for _ in 0..calls {
            let request = server.next(Some(PATIENCE)).unwrap().unwrap();
            assert_eq!(*request, *b"?");
            request.reply(b"!").unwrap();
        }
        for pending in pending {
            assert_eq!(*pending.wait().unwrap(), *b"!");
        }
    }

    // From a kill to the end of the waits that had begun before it.
    let mut delays: Vec<Duration> = ends
        .waits
        .iter()
        .filter_map(|(began, ended)| {
            let death = deaths.iter().rev().find(|death| *death < ended)?;
            (began < death).then(|| Duration::from_nanos(ended - death))
        })
        .collect();
    delays.sort();
    println!(
        "{kills} servers and {killed_clients} clients killed, at most {most_on_their_way} calls on their way; of {} calls: {} replies, {} errors, {} gone with their server, {} let go of, {} timed out",
        ends.started, ends.replied, ends.failed, ends.died, ends.let_go, ends.timed_out
    );
    if let (Some(half), Some(longest)) = (delays.get(delays.len() / 2), delays.last()) {
        println!(
            "from a kill to the end of a wait for the server: {half:?} (p50), {longest:?} (longest), of {}",
            delays.len()
        );
    }
}
