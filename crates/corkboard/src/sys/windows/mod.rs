//! Windows, through windows-sys.
//!
//! What Linux has in one file is here two things: a small file on disk, which has a name and lock
//! bytes, and sections of memory (backed by the page file, never by that file), which have the
//! content. Sections live until the last handle on them is closed.

pub(crate) mod barrier;
pub(crate) mod clock;
mod errno;
pub(crate) mod file;
pub(crate) mod lock;
mod park;
pub(crate) mod process;
pub(crate) mod region;
pub(crate) mod section;
pub(crate) mod security;
pub(crate) mod signal;
pub(crate) mod wait;
pub(crate) mod watch;

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Security::Cryptography::{
    BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom,
};

pub(crate) use errno::Errno;

/// A number nobody else has.
pub(crate) fn random() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer has as many bytes as are asked for; no algorithm handle is needed with
    // this flag.
    let status = unsafe {
        BCryptGenRandom(
            std::ptr::null_mut(),
            bytes.as_mut_ptr(),
            bytes.len() as u32,
            BCRYPT_USE_SYSTEM_PREFERRED_RNG,
        )
    };
    match status {
        0 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Errno::IO),
    }
}

/// A text as the system takes it.
pub(crate) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// Takes over a handle that a call returned, or says why there is none.
///
/// # Safety
/// The handle is null, invalid or one that nobody else closes.
pub(crate) unsafe fn owned(handle: HANDLE) -> Result<OwnedHandle, Errno> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(Errno::last());
    }
    // SAFETY: as the caller vouches.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}
