//! Looking at a call from outside.

use std::time::SystemTime;

use super::Integrity;
use super::layout::*;
use super::protocol::{Phase, State};
use crate::attachment;
use crate::clock::moment;
use crate::error::Result;
use crate::object::{self, CREATED, Opened};
use crate::participants::{self, Listed};
use crate::space::{Kind, Space};
use crate::sys::map::Protection;

/// What [`stat`] found out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// The longest request and the longest reply, in bytes.
    pub capacity: usize,
    /// How many clients can be attached at a time.
    pub max_clients: u32,
    /// How many calls each client can have on their way.
    pub calls_per_client: u32,
    /// What guards the bytes.
    pub integrity: Integrity,
    /// A random number that tells this call from every other, also of the same name.
    pub instance: u64,
    /// When it was created.
    pub created_at: SystemTime,
    /// The user who owns its file.
    #[cfg(unix)]
    pub owner_uid: u32,
    /// The group of its file.
    #[cfg(unix)]
    pub owner_gid: u32,
    /// The permission bits of its file.
    pub mode: u32,
    /// The memory that it takes up, in bytes.
    pub allocated_bytes: u64,
    /// How many servers there have been.
    pub servers: u64,
    /// How many requests were answered, by all of them.
    pub answered: u64,
    /// The server, or what a dead one left.
    pub server: Option<Caller>,
    /// The clients' entries in use.
    pub clients: Vec<Caller>,
}

/// One entry of a call's table: a handle that is attached, or what a dead one left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// Its number in the table.
    pub entry: u32,
    /// The process, as that process saw itself; in a container the number means something else
    /// outside.
    pub pid: u32,
    /// What it calls itself.
    pub label: String,
    /// Since when it is attached.
    pub since: Option<SystemTime>,
    /// Whether the kernel says that it is alive.
    pub is_alive: bool,
    /// Of a client: how many of its requests wait for the server.
    pub pending: usize,
    /// Of a client: how many of its requests the server has. Of the server: of all clients.
    pub taken: usize,
}

/// Everything there is to know about a call. Takes part in nothing and changes nothing.
///
/// # Errors
/// `NotFound`, `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`, `Io`.
///
/// # If a process dies
/// *Reports*: the entries of dead processes are listed as such until they are claimed again.
pub fn stat(space: &Space, name: &str) -> Result<Stat> {
    let object = object::label(Kind::Call, name);
    let (geometry, opened) = attachment::open::<Geometry>(space, name, Protection::ReadOnly)?;
    let Opened {
        file,
        facts,
        header,
    } = opened;
    let word = |offset| -> Result<u64> {
        let mut word = [0];
        object::read_words_at(&file, &mut word, offset, &object)?;
        Ok(word[0])
    };
    let mut server = None;
    let mut clients = Vec::new();
    let mut cells = vec![0; geometry.calls as usize * CELL / 8];
    for listed in participants::list(&file, geometry.table(), &object)? {
        let mut caller = Caller::of(listed);
        let Some(client) = (caller.entry as usize).checked_sub(CLIENTS) else {
            server = Some(caller);
            continue;
        };
        let offset = geometry.first_cell() + client * geometry.calls as usize * CELL;
        object::read_words_at(&file, &mut cells, offset, &object)?;
        for cell in cells.chunks_exact(CELL / 8) {
            match State(cell[STATE]).phase() {
                Some(Phase::Pending) => caller.pending += 1,
                Some(Phase::Taken) => caller.taken += 1,
                _ => {}
            }
        }
        clients.push(caller);
    }
    if let Some(server) = &mut server {
        server.taken = clients.iter().map(|client| client.taken).sum();
    }
    Ok(Stat {
        capacity: geometry.capacity,
        max_clients: geometry.max_clients,
        calls_per_client: geometry.calls,
        integrity: geometry.integrity,
        instance: header.instance,
        created_at: moment(header.own[CREATED]).unwrap_or(SystemTime::UNIX_EPOCH),
        #[cfg(unix)]
        owner_uid: facts.owner_uid,
        #[cfg(unix)]
        owner_gid: facts.owner_gid,
        mode: facts.mode,
        allocated_bytes: facts.allocated,
        servers: word(EPOCH)?,
        answered: word(ANSWERED)?,
        server,
        clients,
    })
}

/// Empties the entry that a dead handle left, unless somebody has claimed it. A client's slots are
/// for the next one who claims it to take back.
pub(crate) fn wipe(space: &Space, name: &str, instance: u64, entry: u32) -> Result<()> {
    participants::wipe_dead(&object::label(Kind::Call, name), entry, || {
        let writable = Protection::ReadWrite;
        let (geometry, opened) = attachment::open::<Geometry>(space, name, writable)?;
        let is_same = opened.header.instance == instance;
        Ok(is_same.then_some((opened.file, geometry.table())))
    })
}

impl Caller {
    fn of(listed: Listed) -> Self {
        Self {
            entry: listed.entry as u32,
            pid: listed.record.pid,
            label: listed.record.label,
            since: listed.record.since,
            is_alive: listed.is_alive,
            pending: 0,
            taken: 0,
        }
    }
}
