//! A board next to the list of everything that was published on it: whatever one says, the other
//! must say, too. Used by `properties.rs` and by the fuzz target `operations`.

use std::time::Duration;

use corkboard::board::{
    Integrity, Options, OwnedSnapshot, Reader, Snapshot, Timestamp, Writer, WriterMode, stat,
};
use corkboard::{ErrorKind, Keeper, Kind, Space};

const NAME: &str = "天气";
const MAX_HANDLES: usize = 5;
/// No operation of the model waits: a time-out other than this would hide a hang.
const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

/// What the board is created with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub capacity: usize,
    pub max_readers: u32,
    pub integrity: Integrity,
    pub timestamp: Timestamp,
    pub mode: WriterMode,
}

impl Shape {
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        let [capacity, max_readers, guards, mode] = bytes;
        Self {
            capacity: [0, 5, 64, 1000, 1024, 1025, 5000, 20_000][usize::from(capacity) % 8],
            max_readers: u32::from(max_readers) % 4,
            integrity: [Integrity::Crc64, Integrity::None][usize::from(guards) % 2],
            timestamp: [Timestamp::Coarse, Timestamp::Precise, Timestamp::None]
                [usize::from(guards) / 2 % 3],
            mode: [WriterMode::Exclusive, WriterMode::Shared][usize::from(mode) % 2],
        }
    }

    fn options(&self) -> Options {
        Options::new()
            .capacity(self.capacity)
            .max_readers(self.max_readers)
            .integrity(self.integrity)
            .timestamp(self.timestamp)
            .writer_mode(self.mode)
            .writer_timeout(Duration::ZERO)
    }
}

/// One step. Handles are numbered; a number beyond the last one wraps around.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Publish { writer: u8, len: u16 },
    PublishIf { writer: u8, len: u16 },
    PublishIfWrong { writer: u8, len: u16 },
    LoanPublish { writer: u8, len: u16 },
    LoanTruncatePublish { writer: u8, len: u16 },
    LoanDrop { writer: u8, len: u16 },
    LoanForget { writer: u8, len: u16 },
    Latest { writer: u8 },
    OpenWriter,
    CloseWriter { writer: u8 },
    OpenReader,
    Clone { reader: u8 },
    CloseReader { reader: u8 },
    Read { reader: u8 },
    Wait { reader: u8 },
    ReadInto { reader: u8 },
    Hold { reader: u8 },
    LetGo { snapshot: u8 },
    CloseSnapshot { snapshot: u8 },
    Stat,
    Recreate,
    Remove,
}

impl Op {
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        let [code, number, low, high] = bytes;
        let len = u16::from_le_bytes([low, high]);
        let (writer, reader, snapshot) = (number, number, number);
        match code % 32 {
            0..4 => Self::Publish { writer, len },
            4 => Self::PublishIf { writer, len },
            5 => Self::PublishIfWrong { writer, len },
            6 => Self::LoanPublish { writer, len },
            7 => Self::LoanTruncatePublish { writer, len },
            8 => Self::LoanDrop { writer, len },
            9 => Self::LoanForget { writer, len },
            10 => Self::Latest { writer },
            11 => Self::OpenWriter,
            12 => Self::CloseWriter { writer },
            13..16 => Self::OpenReader,
            16 => Self::Clone { reader },
            17 => Self::CloseReader { reader },
            18..21 => Self::Read { reader },
            21..24 => Self::Wait { reader },
            24 | 25 => Self::ReadInto { reader },
            26 => Self::Hold { reader },
            27 => Self::LetGo { snapshot },
            28 => Self::CloseSnapshot { snapshot },
            29 => Self::Stat,
            30 => Self::Recreate,
            _ => Self::Remove,
        }
    }
}

/// A handle, the incarnation of the board that it is attached to, and what the model knows of it.
struct Attached<T> {
    handle: T,
    board: usize,
}

struct ReaderState {
    reader: Reader,
    /// The last sequence that it returned.
    seen: u64,
}

struct SnapshotState {
    snapshot: OwnedSnapshot,
    sequence: u64,
    is_observer: bool,
}

/// The board and what must be true of it.
pub struct Model {
    space: Space,
    shape: Shape,
    /// Whether a forgotten loan of private memory is a leak that somebody looks for.
    forgets_memory: bool,
    /// All values of each incarnation; the last one is current, if `exists`.
    boards: Vec<Vec<Vec<u8>>>,
    exists: bool,
    /// Of the current board: on Windows it would not outlive its handles.
    keeper: Option<Keeper>,
    writers: Vec<Attached<Writer>>,
    readers: Vec<Attached<ReaderState>>,
    snapshots: Vec<Attached<SnapshotState>>,
    fills: u64,
}

impl Model {
    pub fn new(space: Space, shape: Shape, forgets_memory: bool) -> Self {
        let mut model = Self {
            space,
            shape,
            forgets_memory,
            boards: Vec::new(),
            exists: false,
            keeper: None,
            writers: Vec::new(),
            readers: Vec::new(),
            snapshots: Vec::new(),
            fills: 0,
        };
        model.open_writer();
        model
    }

    /// Does one step and checks everything it returns.
    pub fn step(&mut self, op: Op) {
        match op {
            Op::Publish { writer, len } => {
                self.publish(writer, len, |writer, _, value| writer.publish(value))
            }
            Op::PublishIf { writer, len } => self.publish(writer, len, |writer, latest, value| {
                writer.publish_if(latest, value)
            }),
            Op::PublishIfWrong { writer, len } => self.publish_if_wrong(writer, len),
            Op::LoanPublish { writer, len } => self.publish(writer, len, |writer, _, value| {
                let mut loan = writer.loan(value.len())?;
                assert_eq!(loan.len(), value.len());
                loan.copy_from_slice(value);
                loan.publish()
            }),
            Op::LoanTruncatePublish { writer, len } => {
                let capacity = self.shape.capacity;
                self.publish(writer, len, |writer, _, value| {
                    let mut loan = writer.loan(capacity.max(value.len()))?;
                    loan.fill(0xEE);
                    loan[..value.len()].copy_from_slice(value);
                    loan.truncate(value.len());
                    loan.truncate(capacity + 1);
                    assert_eq!(&*loan, value);
                    loan.publish()
                });
            }
            Op::LoanDrop { writer, len } => self.loan(writer, len, false),
            Op::LoanForget { writer, len } => self.loan(writer, len, true),
            Op::Latest { writer } => self.latest(writer),
            Op::OpenWriter => self.open_writer(),
            Op::CloseWriter { writer } => {
                take(&mut self.writers, writer);
            }
            Op::OpenReader => self.open_reader(),
            Op::Clone { reader } => self.clone_reader(reader),
            Op::CloseReader { reader } => {
                take(&mut self.readers, reader);
            }
            Op::Read { reader } => self.read(reader),
            Op::Wait { reader } => self.wait(reader),
            Op::ReadInto { reader } => self.read_into(reader),
            Op::Hold { reader } => self.hold(reader),
            Op::LetGo { snapshot } => {
                if let Some(Attached { handle, board }) = take(&mut self.snapshots, snapshot) {
                    let handle = ReaderState {
                        reader: handle.snapshot.into_reader(),
                        seen: handle.sequence,
                    };
                    self.readers.push(Attached { handle, board });
                }
            }
            Op::CloseSnapshot { snapshot } => {
                take(&mut self.snapshots, snapshot);
            }
            Op::Stat => self.stat(),
            Op::Recreate => {
                self.remove();
                self.open_writer();
            }
            Op::Remove => self.remove(),
        }
        for held in &self.snapshots {
            let SnapshotState {
                snapshot, sequence, ..
            } = &held.handle;
            check_value(&self.boards[held.board], &snapshot.as_snapshot(), *sequence);
        }
    }

    fn current(&self) -> Option<usize> {
        self.exists.then(|| self.boards.len() - 1)
    }

    fn newest(&self, board: usize) -> u64 {
        self.boards[board].len() as u64
    }

    /// Bytes that no other step has, of a length that is often near a limit.
    fn value(&mut self, len: u16) -> Vec<u8> {
        let capacity = self.shape.capacity;
        let odd = usize::from(len >> 3);
        let len = match len % 8 {
            0 => 0,
            1 => capacity,
            2 => capacity + 1 + odd % 100,
            3 => odd % 10,
            4 => capacity.saturating_sub(odd % 10),
            _ => odd % (capacity + 1),
        };
        self.fills += 1;
        let mut state = self.fills.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..len)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    fn publish(
        &mut self,
        writer: u8,
        len: u16,
        publish: impl FnOnce(&mut Writer, u64, &[u8]) -> corkboard::Result<u64>,
    ) {
        let value = self.value(len);
        let current = self.current();
        let Some(writer) = pick(&mut self.writers, writer) else {
            return;
        };
        let values = &mut self.boards[writer.board];
        let result = publish(&mut writer.handle, values.len() as u64, &value);
        if Some(writer.board) != current {
            expect_error(result, ErrorKind::Removed);
        } else if value.len() > self.shape.capacity {
            expect_error(result, ErrorKind::TooLarge);
        } else {
            values.push(value);
            assert_eq!(result.unwrap(), values.len() as u64);
        }
    }

    fn publish_if_wrong(&mut self, writer: u8, len: u16) {
        let value = self.value(len);
        let current = self.current();
        let Some(writer) = pick(&mut self.writers, writer) else {
            return;
        };
        let newest = self.boards[writer.board].len() as u64;
        for wrong in [newest + 1, newest.wrapping_sub(1), u64::MAX] {
            let result = writer.handle.publish_if(wrong, &value);
            let kind = if Some(writer.board) != current {
                ErrorKind::Removed
            } else if value.len() > self.shape.capacity {
                ErrorKind::TooLarge
            } else {
                ErrorKind::Conflict
            };
            expect_error(result, kind);
        }
    }

    fn loan(&mut self, writer: u8, len: u16, forget: bool) {
        let value = self.value(len);
        let current = self.current();
        let is_private = self.shape.capacity <= 1024;
        let Some(writer) = pick(&mut self.writers, writer) else {
            return;
        };
        let loan = writer.handle.loan(value.len());
        if Some(writer.board) != current {
            expect_error(loan, ErrorKind::Removed);
        } else if value.len() > self.shape.capacity {
            expect_error(loan, ErrorKind::TooLarge);
        } else {
            let mut loan = loan.unwrap();
            loan.copy_from_slice(&value);
            if forget && (self.forgets_memory || !is_private) {
                std::mem::forget(loan);
            }
        }
    }

    fn latest(&mut self, writer: u8) {
        let (current, boards) = (self.current(), &self.boards);
        let Some(writer) = pick(&mut self.writers, writer) else {
            return;
        };
        let latest = writer.handle.latest();
        if Some(writer.board) != current {
            return expect_error(latest, ErrorKind::Removed);
        }
        let values = &boards[writer.board];
        let Some(latest) = latest.unwrap() else {
            return assert!(values.is_empty());
        };
        assert_eq!(latest.sequence(), values.len() as u64);
        assert!(*latest == **values.last().unwrap());
    }

    fn open_writer(&mut self) {
        let is_held = (self.writers.iter()).any(|writer| Some(writer.board) == self.current());
        if self.exists && is_held && self.shape.mode == WriterMode::Exclusive {
            let result = Writer::open(&self.space, NAME);
            return expect_error(result, ErrorKind::WriterExists);
        }
        if self.writers.len() == MAX_HANDLES {
            return;
        }
        let handle = self.shape.options().writer(&self.space, NAME).unwrap();
        assert_eq!(handle.capacity(), self.shape.capacity);
        if !self.exists {
            self.boards.push(Vec::new());
            self.exists = true;
            self.keeper = Some(self.space.keep(Kind::Board, NAME).unwrap());
        }
        let board = self.boards.len() - 1;
        self.writers.push(Attached { handle, board });
    }

    /// A reader observes when readers and snapshots hold every entry.
    fn add_reader(&mut self, reader: Reader) {
        let board = self.boards.len() - 1;
        let readers = (self.readers.iter())
            .filter(|reader| reader.board == board && !reader.handle.reader.is_observer())
            .count();
        let snapshots = (self.snapshots.iter())
            .filter(|held| held.board == board && !held.handle.is_observer)
            .count();
        let is_full = readers + snapshots == self.shape.max_readers as usize;
        assert_eq!(reader.is_observer(), is_full);
        assert_eq!(reader.capacity(), self.shape.capacity);
        let handle = ReaderState { reader, seen: 0 };
        self.readers.push(Attached { handle, board });
    }

    fn open_reader(&mut self) {
        if self.readers.len() + self.snapshots.len() >= MAX_HANDLES {
            return;
        }
        let reader = Reader::open(&self.space, NAME);
        if self.exists {
            self.add_reader(reader.unwrap());
        } else {
            expect_error(reader, ErrorKind::NotFound);
        }
    }

    fn clone_reader(&mut self, reader: u8) {
        let is_full = self.readers.len() + self.snapshots.len() >= MAX_HANDLES;
        let current = self.current();
        let Some(reader) = pick(&mut self.readers, reader) else {
            return;
        };
        let clone = reader.handle.reader.try_clone();
        if Some(reader.board) != current {
            expect_error(clone, ErrorKind::Removed);
        } else if !is_full {
            self.add_reader(clone.unwrap());
        }
    }

    fn read(&mut self, reader: u8) {
        let (current, boards) = (self.current(), &self.boards);
        let Some(Attached { handle, board }) = pick(&mut self.readers, reader) else {
            return;
        };
        let snapshot = handle.reader.read();
        if Some(*board) != current {
            return expect_error(snapshot, ErrorKind::Removed);
        }
        let newest = boards[*board].len() as u64;
        let Some(snapshot) = snapshot.unwrap() else {
            return assert_eq!(newest, 0);
        };
        check_value(&boards[*board], &snapshot, newest);
        check_times(self.shape.timestamp, &snapshot);
        handle.seen = newest;
    }

    fn wait(&mut self, reader: u8) {
        let (current, boards) = (self.current(), &self.boards);
        let Some(Attached { handle, board }) = pick(&mut self.readers, reader) else {
            return;
        };
        let snapshot = handle.reader.wait(AT_ONCE);
        if Some(*board) != current {
            return expect_error(snapshot, ErrorKind::Removed);
        }
        let newest = boards[*board].len() as u64;
        let Some(snapshot) = snapshot.unwrap() else {
            return assert_eq!(newest, handle.seen);
        };
        assert!(newest > handle.seen);
        check_value(&boards[*board], &snapshot, newest);
        handle.seen = newest;
    }

    fn read_into(&mut self, reader: u8) {
        let (current, boards) = (self.current(), &self.boards);
        let Some(Attached { handle, board }) = pick(&mut self.readers, reader) else {
            return;
        };
        let mut buffer = b"from before".to_vec();
        let sequence = handle.reader.read_into(&mut buffer);
        if Some(*board) != current {
            assert!(buffer.is_empty());
            return expect_error(sequence, ErrorKind::Removed);
        }
        let values = &boards[*board];
        let Some(sequence) = sequence.unwrap() else {
            return assert!(values.is_empty());
        };
        assert_eq!(sequence, values.len() as u64);
        assert!(buffer == *values.last().unwrap());
        handle.seen = sequence;
    }

    fn hold(&mut self, reader: u8) {
        let current = self.current();
        let Some(Attached { handle, board }) = take(&mut self.readers, reader) else {
            return;
        };
        let is_observer = handle.reader.is_observer();
        let snapshot = handle.reader.into_snapshot();
        if Some(board) != current {
            return expect_error(snapshot, ErrorKind::Removed);
        }
        let sequence = self.newest(board);
        match snapshot.unwrap() {
            None => assert_eq!(sequence, 0),
            Some(snapshot) => {
                let handle = SnapshotState {
                    snapshot,
                    sequence,
                    is_observer,
                };
                self.snapshots.push(Attached { handle, board });
            }
        }
    }

    fn stat(&self) {
        let stat = stat(&self.space, NAME);
        let Some(board) = self.current() else {
            return expect_error(stat, ErrorKind::NotFound);
        };
        let stat = stat.unwrap();
        let writers = self.writers.iter().filter(|writer| writer.board == board);
        assert_eq!(stat.sequence, self.newest(board));
        assert_eq!(stat.len, self.boards[board].last().map(Vec::len));
        assert_eq!(stat.capacity, self.shape.capacity);
        assert_eq!(stat.writer_alive, writers.clone().next().is_some());
        assert_eq!(stat.writers.unwrap().len(), writers.count());
        for reader in &self.readers {
            let alive = reader.handle.reader.writer_alive();
            assert_eq!(alive, reader.board == board && stat.writer_alive);
        }
        let dead = self.space.diagnose().unwrap();
        let is_ours = |finding: &&corkboard::Finding| finding.subject().contains(NAME);
        assert!(!dead.iter().any(|finding| is_ours(&finding)), "{dead:?}");
    }

    fn remove(&mut self) {
        let result = self.space.remove(Kind::Board, NAME);
        if self.exists {
            result.unwrap();
        } else {
            expect_error(result, ErrorKind::NotFound);
        }
        self.exists = false;
        self.keeper = None;
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.space.remove(Kind::Board, NAME);
    }
}

fn check_value(values: &[Vec<u8>], snapshot: &Snapshot<'_>, sequence: u64) {
    assert_eq!(snapshot.sequence(), sequence);
    assert!(
        **snapshot == *values[sequence as usize - 1],
        "value {sequence} has other bytes than were published"
    );
}

fn check_times(timestamp: Timestamp, snapshot: &Snapshot<'_>) {
    let has_time = timestamp != Timestamp::None;
    assert_eq!(snapshot.age().is_some(), has_time);
    assert_eq!(snapshot.published_at().is_some(), has_time);
}

/// Every error names the board.
#[track_caller]
fn expect_error<T>(result: corkboard::Result<T>, kind: ErrorKind) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(NAME), "{error}");
}

fn pick<T>(handles: &mut [T], number: u8) -> Option<&mut T> {
    let count = handles.len().max(1);
    handles.get_mut(usize::from(number) % count)
}

fn take<T>(handles: &mut Vec<T>, number: u8) -> Option<T> {
    let count = handles.len();
    (count > 0).then(|| handles.remove(usize::from(number) % count))
}
