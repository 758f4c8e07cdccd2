//! What objects a space has, whatever they are: listed, removed, kept.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use std::fmt;

use crate::board::files;
use crate::error::Result;
use crate::name;
use crate::object::{self, Place, Removal};
use crate::space::{Kind, Space};
use crate::{call, event, lock, stream};

/// One object of a space, as listed by [`Space::entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    name: String,
}

impl Entry {
    /// What the object is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Keeps an object's memory: see [`Space::keep`].
#[must_use = "the object is kept only as long as this lives"]
pub struct Keeper {
    _kept: object::Kept,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Space {
    /// The objects of this space, sorted by name and kind.
    ///
    /// # Errors
    /// `Untrusted`, `PermissionDenied` and `Io` as for opening.
    ///
    /// # If a process dies
    /// *Recovers*: half-made and half-removed objects are never listed.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = self.list()?;
        entries.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        Ok(entries)
    }

    /// Removes an object: handles attached to it say `Removed`, later openers start afresh.
    ///
    /// A lock that somebody holds stays: otherwise a second one could be held under its name. So
    /// does what this user may not delete, for instance another user's object in a directory with
    /// the sticky bit; then nobody is told anything.
    ///
    /// # Errors
    /// `Conflict` when it is a lock that is held, or another process has begun to remove the
    /// object and is stopped; `InvalidName`, `NotFound`, `PermissionDenied`, `Io`.
    ///
    /// # Blocking
    /// For at most a second, while another process removes the object.
    ///
    /// # If a process dies
    /// *Recovers*: the name is free or still taken, never in between; creating or removing again finishes.
    pub fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        self.remove_if(kind, name, Removal::Start)
    }

    /// Keeps an object's memory, without taking part in it, for as long as the returned value lives.
    ///
    /// # Errors
    /// `NotFound` when there is none; `InvalidName`, `Damaged`, `PermissionDenied`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: what it kept lives on as long as another one has it open.
    ///
    /// # Platforms
    /// On Linux, objects stay until they are removed or the machine restarts, and this does nothing
    /// but look for the object. On Windows, an object lives as long as some process has a handle on
    /// it, or keeps it.
    pub fn keep(&self, kind: Kind, name: &str) -> Result<Keeper> {
        name::check("keep", name)?;
        let place = Place::open(self, kind, name).map_err(|error| error.during("keep"))?;
        Ok(Keeper {
            _kept: place.into_keepers(),
        })
    }

    pub(crate) fn remove_if(&self, kind: Kind, name: &str, removal: Removal) -> Result<()> {
        match kind {
            Kind::Board => files::remove(self, name, removal),
            Kind::Lock => lock::remove(self, name, removal),
            Kind::Event => event::remove(self, name, removal),
            Kind::Stream => stream::remove(self, name, removal),
            Kind::Call => call::remove(self, name, removal),
        }
    }
}

/// The object that a file of the space belongs to, by its name.
pub(crate) fn named(file_name: &str) -> Option<(Kind, &str)> {
    let named = |kind: Kind| Some((kind, file_name.strip_suffix(kind.suffix())?));
    let (kind, stem) = Kind::ALL.into_iter().find_map(named)?;
    let object = object::object_name(stem)?;
    name::check("list", object)
        .is_ok()
        .then_some((kind, object))
}
