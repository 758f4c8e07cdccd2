//! Spaces: directories of named objects, where permissions and lifetime live.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::access::Access;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Errno;
#[cfg(target_os = "linux")]
use linux as platform;
use platform::Trust;
#[cfg(not(any(target_os = "linux", windows)))]
use unsupported as platform;
#[cfg(windows)]
use windows as platform;

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
