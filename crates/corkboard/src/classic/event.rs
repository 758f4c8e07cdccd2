//! Events under the names that other programs use.

use std::fmt;
use std::time::Duration;

use super::platform::RawEvent;
use crate::error::Result;
use crate::event::Reset;
use crate::space::Space;

/// An event that any program can open by its name.
///
/// On Windows it is the system's own named event, the one that `OpenEvent("MyEvent")` finds in
/// another program, in whatever language; the space plays no part, and the name may begin with
/// `Global\` or `Local\`. Elsewhere there is no such thing, and it is the [event](crate::event)
/// of the space that has the name.
///
/// # If a process dies
/// *Recovers*: an event has no owner. A signal that a dead process has consumed is consumed. On
/// Windows the event itself goes when the last program that has it open ends.
///
/// # Examples
/// ```
/// # let dir = format!("{}/corkboard-doc-classic-event-{}", if cfg!(windows) { "." } else { "/dev/shm" }, std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::classic::{Event, Reset};
/// let ours = Event::open_or_create(&space, "MyEvent", Reset::Auto)?;
/// Event::open(&space, "MyEvent")?.set()?;
/// assert!(ours.wait(None)?);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event {
    raw: RawEvent,
    name: String,
}

impl Event {
    /// Creates the event, unsignalled.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidName`, `PermissionDenied`, `Io`; elsewhere than on Windows those of
    /// [`event::Event::create`](crate::event::Event::create).
    ///
    /// # If a process dies
    /// *Recovers*: it exists or it does not.
    pub fn create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        RawEvent::create(space, name, reset).map(|raw| Self::of(raw, name))
    }

    /// Opens an existing event.
    ///
    /// # Errors
    /// `NotFound` when absent; otherwise as [`create`](Self::create).
    ///
    /// # If a process dies
    /// *Recovers*: nothing here has an owner.
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        RawEvent::open(space, name).map(|raw| Self::of(raw, name))
    }

    /// Opens the event, or creates it unsignalled when absent.
    ///
    /// # Errors
    /// As [`create`](Self::create); `Incompatible` when it exists with the other kind of reset,
    /// which Windows does not tell.
    ///
    /// # If a process dies
    /// *Recovers*, as [`create`](Self::create).
    pub fn open_or_create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        RawEvent::open_or_create(space, name, reset).map(|raw| Self::of(raw, name))
    }

    fn of(raw: RawEvent, name: &str) -> Self {
        let name = name.to_owned();
        Self { raw, name }
    }

    /// Signals the event.
    ///
    /// # Errors
    /// `Removed` elsewhere than on Windows; `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: waiters find the signal.
    pub fn set(&self) -> Result<()> {
        self.raw.set()
    }

    /// Takes the signal back.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    ///
    /// # If a process dies
    /// *Recovers*: it is one step.
    pub fn reset(&self) -> Result<()> {
        self.raw.reset()
    }

    /// Waits for a signal; `false` on time-out. Consumes the signal of an auto-reset event.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one. There is no order among waiters.
    ///
    /// # If a process dies
    /// *Recovers*: whoever sets the event need not be the one that created it.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.raw.wait(timeout)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
