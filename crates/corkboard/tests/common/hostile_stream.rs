//! Streams whose file somebody meddles with, and everything that can be done with them: used by
//! `stream_hostile.rs` and by the fuzz target `stream_file`.
//!
//! What holds whatever is in the file: each operation ends soon, with a record that was sent or
//! with an error that names the stream.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use corkboard::integrity::crc64;
use corkboard::stream::{From, Options, Overflow, Producer, ProducerMode, Subscriber};
use corkboard::{Error, Kind, Result, Space, wait};

pub const NAME: &str = "天气";
pub const HEADER_LEN: usize = 192;
const ROLE: u64 = 6;
/// Some records are in their cells, some are copied from the arena, some read in place.
const CAPACITY: usize = 20_480;
/// Where the cells begin, see `docs/format.md`.
pub const FIRST_CELL: usize = 12_288;
/// How many there are.
pub const CELLS: usize = 512;
/// The length of one.
pub const CELL_LEN: usize = 96;
/// Where the arena begins.
#[allow(dead_code, reason = "the fuzz target does not ask")]
pub const ARENA: usize = FIRST_CELL + CELLS * CELL_LEN;
/// So many records were sent before anybody meddles: more than a lap.
pub const SENT: u64 = 530;

/// What streams there are to meddle with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub overflow: Overflow,
    pub mode: ProducerMode,
}

pub const SHAPES: [Shape; 4] = [
    Shape {
        overflow: Overflow::Block,
        mode: ProducerMode::Exclusive,
    },
    Shape {
        overflow: Overflow::Overwrite,
        mode: ProducerMode::Exclusive,
    },
    Shape {
        overflow: Overflow::Block,
        mode: ProducerMode::Shared,
    },
    Shape {
        overflow: Overflow::Overwrite,
        mode: ProducerMode::Shared,
    },
];

/// What may be received.
#[derive(Clone)]
pub struct Sent {
    /// How many different records there are.
    count: u64,
    /// Without a checksum, or with one that the file's author chose, any bytes may be received.
    pub is_verified: bool,
    /// Nobody waits: the oldest records are overwritten, and nobody else has the turn.
    pub is_quick: bool,
}

/// The record with this number.
fn record(number: u64) -> Vec<u8> {
    const LENS: [usize; 10] = [0, 8, 50, 64, 65, 300, 24, 4096, 12, 5000];
    let mut record = vec![number as u8; LENS[number as usize % LENS.len()]];
    let (words, _) = record.as_chunks_mut::<8>();
    if let Some(first) = words.first_mut() {
        *first = number.to_le_bytes();
    }
    record
}

impl Sent {
    fn check(&self, bytes: &[u8]) {
        let is_sent = match bytes.first_chunk::<8>() {
            None => bytes.is_empty(),
            Some(number) => {
                let number = u64::from_le_bytes(*number);
                number < self.count && record(number) == bytes
            }
        };
        assert!(
            is_sent || !self.is_verified,
            "{} bytes that nobody sent: {bytes:02x?}",
            bytes.len()
        );
    }

    /// The next record, which counts as sent from now on.
    fn next(&mut self) -> Vec<u8> {
        self.count += 1;
        record(self.count - 1)
    }
}

/// The result, or nothing if it is an error that names the stream.
#[track_caller]
pub fn expect<T>(result: Result<T>) -> Option<T> {
    result.map_err(expect_named).ok()
}

#[track_caller]
fn expect_named(error: Error) {
    let text = error.to_string();
    assert!(text.contains(NAME), "an error without a name: {text}");
}

/// A stream's file as it was when nobody had meddled with it.
pub struct Stream {
    pub space: Space,
    pub pristine: Vec<u8>,
    pub sent: Sent,
}

impl Stream {
    /// Sends records for more than a lap and keeps a copy of the file.
    pub fn new(space: &Space, shape: Shape) -> Self {
        let mut sent = Sent {
            count: 0,
            is_verified: true,
            is_quick: shape.overflow == Overflow::Overwrite
                && shape.mode == ProducerMode::Exclusive,
        };
        let mut producer = Options::new()
            .capacity(CAPACITY)
            .max_subscribers(2)
            .overflow(shape.overflow)
            .producer_mode(shape.mode)
            .producer(space, NAME)
            .unwrap();
        let mut subscriber = Subscriber::open(space, NAME, From::Oldest).unwrap();
        while sent.count < SENT {
            producer.send(&sent.next()).unwrap();
            let _ = subscriber.try_recv();
        }
        producer.end(None).unwrap();
        drop((producer, subscriber));
        let pristine = std::fs::read(path(space)).unwrap();
        Self {
            space: space.clone(),
            pristine,
            sent,
        }
    }

    pub fn path(&self) -> PathBuf {
        path(&self.space)
    }

    /// Puts the file back as it was. Nobody may be attached, but to one that was removed.
    pub fn restore(&self) {
        std::fs::write(self.path(), &self.pristine).unwrap();
    }

    pub fn write(&self, bytes: &[u8], offset: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path());
        file.unwrap().write_all_at(bytes, offset).unwrap();
    }

    pub fn set_len(&self, len: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path());
        file.unwrap().set_len(len).unwrap();
    }

    /// Removes what is there in whatever state it is.
    pub fn remove(&self) {
        if self.space.remove(Kind::Stream, NAME).is_err() {
            let _ = std::fs::remove_dir_all(self.path());
            let _ = std::fs::remove_file(self.path());
        }
    }
}

fn path(space: &Space) -> PathBuf {
    space.path().join(format!("{NAME}.stream"))
}

/// The header with a checksum that matches.
pub fn seal(header: &[u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let mut header = *header;
    header[24..32].copy_from_slice(&ROLE.to_le_bytes());
    let sum = crc64(&header[..HEADER_LEN - 8], 0);
    header[HEADER_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Handles on a stream, as far as it lets itself be opened.
pub struct Handles {
    /// The table has room for two; the third one observes, or is refused.
    pub subscribers: Vec<Subscriber>,
    pub producers: Vec<Producer>,
}

impl Handles {
    pub fn open(space: &Space) -> Self {
        let producers = [
            Options::new().producer(space, NAME),
            Producer::open(space, NAME),
        ];
        let from = [From::Oldest, From::Sequence(SENT - 5), From::Newest];
        let subscribers = from.map(|from| Subscriber::open(space, NAME, from));
        Self {
            subscribers: subscribers.into_iter().filter_map(expect).collect(),
            producers: producers.into_iter().filter_map(expect).collect(),
        }
    }

    /// Does everything that can be done, and checks what comes of it.
    pub fn use_all(&mut self, sent: &mut Sent, longest_wait: Duration) {
        for _ in 0..2 {
            self.receive_all(sent, longest_wait);
            for producer in &mut self.producers {
                send_all(producer, sent, longest_wait);
            }
        }
        self.receive_all(sent, longest_wait);
    }

    fn receive_all(&mut self, sent: &Sent, longest_wait: Duration) {
        let mut items: Vec<&mut dyn wait::Waitable> =
            self.subscribers.iter_mut().map(|item| item as _).collect();
        if !items.is_empty() {
            expect(wait::any(&mut items, Some(longest_wait)));
        }
        for subscriber in &mut self.subscribers {
            if let Some(message) = expect(subscriber.recv(Some(longest_wait))).flatten() {
                sent.check(&message);
            }
            for _ in 0..12 {
                if let Some(message) = expect(subscriber.try_recv()).flatten() {
                    sent.check(&message);
                }
            }
            expect(subscriber.recv_each(12, Some(Duration::ZERO), |message| sent.check(&message)));
        }
    }
}

fn send_all(producer: &mut Producer, sent: &mut Sent, longest_wait: Duration) {
    for _ in 0..6 {
        expect(producer.try_send(&sent.next()));
    }
    expect(producer.send_timeout(&sent.next(), longest_wait));
    // Loans of what is longer, and sending without a time limit, may wait for room for ever.
    let len = if sent.is_quick { 5000 } else { 64 };
    if let Some(loan) = expect(producer.loan(len)) {
        assert_eq!(loan.len(), len);
    }
    if sent.is_quick {
        let record = sent.next();
        if let Some(mut loan) = expect(producer.loan(record.len())) {
            loan.copy_from_slice(&record);
            expect(loan.send());
        }
        expect(producer.send(&sent.next()));
    }
    expect(producer.end(Some(Duration::ZERO)));
}

/// Opens whatever is there and does everything with it; then, if the doctor mends something, again.
pub fn visit(space: &Space, sent: &mut Sent, longest_wait: Duration) {
    for _ in 0..2 {
        Handles::open(space).use_all(sent, longest_wait);
        let mut is_mended = false;
        for finding in space.diagnose().unwrap() {
            assert!(!finding.to_string().is_empty());
            if finding.subject().contains(NAME) {
                is_mended |= expect(finding.fix()).is_some();
            }
        }
        if !is_mended {
            break;
        }
    }
}
