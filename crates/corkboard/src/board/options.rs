//! How to create or open a board.

use std::time::Duration;

use super::files::{Files, object};
use super::layout::{Geometry, MAX_READERS};
use super::typed::TypeOf;
use super::{Access, Integrity, Reader, Timestamp, Writer, WriterMode};
use crate::clock::wall_ns;
use crate::error::{Error, ErrorKind, Result};
use crate::object::Adoption;
use crate::participants::program_name;
use crate::space::{Kind, Space};
use crate::sys::random;

/// How to create or open a board.
///
/// What is left unset adopts an existing board's; what is set must match it. A new board gets a
/// capacity of 1 MiB, 62 readers, [`Integrity::Crc64`], [`Timestamp::Coarse`],
/// [`WriterMode::Exclusive`] and [`Access::Owner`] both ways.
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: Option<usize>,
    max_readers: Option<u32>,
    integrity: Option<Integrity>,
    timestamp: Option<Timestamp>,
    writer_mode: Option<WriterMode>,
    pub(super) writer_timeout: Option<Duration>,
    readers: Option<Access>,
    writers: Option<Access>,
    label: Option<String>,
    value_type: Option<TypeOf>,
}

impl Options {
    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest value in bytes. Memory is used only as values need it.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// How many readers can hold a snapshot in place; more are possible, and copy.
    pub fn max_readers(mut self, readers: u32) -> Self {
        self.max_readers = Some(readers);
        self
    }

    /// What guards the bytes.
    pub fn integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = Some(integrity);
        self
    }

    /// Which clock publications carry.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// How many handles may publish.
    pub fn writer_mode(mut self, mode: WriterMode) -> Self {
        self.writer_mode = Some(mode);
        self
    }

    /// How long to wait for another writer: to end, on an exclusive board (by default not at
    /// all); for its publication, on a shared one (by default a second).
    pub fn writer_timeout(mut self, timeout: Duration) -> Self {
        self.writer_timeout = Some(timeout);
        self
    }

    /// Who may read a new board, whatever the umask; writers always may.
    pub fn readers(mut self, access: Access) -> Self {
        self.readers = Some(access);
        self
    }

    /// Who may write to a new board, whatever the umask.
    pub fn writers(mut self, access: Access) -> Self {
        self.writers = Some(access);
        self
    }

    /// What the handle is called in listings; by default the program's name. What is beyond 48
    /// bytes is not shown.
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Of which plain-old-data type the values are: what a board is created with, and what an
    /// existing one must have. Compared by name (without modules and crates), size and alignment.
    /// Without [`capacity`](Self::capacity), a new board holds one such value.
    pub fn value_type<T: 'static>(mut self) -> Self {
        self.value_type = Some(TypeOf::of::<T>());
        self
    }

    /// Creates the board, or opens it, for writing.
    ///
    /// # Errors
    /// `InvalidName`; `Incompatible` when an existing board differs from a set option;
    /// `WriterExists` when another exclusive writer is alive after the time-out; `Unsupported`
    /// when the space is not on tmpfs; `Damaged`, `NoSpace`, `Full`, `PermissionDenied`, `Io`.
    ///
    /// # Blocking
    /// On an exclusive board for at most [`writer_timeout`](Self::writer_timeout).
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden directory that nobody opens; a dead
    /// writer's place is taken within two 5 ms slices of its release by the kernel.
    pub fn writer(&self, space: &Space, name: &str) -> Result<Writer> {
        Writer::create_or_open(space, name, self)
    }

    /// Opens an existing board for writing.
    ///
    /// # Errors
    /// `NotFound` when absent; otherwise as [`writer`](Self::writer).
    ///
    /// # Blocking
    /// As [`writer`](Self::writer).
    ///
    /// # If a process dies
    /// *Recovers*, as [`writer`](Self::writer).
    pub fn open_writer(&self, space: &Space, name: &str) -> Result<Writer> {
        Writer::open_with(space, name, self)
    }

    /// Opens an existing board for reading, if it has what is set here.
    ///
    /// # Errors
    /// `Incompatible` when the board differs from a set option; otherwise as [`Reader::open`].
    ///
    /// # If a process dies
    /// *Recovers*, as [`Reader::open`].
    pub fn reader(&self, space: &Space, name: &str) -> Result<Reader> {
        Reader::open_with(space, name, self)
    }

    pub(super) fn label_or_program(&self) -> String {
        self.label.clone().unwrap_or_else(program_name)
    }

    /// Who may read a new board, and who may write to it.
    pub(super) fn access(&self) -> (Access, Access) {
        let [readers, writers] = [self.readers, self.writers].map(Option::unwrap_or_default);
        (readers, writers)
    }

    /// The geometry of a new board.
    pub(super) fn geometry(&self, name: &str) -> Result<Geometry> {
        let failed = |errno| Error::os("create", object(name), errno);
        if let Some(of) = self.value_type {
            of.check_possible(name)?;
        }
        let capacity = self.value_type.map_or(1 << 20, TypeOf::size);
        let geometry = Geometry {
            instance: random().map_err(failed)?,
            capacity: self.capacity.unwrap_or(capacity),
            max_readers: self.max_readers.unwrap_or(62),
            integrity: self.integrity.unwrap_or(Integrity::Crc64),
            timestamp: self.timestamp.unwrap_or(Timestamp::Coarse),
            writer_mode: self.writer_mode.unwrap_or(WriterMode::Exclusive),
            created_ns: wall_ns(),
            value_type: self.value_type.map(TypeOf::record),
        };
        if geometry.is_possible() {
            return Ok(geometry);
        }
        let cause = format!(
            "capacity {} with {} readers is not what a board can have (at most 1 TiB and {MAX_READERS}, 100 TiB together with a slot for each reader and for each writer of a shared board, room for its type); ask for less",
            geometry.capacity, geometry.max_readers
        );
        Err(Error::new(
            ErrorKind::Unsupported,
            "create",
            object(name),
            cause,
        ))
    }

    /// Whether an existing board has what is set here.
    pub(super) fn check(&self, files: &Files, name: &str) -> Result<()> {
        let geometry = &files.geometry;
        if let Some(of) = self.value_type {
            of.check_geometry(geometry, name)?;
        }
        let [found_readers, found_writers] =
            [0o4, 0o2].map(|bit| Access::of_mode(files.facts.mode, bit));
        // Whoever may write may read.
        let writers = self.writers.unwrap_or(found_writers);
        let readers = self.readers.map(|readers| readers.max(writers));
        Adoption::of(Kind::Board)
            .compare("capacity", self.capacity, geometry.capacity)
            .compare("max_readers", self.max_readers, geometry.max_readers)
            .compare("integrity", self.integrity, geometry.integrity)
            .compare("timestamp", self.timestamp, geometry.timestamp)
            .compare("writer_mode", self.writer_mode, geometry.writer_mode)
            .compare("writers", self.writers, found_writers)
            .compare("readers", readers, found_readers)
            .check(name)
    }
}
