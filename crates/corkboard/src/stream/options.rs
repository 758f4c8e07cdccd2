//! How to create or open a stream.

use std::time::Duration;

use super::layout::{Geometry, MAX_SUBSCRIBERS};
use super::{Access, Integrity, Overflow, Producer, ProducerMode};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{self, Adoption};
use crate::participants::program_name;
use crate::space::{Kind, Space};

/// How to create or open a stream.
///
/// What is left unset adopts an existing stream's; what is set must match it. A new stream gets a
/// capacity of 1 MiB, 62 subscribers, [`Overflow::Block`], [`Integrity::Crc64`],
/// [`ProducerMode::Exclusive`] and [`Access::Owner`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: Option<usize>,
    max_subscribers: Option<u32>,
    overflow: Option<Overflow>,
    integrity: Option<Integrity>,
    mode: Option<ProducerMode>,
    access: Access,
    pub(super) timeout: Duration,
    label: Option<String>,
}

impl Options {
    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of records the stream holds, rounded up to a multiple of 64 and at least 256;
    /// each record counts as a multiple of 64. The longest record is a quarter of it. A stream
    /// takes up two and a half times as much memory, or up to four if this is no power of two.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// How many subscribers can be attached at a time. More are possible where the oldest records
    /// are overwritten; they look for new ones every two milliseconds.
    pub fn max_subscribers(mut self, subscribers: u32) -> Self {
        self.max_subscribers = Some(subscribers);
        self
    }

    /// What happens when the stream is full.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// What guards the bytes.
    pub fn integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = Some(integrity);
        self
    }

    /// How many handles may produce.
    pub fn producer_mode(mut self, mode: ProducerMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// How long to wait for another exclusive producer to end; by default not at all.
    pub fn producer_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Who may produce to and subscribe to a new stream, whatever the umask.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What the handle is called in listings; by default the program's name. What is beyond 48
    /// bytes is not shown.
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Creates the stream, or opens it, for producing.
    ///
    /// # Errors
    /// `InvalidName`; `Incompatible` when an existing stream differs from a set option;
    /// `WriterExists` when another exclusive producer is alive after the time-out; `Unsupported`
    /// when the space is not on tmpfs or no stream can have this shape; `Damaged`, `NoSpace`,
    /// `Full`, `PermissionDenied`, `Io`.
    ///
    /// # Blocking
    /// On an exclusive stream for at most [`producer_timeout`](Self::producer_timeout).
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden file that nobody opens; a dead
    /// producer's place is taken within two 5 ms slices of its release by the kernel.
    pub fn producer(&self, space: &Space, name: &str) -> Result<Producer> {
        Producer::create_or_open(space, name, self)
    }

    pub(super) fn label_or_program(&self) -> String {
        self.label.clone().unwrap_or_else(program_name)
    }

    pub(super) fn access_of_new(&self) -> Access {
        self.access
    }

    /// The shape of a new stream.
    pub(super) fn geometry(&self, name: &str) -> Result<Geometry> {
        let geometry = Geometry {
            capacity: Geometry::rounded(self.capacity.unwrap_or(1 << 20)),
            max_subscribers: self.max_subscribers.unwrap_or(62),
            integrity: self.integrity.unwrap_or(Integrity::Crc64),
            overflow: self.overflow.unwrap_or(Overflow::Block),
            mode: self.mode.unwrap_or(ProducerMode::Exclusive),
        };
        if geometry.is_possible() {
            return Ok(geometry);
        }
        let cause = format!(
            "capacity {} or {} subscribers is not what a stream can have (at most 1 TiB and {MAX_SUBSCRIBERS}); ask for something else",
            geometry.capacity, geometry.max_subscribers
        );
        let object = object::label(Kind::Stream, name);
        Err(Error::new(ErrorKind::Unsupported, "create", object, cause))
    }

    /// Whether an existing stream has what is set here.
    pub(super) fn check(&self, found: &Geometry, name: &str) -> Result<()> {
        let capacity = self.capacity.map(Geometry::rounded);
        Adoption::of(Kind::Stream)
            .compare("capacity", capacity, found.capacity)
            .compare(
                "max_subscribers",
                self.max_subscribers,
                found.max_subscribers,
            )
            .compare("overflow", self.overflow, found.overflow)
            .compare("integrity", self.integrity, found.integrity)
            .compare("producer_mode", self.mode, found.mode)
            .check(name)
    }
}
