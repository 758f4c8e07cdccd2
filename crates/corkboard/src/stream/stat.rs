//! Everything there is to know about a stream, for tools that show it.

use std::time::SystemTime;

use super::layout::*;
use super::ring::MAX_COUNT;
use super::{Integrity, Overflow, ProducerMode};
use crate::attachment;
use crate::clock::moment;
use crate::error::{Error, ErrorKind, Result};
use crate::mutex;
use crate::object::{self, CREATED, Opened, read_at, read_words_at};
use crate::participants::{self, Listed};
use crate::space::{Kind, Space};
use crate::sys::file::File;
use crate::sys::map::Protection;

/// How often to look for the newest record while others overwrite what is looked at.
const LOOKS: usize = 100;

/// A stream's shape and state at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// How many bytes of records it holds.
    pub capacity: usize,
    /// The longest record in bytes.
    pub max_len: usize,
    /// How many records there is room for, however short they are.
    pub max_records: u64,
    /// How many subscribers can be attached at a time.
    pub max_subscribers: u32,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// What guards the bytes.
    pub integrity: Integrity,
    /// How many handles may produce.
    pub producer_mode: ProducerMode,
    /// A random number that tells this stream from every other, also of the same name.
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
    /// The memory that its file takes up, in bytes.
    pub allocated_bytes: u64,
    /// The newest record's sequence, which is how many were sent, end marks included; 0 when none
    /// was.
    pub sequence: u64,
    /// The sequence of the oldest record that is still there; `None` when none is.
    pub oldest: Option<u64>,
    /// The newest record's length in bytes; `None` when there is none, when it is an end mark, and
    /// when it was overwritten meanwhile.
    pub len: Option<usize>,
    /// Whether the newest record is an end mark: a producer said that nothing more is to come.
    pub is_ended: bool,
    /// The producers' entries in use.
    pub producers: Vec<Participant>,
    /// The subscribers' entries in use. Observers have none.
    pub subscribers: Vec<Participant>,
}

/// One entry of a stream's table: a handle that is attached, or what a dead one left.
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
    /// Whether it is a producer and has the turn.
    pub has_turn: bool,
    /// Of a subscriber: the sequence of the last record that it needs no longer. `None` before it
    /// has joined, and of a dead one that holds nobody up any more.
    pub position: Option<u64>,
    /// Of a subscriber: how many records were sent after that.
    pub lag: Option<u64>,
}

/// Everything there is to know about a stream. Takes part in nothing and changes nothing. What
/// others do meanwhile may show in one part of it and not in another.
///
/// # Errors
/// `NotFound`, `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`, `Io`.
///
/// # If a process dies
/// *Reports*: the entries of dead processes are listed as such until they are claimed again.
pub fn stat(space: &Space, name: &str) -> Result<Stat> {
    let object = object::label(Kind::Stream, name);
    let (geometry, opened) = attachment::open::<Geometry>(space, name, Protection::ReadOnly)?;
    let Opened {
        file,
        facts,
        header,
    } = opened;
    // In this order: nobody has received what was not sent yet.
    let listed = participants::list(&file, geometry.table(), &object)?;
    let mut turn = [0; 4];
    read_at(&file, &mut turn, MUTEX, &object)?;
    let reclaimed = word(&file, RECLAIMED, &object)?;
    let newest = Newest::find(&file, &geometry, &object)?;
    let turn = mutex::owner(u32::from_ne_bytes(turn));
    let participant = |listed: Listed| {
        let is_subscriber = listed.entry >= PRODUCERS;
        let position = listed.record.word.checked_sub(1);
        let position = position.filter(|_| is_subscriber);
        Participant {
            entry: listed.entry as u32,
            pid: listed.record.pid,
            label: listed.record.label,
            since: listed.record.since,
            is_alive: listed.is_alive,
            has_turn: !is_subscriber && listed.is_alive && turn == Some(listed.entry),
            position,
            lag: position.map(|position| newest.sequence.saturating_sub(position)),
        }
    };
    let (subscribers, producers) = listed
        .into_iter()
        .map(participant)
        .partition(|participant| participant.entry as usize >= PRODUCERS);
    Ok(Stat {
        capacity: geometry.capacity,
        max_len: geometry.max_len(),
        max_records: geometry.cells() as u64,
        max_subscribers: geometry.max_subscribers,
        overflow: geometry.overflow,
        integrity: geometry.integrity,
        producer_mode: geometry.mode,
        instance: header.instance,
        created_at: moment(header.own[CREATED]).unwrap_or(SystemTime::UNIX_EPOCH),
        #[cfg(unix)]
        owner_uid: facts.owner_uid,
        #[cfg(unix)]
        owner_gid: facts.owner_gid,
        mode: facts.mode,
        allocated_bytes: facts.allocated,
        sequence: newest.sequence,
        oldest: (reclaimed < newest.sequence).then(|| reclaimed + 1),
        len: newest.len,
        is_ended: newest.is_end,
        producers,
        subscribers,
    })
}

fn word(file: &File, offset: usize, object: &str) -> Result<u64> {
    let mut word = [0];
    read_words_at(file, &mut word, offset, object)?;
    Ok(word[0])
}

/// The newest record, read without mapping the file, which a stranger may cut short at any time.
struct Newest {
    sequence: u64,
    len: Option<usize>,
    is_end: bool,
}

impl Newest {
    fn find(file: &File, geometry: &Geometry, object: &str) -> Result<Self> {
        let cells = geometry.cells() as u64;
        let cell = |sequence: u64| -> Result<[u64; HEAD]> {
            let mut words = [0; HEAD];
            let at = geometry.first_cell() + (sequence % cells) as usize * CELL;
            read_words_at(file, &mut words, at, object)?;
            Ok(words)
        };
        let mut latest = 0;
        for _ in 0..LOOKS {
            let tail = word(file, TAIL, object)?;
            if tail > MAX_COUNT {
                break;
            }
            // From the tail on there are records up to the newest, and none after that; those that
            // were sent meanwhile may have overwritten some.
            let (mut newest, mut beyond) = (tail, tail + cells + 1);
            while beyond - newest > 1 {
                let middle = newest + (beyond - newest) / 2;
                match cell(middle)?[STAMP] >= middle {
                    true => newest = middle,
                    false => beyond = middle,
                }
            }
            if newest == 0 {
                return Ok(Self {
                    sequence: 0,
                    len: None,
                    is_end: false,
                });
            }
            let words = cell(newest)?;
            if words[STAMP] == newest {
                let is_end = words[LEN] & END != 0;
                let len = usize::try_from(words[LEN]).ok();
                return Ok(Self {
                    sequence: newest,
                    len: len.filter(|len| !is_end && *len <= geometry.max_len()),
                    is_end,
                });
            }
            latest = latest.max(words[STAMP]);
        }
        // So fast that each was overwritten before it was looked at.
        if (1..=MAX_COUNT).contains(&latest) {
            return Ok(Self {
                sequence: latest,
                len: None,
                is_end: false,
            });
        }
        let cause = "its cells contradict each other; remove it and create it anew";
        Err(Error::new(ErrorKind::Damaged, "look at", object, cause))
    }
}

/// Empties the entry that a dead handle left, unless somebody has claimed it: with it goes the
/// cursor, so that the records which it kept may be overwritten.
pub(crate) fn wipe(space: &Space, name: &str, instance: u64, entry: u32) -> Result<()> {
    participants::wipe_dead(&object::label(Kind::Stream, name), entry, || {
        let writable = Protection::ReadWrite;
        let (geometry, opened) = attachment::open::<Geometry>(space, name, writable)?;
        let is_same = opened.header.instance == instance;
        Ok(is_same.then_some((opened.file, geometry.table())))
    })
}
