//! Sleeping until something is created in a directory.

use std::path::Path;
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NOTIFY_CHANGE_FILE_NAME, FindCloseChangeNotification, FindFirstChangeNotificationW,
    FindNextChangeNotification,
};
use windows_sys::Win32::System::Threading::WaitForSingleObject;

use super::wait::milliseconds;
use super::wide;

/// Without notifications, how long to sleep before looking again.
const SLICE: Duration = Duration::from_millis(2);
/// With them, how long at most.
const LONGEST: Duration = Duration::from_millis(500);

/// Tells when a name appears in a directory.
pub(crate) struct Watch(HANDLE);

impl Watch {
    /// Watches from now on. Where the system refuses, [`wait`](Self::wait) sleeps for short.
    pub(crate) fn new(directory: &Path) -> Self {
        // SAFETY: the path ends with a zero.
        Self(unsafe {
            FindFirstChangeNotificationW(wide(directory).as_ptr(), 0, FILE_NOTIFY_CHANGE_FILE_NAME)
        })
    }

    /// Sleeps until a name appeared, `timeout` at most; may return early.
    pub(crate) fn wait(&self, timeout: Duration) {
        if self.0 == INVALID_HANDLE_VALUE {
            std::thread::sleep(timeout.min(SLICE));
            return;
        }
        // SAFETY: the handle is open, and of the kind that these calls take.
        unsafe {
            if WaitForSingleObject(self.0, milliseconds(timeout.min(LONGEST))) == WAIT_OBJECT_0 {
                FindNextChangeNotification(self.0);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0 != INVALID_HANDLE_VALUE {
            // SAFETY: open, and closed only here.
            unsafe { FindCloseChangeNotification(self.0) };
        }
    }
}
