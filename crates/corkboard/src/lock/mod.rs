//! Locks: many readers or one writer at a time, between processes.
//!
//! The kernel keeps the lock, on bytes of a file, and releases it when its holder ends, however
//! that ends. Two handles exclude each other also within one process. `docs/design.md` explains
//! the gates and how waiters are woken.
//!
//! # Examples
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-lock-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::lock::RwLock;
//! let mut lock = RwLock::open(&space, "printer")?;
//! {
//!     let _guard = lock.write()?;
//!     // Nobody else prints now.
//! }
//! assert!(lock.try_read()?.is_some());
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bells;
mod gates;
pub(crate) mod layout;
mod options;
mod path;
mod protocol;
mod stat;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::Result;
use crate::space::Space;
use gates::{Gates, Mode};

pub use crate::access::Access;
pub use options::Options;
pub use stat::{Handle, Hold, Stat, State, stat};
pub(crate) use stat::{remove, wipe};

/// A handle on a readers-writer lock between processes.
///
/// Writers do not starve: readers that come later wait for a writer that waits. Nor do readers: a
/// writer lets those go first that have waited before it came, for a millisecond, so that none who
/// is stopped keeps it out. There is no order among those of one kind.
///
/// A handle holds the lock once, until its guard is dropped. Two handles of one thread can wait for each other for ever, as
/// two processes can.
///
/// # If a process dies
/// *Recovers*: the kernel releases what it held, and the next one has it within milliseconds. A
/// stopped process is not dead and keeps what it holds; one that waits to write keeps readers out. The child of a fork holds nothing, and its
/// copies of handles say `Forked`; a child made by the bare `clone` system call, which runs no
/// fork handlers, keeps its parent's lock alive until it ends or executes another program.
///
/// # Platforms
/// Linux 5.14 or later. A handle keeps a descriptor, so a daemon that closes all it has opens its
/// locks after that.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-rwlock-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::lock::RwLock;
/// use std::time::Duration;
/// let mut lock = RwLock::open(&space, "database")?;
/// let guard = lock.read()?;
/// // No process writes now.
/// drop(guard);
/// if let Some(_guard) = lock.write_timeout(Duration::from_secs(1))? {
///     // No process reads or writes now.
/// }
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A guard borrows its handle, which cannot lock again meanwhile:
/// ```compile_fail,E0499
/// # fn lock_twice(lock: &mut corkboard::lock::RwLock) -> corkboard::Result<()> {
/// let first = lock.read()?;
/// let second = lock.read()?;
/// drop(first);
/// # Ok(())
/// # }
/// ```
pub struct RwLock {
    gates: Gates,
}

/// Holds a lock until it is dropped.
///
/// # If a process dies
/// *Recovers*: the kernel releases the lock.
#[must_use = "the lock is released when this is dropped"]
pub struct Guard<'a> {
    lock: &'a mut RwLock,
}

impl RwLock {
    /// Opens the lock `name` of a space, creating it when absent.
    ///
    /// # Errors
    /// `InvalidName`, `Damaged`, `Incompatible`, `PermissionDenied`, `NoSpace`; `Unsupported` when
    /// the space is not on tmpfs (see [`at`](Self::at)); `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden file that nobody opens.
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        Options::new().open(space, name)
    }

    /// Opens the lock in the file `path`, creating it when absent; on any file system, so that
    /// containers and computers that share it exclude each other.
    ///
    /// An existing file is never written to, unless it begins as one that this call made. One that
    /// this call creates, on a file system of this computer, has a page for waking those who wait,
    /// and belongs to the lock. Elsewhere they look again, after 5 ms at most.
    ///
    /// The file is opened again when it was deleted or replaced, so that the lock is always that
    /// of the file at this path. Who deletes it while it is held lets a second holder in: do not,
    /// leave it there.
    ///
    /// # Errors
    /// `Untrusted` when the last part of the path is a symbolic link; `Unsupported` when it is not
    /// a regular file, or its mount keeps locks from other computers (`nolock`);
    /// `PermissionDenied`; `NotFound` when its directory is missing; `Io`.
    ///
    /// # If a process dies
    /// *Recovers*, as for every lock. When a *computer* dies, the server of a network file system
    /// keeps its locks until their lease ends.
    ///
    /// # Platforms
    /// NFS passes the locks on (version 4 always, version 3 unless mounted `nolock` or
    /// `local_lock`), SMB does unless mounted `nobrl`. Not tested between computers.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().at(path)
    }

    /// Waits for the lock, together with other readers.
    ///
    /// # Errors
    /// `Removed` when the lock was removed, or its file deleted; `Forked`; `Io`.
    ///
    /// # Blocking
    /// Until writers are out. Of writers that come without pause, for about two turns.
    ///
    /// # If a process dies
    /// *Recovers*: what a dead process held is noticed within 5 ms of its release by the kernel.
    pub fn read(&mut self) -> Result<Guard<'_>> {
        self.wait(Mode::Read)
    }

    /// Waits for the lock, alone.
    ///
    /// # Errors
    /// As [`read`](Self::read); `PermissionDenied` when the file may only be read.
    ///
    /// # Blocking
    /// Until the others are out; readers that come meanwhile wait.
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn write(&mut self) -> Result<Guard<'_>> {
        self.wait(Mode::Write)
    }

    /// As [`read`](Self::read) without waiting: `None` when a writer has the lock or waits for it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn try_read(&mut self) -> Result<Option<Guard<'_>>> {
        self.lock(Mode::Read, Deadline::Now)
    }

    /// As [`write`](Self::write) without waiting: `None` when somebody has the lock.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn try_write(&mut self) -> Result<Option<Guard<'_>>> {
        self.lock(Mode::Write, Deadline::Now)
    }

    /// As [`read`](Self::read), for at most `timeout`; `None` on time-out.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Blocking
    /// For at most `timeout`, never for less unless it has the lock.
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn read_timeout(&mut self, timeout: Duration) -> Result<Option<Guard<'_>>> {
        self.lock(Mode::Read, Deadline::after(timeout))
    }

    /// As [`write`](Self::write), for at most `timeout`; `None` on time-out.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Blocking
    /// For at most `timeout`, never for less unless it has the lock.
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn write_timeout(&mut self, timeout: Duration) -> Result<Option<Guard<'_>>> {
        self.lock(Mode::Write, Deadline::after(timeout))
    }

    fn wait(&mut self, mode: Mode) -> Result<Guard<'_>> {
        while !self.gates.enter(mode, Deadline::Never)? {}
        Ok(Guard { lock: self })
    }

    fn lock(&mut self, mode: Mode, deadline: Deadline) -> Result<Option<Guard<'_>>> {
        let has_it = self.gates.enter(mode, deadline)?;
        Ok(has_it.then_some(Guard { lock: self }))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.lock.gates.leave();
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLock").field(&self.gates.object()).finish()
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
