//! How to create or open a call.

use std::time::Duration;

use super::layout::{BITS, Geometry};
use super::{Access, Integrity};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{self, Adoption};
use crate::participants::program_name;
use crate::space::Kind;

/// How to create or open a call.
///
/// What is left unset adopts an existing one's; what is set must match it. A new call gets a
/// capacity of 1 MiB, 62 clients, 64 calls a client, [`Integrity::Crc64`] and [`Access::Owner`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    capacity: Option<usize>,
    max_clients: Option<u32>,
    calls_per_client: Option<u32>,
    integrity: Option<Integrity>,
    pub(super) access: Access,
    pub(super) timeout: Duration,
    label: Option<String>,
}

impl Options {
    /// Options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest request and the longest reply, in bytes. Memory is taken up by what is used:
    /// each call on its way takes as much as the longest payload that its place has held.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// How many clients can be attached at a time.
    pub fn max_clients(mut self, clients: u32) -> Self {
        self.max_clients = Some(clients);
        self
    }

    /// How many calls each client can have on their way, rounded up to a multiple of 64; more wait
    /// in the client.
    pub fn calls_per_client(mut self, calls: u32) -> Self {
        self.calls_per_client = Some(calls);
        self
    }

    /// What guards the bytes.
    pub fn integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = Some(integrity);
        self
    }

    /// Who may serve and call a new one, whatever the umask.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// How long to wait for another server to end; by default not at all.
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the server is called in listings; by default the program's name. What is beyond 48
    /// bytes is not shown.
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    pub(super) fn label_or_program(&self) -> String {
        self.label.clone().unwrap_or_else(program_name)
    }

    /// The shape of a new call.
    pub(super) fn geometry(&self, name: &str) -> Result<Geometry> {
        let geometry = Geometry {
            capacity: self.capacity.unwrap_or(1 << 20),
            max_clients: self.max_clients.unwrap_or(62),
            calls: rounded(self.calls_per_client.unwrap_or(BITS as u32)),
            integrity: self.integrity.unwrap_or(Integrity::Crc64),
        };
        if geometry.is_possible() {
            return Ok(geometry);
        }
        let cause = format!(
            "{} clients with {} calls of {} bytes each is not what a call can have; ask for something else",
            geometry.max_clients, geometry.calls, geometry.capacity
        );
        let object = object::label(Kind::Call, name);
        Err(Error::new(ErrorKind::Unsupported, "create", object, cause))
    }

    /// Whether an existing call has what is set here.
    pub(super) fn check(&self, found: &Geometry, name: &str) -> Result<()> {
        let calls = self.calls_per_client.map(rounded);
        Adoption::of(Kind::Call)
            .compare("capacity", self.capacity, found.capacity)
            .compare("max_clients", self.max_clients, found.max_clients)
            .compare("calls_per_client", calls, found.calls)
            .compare("integrity", self.integrity, found.integrity)
            .check(name)
    }
}

fn rounded(calls: u32) -> u32 {
    let bits = BITS as u32;
    calls.max(1).checked_next_multiple_of(bits).unwrap_or(0)
}
