//! Lock files at any path, which belong to whoever put them there.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use std::path::Path;

use crate::sys::file::Identity;
use crate::sys::process::ParentsFile;

#[cfg(target_os = "linux")]
pub(super) use linux::{Page, is_at, open};
#[cfg(not(any(target_os = "linux", windows)))]
pub(super) use unsupported::{Page, is_at, open};
#[cfg(windows)]
pub(super) use windows::{Page, is_at, open};

/// A lock file, open.
pub(super) struct AtPath {
    pub(super) file: ParentsFile,
    /// Where this computer's processes wake each other, if anywhere.
    pub(super) page: Option<Page>,
    pub(super) identity: Identity,
    pub(super) is_writable: bool,
}

/// How errors name a lock file.
pub(super) fn object(path: &Path) -> String {
    format!("lock file {path:?}")
}
