//! Events: one process says that something happened, others wait for it.
//!
//! A *manual-reset* event stays signalled until it is reset, and lets everyone through. An
//! *auto-reset* event lets one waiter through for each signal, and is unsignalled by that. Setting
//! one that is signalled already adds nothing: several sets may let through as few as one.
//!
//! # Examples
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-event-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::event::{Event, Reset};
//! use std::time::Duration;
//! let ready = Event::create(&space, "ready", Reset::Manual)?;
//! assert!(!ready.wait(Some(Duration::from_millis(1)))?);
//! Event::open(&space, "ready")?.set()?;
//! assert!(ready.wait(None)?);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod layout;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod protocol;
mod stat;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
mod waiting;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{self, Header};
use crate::object::{self, Removal};
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::Errno;
use layout::{FILE, RESET};
#[cfg(target_os = "linux")]
use linux as platform;
use platform::Shared;
#[cfg(not(any(target_os = "linux", windows)))]
use unsupported as platform;
#[cfg(windows)]
use windows as platform;

pub(crate) use stat::remove;
pub use stat::{Stat, stat};

/// Who waits looks this often for a signal whose wake somebody took along who then died.
const SLICE: Duration = Duration::from_millis(20);

const SET: &str = "set";
const WAIT: &str = "wait for";

/// What ends a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The first waiter that it lets through.
    Auto = 1,
    /// [`Event::reset`].
    Manual = 2,
}

impl Reset {
    fn from_header(header: &Header, name: &str) -> Result<Self> {
        let word = header.own[RESET];
        [Self::Auto, Self::Manual]
            .into_iter()
            .find(|reset| *reset as u64 == word)
            .ok_or_else(|| header::impossible("file", &object::label(Kind::Event, name)))
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto-reset",
            Self::Manual => "manual-reset",
        })
    }
}

/// A handle on a named event. It outlives its creator until it is removed.
///
/// # If a process dies
/// *Recovers*: an event has no owner. A signal that a dead process was woken for and did not
/// consume is found by another waiter within 20 ms; one that it consumed is consumed.
///
/// # Platforms
/// On Linux, the child of a fork may use its copy. On Windows this is one of the system's events,
/// which other programs can open by its `system_name`.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-event-2-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::event::{Event, Reset};
/// let job = Event::open_or_create(&space, "job", Reset::Auto)?;
/// job.set()?;
/// // One of those who wait, in any process, goes on:
/// assert!(job.wait(None)?);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event {
    shared: Arc<Shared>,
    /// How often the event had been set when a wait for several objects began.
    began: u64,
}

impl Event {
    /// Creates the event, unsignalled.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidName`, `PermissionDenied`, `NoSpace`, `Io`; `Unsupported` when the
    /// space is not on tmpfs.
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden file that nobody opens.
    pub fn create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        Self::create_for(space, name, reset, Access::Owner)
    }

    /// As [`create`](Self::create), for whom `access` lets in, whatever the umask.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # If a process dies
    /// *Recovers*, as [`create`](Self::create).
    pub fn create_for(space: &Space, name: &str, reset: Reset, access: Access) -> Result<Self> {
        let exists = || {
            let cause = "it exists already; open it, or remove it";
            let object = object::label(Kind::Event, name);
            Error::new(ErrorKind::AlreadyExists, "create", object, cause)
        };
        let create = || FILE.create(space, name, &[reset as u64], access);
        let mut created = create()?;
        if created.is_none() {
            // What is there may be one whose remover died.
            match remove(space, name, Removal::Finish) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            created = create()?;
            if created.is_none() {
                return Err(exists());
            }
        }
        match Self::open(space, name)? {
            event if event.shared.reset == reset => Ok(event),
            // Removed meanwhile, and created anew by somebody else.
            _ => Err(exists()),
        }
    }

    /// Opens an existing event.
    ///
    /// # Errors
    /// `NotFound` when absent; `InvalidName`, `Damaged`, `Incompatible`, `Unsupported`,
    /// `PermissionDenied`, `Io`; `NoSpace` when somebody took memory away from its file, and there
    /// is none left.
    ///
    /// # If a process dies
    /// *Recovers*: nothing here has an owner.
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared::open(space, name)?),
            began: 0,
        })
    }

    /// Opens the event, or creates it unsignalled when absent.
    ///
    /// # Errors
    /// `Incompatible` when it exists with the other kind of reset; otherwise as
    /// [`create`](Self::create) and [`open`](Self::open).
    ///
    /// # If a process dies
    /// *Recovers*, as [`create`](Self::create).
    pub fn open_or_create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        let object = object::label(Kind::Event, name);
        let event = object::create_or_open(
            &object,
            || Self::open(space, name),
            || FILE.create(space, name, &[reset as u64], Access::Owner),
            || remove(space, name, Removal::Finish),
        )?;
        let found = event.shared.reset;
        if found == reset {
            return Ok(event);
        }
        let cause = format!("it is {found}, not {reset}; open it as it is, or remove it");
        Err(Error::new(ErrorKind::Incompatible, "open", object, cause))
    }

    /// What ends a signal of this event.
    pub fn reset_kind(&self) -> Reset {
        self.shared.reset
    }

    /// What the system calls the event: any program can open it by this name (`OpenEvent`), and set,
    /// reset and wait for it.
    #[cfg(windows)]
    pub fn system_name(&self) -> String {
        self.shared.system_name.clone()
    }

    /// Signals the event: lets all waiters through, or one of an auto-reset event.
    ///
    /// # Errors
    /// `Removed`.
    ///
    /// # If a process dies
    /// *Recovers*: killed before it woke the waiters, they find the signal within 20 ms.
    #[inline]
    pub fn set(&self) -> Result<()> {
        self.shared.check_live(SET)?;
        self.shared.set();
        Ok(())
    }

    /// Takes the signal back. Those who were let through already are not called back.
    ///
    /// # Errors
    /// `Removed`.
    ///
    /// # If a process dies
    /// *Recovers*: it is one step.
    pub fn reset(&self) -> Result<()> {
        self.shared.check_live("reset")?;
        self.shared.unset();
        Ok(())
    }

    /// Waits for a signal; `false` on time-out. Consumes the signal of an auto-reset event. Of a
    /// manual-reset event, a signal that was set since the wait began counts also when it has been
    /// reset again.
    ///
    /// # Errors
    /// `Removed`.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one. There is no order among waiters.
    ///
    /// # If a process dies
    /// *Recovers*: a signal whose wake went to a process that then died is found within 20 ms.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.shared.wait(timeout)
    }
}

impl Shared {
    #[inline]
    fn check_live(&self, operation: &'static str) -> Result<()> {
        // Relaxed: what somebody else's look found is noticed sooner or later.
        if self.is_live() && !self.is_deleted.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(self.removed(operation))
    }

    /// Notices that somebody deleted the file without telling.
    fn check_in_place(&self) -> Result<()> {
        let is_in_place = object::is_in_place(&self.space, Kind::Event, &self.name, self.identity);
        self.is_deleted.store(!is_in_place, Ordering::Relaxed);
        if is_in_place {
            return Ok(());
        }
        Err(self.removed(WAIT))
    }

    #[cold]
    fn removed(&self, operation: &'static str) -> Error {
        let object = object::label(Kind::Event, &self.name);
        Error::new(
            ErrorKind::Removed,
            operation,
            object,
            "it was removed; open it anew",
        )
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.shared.name)
            .field("reset", &self.shared.reset)
            .finish_non_exhaustive()
    }
}

#[cold]
fn os(operation: &'static str, name: &str, errno: Errno) -> Error {
    Error::os(operation, object::label(Kind::Event, name), errno)
}
