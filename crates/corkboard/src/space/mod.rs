//! Spaces: directories of named objects, where permissions and lifetime live.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::board::files;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::object::{self, Place, Removal};
use crate::sys::Errno;
#[cfg(not(any(target_os = "linux", windows)))]
use crate::unsupported::space as platform;
use crate::{call, event, lock, stream};
#[cfg(target_os = "linux")]
use linux as platform;
use platform::Trust;
#[cfg(windows)]
use windows as platform;

/// Who may use an object besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Access {
    /// Only the user who created it.
    #[default]
    Owner,
    /// The owner and the file's group.
    Group,
    /// Every user of the machine.
    Everyone,
}

impl Access {
    /// The permission bits in `bits` (as for others), for everyone who is let in.
    pub(crate) fn mode_bits(self, bits: u32) -> u32 {
        match self {
            Self::Owner => bits << 6,
            Self::Group => bits << 6 | bits << 3,
            Self::Everyone => bits << 6 | bits << 3 | bits,
        }
    }

    /// Whom a file's mode gives the permission `bit` (as for others).
    pub(crate) fn of_mode(mode: u32, bit: u32) -> Self {
        match mode {
            _ if mode & bit != 0 => Self::Everyone,
            _ if mode & bit << 3 != 0 => Self::Group,
            _ => Self::Owner,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Everyone => "everyone",
        })
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A named latest value.
    Board,
    /// A named readers-writer lock.
    Lock,
    /// A named event.
    Event,
    /// A named log of records.
    Stream,
    /// Named requests and replies.
    Call,
}

impl Kind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 5] = [
        Self::Board,
        Self::Lock,
        Self::Event,
        Self::Stream,
        Self::Call,
    ];

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Board => ".board",
            Self::Lock => ".lock",
            Self::Event => ".event",
            Self::Stream => ".stream",
            Self::Call => ".call",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Board => "board",
            Self::Lock => "lock",
            Self::Event => "event",
            Self::Stream => "stream",
            Self::Call => "call",
        })
    }
}

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

/// A directory of named objects.
///
/// Cloning is cheap. A space keeps a path, not an open file, so it stays usable after a daemon
/// has closed its descriptors.
#[derive(Clone, Debug)]
pub struct Space {
    path: Arc<PathBuf>,
    trust: Trust,
    /// Whether new objects are for processes of all sessions.
    #[cfg(windows)]
    is_global: bool,
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

/// How to open a space other than the user's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceOptions {
    access: Access,
    #[cfg(windows)]
    is_global: bool,
}

impl SpaceOptions {
    /// Who may use the directory when this call creates it. An existing one keeps its mode, unless
    /// it is what a creator leaves that was killed half-way: empty, this user's and private.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Makes new objects for the processes of all sessions, services among them; by default they
    /// are for those of the creator's session. Needs a privilege, without which creating them is
    /// `PermissionDenied`.
    #[cfg(windows)]
    pub fn all_sessions(mut self) -> Self {
        self.is_global = true;
        self
    }

    /// Opens the directory, creating it when absent.
    ///
    /// # Errors
    /// `Untrusted` when the path is a symbolic link, not a directory, or writable by everyone
    /// without the sticky bit; `NotFound` when its parent directory does not exist;
    /// `PermissionDenied` and `Io` as the system says.
    ///
    /// # If a process dies
    /// *Recovers*: an empty directory may be left, which the next call uses.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Space> {
        let path = absolute(path.as_ref())?;
        platform::create(&path, self.access)?;
        #[cfg_attr(not(windows), expect(unused_mut, reason = "sessions are Windows'"))]
        let mut space = Space::checked(path, Trust::Named)?;
        #[cfg(windows)]
        {
            space.is_global = self.is_global;
        }
        Ok(space)
    }
}

impl Space {
    /// The user's own space: the directory named by the environment variable `CORKBOARD_DIR`
    /// (ignored in a set-uid program), or `/dev/shm/corkboard-<euid>`, created with mode 0700; on
    /// Windows `%LOCALAPPDATA%\corkboard`, for this user alone.
    ///
    /// # Errors
    /// As [`Space::at`]; the default directory is also `Untrusted` when another user owns it or
    /// it is open to others.
    ///
    /// # If a process dies
    /// *Recovers*: an empty directory may be left, which the next call uses.
    pub fn user() -> Result<Self> {
        if let Some(path) = std::env::var_os("CORKBOARD_DIR").filter(|path| !path.is_empty())
            && !platform::is_set_uid()
        {
            return Self::at(PathBuf::from(path));
        }
        let (path, trust) = platform::own_directory()?;
        platform::create(&path, Access::Owner)?;
        Self::checked(path, trust)
    }

    fn checked(path: PathBuf, trust: Trust) -> Result<Self> {
        let path = Arc::new(path);
        let space = Self {
            path,
            trust,
            #[cfg(windows)]
            is_global: false,
        };
        space.check()?;
        Ok(space)
    }

    /// The space in the directory `path`, created with mode 0700 when absent.
    ///
    /// # Errors
    /// As [`SpaceOptions::open`].
    ///
    /// # If a process dies
    /// *Recovers*: an empty directory may be left, which the next call uses.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// Options for a space shared with a group or everyone.
    pub fn options() -> SpaceOptions {
        SpaceOptions::default()
    }

    /// The directory, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

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
}

impl Space {
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

/// A trailing slash would make the kernel follow a symbolic link; normalising drops it.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|source| {
        let errno = Errno::from_io_error(&source).unwrap_or(Errno::INVAL);
        Error::os("open space", format!("{path:?}"), errno)
    })?;
    Ok(path.components().collect())
}

fn untrusted(path: &Path, cause: &str) -> Error {
    let object = path.display().to_string();
    Error::new(ErrorKind::Untrusted, "use space", object, cause)
}
