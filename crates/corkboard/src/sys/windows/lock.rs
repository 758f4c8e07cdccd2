//! Locks on single bytes of a file, see `LockFileEx`. A lock belongs to a handle, and ends with it.
//!
//! The system cannot be asked whether a byte is locked: who wants to know takes the lock and gives
//! it back. So somebody else's attempt may fail for that moment; attempts are made more than once.

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, GetLastError};
use windows_sys::Win32::Storage::FileSystem::{
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::Errno;
use super::file::File;

/// How often to try, for somebody may just be asking.
const ATTEMPTS: u32 = 3;
/// Bytes of a file that has several parts are this far from each other.
const PARTS: u64 = 1 << 50;

/// Takes the byte for this handle, unless another one has it.
pub(crate) fn try_lock(file: &File, byte: u64) -> Result<bool, Errno> {
    try_often(|| take(file, byte, LOCKFILE_EXCLUSIVE_LOCK))
}

/// As [`try_lock`], together with others who do the same.
pub(crate) fn try_share(file: &File, byte: u64) -> Result<bool, Errno> {
    try_often(|| take(file, byte, 0))
}

/// Gives the byte back, however often this handle has taken it.
pub(crate) fn unlock(file: &File, byte: u64) -> Result<(), Errno> {
    while give_back(file, byte) {}
    Ok(())
}

/// As [`unlock`], for `count` bytes.
pub(crate) fn unlock_range(file: &File, byte: u64, count: u64) -> Result<(), Errno> {
    (byte..byte + count).try_for_each(|byte| unlock(file, byte))
}

/// Whether another handle holds one of `count` bytes alone. Ask through a handle of your own.
pub(crate) fn is_locked(file: &File, byte: u64, count: u64) -> Result<bool, Errno> {
    for byte in byte..byte + count {
        if !take(file, byte, 0)? {
            return Ok(true);
        }
        give_back(file, byte);
    }
    Ok(false)
}

/// As [`is_locked`], of one byte, and shared locks do count.
pub(crate) fn is_locked_or_shared(file: &File, byte: u64) -> Result<bool, Errno> {
    let is_free = take(file, byte, LOCKFILE_EXCLUSIVE_LOCK)?;
    if is_free {
        give_back(file, byte);
    }
    Ok(!is_free)
}

fn try_often(attempt: impl Fn() -> Result<bool, Errno>) -> Result<bool, Errno> {
    for _ in 1..ATTEMPTS {
        if attempt()? {
            return Ok(true);
        }
        std::thread::yield_now();
    }
    attempt()
}

fn take(file: &File, byte: u64, flags: u32) -> Result<bool, Errno> {
    let mut place = place(file, byte);
    let flags = flags | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open, and `place` outlives the call, which does not wait.
    let taken = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut place) };
    if taken != 0 {
        return Ok(true);
    }
    // SAFETY: reads this thread's last error.
    match unsafe { GetLastError() } {
        // Some versions leave no error behind when the lock is taken.
        0 | ERROR_LOCK_VIOLATION | ERROR_IO_PENDING => Ok(false),
        code => Err(Errno::of(code)),
    }
}

/// Gives one lock on the byte back; whether there was one.
fn give_back(file: &File, byte: u64) -> bool {
    let mut place = place(file, byte);
    // SAFETY: as in `take`.
    unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut place) != 0 }
}

fn place(file: &File, byte: u64) -> OVERLAPPED {
    let at = byte + file.part_index() * PARTS;
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = at as u32;
    place.Anonymous.Anonymous.OffsetHigh = (at >> 32) as u32;
    place
}
