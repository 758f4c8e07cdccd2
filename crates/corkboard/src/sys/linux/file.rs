//! Open files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs;

use super::Errno;

/// How a directory is opened: never through a symbolic link.
pub(crate) const DIRECTORY: fs::OFlags = fs::OFlags::RDONLY
    .union(fs::OFlags::DIRECTORY)
    .union(fs::OFlags::NOFOLLOW)
    .union(fs::OFlags::CLOEXEC);

/// One of an object's files, or a lock file: open, with a description of its own.
pub(crate) struct File(OwnedFd);

/// What tells one file from every other.
pub(crate) type Identity = (u64, u64);

/// What the kernel says of a file.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) len: u64,
    /// The memory that it takes up, in bytes.
    pub(crate) allocated: u64,
    pub(crate) owner_uid: u32,
    pub(crate) owner_gid: u32,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Whether it has a name.
    pub(crate) is_linked: bool,
    /// When its name or permissions changed last, in nanoseconds since 1970.
    pub(crate) changed_ns: u64,
}

impl Facts {
    pub(crate) fn of(stat: &fs::Stat) -> Self {
        let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
        Self {
            identity: (stat.st_dev, stat.st_ino),
            len: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: (stat.st_blocks as u64).saturating_mul(512),
            owner_uid: stat.st_uid,
            owner_gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            is_linked: stat.st_nlink > 0,
            changed_ns: seconds.saturating_mul(1_000_000_000) + stat.st_ctime_nsec,
        }
    }

    /// Whether nobody but this user and root may do to the file what they like.
    pub(crate) fn is_owner_trusted(&self) -> bool {
        let us = rustix::process::geteuid().as_raw();
        [0, us].contains(&self.owner_uid)
    }
}

impl File {
    pub(crate) fn facts(&self) -> Result<Facts, Errno> {
        Ok(Facts::of(&fs::fstat(self)?))
    }

    /// Reads as many bytes as there are at `offset`; perhaps fewer than `buffer` has.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::pread(self, buffer, offset)
    }

    /// Allocates the file's first `len` bytes, so that touching them cannot fail.
    pub(crate) fn allocate(&self, len: usize) -> Result<(), Errno> {
        fs::fallocate(self, fs::FallocateFlags::empty(), 0, len as u64)
    }

    /// How many bytes from `offset` on have memory.
    pub(crate) fn allocated_from(&self, offset: usize) -> Result<u64, Errno> {
        let hole = fs::seek(self, fs::SeekFrom::Hole(offset as u64))?;
        Ok(hole.saturating_sub(offset as u64))
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
