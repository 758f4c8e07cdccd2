//! Everything there is to know about an event, and its removal.

use std::time::SystemTime;

use super::Reset;
use super::layout::{FILE, WORD};
use super::platform;
use crate::clock::moment;
use crate::error::Result;
use crate::object::{self, CREATED, Opened, Removal};
use crate::space::{Kind, Space};
use crate::sys::map::Protection;
use crate::sys::wait;

/// An event at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stat {
    /// What ends a signal.
    pub reset: Reset,
    /// Whether it is signalled.
    pub is_signalled: bool,
    /// How often it was set.
    pub sets: u64,
    /// A random number that tells this event from every other, also of the same name.
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

/// Everything there is to know about an event. Takes part in nothing and changes nothing.
///
/// # Errors
/// `NotFound`, `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`, `Io`.
///
/// # If a process dies
/// *Recovers*: an event has no owner.
pub fn stat(space: &Space, name: &str) -> Result<Stat> {
    let object = object::label(Kind::Event, name);
    let Opened {
        file,
        facts,
        header,
    } = FILE.open(space, name, Protection::ReadOnly)?;
    let mut word = [0];
    object::read_words_at(&file, &mut word, WORD, &object)?;
    Ok(Stat {
        reset: Reset::from_header(&header, name)?,
        is_signalled: platform::is_signalled(space, name, &file, word[0]),
        sets: platform::sets(word[0]),
        instance: header.instance,
        created_at: moment(header.own[CREATED]).unwrap_or(SystemTime::UNIX_EPOCH),
        #[cfg(unix)]
        owner_uid: facts.owner_uid,
        #[cfg(unix)]
        owner_gid: facts.owner_gid,
        mode: facts.mode,
    })
}

/// Removes an event: handles on it say `Removed`.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    FILE.remove(
        space,
        name,
        removal,
        |_| Ok(()),
        |mapping| wait::wake_low(mapping.word(WORD)),
    )
}
