//! A board's files: created by one rename, opened together, removed for good.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use super::layout::{Geometry, HEADER_LEN, LATEST, Role, STAMP, WRITER_ENTRIES, small_slot};
use super::protocol::{self, GONE};
use super::{Access, Options};
use crate::error::{Error, Result};
use crate::name;
use crate::object::{self, NewFile, Place, check_live, damaged, read_words_at, require_memory};
use crate::participants::lock_byte;
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::{Facts, File, Identity};
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, no_fork};
use crate::sys::{self, Errno, lock};

#[cfg(target_os = "linux")]
pub(crate) use linux::{create, remove};
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) use unsupported::{create, remove};
#[cfg(windows)]
pub(crate) use windows::{create, remove};

/// An open board: where it is, and the geometry that its data file states.
pub(crate) struct Files {
    pub(crate) place: Place,
    pub(crate) data: File,
    pub(crate) geometry: Geometry,
    /// The data file's.
    pub(crate) facts: Facts,
}

pub(crate) fn object(name: &str) -> String {
    object::label(Kind::Board, name)
}

impl Files {
    /// Opens an existing board; its data file for writing if `protection` says so.
    pub(crate) fn open(space: &Space, name: &str, protection: Protection) -> Result<Self> {
        name::check("open board", name)?;
        let object = object(name);
        let place = Place::open(space, Kind::Board, name)?;
        let (data, facts, geometry) = open_file(&place, Role::Data, protection, &object)?;
        require_memory(&data, &object)?;
        check_live(&data, &object)?;
        Ok(Self {
            place,
            data,
            geometry,
            facts,
        })
    }

    /// Opens one of the tables and checks that it belongs to this board.
    pub(crate) fn table(&self, role: Role, protection: Protection, object: &str) -> Result<File> {
        let (file, _, geometry) = open_file(&self.place, role, protection, object)?;
        if geometry != self.geometry {
            return Err(damaged(object, "has files of different boards"));
        }
        Ok(file)
    }

    /// Whether a writer that has the turn, or may take it, is alive. Anyone who may read can ask.
    pub(crate) fn has_live_writer(&self) -> Result<bool> {
        lock::is_locked(&self.data, lock_byte(0), u64::from(WRITER_ENTRIES))
            .map_err(|errno| Error::os("look at", "the board's data file", errno))
    }

    /// Says that a writer is alive, to those who may not look at the control file: a lock on the
    /// data file, on the byte of the writer's entry. `None` when somebody else has a lock there:
    /// who held the entry before and is just being torn down, or anyone who may read the file and
    /// took a reading lock.
    pub(crate) fn light_beacon(
        &self,
        entry: usize,
        generation: Generation,
    ) -> Result<Option<Beacon>> {
        let failed = |errno| Error::os("light", "a writer's beacon", errno);
        // A child would keep the lock.
        let _no_fork = no_fork();
        let (file, facts, _) = self
            .place
            .file(Role::Data.file_name(), Protection::ReadWrite)?;
        if facts.identity != self.facts.identity
            || !lock::try_lock(&file, lock_byte(entry)).map_err(failed)?
        {
            return Ok(None);
        }
        let (protection, never) = (Protection::ReadOnly, Inheritance::Never);
        let mapping =
            Mapping::new(&file, HEADER_LEN, protection, never, generation).map_err(failed)?;
        Ok(Some(Beacon { _mapping: mapping }))
    }

    /// The newest value's slot and sequence, from those that the latest word names: on a small
    /// board one stamp can be ahead of that word.
    pub(crate) fn one_ahead(&self, latest: (usize, u64), object: &str) -> Result<(usize, u64)> {
        if !self.geometry.is_small() {
            return Ok(latest);
        }
        let next = latest.1 + 1;
        let slot = small_slot(next);
        let mut stamp = [0];
        let at = self.geometry.descriptor(slot) + STAMP;
        read_words_at(&self.data, &mut stamp, at, object)?;
        Ok(if stamp[0] & !GONE == next {
            (slot, next)
        } else {
            latest
        })
    }

    /// Whether the data file has memory for a value. A damaged length may say what it likes:
    /// nobody should allocate memory for it.
    pub(crate) fn check_allocated(&self, payload: usize, len: usize, object: &str) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let allocated = self.data.allocated_from(payload);
        if allocated.map_err(|errno| Error::os("read", object, errno))? >= len as u64 {
            return Ok(());
        }
        Err(damaged(object, "has a value longer than its memory"))
    }

    /// Opens the board again for reading; `None` when the name no longer means the same files.
    pub(crate) fn reopen(space: &Space, name: &str, identity: Identity) -> Result<Option<Self>> {
        match Self::open(space, name, Protection::ReadOnly) {
            Ok(files) => Ok((files.facts.identity == identity).then_some(files)),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Maps the whole data file.
    pub(crate) fn map_data(
        &self,
        protection: Protection,
        generation: Generation,
    ) -> std::result::Result<Mapping, Errno> {
        let len = self.geometry.file_len(Role::Data);
        Mapping::new(&self.data, len, protection, Inheritance::Child, generation)?
            .in_memory(self.geometry.preallocated(Role::Data), protection)
    }
}

/// Keeps the lock that says a writer is alive.
pub(crate) struct Beacon {
    _mapping: Mapping,
}

fn open_file(
    place: &Place,
    role: Role,
    protection: Protection,
    object: &str,
) -> Result<(File, Facts, Geometry)> {
    checked(place.file(role.file_name(), protection)?, role, object)
}

/// Checks a file's header and length.
fn checked(
    (file, facts, header): (File, Facts, [u8; HEADER_LEN]),
    role: Role,
    object: &str,
) -> Result<(File, Facts, Geometry)> {
    let geometry = Geometry::decode(&header, role, object)?;
    if facts.len != geometry.file_len(role) as u64 {
        let problem = format!("has a {} file that has the wrong length", role.file_name());
        return Err(damaged(object, &problem));
    }
    // Elsewhere than on Windows, what is missing is made when the file is mapped.
    #[cfg(windows)]
    {
        let allocated = file.allocated_from(0);
        let allocated = allocated.map_err(|errno| Error::os("open", object, errno))?;
        if allocated < geometry.preallocated(role) as u64 {
            let problem = format!("has a {} file that lacks memory", role.file_name());
            return Err(damaged(object, &problem));
        }
    }
    Ok((file, facts, geometry))
}

/// What a new board is made of. Data is writable for writers only. Writers use the readers' table,
/// and so do readers of the group. Everyone else observes, and may not even look: who may read a
/// file may take reading locks on it, which would keep readers from claiming entries.
fn new_files(geometry: &Geometry, options: &Options) -> [NewFile; 3] {
    let (readers, writers) = options.access();
    [Role::Data, Role::Control, Role::Readers].map(|role| {
        let (writers, readers) = match role {
            Role::Control => (writers, writers),
            Role::Data => (writers, readers),
            Role::Readers => {
                let pinning = writers.max(readers.min(Access::Group));
                (pinning, pinning)
            }
        };
        NewFile {
            name: role.file_name(),
            header: geometry.encode(role),
            len: geometry.file_len(role),
            allocated: geometry.preallocated(role),
            writers,
            readers,
        }
    })
}

/// Wakes everyone who sleeps until a board's next value.
pub(crate) fn ring(bell: &AtomicU64) {
    protocol::ring(bell);
    sys::wait::wake_low(bell);
}

/// The readers' table of a board that is to be removed, for its bell. Without it, those who sleep
/// look after a slice.
fn map_bell(opened: Result<(File, Facts, [u8; HEADER_LEN])>, object: &str) -> Option<Mapping> {
    let (file, _, geometry) = checked(opened.ok()?, Role::Readers, object).ok()?;
    let (len, writable) = (geometry.preallocated(Role::Readers), Protection::ReadWrite);
    let generation = Generation::current().ok()?;
    Mapping::new(&file, len, writable, Inheritance::Child, generation).ok()
}

/// Marks every word that readers watch, so that none mistakes a removed board for an unchanged
/// one.
#[cold]
pub(crate) fn mark_gone(data: &Mapping, geometry: &Geometry) {
    if geometry.is_small() {
        for slot in 0..geometry.slots() {
            let stamp = data.word(geometry.descriptor(slot) + STAMP);
            stamp.fetch_or(GONE, Ordering::Relaxed);
        }
    }
    mark_latest_gone(data);
}

/// As [`mark_gone`], the one word that every reader comes to.
fn mark_latest_gone(data: &Mapping) {
    data.word(LATEST).fetch_or(GONE, Ordering::Relaxed);
}
