//! A call next to the list of everything that was asked and answered: whatever one says, the other
//! must say, too. Used by `properties.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use corkboard::call::{Client, Integrity, Options, Pending, Reply, Request, Server, stat};
use corkboard::{ErrorKind, Keeper, Kind, Space};

const NAME: &str = "天气";
const CLIENTS: usize = 3;
/// Beyond any test.
const LONG: Duration = Duration::from_secs(600);
/// No operation of the model waits: a time-out other than this would hide a hang.
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
/// What comes of a reply or an error that is too long for the call.
const NO_ANSWER: i32 = -1;

/// What the call is created with.
#[derive(Clone, Copy, Debug)]
pub struct CallShape {
    capacity: usize,
    calls: usize,
    integrity: Integrity,
}

impl CallShape {
    pub fn from_bytes(bytes: [u8; 3]) -> Self {
        let [capacity, calls, integrity] = bytes.map(usize::from);
        Self {
            capacity: [8, 64, 65, 1000, 5000][capacity % 5],
            calls: [64, 128, 192][calls % 3],
            integrity: [Integrity::Crc64, Integrity::None][integrity % 2],
        }
    }
}

/// One step. Handles are numbered; a number beyond the last one wraps around.
#[derive(Clone, Copy, Debug)]
pub enum CallOp {
    OpenClient,
    CloseClient {
        client: u8,
    },
    Start {
        client: u8,
        len: u16,
        is_patient: bool,
    },
    StartMany {
        client: u8,
    },
    Wait {
        call: u8,
    },
    GiveUp {
        call: u8,
    },
    DropReply {
        reply: u8,
    },
    OpenServer,
    CloseServer,
    Next,
    NextMany,
    Answer {
        request: u8,
        len: u16,
    },
    Fail {
        request: u8,
        len: u16,
    },
    LetGo {
        request: u8,
    },
    Stat,
}

impl CallOp {
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        let [code, number, low, high] = bytes;
        let len = u16::from_le_bytes([low, high]);
        let (client, call, reply, request) = (number, number, number, number);
        match code % 32 {
            0 | 1 => Self::OpenClient,
            2 => Self::CloseClient { client },
            3..9 => Self::Start {
                client,
                len,
                is_patient: number & 0x40 == 0,
            },
            9 => Self::StartMany { client },
            10..14 => Self::Wait { call },
            14 | 15 => Self::GiveUp { call },
            16 => Self::DropReply { reply },
            17 | 18 => Self::OpenServer,
            19 => Self::CloseServer,
            20..24 => Self::Next,
            24 => Self::NextMany,
            25..28 => Self::Answer { request, len },
            28 => Self::Fail { request, len },
            29 => Self::LetGo { request },
            _ => Self::Stat,
        }
    }
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    Taken,
    Replied(Vec<u8>),
    Failed(i32, String),
    LetGo,
}

/// A call that its client waits for.
struct Call {
    pending: Pending,
    entry: usize,
    is_patient: bool,
    progress: Progress,
}

/// A place in the table of clients.
#[derive(Default)]
struct Entry {
    client: Option<Client>,
    /// Requests that the server has and nobody waits for, also of clients that are gone.
    cancelled: usize,
}

pub struct CallModel {
    space: Space,
    shape: CallShape,
    entries: [Entry; CLIENTS],
    /// By what is in the request.
    calls: BTreeMap<u64, Call>,
    replies: Vec<(usize, Reply, Vec<u8>)>,
    server: Option<Server>,
    /// With the number of the call and the entry that it came from.
    requests: Vec<(u64, usize, Request)>,
    next: u64,
    servers: u64,
    answered: u64,
    _keeper: Keeper,
}

impl CallModel {
    pub fn new(space: Space, shape: CallShape) -> Self {
        let options = Options::new()
            .capacity(shape.capacity)
            .max_clients(CLIENTS as u32)
            .calls_per_client(shape.calls as u32)
            .integrity(shape.integrity);
        let server = Server::create(&space, NAME, options).unwrap();
        let keeper = space.keep(Kind::Call, NAME).unwrap();
        Self {
            space,
            shape,
            entries: Default::default(),
            calls: BTreeMap::new(),
            replies: Vec::new(),
            server: Some(server),
            requests: Vec::new(),
            next: 0,
            servers: 1,
            answered: 0,
            _keeper: keeper,
        }
    }

    pub fn step(&mut self, op: CallOp) {
        match op {
            CallOp::OpenClient => self.open_client(),
            CallOp::CloseClient { client } => {
                if let Some(entry) = self.entry(client) {
                    self.entries[entry].client = None;
                }
            }
            CallOp::Start {
                client,
                len,
                is_patient,
            } => self.start(client, len.into(), is_patient),
            CallOp::StartMany { client } => {
                for _ in 0..50 {
                    self.start(client, 9, true);
                }
            }
            CallOp::Wait { call } => self.wait(call),
            CallOp::GiveUp { call } => self.give_up(call),
            CallOp::DropReply { reply } => {
                if !self.replies.is_empty() {
                    let at = usize::from(reply) % self.replies.len();
                    let (_, reply, expected) = self.replies.swap_remove(at);
                    assert!(*reply == *expected, "a reply has changed");
                }
            }
            CallOp::OpenServer => self.open_server(),
            // Requests keep it alive.
            CallOp::CloseServer => self.server = None,
            CallOp::Next => self.next(),
            CallOp::NextMany => (0..40).for_each(|_| self.next()),
            CallOp::Answer { request, len } => self.answer(request, len.into()),
            CallOp::Fail { request, len } => self.fail(request, len.into()),
            CallOp::LetGo { request } => {
                if let Some((number, entry, request)) = self.take_request(request) {
                    drop(request);
                    self.end(number, entry, Progress::LetGo);
                }
            }
            CallOp::Stat => self.stat(),
        }
    }

    /// The entry of one of the open clients.
    fn entry(&self, client: u8) -> Option<usize> {
        let open: Vec<usize> = (0..CLIENTS)
            .filter(|entry| self.entries[*entry].client.is_some())
            .collect();
        (!open.is_empty()).then(|| open[usize::from(client) % open.len()])
    }

    fn calls_of(&self, entry: usize) -> impl Iterator<Item = &Call> {
        self.calls.values().filter(move |call| call.entry == entry)
    }

    fn replies_of(&self, entry: usize) -> usize {
        self.replies.iter().filter(|(of, ..)| *of == entry).count()
    }

    /// Calls and replies keep a client's entry, too.
    fn is_in_use(&self, entry: usize) -> bool {
        self.entries[entry].client.is_some()
            || self.calls_of(entry).next().is_some()
            || self.replies_of(entry) > 0
    }

    fn open_client(&mut self) {
        let client = Client::open(&self.space, NAME);
        let free = (0..CLIENTS).find(|entry| !self.is_in_use(*entry));
        match free {
            None => expect_error(client, ErrorKind::Full),
            Some(free) => self.entries[free].client = Some(client.unwrap()),
        }
    }

    fn start(&mut self, client: u8, len: usize, is_patient: bool) {
        let Some(entry) = self.entry(client) else {
            return;
        };
        let client = self.entries[entry].client.as_ref().unwrap();
        // Some are too long.
        let len = 8 + len % (self.shape.capacity + 1);
        let on_their_way = self.calls_of(entry).count();
        let taken = on_their_way + self.replies_of(entry) + self.entries[entry].cancelled;
        let is_full = taken == self.shape.calls;
        let timeout = if is_patient && !is_full {
            LONG
        } else {
            Duration::ZERO
        };
        self.next += 1;
        let pending = client.start(&bytes(self.next, len), timeout);
        if is_full {
            return expect_error(pending, ErrorKind::TimedOut);
        }
        if len > self.shape.capacity {
            return expect_error(pending, ErrorKind::TooLarge);
        }
        let call = Call {
            pending: pending.unwrap(),
            entry,
            is_patient,
            progress: Progress::Waits,
        };
        self.calls.insert(self.next, call);
    }

    fn take_call(&mut self, call: u8) -> Option<(u64, Call)> {
        let at = usize::from(call) % self.calls.len().max(1);
        let number = *self.calls.keys().nth(at)?;
        self.calls.remove_entry(&number)
    }

    fn wait(&mut self, call: u8) {
        let Some((number, mut call)) = self.take_call(call) else {
            return;
        };
        let result = match call.pending.try_wait() {
            Ok(result) => result,
            Err(pending) => {
                assert!(call.is_patient);
                assert!(matches!(call.progress, Progress::Waits | Progress::Taken));
                call.pending = pending;
                self.calls.insert(number, call);
                return;
            }
        };
        match call.progress {
            Progress::Waits | Progress::Taken => {
                assert!(!call.is_patient);
                expect_error(result, ErrorKind::TimedOut);
                let is_taken = call.progress == Progress::Taken;
                self.entries[call.entry].cancelled += usize::from(is_taken);
            }
            Progress::Replied(expected) => {
                let reply = result.unwrap();
                assert!(*reply == *expected, "another reply than was given");
                self.replies.push((call.entry, reply, expected));
            }
            Progress::Failed(code, message) => {
                let error = result.map(drop).unwrap_err();
                assert_eq!(error.failure(), Some((code, message.as_str())));
            }
            Progress::LetGo => expect_error(result, ErrorKind::PeerGone),
        }
    }

    fn give_up(&mut self, call: u8) {
        if let Some((_, call)) = self.take_call(call) {
            let is_taken = call.progress == Progress::Taken;
            drop(call.pending);
            self.entries[call.entry].cancelled += usize::from(is_taken);
        }
    }

    fn open_server(&mut self) {
        let server = Server::create(&self.space, NAME, Options::new());
        if self.server.is_some() || !self.requests.is_empty() {
            return expect_error(server, ErrorKind::WriterExists);
        }
        self.server = Some(server.unwrap());
        self.servers += 1;
    }

    fn next(&mut self) {
        let Some(server) = &self.server else {
            return;
        };
        let waits = |call: &Call| call.progress == Progress::Waits;
        let Some(request) = server.next(AT_ONCE).unwrap() else {
            assert!(!self.calls.values().any(waits), "a request is lost");
            return;
        };
        let number = u64::from_ne_bytes(*request.first_chunk().unwrap());
        let call = self.calls.get_mut(&number).expect("nobody asks that");
        assert!(waits(call), "it was taken before");
        assert!(*request == *bytes(number, request.len()));
        call.progress = Progress::Taken;
        self.requests.push((number, call.entry, request));
    }

    fn take_request(&mut self, request: u8) -> Option<(u64, usize, Request)> {
        if self.requests.is_empty() {
            return None;
        }
        let at = usize::from(request) % self.requests.len();
        let (number, entry, request) = self.requests.swap_remove(at);
        assert!(*request == *bytes(number, request.len()));
        let is_wanted = self.calls.contains_key(&number);
        assert_eq!(request.is_cancelled(), !is_wanted);
        Some((number, entry, request))
    }

    /// A request was answered in some way.
    fn end(&mut self, number: u64, entry: usize, progress: Progress) {
        self.answered += 1;
        match self.calls.get_mut(&number) {
            Some(call) => call.progress = progress,
            None => self.entries[entry].cancelled -= 1,
        }
    }

    fn answer(&mut self, request: u8, len: usize) {
        let Some((number, entry, request)) = self.take_request(request) else {
            return;
        };
        let reply = bytes(!number, len % (self.shape.capacity + 3));
        let result = request.reply(&reply);
        let progress = self.check_length(result, reply.len());
        let progress = progress.unwrap_or(Progress::Replied(reply));
        self.end(number, entry, progress);
    }

    fn fail(&mut self, request: u8, len: usize) {
        let Some((number, entry, request)) = self.take_request(request) else {
            return;
        };
        let message = "m".repeat(len % (self.shape.capacity + 3));
        let result = request.fail(number as i32, &message);
        let progress = self.check_length(result, message.len());
        let progress = progress.unwrap_or(Progress::Failed(number as i32, message));
        self.end(number, entry, progress);
    }

    /// What the client gets in place of an answer that is too long.
    fn check_length(&self, result: corkboard::Result<()>, len: usize) -> Option<Progress> {
        if len <= self.shape.capacity {
            result.unwrap();
            return None;
        }
        expect_error(result, ErrorKind::TooLarge);
        let mut message = "the answer is longer than the capacity".to_owned();
        message.truncate(self.shape.capacity);
        Some(Progress::Failed(NO_ANSWER, message))
    }

    fn stat(&self) {
        let stat = stat(&self.space, NAME).unwrap();
        assert_eq!((stat.servers, stat.answered), (self.servers, self.answered));
        let is_alive = stat.server.is_some_and(|server| server.is_alive);
        assert_eq!(is_alive, self.server.is_some() || !self.requests.is_empty());
        let alive = stat.clients.iter().filter(|client| client.is_alive);
        let used = (0..CLIENTS).filter(|entry| self.is_in_use(*entry));
        assert_eq!(alive.clone().count(), used.clone().count());
        for (seen, entry) in alive.zip(used) {
            let count = |progress: Progress| {
                self.calls_of(entry)
                    .filter(|call| call.progress == progress)
                    .count()
            };
            assert_eq!(seen.pending, count(Progress::Waits));
            assert_eq!(seen.taken, count(Progress::Taken));
        }
    }
}

impl Drop for CallModel {
    fn drop(&mut self) {
        let _ = self.space.remove(Kind::Call, NAME);
    }
}

/// A number and bytes that follow from it, as many as are asked for.
fn bytes(number: u64, len: usize) -> Vec<u8> {
    let fill = (8..len).map(|at| (number.wrapping_mul(31).wrapping_add(at as u64 * 7)) as u8);
    let mut bytes: Vec<u8> = number.to_ne_bytes().into_iter().chain(fill).collect();
    bytes.truncate(len);
    bytes
}

/// Every error names the call.
#[track_caller]
fn expect_error<T>(result: corkboard::Result<T>, kind: ErrorKind) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(NAME), "{error}");
}
