//! Open-file-description locks on single bytes, see `fcntl(2)`.

use std::os::fd::{AsFd, AsRawFd};

use super::Errno;
use super::file::File;

/// Takes the byte for this open file description, unless another one has it.
pub(crate) fn try_lock(file: &File, byte: u64) -> Result<bool, Errno> {
    try_set(file, libc::F_WRLCK, byte)
}

/// As [`try_lock`], together with others who do the same.
pub(crate) fn try_share(file: &File, byte: u64) -> Result<bool, Errno> {
    try_set(file, libc::F_RDLCK, byte)
}

/// Gives the byte back, for every copy of this open file description.
pub(crate) fn unlock(file: &File, byte: u64) -> Result<(), Errno> {
    unlock_range(file, byte, 1)
}

/// As [`unlock`], for `count` bytes.
pub(crate) fn unlock_range(file: &File, byte: u64, count: u64) -> Result<(), Errno> {
    set(file, libc::F_UNLCK, byte, count)
}

/// Whether another open file description holds one of `count` bytes for writing. Ask through a
/// description of your own: the holder's cannot see its own lock. Reading locks, which anyone may
/// take who may read the file, do not count.
pub(crate) fn is_locked(file: &File, byte: u64, count: u64) -> Result<bool, Errno> {
    is_refused(file, libc::F_RDLCK, byte, count)
}

/// As [`is_locked`], of one byte, and reading locks do count.
pub(crate) fn is_locked_or_shared(file: &File, byte: u64) -> Result<bool, Errno> {
    is_refused(file, libc::F_WRLCK, byte, 1)
}

/// Whether somebody else's lock would keep us from taking one of this kind.
fn is_refused(file: &File, kind: libc::c_int, byte: u64, count: u64) -> Result<bool, Errno> {
    let mut lock = request(kind, byte, count);
    // SAFETY: `lock` is a valid `struct flock` that outlives the call, and `file` is open.
    let status = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    if status == -1 {
        return Err(last_error());
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

fn try_set(file: &File, kind: libc::c_int, byte: u64) -> Result<bool, Errno> {
    match set(file, kind, byte, 1) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn set(file: &File, kind: libc::c_int, byte: u64, count: u64) -> Result<(), Errno> {
    let lock = request(kind, byte, count);
    // SAFETY: `lock` is a valid `struct flock` that outlives the call, and `file` is open.
    let status =
        unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if status == -1 {
        return Err(last_error());
    }
    Ok(())
}

fn request(kind: libc::c_int, byte: u64, count: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: count as libc::off_t,
        l_pid: 0,
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
