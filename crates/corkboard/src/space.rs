//! Spaces: directories of named objects, where permissions and lifetime live.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

use crate::board::files;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::object::{DIRECTORY, Removal};
use crate::{event, lock};

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
}

impl Kind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 3] = [Self::Board, Self::Lock, Self::Event];

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Board => ".board",
            Self::Lock => ".lock",
            Self::Event => ".event",
        }
    }

    /// How the kernel knows such an object.
    pub(crate) fn file_type(self) -> FileType {
        match self {
            Self::Board => FileType::Directory,
            Self::Lock | Self::Event => FileType::RegularFile,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Board => "board",
            Self::Lock => "lock",
            Self::Event => "event",
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
}

/// What a directory must be like, whenever it is opened: somebody may have deleted it meanwhile,
/// and somebody else made another one.
#[derive(Clone, Copy, Debug)]
enum Trust {
    /// This user's, and closed to others.
    Private { uid: u32 },
    /// Whoever may write to it must not be able to delete what others created.
    Named,
}

impl Trust {
    fn check(self, path: &Path, stat: &fs::Stat) -> Result<()> {
        let cause = match self {
            Self::Private { uid } if stat.st_uid != uid => {
                "another user owns it; set CORKBOARD_DIR to a directory of your own"
            }
            Self::Private { .. } if stat.st_mode & 0o077 != 0 => {
                "it is open to other users; run chmod 700 on it, or name it in CORKBOARD_DIR"
            }
            Self::Named if stat.st_mode & 0o1002 == 0o0002 => {
                "everyone may write to it and delete what others created; set the sticky bit"
            }
            _ => return Ok(()),
        };
        Err(untrusted(path, cause))
    }
}

/// How to open a space other than the user's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpaceOptions {
    access: Access,
}

impl SpaceOptions {
    /// Who may use the directory when this call creates it. An existing one keeps its mode, unless
    /// it is what a creator leaves that was killed half-way: empty, this user's and private.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
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
        let mode = match self.access {
            Access::Owner => 0o700,
            Access::Group => 0o2770,
            Access::Everyone => 0o1777,
        };
        create(&path, mode)?;
        Space::checked(path, Trust::Named)
    }
}

impl Space {
    /// The user's own space: the directory named by the environment variable `CORKBOARD_DIR`
    /// (ignored in a set-uid program), or `/dev/shm/corkboard-<euid>`, created with mode 0700.
    ///
    /// # Errors
    /// As [`Space::at`]; the default directory is also `Untrusted` when another user owns it or
    /// it is open to others.
    ///
    /// # If a process dies
    /// *Recovers*: an empty directory may be left, which the next call uses.
    pub fn user() -> Result<Self> {
        if let Some(path) = std::env::var_os("CORKBOARD_DIR").filter(|path| !path.is_empty())
            && !is_set_uid()
        {
            return Self::at(PathBuf::from(path));
        }
        let euid = rustix::process::geteuid();
        let path = PathBuf::from(format!("/dev/shm/corkboard-{}", euid.as_raw()));
        create(&path, 0o700)?;
        let uid = euid.as_raw();
        Self::checked(path, Trust::Private { uid })
    }

    fn checked(path: PathBuf, trust: Trust) -> Result<Self> {
        let path = Arc::new(path);
        let space = Self { path, trust };
        space.directory()?;
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
        let directory = self.directory()?;
        let failed = |errno| Error::os("list space", self.path.display().to_string(), errno);
        let mut entries = Vec::new();
        for item in fs::Dir::read_from(&directory).map_err(failed)? {
            let item = item.map_err(failed)?;
            let Ok(file_name) = item.file_name().to_str() else {
                continue;
            };
            let Some((kind, object)) = named(file_name) else {
                continue;
            };
            match fs::statat(&directory, file_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == kind.file_type() => entries
                    .push(Entry {
                        kind,
                        name: object.to_owned(),
                    }),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
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

    pub(crate) fn remove_if(&self, kind: Kind, name: &str, removal: Removal) -> Result<()> {
        match kind {
            Kind::Board => files::remove(self, name, removal),
            Kind::Lock => lock::remove(self, name, removal),
            Kind::Event => event::remove(self, name, removal),
        }
    }

    /// The directory, opened for this call only.
    pub(crate) fn directory(&self) -> Result<OwnedFd> {
        let (directory, stat) = open_directory(&self.path)?;
        self.trust.check(&self.path, &stat)?;
        Ok(directory)
    }
}

/// The object that a file of the space belongs to, by its name.
pub(crate) fn named(file_name: &str) -> Option<(Kind, &str)> {
    let named = |kind: Kind| Some((kind, file_name.strip_suffix(kind.suffix())?));
    let (kind, object) = Kind::ALL.into_iter().find_map(named)?;
    name::check("list", object)
        .is_ok()
        .then_some((kind, object))
}

/// Opens a directory without following a symbolic link in its last component.
fn open_directory(path: &Path) -> Result<(OwnedFd, fs::Stat)> {
    let fd = fs::openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => untrusted(
            path,
            "it is a symbolic link or not a directory; name the real directory",
        ),
        errno => Error::os("open space", path.display().to_string(), errno),
    })?;
    let stat = fs::fstat(&fd)
        .map_err(|errno| Error::os("open space", path.display().to_string(), errno))?;
    Ok((fd, stat))
}

/// Makes the directory with exactly `mode`, whatever the umask. An existing one is left alone,
/// unless whoever made it died before it set the mode.
fn create(path: &Path, mode: u32) -> Result<()> {
    let failed = |errno| Error::os("create space", path.display().to_string(), errno);
    match fs::mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
        Ok(()) if mode == 0o700 => Ok(()),
        Ok(()) => {
            let (fd, _) = open_directory(path)?;
            fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)
        }
        Err(Errno::EXIST) if mode == 0o700 => Ok(()),
        Err(Errno::EXIST) => {
            let (fd, stat) = open_directory(path)?;
            let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
            if is_ours && stat.st_mode & 0o7777 == 0o700 && is_empty(&fd).map_err(failed)? {
                fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed)?;
            }
            Ok(())
        }
        Err(Errno::NOENT) => {
            let cause = "its parent directory does not exist; create it, or set CORKBOARD_DIR to a directory below /dev/shm";
            let object = path.display().to_string();
            Err(Error::new(
                ErrorKind::NotFound,
                "create space",
                object,
                cause,
            ))
        }
        Err(errno) => Err(failed(errno)),
    }
}

fn is_empty(directory: &OwnedFd) -> std::result::Result<bool, Errno> {
    for item in fs::Dir::read_from(directory)? {
        if !matches!(item?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
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

/// Whether this program runs with rights that its caller does not have: of a user, of a group, or
/// capabilities.
fn is_set_uid() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    // SAFETY: reads what the kernel told this process at its start.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure || getuid() != geteuid() || getgid() != getegid()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    use super::*;

    #[test]
    fn a_private_space_is_refused_as_soon_as_its_directory_is_another_users_or_open() {
        let path = PathBuf::from(format!("/dev/shm/corkboard-trust-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let space = Space::checked(path.clone(), Trust::Private { uid }).unwrap();
        let others = Space {
            trust: Trust::Private { uid: uid + 1 },
            ..space.clone()
        };
        let by_others = others.directory().map(drop);
        let open = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(&path, open).unwrap();
        let found = [
            space.directory().map(drop),
            space.entries().map(drop),
            by_others,
        ];
        std::fs::remove_dir(&path).unwrap();
        for found in found {
            assert_eq!(found.unwrap_err().kind(), ErrorKind::Untrusted);
        }
    }
}
