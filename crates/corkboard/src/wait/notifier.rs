//! A file descriptor for event loops.

use std::fmt;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, RawHandle};
use std::sync::Arc;

use super::hub::{self, Action, Ticket};
use super::sealed;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::signal::Signal;

/// A file descriptor that becomes readable when a handle has something new.
///
/// When it is readable, [`clear`](Self::clear) it, and then read from the handle: whatever comes
/// after the clearing makes it readable again. Several publications may make it readable once.
/// When the object is removed, or somebody deletes its files, it becomes readable a last time; a
/// wait with a time-out of zero then says `Removed`.
///
/// In a fork's child it is readable when the parent's is, and cannot be cleared: make one of a
/// handle opened there.
///
/// # Platforms
/// On Windows it is the handle of an event, signalled where a descriptor would be readable.
///
/// # If a process dies
/// *Recovers*: a value that a writer published and did not announce makes it readable within
/// 50 ms.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-notifier-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::board::{Options, Reader};
/// let mut writer = Options::new().writer(&space, "a")?;
/// let mut reader = Reader::open(&space, "a")?;
/// let notifier = reader.notifier()?;
/// writer.publish(b"news")?;
/// # let mut fds = [rustix::event::PollFd::new(&notifier, rustix::event::PollFlags::IN)];
/// # rustix::event::poll(&mut fds, None)?;
/// // ... epoll says that `notifier` is readable:
/// notifier.clear()?;
/// assert_eq!(reader.read()?.as_deref(), Some(&b"news"[..]));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Notifier {
    signal: Arc<Signal>,
    ticket: Ticket,
}

impl Notifier {
    pub(crate) fn new(handle: &dyn sealed::Waitable) -> Result<Self> {
        let signal = Signal::new().map_err(|errno| Error::os("make", "a notifier", errno))?;
        let signal = Arc::new(signal);
        let ticket = hub::register(handle.sleeper(), Action::Signal(signal.clone()))?;
        Ok(Self { signal, ticket })
    }

    /// Makes the descriptor unreadable until something new comes.
    ///
    /// # Errors
    /// `Forked`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: nothing here is shared.
    pub fn clear(&self) -> Result<()> {
        if !self.ticket.is_served() {
            // It would be cleared for the parent, which would never hear of it.
            let cause = "it was made before a fork; make one of a handle opened in the child";
            return Err(Error::new(ErrorKind::Forked, "clear", "a notifier", cause));
        }
        let cleared = self.signal.clear();
        cleared.map_err(|errno| Error::os("clear", "a notifier", errno))
    }
}

#[cfg(unix)]
impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(windows)]
impl AsHandle for Notifier {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.signal.as_handle()
    }
}

#[cfg(windows)]
impl AsRawHandle for Notifier {
    fn as_raw_handle(&self) -> RawHandle {
        self.as_handle().as_raw_handle()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notifier").field(&self.signal).finish()
    }
}
