//! Spaces in memory, `/dev/shm` by default.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, CWD, FileType, Mode};
use rustix::io::Errno;

use super::{Access, Kind, Space, untrusted};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::DIRECTORY;

impl Kind {
    /// How the kernel knows such an object.
    pub(crate) fn file_type(self) -> FileType {
        match self {
            Self::Board => FileType::Directory,
            Self::Lock | Self::Event | Self::Stream | Self::Call => FileType::RegularFile,
        }
    }
}

/// What a directory must be like, whenever it is opened: somebody may have deleted it meanwhile,
/// and somebody else made another one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trust {
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

/// Where a user's own space is, and what it must be like.
pub(super) fn own_directory() -> Result<(PathBuf, Trust)> {
    let uid = rustix::process::geteuid().as_raw();
    let path = PathBuf::from(format!("/dev/shm/corkboard-{uid}"));
    Ok((path, Trust::Private { uid }))
}

impl Space {
    /// Whether the directory can be trusted.
    pub(super) fn check(&self) -> Result<()> {
        self.directory().map(drop)
    }

    /// The directory, opened for this call only.
    pub(crate) fn directory(&self) -> Result<OwnedFd> {
        let (directory, stat) = open_directory(&self.path)?;
        self.trust.check(&self.path, &stat)?;
        Ok(directory)
    }
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

/// Makes the directory for exactly those, whatever the umask. An existing one is left alone,
/// unless whoever made it died before it set the mode.
pub(super) fn create(path: &Path, access: Access) -> Result<()> {
    let mode = match access {
        Access::Owner => 0o700,
        Access::Group => 0o2770,
        Access::Everyone => 0o1777,
    };
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

/// Whether this program runs with rights that its caller does not have: of a user, of a group, or
/// capabilities.
pub(super) fn is_set_uid() -> bool {
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
