//! An object that event loops wait for.

use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, OwnedHandle};

use windows_sys::Win32::System::Threading::{CreateEventW, ResetEvent, SetEvent};

use super::{Errno, owned};

/// Signalled from when it is set until it is cleared.
#[derive(Debug)]
pub(crate) struct Signal(OwnedHandle);

impl Signal {
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: a new event without a name; the handle is ours.
        let event = unsafe { owned(CreateEventW(std::ptr::null(), 1, 0, std::ptr::null())) };
        event.map(Self)
    }

    pub(crate) fn set(&self) {
        // SAFETY: the handle is an event's, and open.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    pub(crate) fn clear(&self) -> Result<(), Errno> {
        // SAFETY: as above.
        match unsafe { ResetEvent(self.0.as_raw_handle()) } {
            0 => Err(Errno::last()),
            _ => Ok(()),
        }
    }
}

impl AsHandle for Signal {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}
