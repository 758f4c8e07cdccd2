//! Errors of the system, by the names that the rest of the crate knows.

use std::io;

use windows_sys::Win32::Foundation as win;

/// What the system says when it refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(u32);

impl Errno {
    pub(crate) const ACCESS: Self = Self(win::ERROR_ACCESS_DENIED);
    pub(crate) const AGAIN: Self = Self(win::ERROR_BUSY);
    pub(crate) const BADF: Self = Self(win::ERROR_INVALID_HANDLE);
    pub(crate) const DQUOT: Self = Self(win::ERROR_DISK_QUOTA_EXCEEDED);
    pub(crate) const EXIST: Self = Self(win::ERROR_FILE_EXISTS);
    pub(crate) const FAULT: Self = Self(win::ERROR_NOACCESS);
    pub(crate) const FBIG: Self = Self(win::ERROR_FILE_TOO_LARGE);
    pub(crate) const INTR: Self = Self(win::ERROR_OPERATION_ABORTED);
    pub(crate) const INVAL: Self = Self(win::ERROR_INVALID_PARAMETER);
    pub(crate) const IO: Self = Self(win::ERROR_IO_DEVICE);
    pub(crate) const LOOP: Self = Self(win::ERROR_REPARSE_TAG_INVALID);
    pub(crate) const NOENT: Self = Self(win::ERROR_FILE_NOT_FOUND);
    pub(crate) const NOLCK: Self = Self(win::ERROR_NO_SYSTEM_RESOURCES);
    pub(crate) const NOMEM: Self = Self(win::ERROR_NOT_ENOUGH_MEMORY);
    pub(crate) const NOSPC: Self = Self(win::ERROR_DISK_FULL);
    pub(crate) const NOSYS: Self = Self(win::ERROR_CALL_NOT_IMPLEMENTED);
    pub(crate) const OPNOTSUPP: Self = Self(win::ERROR_NOT_SUPPORTED);
    pub(crate) const PERM: Self = Self(win::ERROR_PRIVILEGE_NOT_HELD);
    pub(crate) const ROFS: Self = Self(win::ERROR_WRITE_PROTECT);
    /// Another program has the file open in a way that excludes us.
    pub(crate) const SHARED: Self = Self(win::ERROR_SHARING_VIOLATION);

    /// Of the call before, in this thread.
    pub(crate) fn last() -> Self {
        // SAFETY: reads this thread's last error.
        Self::of(unsafe { win::GetLastError() })
    }

    /// Errors that mean the same are one.
    pub(crate) fn of(code: u32) -> Self {
        match code {
            win::ERROR_PATH_NOT_FOUND | win::ERROR_BAD_NETPATH | win::ERROR_BAD_NET_NAME => {
                Self::NOENT
            }
            win::ERROR_ALREADY_EXISTS => Self::EXIST,
            win::ERROR_OUTOFMEMORY => Self::NOMEM,
            win::ERROR_COMMITMENT_LIMIT | win::ERROR_HANDLE_DISK_FULL => Self::NOSPC,
            win::ERROR_INVALID_FUNCTION => Self::NOSYS,
            code => Self(code),
        }
    }

    pub(crate) fn from_io_error(error: &io::Error) -> Option<Self> {
        error
            .raw_os_error()
            .map(|code| Self::of(code.cast_unsigned()))
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0.cast_signed())
    }
}
