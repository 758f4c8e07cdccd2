//! Everything there is to know about a board, for tools that show it.

use std::time::{Duration, SystemTime};

use super::clock;
use super::files::{Files, object};
use super::layout::{DESCRIPTOR_LEN, LATEST, LEN, MONOTONIC, MUTEX, REALTIME, Role, STAMP, unpack};
use super::{Integrity, Timestamp, WriterMode};
use crate::clock::moment;
use crate::error::{Error, ErrorKind, Result};
use crate::mutex;
use crate::object::{read_at, read_words_at};
use crate::participants::{self, Listed, text};
use crate::space::Space;
use crate::sys::file::File;
use crate::sys::map::Protection;

/// A board's shape and state at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// The longest value in bytes.
    pub capacity: usize,
    /// How many readers can hold a snapshot in place.
    pub max_readers: u32,
    /// How many values there is room for; memory is used only by those in use.
    pub slots: usize,
    /// What guards the bytes.
    pub integrity: Integrity,
    /// Which clock publications carry.
    pub timestamp: Timestamp,
    /// How many handles may publish.
    pub writer_mode: WriterMode,
    /// The type of the values, on a typed board.
    pub value_type: Option<ValueType>,
    /// A random number that tells this board from every other, also of the same name.
    pub instance: u64,
    /// When it was created.
    pub created_at: SystemTime,
    /// The user who owns its data file.
    #[cfg(unix)]
    pub owner_uid: u32,
    /// The group of its data file.
    #[cfg(unix)]
    pub owner_gid: u32,
    /// The permission bits of its data file.
    pub data_mode: u32,
    /// The sequence of the newest value; 0 when there is none.
    pub sequence: u64,
    /// The newest value's length in bytes.
    pub len: Option<usize>,
    /// When the newest value was published, by the wall clock.
    pub published_at: Option<SystemTime>,
    /// How long ago the newest value was published.
    pub age: Option<Duration>,
    /// The memory that its files take up, in bytes; of those that this user may look at.
    pub allocated_bytes: u64,
    /// Whether a writer is attached and alive.
    pub writer_alive: bool,
    /// The writers' entries in use; `None` when this user may not look.
    pub writers: Option<Vec<Participant>>,
    /// The readers' entries in use; `None` when this user may not look. Observers have none.
    pub readers: Option<Vec<Participant>>,
}

/// The type of a typed board's values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueType {
    /// Its name without modules and crates.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
}

/// One entry of a board's tables: a handle that is attached, or what a dead one left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
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
    /// The slot that it holds.
    pub pinned_slot: Option<usize>,
    /// Whether it has the writers' turn.
    pub is_publishing: bool,
}

/// Everything there is to know about a board. Takes part in nothing and changes nothing.
///
/// # Errors
/// `NotFound`, `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`; `Unsupported` when the
/// space is not on tmpfs; `Io`.
///
/// # If a process dies
/// *Reports*: the entries of dead processes are listed as such until they are claimed again.
pub fn stat(space: &Space, name: &str) -> Result<Stat> {
    let files = Files::open(space, name, Protection::ReadOnly)?;
    let object = object(name);
    let failed = |errno| Error::os("look at", &object, errno);
    let geometry = files.geometry;
    let table = |role| match files.table(role, Protection::ReadOnly, &object) {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    };
    let (control, readers) = (table(Role::Control)?, table(Role::Readers)?);
    let mut allocated_bytes = files.facts.allocated;
    for table in control.iter().chain(&readers) {
        allocated_bytes += table.facts().map_err(failed)?.allocated;
    }
    let list = |file: &File, role: Role| -> Result<Vec<Participant>> {
        let turn = match role {
            Role::Control => {
                let mut word = [0; 4];
                read_at(file, &mut word, MUTEX, &object)?;
                mutex::owner(u32::from_ne_bytes(word))
            }
            _ => None,
        };
        let listed = participants::list(file, geometry.table(role), &object)?;
        let participant = |listed: Listed| Participant {
            entry: listed.entry as u32,
            pid: listed.record.pid,
            label: listed.record.label,
            since: listed.record.since,
            is_alive: listed.is_alive,
            pinned_slot: listed
                .record
                .word
                .checked_sub(1)
                .and_then(|slot| usize::try_from(slot).ok()),
            is_publishing: turn == Some(listed.entry),
        };
        Ok(listed.into_iter().map(participant).collect())
    };
    let (sequence, descriptor) = newest(&files, &object)?;
    let word = |field: usize| descriptor[field / 8];
    let has_time = sequence > 0 && geometry.timestamp != Timestamp::None;
    Ok(Stat {
        capacity: geometry.capacity,
        max_readers: geometry.max_readers,
        slots: geometry.slots(),
        integrity: geometry.integrity,
        timestamp: geometry.timestamp,
        writer_mode: geometry.writer_mode,
        value_type: geometry.value_type.map(|of| ValueType {
            name: text(&of.name),
            size: of.size as usize,
            align: of.align as usize,
        }),
        instance: geometry.instance,
        created_at: moment(geometry.created_ns).unwrap_or(SystemTime::UNIX_EPOCH),
        #[cfg(unix)]
        owner_uid: files.facts.owner_uid,
        #[cfg(unix)]
        owner_gid: files.facts.owner_gid,
        data_mode: files.facts.mode,
        sequence,
        len: (sequence > 0).then(|| usize::try_from(word(LEN)).unwrap_or(usize::MAX)),
        published_at: has_time.then(|| moment(word(REALTIME))).flatten(),
        age: has_time.then(|| clock::age(word(MONOTONIC))),
        allocated_bytes,
        writer_alive: files.has_live_writer()?,
        writers: control
            .map(|control| list(&control, Role::Control))
            .transpose()?,
        readers: readers
            .map(|readers| list(&readers, Role::Readers))
            .transpose()?,
    })
}

/// The newest value's sequence and descriptor. On a board that changes all the time the two may
/// not belong together.
fn newest(files: &Files, object: &str) -> Result<(u64, [u64; DESCRIPTOR_LEN / 8])> {
    let mut descriptor = [0; DESCRIPTOR_LEN / 8];
    let mut sequence = 0;
    for _ in 0..100 {
        let mut latest = [0];
        read_words_at(&files.data, &mut latest, LATEST, object)?;
        let slot;
        (slot, sequence) = files.one_ahead(unpack(latest[0]), object)?;
        let slot = slot.min(files.geometry.slots() - 1);
        let at = files.geometry.descriptor(slot);
        read_words_at(&files.data, &mut descriptor, at, object)?;
        if sequence == 0 || descriptor[STAMP / 8] == sequence {
            break;
        }
    }
    Ok((sequence, descriptor))
}
