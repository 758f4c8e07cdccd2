//! Objects in memory: directories and files on tmpfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{BUILDING, Identity, NewFile, Removal, Single, label, read_at};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{HEADER_LEN, Header, STATE, STATE_LIVE, STATE_REMOVED};
use crate::hook;
use crate::name;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::file::{DIRECTORY, Facts, File};
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, NoFork, no_fork};
use crate::sys::random;

const TMPFS_MAGIC: i64 = 0x0102_1994;
const PAGE: usize = 4096;
/// How a file that others may have put there is opened, whether for reading or writing: through no
/// link, and not held up by a pipe in its place.
pub(crate) const FOUND_FILE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The name of an object in the space's directory.
pub(crate) fn file_name(kind: Kind, name: &str) -> String {
    format!("{name}{}", kind.suffix())
}

/// The object that a file name with the suffix taken off belongs to.
pub(crate) fn object_name(stem: &str) -> Option<&str> {
    Some(stem)
}

/// Where an object is.
pub(crate) struct Place {
    object: String,
    /// The space, and the object's name in it.
    parent: OwnedFd,
    visible: String,
    /// A board's files are in a directory of their own, which may be moved away.
    directory: Option<OwnedFd>,
}

impl Place {
    pub(crate) fn open(space: &Space, kind: Kind, name: &str) -> Result<Self> {
        let object = label(kind, name);
        let failed = |errno| match errno {
            Errno::NOTDIR | Errno::LOOP => super::damaged(&object, "is not a directory"),
            errno => Error::os("open", &object, errno),
        };
        let (parent, visible) = (space.directory()?, file_name(kind, name));
        let directory = match kind.file_type() {
            FileType::Directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = fs::openat(&parent, &visible, flags, Mode::empty());
                let directory = directory.map_err(failed)?;
                hook::point("open.directory");
                Some(directory)
            }
            _ => None,
        };
        Ok(Self {
            object,
            parent,
            visible,
            directory,
        })
    }

    /// Opens one of its files and reads the header, which is not checked yet.
    pub(crate) fn file(
        &self,
        name: &str,
        protection: Protection,
    ) -> Result<(File, Facts, [u8; HEADER_LEN])> {
        match &self.directory {
            Some(directory) => {
                let what = format!("{name} file");
                open_file(directory, name, protection, &self.object, &what)
                    .map_err(|error| self.if_missing(error, directory, name))
            }
            None => open_file(
                &self.parent,
                &self.visible,
                protection,
                &self.object,
                "file",
            ),
        }
    }

    pub(crate) fn into_keepers(self) -> Kept {
        Kept
    }

    /// As [`file`](Self::file), the one that has the object's state.
    pub(crate) fn main_file(
        &self,
        protection: Protection,
    ) -> Result<(File, Facts, [u8; HEADER_LEN])> {
        self.file(super::MAIN_FILE, protection)
    }

    /// What it means that a file is not in its directory: that somebody is removing the object, or
    /// that it is damaged, if its name still means this directory.
    fn if_missing(&self, error: Error, directory: &OwnedFd, name: &str) -> Error {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        let opened = fs::fstat(directory);
        let now = fs::statat(&self.parent, &self.visible, AtFlags::SYMLINK_NOFOLLOW);
        match (opened, now) {
            (Ok(opened), Ok(now)) if identity(&opened) == identity(&now) => {
                super::damaged(&self.object, &format!("has a {name} file that is missing"))
            }
            _ => error,
        }
    }

    /// What takes permission bits away from one of its files, if it is still this instance's.
    pub(crate) fn restrict(&self, name: &str, instance: u64, mode: u32) -> Result<()> {
        let (file, facts, header) = self.file(name, Protection::ReadOnly)?;
        if crate::header::instance(&header) != instance {
            return Ok(());
        }
        // Only what is too much is taken away, also if the mode has changed since.
        fs::fchmod(&file, Mode::from_raw_mode(facts.mode & mode))
            .map_err(|errno| Error::os("fix", &self.object, errno))
    }
}

/// Keeps a new object's memory until it is open: here nothing is needed for that.
pub(crate) struct Created;

/// What keeps an object's memory: nothing.
pub(crate) struct Kept;

/// The file that has the object's state, from its space.
fn main_file(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Board => format!("{}/data", file_name(kind, name)),
        Kind::Lock | Kind::Event | Kind::Stream | Kind::Call => file_name(kind, name),
    }
}

/// How long a remover waits for its turn. Nobody needs as long, but one may be stopped.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// Opens an object's file or directory and waits for the turn among those who remove it. The turn
/// ends when the file is closed. As long as what comes with it is held, no child gets a copy.
/// `None` when `open` finds nothing to take turns for.
pub(crate) fn open_in_turn(
    object: &str,
    open: impl Fn() -> std::result::Result<Option<OwnedFd>, Errno>,
) -> Result<Option<(OwnedFd, NoFork)>> {
    let deadline = Deadline::after(TURN_PATIENCE);
    let failed = |errno| Error::os("remove", object, errno);
    loop {
        let no_fork = no_fork();
        let Some(file) = open().map_err(failed)? else {
            return Ok(None);
        };
        match fs::flock(&file, fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some((file, no_fork))),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        // Others may fork while we wait.
        drop((file, no_fork));
        if deadline.left().is_zero() {
            let cause = "another process is removing it and does not come to an end; continue or end that process (see lslocks)";
            return Err(Error::new(ErrorKind::Conflict, "remove", object, cause));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether this process may take the name out of the directory: asked of the kernel, which alone
/// knows of sticky bits, capabilities and what else there is. It looks at all that before it finds
/// that the call is the wrong one for what has the name, and refuses it for that.
pub(crate) fn check_removable(
    parent: BorrowedFd<'_>,
    file_name: &str,
    kind: Kind,
) -> std::result::Result<(), Errno> {
    let (wrong, refusal) = match kind.file_type() {
        FileType::Directory => (AtFlags::empty(), Errno::ISDIR),
        _ => (AtFlags::REMOVEDIR, Errno::NOTDIR),
    };
    match fs::unlinkat(parent, file_name, wrong) {
        Err(errno) if errno == refusal => Ok(()),
        // Somebody put something else in its place, which is gone now.
        Ok(()) => Err(Errno::NOENT),
        Err(errno) => Err(errno),
    }
}

/// Opens a regular file and reads its header, which is not checked yet.
pub(crate) fn open_file(
    directory: &OwnedFd,
    file_name: &str,
    protection: Protection,
    object: &str,
    what: &str,
) -> Result<(File, Facts, [u8; HEADER_LEN])> {
    let problem = |problem: &str| super::damaged(object, &format!("has a {what} that {problem}"));
    let access = match protection {
        Protection::ReadOnly => OFlags::RDONLY,
        Protection::ReadWrite => OFlags::RDWR,
    };
    let flags = access | FOUND_FILE;
    let file =
        fs::openat(directory, file_name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP => problem("is a symbolic link"),
            Errno::ISDIR | Errno::NXIO => problem("is not a regular file"),
            errno => Error::os("open", object, errno),
        })?;
    let stat = fs::fstat(&file).map_err(|errno| Error::os("open", object, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(problem("is not a regular file"));
    }
    let (file, mut header) = (File::from(file), [0; HEADER_LEN]);
    read_at(&file, &mut header, 0, object)?;
    Ok((file, Facts::of(&stat), header))
}

/// Fills a new file.
pub(crate) fn write_new_file(file: &OwnedFd, new: &NewFile) -> std::result::Result<(), Errno> {
    fs::ftruncate(file, new.len as u64)?;
    fs::fallocate(file, FallocateFlags::empty(), 0, new.allocated as u64)?;
    rustix::io::pwrite(file, &new.header, 0)?;
    rustix::io::pwrite(file, &STATE_LIVE.to_ne_bytes(), STATE as u64)?;
    let mode = new.writers.mode_bits(0o6) | new.readers.mode_bits(0o4);
    fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// How a new file is made: by nobody else, through no link.
pub(crate) const NEW_FILE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whether what is there stays in memory.
pub(crate) fn is_in_memory(fd: impl AsFd) -> std::result::Result<bool, Errno> {
    Ok(fs::fstatfs(fd)?.f_type == TMPFS_MAGIC)
}

/// Refuses what is on a disk.
pub(crate) fn require_memory(fd: impl AsFd, object: &str) -> Result<()> {
    if is_in_memory(fd).map_err(|errno| Error::os("open", object, errno))? {
        return Ok(());
    }
    let cause = "its space is not on tmpfs, so its content would land on a disk; set CORKBOARD_DIR to a directory below /dev/shm";
    Err(Error::new(ErrorKind::Unsupported, "open", object, cause))
}

/// The longest file that this process may write, if that is less than so many bytes: the kernel does
/// not refuse longer ones, it ends the process.
pub(crate) fn file_limit_below(len: usize) -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    limit.filter(|limit| *limit < len as u64)
}

/// Refuses files longer than this process may write.
pub(crate) fn check_file_limit(len: usize, operation: &'static str, object: &str) -> Result<()> {
    match file_limit_below(len) {
        Some(limit) => {
            let cause = format!(
                "it needs a file of {len} bytes, the limit of this process is {limit}; raise it (ulimit -f) or lower the capacity"
            );
            Err(Error::new(ErrorKind::NoSpace, operation, object, cause))
        }
        None => Ok(()),
    }
}

pub(crate) fn identity(stat: &fs::Stat) -> Identity {
    Facts::of(stat).identity
}

/// Whether the object's first file is still the one with this identity.
pub(crate) fn is_in_place(space: &Space, kind: Kind, name: &str, expected: Identity) -> bool {
    is_at(&space.path().join(main_file(kind, name)), expected)
}

/// Whether the file at the path is the one with this identity. Where nobody lets us look, as
/// after giving up rights, it is taken to be.
pub(crate) fn is_at(path: &Path, expected: Identity) -> bool {
    match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => identity(&stat) == expected,
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR),
    }
}

/// Deletes a directory and whatever is in it.
pub(crate) fn delete(
    parent: BorrowedFd<'_>,
    directory_name: &str,
) -> std::result::Result<(), Errno> {
    let name = std::ffi::CString::new(directory_name).map_err(|_| Errno::INVAL)?;
    delete_to(parent, &name, MAX_DEPTH)
}

/// A board has no directories in it; somebody may have put some there.
const MAX_DEPTH: u32 = 16;

fn delete_to(
    parent: BorrowedFd<'_>,
    directory_name: &std::ffi::CStr,
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

/// How a file or directory under a temporary name is opened to look at its lock.
const TEMPORARY: OFlags = OFlags::RDONLY.union(FOUND_FILE);

/// Deletes what its builder or remover left behind, unless that process is alive.
pub(crate) fn sweep(space: &Space, temporary: &str) -> Result<()> {
    let parent = space.directory()?;
    match sweep_in(parent.as_fd(), temporary) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::os("fix", temporary, errno)),
    }
}

fn sweep_in(parent: BorrowedFd<'_>, temporary: &str) -> std::result::Result<(), Errno> {
    let file = fs::openat(parent, temporary, TEMPORARY, Mode::empty())?;
    match fs::flock(&file, fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let is_directory = FileType::from_raw_mode(fs::fstat(&file)?.st_mode) == FileType::Directory;
    if is_directory {
        delete(parent, temporary)
    } else {
        fs::unlinkat(parent, temporary, AtFlags::empty())
    }
}

/// Whether the process that builds or removes this is gone.
pub(crate) fn is_stale(parent: &OwnedFd, temporary: &str) -> bool {
    fs::openat(parent, temporary, TEMPORARY, Mode::empty())
        .is_ok_and(|file| fs::flock(&file, fs::FlockOperation::NonBlockingLockShared).is_ok())
}

/// Makes a file or a directory under a temporary name. The lock on it says that its builder is
/// alive. `make` returns nothing when a sweep came in between, which took what it made for a dead
/// builder's; `undo` says how that is deleted.
pub(crate) fn build(
    parent: &OwnedFd,
    object: &str,
    undo: AtFlags,
    make: impl Fn(&str) -> std::result::Result<Option<OwnedFd>, Errno>,
) -> Result<(String, OwnedFd)> {
    let failed = |errno| Error::os("create", object, errno);
    for _ in 0..100 {
        let temporary = format!("{BUILDING}{:016x}", random().map_err(failed)?);
        let Some(made) = make(&temporary).map_err(failed)? else {
            continue;
        };
        let locked = fs::flock(&made, fs::FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| fs::fstat(&made));
        match locked {
            Ok(stat) if stat.st_nlink > 0 => return Ok((temporary, made)),
            Ok(_) => {}
            Err(errno) => {
                let _ = fs::unlinkat(parent, &temporary, undo);
                // Who looks whether the builder is alive has the lock for a moment; who keeps it is
                // not waited for.
                if errno != Errno::AGAIN {
                    return Err(failed(errno));
                }
            }
        }
    }
    let cause = "somebody locks whatever is built in its space; find out who, and end that";
    Err(Error::new(ErrorKind::Conflict, "create", object, cause))
}

/// Makes an object of one file.
pub(super) fn create_single(
    space: &Space,
    kind: Kind,
    name: &str,
    new: NewFile,
) -> Result<Option<Created>> {
    let object = label(kind, name);
    let failed = |errno| Error::os("create", &object, errno);
    let parent = space.directory()?;
    require_memory(&parent, &object)?;
    check_file_limit(new.len, "create", &object)?;
    // A child would keep the lock that says that the builder is alive.
    let _no_fork = no_fork();
    let (temporary, file) = build(&parent, &object, AtFlags::empty(), |temporary| {
        let file = fs::openat(&parent, temporary, NEW_FILE, Mode::from_raw_mode(0o600))?;
        hook::point("create.begun");
        Ok(Some(file))
    })?;
    let result = (|| {
        write_new_file(&file, &new)?;
        hook::point("create.file");
        let (from, to) = (&temporary, file_name(kind, name));
        // A sweep that came before the lock is no harm: then there is nothing to rename.
        match fs::renameat_with(&parent, from, &parent, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Some(Created)),
            Err(Errno::EXIST | Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    })();
    hook::point("create.renamed");
    if !matches!(result, Ok(Some(_))) {
        let _ = fs::unlinkat(&parent, &temporary, AtFlags::empty());
    }
    result.map_err(failed)
}

/// What a remover maps of a file, and whether that is all: only its beginning, where the state is,
/// if there is no memory for what somebody took away from the rest. The beginning has memory, for
/// its header was read.
pub(crate) fn whole_or_beginning(
    whole: std::result::Result<Mapping, Errno>,
    file: &File,
    generation: Generation,
) -> std::result::Result<(Mapping, bool), Errno> {
    if let Ok(whole) = whole {
        return Ok((whole, true));
    }
    let (writable, inherit) = (Protection::ReadWrite, Inheritance::Child);
    Ok((
        Mapping::new(file, PAGE, writable, inherit, generation)?,
        false,
    ))
}

impl Single {
    /// Removes the object. `close` makes sure of the open file that nobody uses it in a way that
    /// forbids that; `wake` wakes those who wait in it.
    pub(crate) fn remove(
        self,
        space: &Space,
        name: &str,
        removal: Removal,
        close: impl FnOnce(&File) -> Result<()>,
        wake: impl FnOnce(&Mapping),
    ) -> Result<()> {
        name::check("remove", name)?;
        let object = label(self.kind, name);
        let failed = |errno| Error::os("remove", &object, errno);
        let generation = Generation::current().map_err(failed)?;
        let parent = space.directory()?;
        let file_name = file_name(self.kind, name);
        let found = fs::statat(&parent, &file_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {}
            // No object, but it has an object's name.
            _ if removal == Removal::Finish => return Ok(()),
            FileType::Directory => return delete(parent.as_fd(), &file_name).map_err(failed),
            _ => {
                return fs::unlinkat(&parent, &file_name, AtFlags::empty()).map_err(failed);
            }
        }
        let flags = OFlags::RDWR | FOUND_FILE;
        // Removers take turns, so that none deletes a successor of what it looked at.
        let opened = open_in_turn(&object, || {
            fs::openat(&parent, &file_name, flags, Mode::empty()).map(Some)
        })?;
        let Some((file, _no_fork)) = opened else {
            return Err(failed(Errno::NOENT));
        };
        let file = File::from(file);
        let ours = file.facts().map_err(failed)?;
        let now = fs::statat(&parent, &file_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if identity(&now) != ours.identity {
            return Err(failed(Errno::NOENT));
        }
        let is_whole = ours.len == self.len as u64 && {
            let mut header = [0; HEADER_LEN];
            // One that is empty has the length of one that is damaged.
            read_at(&file, &mut header, 0, &object).is_ok()
                && Header::decode(&header, self.role, "file", &object).is_ok()
        };
        let mapped = match is_whole {
            true => {
                let whole = match self.lacks_memory(&ours) {
                    true => Err(Errno::NOSPC),
                    false => self.map(&file, generation),
                };
                Some(whole_or_beginning(whole, &file, generation).map_err(failed)?)
            }
            false => None,
        };
        let state = mapped.as_ref().map(|(mapping, _)| mapping.word(STATE));
        let was = state.map(|state| state.load(Ordering::Relaxed));
        if removal == Removal::Finish && was != Some(STATE_REMOVED) {
            return Ok(());
        }
        // Before everybody is told.
        check_removable(parent.as_fd(), &file_name, self.kind).map_err(failed)?;
        close(&file).map_err(|error| error.on(&object))?;
        let mark = |value: u64| {
            if let Some(state) = state {
                state.store(value, Ordering::Release);
            }
        };
        mark(STATE_REMOVED);
        hook::point("remove.marked");
        if let Err(errno) = fs::unlinkat(&parent, &file_name, AtFlags::empty()) {
            // Who may write to the file need not be allowed to delete it.
            mark(was.unwrap_or(STATE_LIVE));
            return Err(failed(errno));
        }
        hook::point("remove.deleted");
        if let Some((mapping, true)) = &mapped {
            wake(mapping);
        }
        Ok(())
    }
}
