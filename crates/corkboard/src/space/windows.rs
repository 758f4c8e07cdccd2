//! Spaces on disk. They hold names and locks only; content is in memory.

use std::path::{Path, PathBuf};

use super::{Access, Space, untrusted};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Errno;
use crate::sys::file::{File, FileKind, verbatim};
use crate::sys::map::Protection;
use crate::sys::security::Descriptor;

/// What a directory must be like, whenever it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trust {
    /// This user's.
    Private,
    /// Whoever made it says who may use it.
    Named,
}

/// Where a user's own space is, and what it must be like.
pub(super) fn own_directory() -> Result<(PathBuf, Trust)> {
    let local = std::env::var_os("LOCALAPPDATA").filter(|path| !path.is_empty());
    let parent = local.map_or_else(std::env::temp_dir, PathBuf::from);
    Ok((super::absolute(&parent.join("corkboard"))?, Trust::Private))
}

/// Makes the directory. An existing one is left alone.
pub(super) fn create(path: &Path, access: Access) -> Result<()> {
    use windows_sys::Win32::Storage::FileSystem::{
        CreateDirectoryW, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE,
    };
    let failed = |errno| Error::os("create space", path.display().to_string(), errno);
    let rights = FILE_GENERIC_READ | FILE_GENERIC_WRITE | FILE_GENERIC_EXECUTE;
    let who = Descriptor::new(&[(access, rights)]).map_err(failed)?;
    let wide = verbatim(path);
    // SAFETY: path and descriptor live until the call returns.
    if unsafe { CreateDirectoryW(wide.as_ptr(), &who.attributes()) } != 0 {
        return Ok(());
    }
    match Errno::last() {
        Errno::EXIST => Ok(()),
        Errno::NOENT => {
            let cause = "its parent directory does not exist; create it, or name another one in CORKBOARD_DIR";
            let object = path.display().to_string();
            Err(Error::new(
                ErrorKind::NotFound,
                "create space",
                object,
                cause,
            ))
        }
        errno => Err(failed(errno)),
    }
}

impl Space {
    /// Whether the directory can be trusted.
    pub(crate) fn check(&self) -> Result<()> {
        let path = self.path();
        let failed = |errno| Error::os("open space", path.display().to_string(), errno);
        let directory = File::open(path, Protection::ReadOnly).map_err(failed)?;
        if directory.kind().map_err(failed)? != FileKind::Directory {
            let cause = "it is a symbolic link or not a directory; name the real directory";
            return Err(untrusted(path, cause));
        }
        let is_ours = || directory.facts().map(|facts| facts.is_owner_trusted());
        match self.trust {
            Trust::Private if !is_ours().map_err(failed)? => {
                let cause = "another user owns it; set CORKBOARD_DIR to a directory of your own";
                Err(untrusted(path, cause))
            }
            _ => Ok(()),
        }
    }

    /// Whether new objects are for processes of all sessions.
    pub(crate) fn is_global(&self) -> bool {
        self.is_global
    }

    /// The names of all files in the directory.
    pub(crate) fn file_names(&self) -> Result<Vec<String>> {
        let failed = |error: std::io::Error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::os("list space", self.path().display().to_string(), errno)
        };
        let mut names = Vec::new();
        for item in std::fs::read_dir(self.path()).map_err(failed)? {
            if let Ok(name) = item.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// There are no programs here that run with rights that their caller does not have.
pub(super) fn is_set_uid() -> bool {
    false
}
