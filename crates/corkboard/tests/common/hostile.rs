//! Boards whose files somebody meddles with, and everything that can be done with them: used by
//! `hostile.rs` and by the fuzz targets.
//!
//! What holds whatever is in the files: each operation ends soon, with a value that was published
//! or with an error that names the board.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use corkboard::board::{Integrity, Options, Reader, Snapshot, Writer, WriterMode, stat};
use corkboard::integrity::crc64;
use corkboard::{Error, Kind, Result, Space};

pub const NAME: &str = "天气";
pub const FILES: [&str; 3] = ["data", "control", "readers"];
const HEADER_LEN: usize = 192;

/// What boards there are to meddle with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub capacity: usize,
    pub mode: WriterMode,
}

pub const SHAPES: [Shape; 4] = [
    Shape {
        capacity: 100,
        mode: WriterMode::Exclusive,
    },
    Shape {
        capacity: 5000,
        mode: WriterMode::Exclusive,
    },
    Shape {
        capacity: 100,
        mode: WriterMode::Shared,
    },
    Shape {
        capacity: 5000,
        mode: WriterMode::Shared,
    },
];

/// What may be seen.
#[derive(Clone)]
pub struct Published {
    values: Vec<Vec<u8>>,
    /// Without a checksum, or with one that the files' author chose, any bytes may be seen.
    pub is_verified: bool,
}

impl Published {
    fn check(&self, bytes: &[u8]) {
        assert!(
            !self.is_verified || self.values.iter().any(|value| value == bytes),
            "{} bytes that nobody published: {bytes:02x?}",
            bytes.len()
        );
    }

    fn check_snapshot(&self, snapshot: Result<Option<Snapshot<'_>>>) {
        if let Some(snapshot) = expect(snapshot).flatten() {
            self.check(&snapshot);
            let _ = (snapshot.age(), snapshot.published_at(), snapshot.sequence());
        }
    }

    /// The next value, which counts as published from now on.
    fn next(&mut self, capacity: usize) -> Vec<u8> {
        let number = self.values.len();
        let len = (number * 37 % (capacity.min(5000) + 1)).min(capacity);
        let value: Vec<u8> = (0..len).map(|i| (i * 31 + number * 7) as u8).collect();
        self.values.push(value.clone());
        value
    }
}

/// The result, or nothing if it is an error that names the board.
#[track_caller]
pub fn expect<T>(result: Result<T>) -> Option<T> {
    result.map_err(expect_named).ok()
}

#[track_caller]
fn expect_named(error: Error) {
    let text = error.to_string();
    assert!(text.contains(NAME), "an error without a name: {text}");
}

/// A board's directory with its three files as they were when nobody had meddled with them.
pub struct Board {
    pub space: Space,
    #[allow(dead_code, reason = "the fuzz targets do not ask")]
    pub shape: Shape,
    pub pristine: [Vec<u8>; 3],
    pub published: Published,
}

impl Board {
    /// Publishes some values and keeps a copy of the files.
    pub fn new(space: &Space, shape: Shape) -> Self {
        let mut published = Published {
            values: Vec::new(),
            is_verified: true,
        };
        let mut writer = Options::new()
            .capacity(shape.capacity)
            .max_readers(2)
            .integrity(Integrity::Crc64)
            .writer_mode(shape.mode)
            .writer(space, NAME)
            .unwrap();
        // A value without bytes is the first, and has the number 0 in `next`.
        for _ in 0..5 {
            let value = published.next(shape.capacity);
            writer.publish(&value).unwrap();
        }
        drop(writer);
        let path = space.path().join(format!("{NAME}.board"));
        let pristine = FILES.map(|file| std::fs::read(path.join(file)).unwrap());
        Self {
            space: space.clone(),
            shape,
            pristine,
            published,
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.space.path().join(format!("{NAME}.board"))
    }

    pub fn path(&self, file: usize) -> PathBuf {
        self.directory().join(FILES[file])
    }

    /// Puts the files back as they were. Nobody may be attached.
    pub fn restore(&self) {
        let _ = std::fs::create_dir(self.directory());
        for (file, bytes) in self.pristine.iter().enumerate() {
            std::fs::write(self.path(file), bytes).unwrap();
        }
    }

    pub fn write(&self, file: usize, bytes: &[u8], offset: u64) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.path(file));
        file.unwrap().write_all_at(bytes, offset).unwrap();
    }

    pub fn set_len(&self, file: usize, len: u64) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.path(file));
        file.unwrap().set_len(len).unwrap();
    }

    /// Gives each file the header of `file`, with its own role and a checksum that matches.
    pub fn seal_as(&self, header: &[u8; HEADER_LEN]) {
        for file in 0..FILES.len() {
            self.write(file, &seal(header, file as u64 + 1), 0);
        }
    }

    #[allow(dead_code, reason = "the fuzz targets have one of their own")]
    pub fn header(&self) -> [u8; HEADER_LEN] {
        *self.pristine[0].first_chunk().unwrap()
    }

    /// Removes what is there in whatever state it is.
    pub fn remove(&self) {
        if self.space.remove(Kind::Board, NAME).is_err() {
            let _ = std::fs::remove_dir_all(self.directory());
            let _ = std::fs::remove_file(self.directory());
        }
    }
}

/// The header with that role (data 1, control 2, readers 3) and a checksum that matches.
pub fn seal(header: &[u8; HEADER_LEN], role: u64) -> [u8; HEADER_LEN] {
    let mut header = *header;
    header[24..32].copy_from_slice(&role.to_le_bytes());
    let sum = crc64(&header[..HEADER_LEN - 8], 0);
    header[HEADER_LEN - 8..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Handles on a board, as far as it lets itself be opened.
pub struct Handles {
    /// The table has room for two; the third one observes.
    pub readers: Vec<Reader>,
    pub writers: Vec<Writer>,
}

impl Handles {
    pub fn open(space: &Space) -> Self {
        let options = Options::new().writer_timeout(Duration::ZERO);
        let writers = [
            options.writer(space, NAME),
            options.open_writer(space, NAME),
        ];
        let readers = [(); 3].map(|()| Reader::open(space, NAME));
        Self {
            readers: readers.into_iter().filter_map(expect).collect(),
            writers: writers.into_iter().filter_map(expect).collect(),
        }
    }

    /// Does everything that can be done, and checks what comes of it.
    pub fn use_all(&mut self, published: &mut Published, longest_wait: Duration) {
        self.read_all(published, longest_wait);
        for writer in &mut self.writers {
            write_all(writer, published);
        }
        self.read_all(published, longest_wait);
        if let Some(reader) = self.readers.pop()
            && let Some(snapshot) = expect(reader.into_snapshot()).flatten()
        {
            published.check(&snapshot);
            for writer in &mut self.writers {
                write_all(writer, published);
            }
            self.readers.push(snapshot.into_reader());
        }
    }

    fn read_all(&mut self, published: &Published, longest_wait: Duration) {
        let mut buffer = Vec::new();
        for reader in &mut self.readers {
            published.check_snapshot(reader.read());
            published.check_snapshot(reader.wait(Some(longest_wait)));
            if expect(reader.read_into(&mut buffer)).flatten().is_some() {
                published.check(&buffer);
            }
            published.check_snapshot(reader.wait(Some(Duration::ZERO)));
            published.check_snapshot(reader.read());
            reader.writer_alive();
        }
        if let Some(clone) = self.readers.first().map(Reader::try_clone)
            && let Some(mut clone) = expect(clone)
        {
            published.check_snapshot(clone.wait(Some(Duration::ZERO)));
        }
    }
}

fn write_all(writer: &mut Writer, published: &mut Published) {
    published.check_snapshot(writer.latest());
    let capacity = writer.capacity();
    expect(writer.publish(&published.next(capacity)));
    let value = published.next(capacity);
    if let Some(mut loan) = expect(writer.loan(value.len())) {
        loan.copy_from_slice(&value);
        expect(loan.publish());
    }
    if let Some(loan) = expect(writer.loan(capacity.min(5000))) {
        assert_eq!(loan.len(), capacity.min(5000));
    }
    let value = published.next(capacity);
    if let Some(sequence) = expect(writer.publish(&value)) {
        let value = published.next(capacity);
        expect(writer.publish_if(sequence, &value));
        expect(writer.publish_if(sequence, &value));
    }
    published.check_snapshot(writer.latest());
}

/// Opens whatever is there and does everything with it; then, if the doctor mends something, again.
pub fn visit(space: &Space, published: &mut Published, longest_wait: Duration) {
    for _ in 0..2 {
        expect(stat(space, NAME));
        let mut handles = Handles::open(space);
        handles.use_all(published, longest_wait);
        expect(stat(space, NAME));
        drop(handles);
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
