//! A board's directory: created by one rename, opened through one descriptor, removed for good.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::layout::{Geometry, HEADER_LEN, LATEST, Role, WRITER_ENTRIES, lock_byte};
use super::layout::{STAMP, STATE, STATE_LIVE, STATE_REMOVED};
use super::protocol::GONE;
use super::{Access, Options};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::name;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::{self, lock};

const TMPFS_MAGIC: i64 = 0x0102_1994;
/// How a directory of the space is opened: never through a symbolic link.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Directories that are being built or taken apart begin with these.
pub(crate) const BUILDING: &str = ".new-";
pub(crate) const REMOVING: &str = ".old-";

/// An open board: its directory and the geometry that its data file states.
pub(crate) struct Files {
    pub(crate) directory: OwnedFd,
    pub(crate) data: OwnedFd,
    pub(crate) geometry: Geometry,
    pub(crate) owner_uid: u32,
}

pub(crate) fn object(name: &str) -> String {
    format!("board {name:?}")
}

fn directory_name(name: &str) -> String {
    format!("{name}{}", Kind::Board.suffix())
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
        let directory =
            fs::openat(&parent, directory_name(name), flags, Mode::empty()).map_err(failed)?;
        let (data, geometry) = open_file(&directory, Role::Data, protection, &object)?;
        let stat = fs::fstat(&data).map_err(failed)?;
        require_tmpfs(data.as_fd(), &object)?;
        let mut state = [0];
        read_words_at(&data, &mut state, STATE, &object)?;
        match state[0] {
            STATE_LIVE => {}
            STATE_REMOVED => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "open",
                    &object,
                    "it is being removed; remove it again if that does not end",
                ));
            }
            _ => return Err(damaged(&object, "has an impossible state")),
        }
        Ok(Self {
            directory,
            data,
            geometry,
            owner_uid: stat.st_uid,
        })
    }

    /// Opens one of the tables and checks that it belongs to this board.
    pub(crate) fn table(
        &self,
        role: Role,
        protection: Protection,
        object: &str,
    ) -> Result<OwnedFd> {
        let (file, geometry) = open_file(&self.directory, role, protection, object)?;
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
    /// data file, on the byte of the writer's entry.
    pub(crate) fn light_beacon(
        &self,
        entry: usize,
        generation: Generation,
    ) -> std::result::Result<Option<Beacon>, Errno> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let name = Role::Data.file_name();
        let file = fs::openat(&self.directory, name, flags, Mode::empty())?;
        if identity(file.as_fd())? != identity(self.data.as_fd())? {
            return Ok(None);
        }
        // We have the entry. Whoever had it before is about to let go of its beacon, too.
        let mut patience = 1000;
        while !lock::try_lock(file.as_fd(), lock_byte(entry))? {
            patience -= 1;
            if patience == 0 {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(1));
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
    pub(crate) fn reopen(space: &Space, name: &str, identity: (u64, u64)) -> Result<Option<Self>> {
        match Self::open(space, name, Protection::ReadOnly) {
            Ok(files) => Ok((self::identity(files.data.as_fd()) == Ok(identity)).then_some(files)),
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
        let len = geometry.file_len(Role::Data) as u64;
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Fsize).current
            && limit < len
        {
            let cause = format!(
                "it needs files of {len} bytes, the limit of this process is {limit}; raise it (ulimit -f) or lower the capacity"
            );
            return Err(Error::new(ErrorKind::NoSpace, "create", object, cause));
        }
        let (temporary, directory) = build_directory(&parent).map_err(failed)?;
        hook::point("create.directory");
        let result = (|| {
            for role in [Role::Data, Role::Control, Role::Readers] {
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

/// Deletes a directory that its builder or remover left behind, unless that process is alive.
pub(crate) fn sweep(parent: BorrowedFd<'_>, temporary: &str) -> std::result::Result<bool, Errno> {
    let directory = fs::openat(parent, temporary, DIRECTORY, Mode::empty())?;
    match fs::flock(&directory, fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => delete(parent, temporary).map(|()| true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether the process that builds or removes this directory is gone.
pub(crate) fn is_stale(parent: BorrowedFd<'_>, temporary: &str) -> bool {
    fs::openat(parent, temporary, DIRECTORY, Mode::empty()).is_ok_and(|directory| {
        fs::flock(&directory, fs::FlockOperation::NonBlockingLockShared).is_ok()
    })
}

/// Which board a removal is meant for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Whatever has the name.
    Start,
    /// Only one whose remover died before it had freed the name.
    Finish,
}

/// Removes the board `name`: attached handles are told, later openers start afresh.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    name::check("remove board", name)?;
    let object = object(name);
    let failed = |errno| Error::os("remove", &object, errno);
    let parent = space.directory()?;
    let visible = directory_name(name);
    let directory = match fs::openat(&parent, &visible, DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) if removal == Removal::Start => {
            // Not a board, but it has a board's name.
            return fs::unlinkat(&parent, &visible, AtFlags::empty()).map_err(failed);
        }
        directory => directory.map_err(failed)?,
    };
    // Removers take turns, so that none renames a successor of the board it looked at.
    fs::flock(&directory, fs::FlockOperation::LockExclusive).map_err(failed)?;
    let ours = fs::fstat(&directory).map_err(failed)?;
    let now = fs::statat(&parent, &visible, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if (ours.st_dev, ours.st_ino) != (now.st_dev, now.st_ino) {
        return Err(failed(Errno::NOENT));
    }
    let mapped = open_file(&directory, Role::Data, Protection::ReadWrite, &object)
        .ok()
        .and_then(|(data, geometry)| {
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

/// Deletes a board's directory and whatever is in it.
fn delete(parent: BorrowedFd<'_>, directory_name: &str) -> std::result::Result<(), Errno> {
    let name = CString::new(directory_name).map_err(|_| Errno::INVAL)?;
    delete_to(parent, &name, MAX_DEPTH)
}

/// A board has no directories in it; somebody may have put some there.
const MAX_DEPTH: u32 = 16;

fn delete_to(
    parent: BorrowedFd<'_>,
    directory_name: &CStr,
    depth: u32,
) -> std::result::Result<(), Errno> {
    let directory = fs::openat(parent, directory_name, DIRECTORY, Mode::empty())?;
    for item in fs::Dir::read_from(&directory)? {
        let item = item?;
        let name = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fs::unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {
                delete_to(directory.as_fd(), name, depth - 1)?;
            }
            result => result?,
        }
    }
    fs::unlinkat(parent, directory_name, AtFlags::REMOVEDIR)
}

fn open_file(
    directory: &OwnedFd,
    role: Role,
    protection: Protection,
    object: &str,
) -> Result<(OwnedFd, Geometry)> {
    let what = |problem: &str| {
        damaged(
            object,
            &format!("has a {} file that {problem}", role.file_name()),
        )
    };
    let access = match protection {
        Protection::ReadOnly => OFlags::RDONLY,
        Protection::ReadWrite => OFlags::RDWR,
    };
    // Without NONBLOCK, a pipe in the file's place would hold us up.
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file =
        fs::openat(directory, role.file_name(), flags, Mode::empty()).map_err(
            |errno| match errno {
                Errno::LOOP => what("is a symbolic link"),
                Errno::ISDIR | Errno::NXIO => what("is not a regular file"),
                Errno::NOENT => what("is missing"),
                errno => Error::os("open", object, errno),
            },
        )?;
    let stat = fs::fstat(&file).map_err(|errno| Error::os("open", object, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(what("is not a regular file"));
    }
    let mut header = [0; HEADER_LEN];
    read_at(&file, &mut header, 0, object)?;
    let geometry = Geometry::decode(&header, role, object)?;
    if u64::try_from(stat.st_size) != Ok(geometry.file_len(role) as u64) {
        return Err(what("has the wrong length"));
    }
    Ok((file, geometry))
}

/// Fills `buffer` from the file, or says that the file is too short.
pub(crate) fn read_at(
    file: &OwnedFd,
    buffer: &mut [u8],
    offset: usize,
    object: &str,
) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(file, &mut buffer[done..], (offset + done) as u64) {
            Ok(0) => return Err(damaged(object, "has a file that ends too early")),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("read", object, errno)),
        }
    }
    Ok(())
}

/// As [`read_at`], in words.
pub(crate) fn read_words_at(
    file: &OwnedFd,
    words: &mut [u64],
    offset: usize,
    object: &str,
) -> Result<()> {
    let mut bytes = vec![0; words.len() * 8];
    read_at(file, &mut bytes, offset, object)?;
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(())
}

fn create_file(
    directory: &OwnedFd,
    role: Role,
    geometry: &Geometry,
    mode: u32,
) -> std::result::Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(
        directory,
        role.file_name(),
        flags,
        Mode::from_raw_mode(0o600),
    )?;
    fs::ftruncate(&file, geometry.file_len(role) as u64)?;
    let len = geometry.preallocated(role) as u64;
    fs::fallocate(&file, FallocateFlags::empty(), 0, len)?;
    rustix::io::pwrite(&file, &geometry.encode(role), 0)?;
    if role == Role::Data {
        rustix::io::pwrite(&file, &STATE_LIVE.to_ne_bytes(), STATE as u64)?;
    }
    fs::fchmod(&file, Mode::from_raw_mode(mode))
}

/// Data is writable for writers only. Writers use the readers' table, and so do readers of the
/// group; everyone else observes.
fn file_mode(role: Role, options: &Options) -> u32 {
    let bits = |access: Access, bits: u32| match access {
        Access::Owner => bits << 6,
        Access::Group => bits << 6 | bits << 3,
        Access::Everyone => bits << 6 | bits << 3 | bits,
    };
    let writers = bits(options.writers, 0o6);
    match role {
        Role::Control => writers,
        Role::Data => writers | bits(options.readers, 0o4),
        Role::Readers => {
            writers | bits(options.readers, 0o4) | bits(options.readers.min(Access::Group), 0o6)
        }
    }
}

fn directory_mode(options: &Options) -> u32 {
    let group = |access: Access| access >= Access::Group;
    let everyone = |access: Access| access == Access::Everyone;
    let class = |writers: bool, readers: bool| if writers { 0o7 } else { u32::from(readers) };
    0o700
        | class(group(options.writers), group(options.readers)) << 3
        | class(everyone(options.writers), everyone(options.readers))
}

fn require_tmpfs(fd: BorrowedFd<'_>, object: &str) -> Result<()> {
    let stat = fs::fstatfs(fd).map_err(|errno| Error::os("open", object, errno))?;
    if stat.f_type == TMPFS_MAGIC {
        return Ok(());
    }
    let cause = "its space is not on tmpfs, so values would land on a disk; set CORKBOARD_DIR to a directory below /dev/shm";
    Err(Error::new(ErrorKind::Unsupported, "open", object, cause))
}

fn damaged(object: &str, what: &str) -> Error {
    let cause = format!("it {what}; remove it and create it anew");
    Error::new(ErrorKind::Damaged, "open", object, cause)
}

/// A number nobody else has.
pub(crate) fn random() -> std::result::Result<u64, Errno> {
    let mut bytes = [MaybeUninit::uninit(); 8];
    let (filled, _) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let filled: [u8; 8] = (&*filled).try_into().map_err(|_| Errno::IO)?;
    Ok(u64::from_ne_bytes(filled))
}

/// Whether a remover marked the board and did not free its name.
pub(crate) fn is_marked_removed(space: &Space, name: &str) -> bool {
    let state = || -> Result<u64> {
        let object = object(name);
        let parent = space.directory()?;
        let directory = fs::openat(&parent, directory_name(name), DIRECTORY, Mode::empty())
            .map_err(|errno| Error::os("open", &object, errno))?;
        let (data, _) = open_file(&directory, Role::Data, Protection::ReadOnly, &object)?;
        let mut state = [0];
        read_words_at(&data, &mut state, STATE, &object)?;
        Ok(state[0])
    };
    state().is_ok_and(|state| state == STATE_REMOVED)
}

/// Whether the data file at the board's path is still the one this handle has mapped.
pub(crate) fn is_in_place(space: &Space, name: &str, identity: (u64, u64)) -> bool {
    let path = space.path().join(self::path(name, Role::Data));
    fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == identity)
}

/// What tells one file from every other.
pub(crate) fn identity(file: BorrowedFd<'_>) -> std::result::Result<(u64, u64), Errno> {
    fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino))
}
