//! Everything there is to know about a lock, and its removal.

use std::time::SystemTime;

use super::bells::{self, Bell};
use super::gates::{Kernel, NOTE_BITS, Note, close_for_good};
use super::layout::{FILE, SHAPE};
use crate::clock::moment;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{self, CREATED, Opened, Removal};
use crate::participants::{self, Listed};
use crate::space::{Kind, Space};
use crate::sys::file::File;
use crate::sys::map::Protection;

/// A lock at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// Whether it is held, as the kernel says.
    pub state: State,
    /// Whether a writer waits for readers to leave.
    pub writer_waits: bool,
    /// The handles on it, as they say themselves. Those beyond the table's 124 are not listed.
    pub handles: Vec<Handle>,
    /// A random number that tells this lock from every other, also of the same name.
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
}

/// Whether a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// By nobody.
    Free,
    /// By readers.
    Read,
    /// By a writer.
    Written,
}

/// What a handle does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    Idle,
    /// It holds the lock together with other readers.
    Reads,
    /// It holds the lock alone.
    Writes,
    /// It waits to read.
    AwaitsRead,
    /// It waits to write.
    AwaitsWrite,
}

/// One handle on a lock, or what a dead one left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handle {
    /// Its number in the table.
    pub entry: u32,
    /// The process, as that process saw itself; in a container the number means something else
    /// outside.
    pub pid: u32,
    /// What it calls itself.
    pub label: String,
    /// Since when it is open.
    pub opened_at: Option<SystemTime>,
    /// Whether the kernel says that it is alive.
    pub is_alive: bool,
    /// What it does; a dead one does nothing.
    pub hold: Hold,
    /// Since when it does that, to some milliseconds.
    pub since: Option<SystemTime>,
}

impl Handle {
    /// Whether it has the lock.
    pub fn is_holder(&self) -> bool {
        matches!(self.hold, Hold::Reads | Hold::Writes)
    }

    fn of(listed: Listed) -> Self {
        let Listed {
            entry,
            is_alive,
            record,
        } = listed;
        let note = |note: Note| note as u64;
        let hold = match record.word & ((1 << NOTE_BITS) - 1) {
            _ if !is_alive => Hold::Idle,
            word if word == note(Note::Reads) => Hold::Reads,
            word if word == note(Note::Writes) => Hold::Writes,
            word if word == note(Note::AwaitsRead) => Hold::AwaitsRead,
            word if word == note(Note::AwaitsWrite) => Hold::AwaitsWrite,
            _ => Hold::Idle,
        };
        let micros = record.word >> NOTE_BITS;
        let noted = moment(micros.saturating_mul(1_000));
        Self {
            entry: entry as u32,
            pid: record.pid,
            label: record.label,
            opened_at: record.since,
            is_alive,
            hold,
            // The clock of notes lags behind the other by some milliseconds.
            since: (hold != Hold::Idle)
                .then(|| noted.max(record.since))
                .flatten(),
        }
    }
}

/// Everything there is to know about a lock. Takes part in nothing and changes nothing.
///
/// # Errors
/// `NotFound`, `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`, `Io`.
///
/// # If a process dies
/// *Reports*: dead handles are listed as such until their entries are claimed again.
pub fn stat(space: &Space, name: &str) -> Result<Stat> {
    let failed = |errno| Error::os("look at", object::label(Kind::Lock, name), errno);
    let Opened {
        file,
        facts,
        header,
    } = FILE.open(space, name, Protection::ReadOnly)?;
    let kernel = Kernel::of(&file).map_err(failed)?;
    let listed = participants::list(&file, SHAPE, &object::label(Kind::Lock, name))?;
    Ok(Stat {
        state: match kernel {
            Kernel {
                is_written: true, ..
            } => State::Written,
            Kernel { is_read: true, .. } => State::Read,
            _ => State::Free,
        },
        writer_waits: kernel.is_gate_held && !kernel.is_written,
        handles: listed.into_iter().map(Handle::of).collect(),
        instance: header.instance,
        created_at: moment(header.own[CREATED]).unwrap_or(SystemTime::UNIX_EPOCH),
        #[cfg(unix)]
        owner_uid: facts.owner_uid,
        #[cfg(unix)]
        owner_gid: facts.owner_gid,
        mode: facts.mode,
    })
}

/// Removes a lock that nobody holds: handles on it say `Removed`.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    let close = |file: &File| {
        let failed = |errno| Error::os("remove", object::label(Kind::Lock, name), errno);
        // Nobody comes in from here on, until everybody is told.
        if close_for_good(file).map_err(failed)? {
            return Ok(());
        }
        let holder = || {
            let handles = stat(space, name).ok()?.handles;
            let handle = handles.into_iter().find(Handle::is_holder)?;
            Some(format!("process {} ({})", handle.pid, handle.label))
        };
        let holder = holder().unwrap_or_else(|| "a process".into());
        let cause = format!("{holder} holds it; wait until it is released, or end that process");
        let object = object::label(Kind::Lock, name);
        Err(Error::new(ErrorKind::Conflict, "remove", object, cause))
    };
    FILE.remove(space, name, removal, close, |mapping| {
        for bell in [Bell::Gate, Bell::Body] {
            bells::ring_words(mapping, bell);
        }
    })
}

/// Empties the entry that a dead handle left, unless somebody has claimed it.
pub(crate) fn wipe(space: &Space, name: &str, instance: u64, entry: u32) -> Result<()> {
    participants::wipe_dead(&object::label(Kind::Lock, name), entry, || {
        let opened = FILE.open(space, name, Protection::ReadWrite)?;
        Ok((opened.header.instance == instance).then_some((opened.file, SHAPE)))
    })
}
