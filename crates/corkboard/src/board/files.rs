//! A board's directory: created by one rename, opened through one descriptor, removed for good.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::layout::{Geometry, HEADER_LEN, LATEST, Role, WRITER_ENTRIES};
use super::layout::{STAMP, STATE, STATE_REMOVED};
use super::protocol::GONE;
use super::{Access, Options};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::name;
use crate::object::{self, BUILDING, DIRECTORY, FOUND_FILE, Identity, NEW_FILE, Removal};
use crate::object::{check_live, damaged, delete, identity, mode_bits, random};
use crate::object::{require_tmpfs, write_new_file};
use crate::participants::lock_byte;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, no_fork};
use crate::sys::{self, lock};

/// Directories that are being taken apart begin with this.
pub(crate) const REMOVING: &str = ".old-";

/// An open board: its directory and the geometry that its data file states.
pub(crate) struct Files {
    /// The space, and the board's name in it.
    parent: OwnedFd,
    visible: String,
    pub(crate) directory: OwnedFd,
    pub(crate) data: OwnedFd,
    pub(crate) geometry: Geometry,
    pub(crate) owner_uid: u32,
    /// The data file's permission bits.
    pub(crate) data_mode: u32,
    /// The data file's.
    pub(crate) identity: Identity,
}

pub(crate) fn object(name: &str) -> String {
    object::label(Kind::Board, name)
}

fn directory_name(name: &str) -> String {
    object::file_name(Kind::Board, name)
}

/// Where one of a board's files is, from its space.
pub(crate) fn path(name: &str, role: Role) -> String {
    format!("{}/{}", directory_name(name), role.file_name())
}

impl Files {
    /// Opens an existing board; its data file for writing if `protection` says so.
    pub(crate) fn open(space: &Space, name: &str, protection: Protection) -> Result<Self> {
        name::check("open board", name)?;
        let object = object(name);
        let failed = |errno| match errno {
            Errno::NOTDIR | Errno::LOOP => damaged(&object, "is not a directory"),
            errno => Error::os("open", &object, errno),
        };
        let parent = space.directory()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let visible = directory_name(name);
        let directory = fs::openat(&parent, &visible, flags, Mode::empty()).map_err(failed)?;
        hook::point("open.directory");
        let (data, stat, geometry) = open_file(&directory, Role::Data, protection, &object)
            .map_err(|error| if_missing(error, &parent, &visible, &directory, Role::Data))?;
        require_tmpfs(data.as_fd(), &object)?;
        check_live(&data, &object)?;
        Ok(Self {
            parent,
            visible,
            directory,
            data,
            geometry,
            owner_uid: stat.st_uid,
            data_mode: stat.st_mode & 0o777,
            identity: identity(&stat),
        })
    }

    /// Opens one of the tables and checks that it belongs to this board.
    pub(crate) fn table(
        &self,
        role: Role,
        protection: Protection,
        object: &str,
    ) -> Result<OwnedFd> {
        let (file, _, geometry) =
            open_file(&self.directory, role, protection, object).map_err(|error| {
                if_missing(error, &self.parent, &self.visible, &self.directory, role)
            })?;
        if geometry != self.geometry {
            return Err(damaged(object, "has files of different boards"));
        }
        Ok(file)
    }

    /// Whether a writer that has the turn, or may take it, is alive. Anyone who may read can ask.
    pub(crate) fn has_live_writer(&self) -> Result<bool> {
        lock::is_locked(self.data.as_fd(), lock_byte(0), u64::from(WRITER_ENTRIES))
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
    ) -> std::result::Result<Option<Beacon>, Errno> {
        let flags = OFlags::RDWR | FOUND_FILE;
        let name = Role::Data.file_name();
        // A child would keep the lock.
        let _no_fork = no_fork();
        let file = fs::openat(&self.directory, name, flags, Mode::empty())?;
        if identity(&fs::fstat(&file)?) != self.identity {
            return Ok(None);
        }
        if !lock::try_lock(file.as_fd(), lock_byte(entry))? {
            return Ok(None);
        }
        let protection = Protection::ReadOnly;
        let never = Inheritance::Never;
        let mapping = Mapping::new(file.as_fd(), HEADER_LEN, protection, never, generation)?;
        Ok(Some(Beacon { _mapping: mapping }))
    }

    /// Whether the data file has memory for a value. A damaged length may say what it likes:
    /// nobody should allocate memory for it.
    pub(crate) fn check_allocated(&self, payload: usize, len: usize, object: &str) -> Result<()> {
        let hole = match len {
            0 => return Ok(()),
            _ => fs::seek(&self.data, fs::SeekFrom::Hole(payload as u64)),
        };
        let hole = hole.map_err(|errno| Error::os("read", object, errno))?;
        if hole.checked_sub(payload as u64) >= Some(len as u64) {
            return Ok(());
        }
        Err(damaged(object, "has a value longer than its memory"))
    }

    /// Opens the board again for reading; `None` when the name no longer means the same files.
    pub(crate) fn reopen(space: &Space, name: &str, identity: Identity) -> Result<Option<Self>> {
        match Self::open(space, name, Protection::ReadOnly) {
            Ok(files) => Ok((files.identity == identity).then_some(files)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
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
        let data = self.data.as_fd();
        Mapping::new(data, len, protection, Inheritance::Child, generation)
    }

    /// Makes the board under a temporary name and moves it into place. `Ok(false)` when another
    /// process was first.
    pub(crate) fn create(
        space: &Space,
        name: &str,
        geometry: &Geometry,
        options: &Options,
    ) -> Result<bool> {
        let object = object(name);
        let failed = |errno| Error::os("create", &object, errno);
        let parent = space.directory()?;
        require_tmpfs(parent.as_fd(), &object)?;
        let roles = [Role::Data, Role::Control, Role::Readers];
        let lens = roles.map(|role| geometry.file_len(role) as u64);
        // The kernel does not refuse a file beyond the limit, it ends the process.
        let len = lens.into_iter().max().unwrap_or(0);
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Fsize).current
            && limit < len
        {
            let cause = format!(
                "it needs files of {len} bytes, the limit of this process is {limit}; raise it (ulimit -f) or lower the capacity"
            );
            return Err(Error::new(ErrorKind::NoSpace, "create", object, cause));
        }
        // A child would keep the lock that says that the builder is alive.
        let _no_fork = no_fork();
        let (temporary, directory) = build_directory(&parent).map_err(failed)?;
        hook::point("create.directory");
        let result = (|| {
            for role in roles {
                let mode = file_mode(role, options);
                create_file(&directory, role, geometry, mode).map_err(failed)?;
                hook::point("create.file");
            }
            let mode = directory_mode(options);
            fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(failed)?;
            match fs::renameat_with(
                &parent,
                &temporary,
                &parent,
                directory_name(name),
                RenameFlags::NOREPLACE,
            ) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                Err(errno) => Err(failed(errno)),
            }
        })();
        hook::point("create.renamed");
        if !matches!(result, Ok(true)) {
            let _ = delete(parent.as_fd(), &temporary);
        }
        result
    }
}

/// Keeps the lock that says a writer is alive.
pub(crate) struct Beacon {
    _mapping: Mapping,
}

/// Makes a directory under a temporary name. The lock on it says that its builder is alive.
fn build_directory(parent: &OwnedFd) -> std::result::Result<(String, OwnedFd), Errno> {
    for _ in 0..100 {
        let temporary = format!("{BUILDING}{:016x}", random()?);
        fs::mkdirat(parent, &temporary, Mode::from_raw_mode(0o700))?;
        hook::point("create.begun");
        // A sweep may come in between, and take the directory for a dead builder's.
        let locked = fs::openat(parent, &temporary, DIRECTORY, Mode::empty()).and_then(|fd| {
            fs::flock(&fd, fs::FlockOperation::LockExclusive)?;
            let is_swept = fs::fstat(&fd)?.st_nlink == 0;
            Ok((!is_swept).then_some(fd))
        });
        match locked {
            Ok(Some(fd)) => return Ok((temporary, fd)),
            Ok(None) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::BUSY)
}

/// Removes the board `name`: attached handles are told, later openers start afresh.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    name::check("remove board", name)?;
    let object = object(name);
    let failed = |errno| Error::os("remove", &object, errno);
    let parent = space.directory()?;
    let visible = directory_name(name);
    // Removers take turns, so that none renames a successor of the board it looked at.
    let opened = object::open_in_turn(&object, || {
        match fs::openat(&parent, &visible, DIRECTORY, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) if removal == Removal::Start => Ok(None),
            directory => directory.map(Some),
        }
    });
    let Some((directory, _no_fork)) = opened? else {
        // Not a board, but it has a board's name.
        return fs::unlinkat(&parent, &visible, AtFlags::empty()).map_err(failed);
    };
    let ours = fs::fstat(&directory).map_err(failed)?;
    let now = fs::statat(&parent, &visible, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if identity(&ours) != identity(&now) {
        return Err(failed(Errno::NOENT));
    }
    let mapped = open_file(&directory, Role::Data, Protection::ReadWrite, &object)
        .ok()
        .and_then(|(data, _, geometry)| {
            let generation = Generation::current().ok()?;
            let len = geometry.preallocated(Role::Data);
            let (writable, inherit) = (Protection::ReadWrite, Inheritance::Child);
            let mapping = Mapping::new(data.as_fd(), len, writable, inherit, generation);
            Some((mapping.ok()?, geometry))
        });
    let is_removed = mapped
        .as_ref()
        .is_some_and(|(mapping, _)| mapping.word(STATE).load(Ordering::Relaxed) == STATE_REMOVED);
    if removal == Removal::Finish && !is_removed {
        return Ok(());
    }
    // Before everybody is told. What can go wrong at the rename is no more than this.
    object::check_removable(parent.as_fd(), &visible, Kind::Board).map_err(failed)?;
    if let Some((mapping, geometry)) = &mapped {
        mapping.word(STATE).store(STATE_REMOVED, Ordering::Release);
        // Pairs with the writer's light fence: it sees the state after what it publishes from now
        // on, and what it published before is marked below.
        sys::barrier::heavy();
        mark_gone(mapping, geometry);
    }
    hook::point("remove.marked");
    let hidden = format!("{REMOVING}{:016x}", random().map_err(failed)?);
    fs::renameat_with(&parent, &visible, &parent, &hidden, RenameFlags::NOREPLACE)
        .map_err(failed)?;
    hook::point("remove.renamed");
    let result = delete(parent.as_fd(), &hidden).map_err(failed);
    hook::point("remove.deleted");
    if let Some((mapping, _)) = &mapped {
        sys::wait::wake_low(mapping.word(LATEST));
    }
    result
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
    data.word(LATEST).fetch_or(GONE, Ordering::Relaxed);
}

fn open_file(
    directory: &OwnedFd,
    role: Role,
    protection: Protection,
    object: &str,
) -> Result<(OwnedFd, fs::Stat, Geometry)> {
    let (name, what) = (role.file_name(), format!("{} file", role.file_name()));
    let (file, stat, header) = object::open_file(directory, name, protection, object, &what)?;
    let geometry = Geometry::decode(&header, role, object)?;
    if u64::try_from(stat.st_size) != Ok(geometry.file_len(role) as u64) {
        return Err(damaged(
            object,
            &format!("has a {what} that has the wrong length"),
        ));
    }
    Ok((file, stat, geometry))
}

/// What it means that one of a board's files is not there: that somebody is removing the board, or
/// that it is damaged, if its name still means this directory.
fn if_missing(
    error: Error,
    parent: &OwnedFd,
    visible: &str,
    directory: &OwnedFd,
    role: Role,
) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let opened = fs::fstat(directory);
    let now = fs::statat(parent, visible, AtFlags::SYMLINK_NOFOLLOW);
    match (opened, now) {
        (Ok(opened), Ok(now)) if identity(&opened) == identity(&now) => damaged(
            error.object(),
            &format!("has a {} file that is missing", role.file_name()),
        ),
        _ => error,
    }
}

fn create_file(
    directory: &OwnedFd,
    role: Role,
    geometry: &Geometry,
    mode: u32,
) -> std::result::Result<(), Errno> {
    let private = Mode::from_raw_mode(0o600);
    let file = fs::openat(directory, role.file_name(), NEW_FILE, private)?;
    let (len, allocated) = (geometry.file_len(role), geometry.preallocated(role));
    write_new_file(&file, &geometry.encode(role), len, allocated, mode)
}

/// Data is writable for writers only. Writers use the readers' table, and so do readers of the
/// group. Everyone else observes, and may not even look: who may read a file may take reading locks
/// on it, which would keep readers from claiming entries.
fn file_mode(role: Role, options: &Options) -> u32 {
    let (readers, writers) = options.access();
    let writers = mode_bits(writers, 0o6);
    match role {
        Role::Control => writers,
        Role::Data => writers | mode_bits(readers, 0o4),
        Role::Readers => writers | mode_bits(readers.min(Access::Group), 0o6),
    }
}

fn directory_mode(options: &Options) -> u32 {
    let (readers, writers) = options.access();
    let group = |access: Access| access >= Access::Group;
    let everyone = |access: Access| access == Access::Everyone;
    let class = |writers: bool, readers: bool| if writers { 0o7 } else { u32::from(readers) };
    0o700 | class(group(writers), group(readers)) << 3 | class(everyone(writers), everyone(readers))
}
