//! A file descriptor for event loops.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::hub::{self, Action, Ticket};
use super::sealed;
use crate::error::{Error, Result};

/// A file descriptor that becomes readable when a handle has something new.
///
/// When it is readable, [`clear`](Self::clear) it, and then read from the handle: whatever comes
/// after the clearing makes it readable again. Several publications may make it readable once.
/// When the object is removed, or somebody deletes its files, it becomes readable a last time; a
/// wait with a time-out of zero then says `Removed`.
///
/// In a fork's child it never becomes readable.
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
    fd: Arc<OwnedFd>,
    _ticket: Ticket,
}

impl Notifier {
    pub(crate) fn new(handle: &dyn sealed::Waitable) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags).map_err(|errno| Error::os("make", "a notifier", errno))?;
        let fd = Arc::new(fd);
        let ticket = hub::register(handle.sleeper(), Action::Signal(fd.clone()))?;
        Ok(Self {
            fd,
            _ticket: ticket,
        })
    }

    /// Makes the descriptor unreadable until something new comes.
    ///
    /// # Errors
    /// `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: nothing here is shared.
    pub fn clear(&self) -> Result<()> {
        let mut count = [0; 8];
        match rustix::io::read(&self.fd, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(errno) => Err(Error::os("clear", "a notifier", errno)),
        }
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notifier").field(&self.fd).finish()
    }
}
