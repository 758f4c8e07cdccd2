//! Objects as files: opened without following links, created by one rename, removed for good.
//!
//! A board is a directory of files (see `board::files`); a lock or an event is one file. What both
//! need is here, and what one file needs.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::clock::{Deadline, wall_ns};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{HEADER_LEN, Header, STATE, STATE_LIVE, STATE_REMOVED};
use crate::hook;
use crate::name;
use crate::space::{Access, Kind, Space};
use crate::sync::Ordering;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, NoFork, no_fork};

const TMPFS_MAGIC: i64 = 0x0102_1994;
/// How a directory of the space is opened: never through a symbolic link.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How a file that others may have put there is opened, whether for reading or writing: through no
/// link, and not held up by a pipe in its place.
pub(crate) const FOUND_FILE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);
/// What is being built begins with this.
pub(crate) const BUILDING: &str = ".new-";

/// How errors name an object.
pub(crate) fn label(kind: Kind, name: &str) -> String {
    format!("{kind} {name:?}")
}

/// The name of an object in the space's directory.
pub(crate) fn file_name(kind: Kind, name: &str) -> String {
    format!("{name}{}", kind.suffix())
}

/// The file that has the object's state, from its space.
fn main_file(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Board => format!("{}/data", file_name(kind, name)),
        Kind::Lock | Kind::Event => file_name(kind, name),
    }
}

/// Which object a removal is meant for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Whatever has the name.
    Start,
    /// Only one whose remover died before it had freed the name.
    Finish,
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
) -> Result<(OwnedFd, fs::Stat, [u8; HEADER_LEN])> {
    let problem = |problem: &str| damaged(object, &format!("has a {what} that {problem}"));
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
    let mut header = [0; HEADER_LEN];
    read_at(&file, &mut header, 0, object)?;
    Ok((file, stat, header))
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

/// Refuses an object that somebody is removing.
pub(crate) fn check_live(main: &OwnedFd, object: &str) -> Result<()> {
    let mut state = [0];
    read_words_at(main, &mut state, STATE, object)?;
    match state[0] {
        STATE_LIVE => Ok(()),
        STATE_REMOVED => Err(Error::new(
            ErrorKind::NotFound,
            "open",
            object,
            "it is being removed; remove it again if that does not end",
        )),
        _ => Err(damaged(object, "has an impossible state")),
    }
}

/// Makes a file of `len` bytes of memory that begins with `header`.
pub(crate) fn write_new_file(
    file: &OwnedFd,
    header: &[u8; HEADER_LEN],
    len: usize,
    allocated: usize,
    mode: u32,
) -> std::result::Result<(), Errno> {
    fs::ftruncate(file, len as u64)?;
    fs::fallocate(file, FallocateFlags::empty(), 0, allocated as u64)?;
    rustix::io::pwrite(file, header, 0)?;
    rustix::io::pwrite(file, &STATE_LIVE.to_ne_bytes(), STATE as u64)?;
    fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// How a new file is made: by nobody else, through no link.
pub(crate) const NEW_FILE: OFlags = OFlags::RDWR
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The permission bits in `bits` (as for others), for everyone whom `access` lets in.
pub(crate) fn mode_bits(access: Access, bits: u32) -> u32 {
    match access {
        Access::Owner => bits << 6,
        Access::Group => bits << 6 | bits << 3,
        Access::Everyone => bits << 6 | bits << 3 | bits,
    }
}

pub(crate) fn require_tmpfs(fd: BorrowedFd<'_>, object: &str) -> Result<()> {
    let stat = fs::fstatfs(fd).map_err(|errno| Error::os("open", object, errno))?;
    if stat.f_type == TMPFS_MAGIC {
        return Ok(());
    }
    let cause = "its space is not on tmpfs, so its content would land on a disk; set CORKBOARD_DIR to a directory below /dev/shm";
    Err(Error::new(ErrorKind::Unsupported, "open", object, cause))
}

pub(crate) fn damaged(object: &str, what: &str) -> Error {
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

/// What tells one file from every other.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(stat: &fs::Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
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

/// Whether a remover marked the object and did not free its name.
pub(crate) fn is_marked_removed(space: &Space, kind: Kind, name: &str) -> bool {
    let state = || -> Result<u64> {
        let object = label(kind, name);
        let (main, parent) = (main_file(kind, name), space.directory()?);
        let (file, ..) = open_file(&parent, &main, Protection::ReadOnly, &object, "file")?;
        let mut state = [0];
        read_words_at(&file, &mut state, STATE, &object)?;
        Ok(state[0])
    };
    state().is_ok_and(|state| state == STATE_REMOVED)
}

/// Tries again while somebody else creates or removes the object at the same time.
///
/// `open` says `NotFound` when there is none, `create` returns `false` when another process was
/// first, `finish` removes one whose remover died.
pub(crate) fn create_or_open<T>(
    object: &str,
    open: impl Fn() -> Result<T>,
    create: impl Fn() -> Result<bool>,
    finish: impl Fn() -> Result<()>,
) -> Result<T> {
    for _ in 0..1000 {
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        if !create()? {
            // Taken: by another creator, or by an object whose remover died.
            match finish() {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    let cause = "it is removed as fast as it is created; find out by whom";
    Err(Error::new(ErrorKind::Conflict, "create", object, cause))
}

/// An object that is one file.
#[derive(Clone, Copy)]
pub(crate) struct Single {
    pub(crate) kind: Kind,
    /// The role in its header.
    pub(crate) role: u64,
    /// The file's length in bytes.
    pub(crate) len: usize,
}

/// An object of one file, open.
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) stat: fs::Stat,
    pub(crate) header: Header,
}

/// A header's first own word of an object that is one file: when it was created, in nanoseconds
/// since 1970.
pub(crate) const CREATED: usize = 0;

impl Single {
    /// Opens an existing object.
    pub(crate) fn open(self, space: &Space, name: &str, protection: Protection) -> Result<Opened> {
        name::check("open", name)?;
        let object = label(self.kind, name);
        let parent = space.directory()?;
        let file_name = file_name(self.kind, name);
        let (file, stat, header) = open_file(&parent, &file_name, protection, &object, "file")?;
        let header = Header::decode(&header, self.role, "file", &object)?;
        if u64::try_from(stat.st_size) != Ok(self.len as u64) {
            return Err(damaged(&object, "has a file of the wrong length"));
        }
        require_tmpfs(file.as_fd(), &object)?;
        check_live(&file, &object)?;
        Ok(Opened { file, stat, header })
    }

    /// Makes the object under a temporary name and moves it into place. `Ok(false)` when another
    /// process was first. The lock on the file says that its builder is alive.
    pub(crate) fn create(
        self,
        space: &Space,
        name: &str,
        own: &[u64],
        access: Access,
    ) -> Result<bool> {
        name::check("create", name)?;
        let object = label(self.kind, name);
        let failed = |errno| Error::os("create", &object, errno);
        let parent = space.directory()?;
        require_tmpfs(parent.as_fd(), &object)?;
        let mut header = Header {
            instance: random().map_err(failed)?,
            role: self.role,
            own: [0; _],
        };
        header.own[CREATED] = wall_ns();
        header.own[CREATED + 1..][..own.len()].copy_from_slice(own);
        let temporary = format!("{BUILDING}{:016x}", random().map_err(failed)?);
        // A child would keep the lock that says that the builder is alive.
        let _no_fork = no_fork();
        let file = fs::openat(&parent, &temporary, NEW_FILE, Mode::from_raw_mode(0o600))
            .map_err(failed)?;
        hook::point("create.begun");
        let result = (|| {
            fs::flock(&file, fs::FlockOperation::LockExclusive)?;
            let mode = mode_bits(access, 0o6);
            write_new_file(&file, &header.encode(), self.len, self.len, mode)?;
            hook::point("create.file");
            let (from, to) = (&temporary, file_name(self.kind, name));
            // A sweep that came before the lock is no harm: then there is nothing to rename.
            match fs::renameat_with(&parent, from, &parent, to, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST | Errno::NOENT) => Ok(false),
                Err(errno) => Err(errno),
            }
        })();
        hook::point("create.renamed");
        if result != Ok(true) {
            let _ = fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        result.map_err(failed)
    }

    /// Makes sure that all of the file has memory, so that touching it cannot fail: somebody may
    /// have made holes in it.
    pub(crate) fn allocate(self, file: &OwnedFd) -> std::result::Result<(), Errno> {
        fs::fallocate(file, FallocateFlags::empty(), 0, self.len as u64)
    }

    /// Maps the file for writing, with memory behind all of it.
    pub(crate) fn map(
        self,
        file: &OwnedFd,
        generation: Generation,
    ) -> std::result::Result<Mapping, Errno> {
        self.allocate(file)?;
        let (writable, inherit) = (Protection::ReadWrite, Inheritance::Child);
        Mapping::new(file.as_fd(), self.len, writable, inherit, generation)
    }

    /// Removes the object. `close` makes sure of the open file that nobody uses it in a way that
    /// forbids that; `wake` wakes those who wait in it.
    pub(crate) fn remove(
        self,
        space: &Space,
        name: &str,
        removal: Removal,
        close: impl FnOnce(&OwnedFd) -> Result<()>,
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
        let ours = fs::fstat(&file).map_err(failed)?;
        let now = fs::statat(&parent, &file_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if identity(&now) != identity(&ours) {
            return Err(failed(Errno::NOENT));
        }
        let is_whole = u64::try_from(ours.st_size) == Ok(self.len as u64) && {
            let mut header = [0; HEADER_LEN];
            read_at(&file, &mut header, 0, &object)?;
            Header::decode(&header, self.role, "file", &object).is_ok()
        };
        let mapping = match is_whole {
            true => Some(self.map(&file, generation).map_err(failed)?),
            false => None,
        };
        let state = mapping.as_ref().map(|mapping| mapping.word(STATE));
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
        if let Some(mapping) = &mapping {
            wake(mapping);
        }
        Ok(())
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
pub(crate) fn sweep(parent: BorrowedFd<'_>, temporary: &str) -> std::result::Result<bool, Errno> {
    let file = fs::openat(parent, temporary, TEMPORARY, Mode::empty())?;
    match fs::flock(&file, fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    let is_directory = FileType::from_raw_mode(fs::fstat(&file)?.st_mode) == FileType::Directory;
    if is_directory {
        delete(parent, temporary)?;
    } else {
        fs::unlinkat(parent, temporary, AtFlags::empty())?;
    }
    Ok(true)
}

/// Whether the process that builds or removes this is gone.
pub(crate) fn is_stale(parent: BorrowedFd<'_>, temporary: &str) -> bool {
    fs::openat(parent, temporary, TEMPORARY, Mode::empty())
        .is_ok_and(|file| fs::flock(&file, fs::FlockOperation::NonBlockingLockShared).is_ok())
}
