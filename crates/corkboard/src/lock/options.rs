//! How to open a lock.

use std::path::Path;

use super::gates::Gates;
use super::{Access, RwLock};
use crate::error::Result;
use crate::participants::program_name;
use crate::space::Space;

/// How to open a lock, or to create it.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-lock-options-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::lock::{Access, Options};
/// let lock = Options::new().access(Access::Group).label("backup").open(&space, "database")?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    access: Access,
    label: Option<String>,
}

impl Options {
    /// Options with nothing set: access for the owner, the program's name as label.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who may use a lock that this call creates, whatever the umask.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What the handle is called in listings. What is beyond 48 bytes is not shown.
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Opens the lock `name` of a space, creating it when absent.
    ///
    /// # Errors
    /// As [`RwLock::open`].
    ///
    /// # If a process dies
    /// *Recovers*, as [`RwLock::open`].
    pub fn open(&self, space: &Space, name: &str) -> Result<RwLock> {
        let label = self.label.clone().unwrap_or_else(program_name);
        let gates = Gates::named(space, name, self.access, label)?;
        Ok(RwLock { gates })
    }

    /// Opens the lock in the file `path`, creating it when absent.
    ///
    /// # Errors
    /// As [`RwLock::at`].
    ///
    /// # If a process dies
    /// *Recovers*, as [`RwLock::at`].
    pub fn at(&self, path: impl AsRef<Path>) -> Result<RwLock> {
        let gates = Gates::at(path.as_ref(), self.access)?;
        Ok(RwLock { gates })
    }
}
