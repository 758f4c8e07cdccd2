//! The demonstration's own space, which is gone afterwards, however it ends.

use std::ffi::OsStr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use corkboard::Space;

use super::crew;
use super::protocol::{Board, Role};
use crate::exit::Failure;

const PARENT: &str = "/dev/shm";
const PREFIX: &str = "corkboard-demo-";

/// A fresh space, removed when dropped, and by the sweeper if this process is killed.
pub struct Stage {
    pub space: Space,
    path: PathBuf,
    sweeper: Child,
}

impl Stage {
    pub fn new() -> Result<Self, Failure> {
        let failed = |source| Failure::Io("cannot prepare the demonstration".into(), source);
        let path = fresh().map_err(failed)?;
        let sweeper = crew::start(Role::Sweeper, Board::Machine, 0, &path).map_err(|source| {
            sweep(&path);
            failed(source)
        })?;
        // Should this fail, the sweeper notices that nobody speaks to it any more.
        let space = Space::at(&path)?;
        Ok(Self {
            space,
            path,
            sweeper,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Memory that the files of all boards occupy.
    pub fn memory_bytes(&self) -> u64 {
        allocated(&self.path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        sweep(&self.path);
        self.sweeper.stdin.take();
        let _ = self.sweeper.wait();
    }
}

fn fresh() -> std::io::Result<PathBuf> {
    let mut attempt = 0;
    loop {
        let path = Path::new(PARENT).join(format!("{PREFIX}{}-{attempt}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            // Left over from a process that had the same number.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
            result => return result.map(|()| path),
        }
    }
}

fn allocated(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => allocated(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Removes a demonstration's space, and never anything else.
fn sweep(path: &Path) {
    let is_ours = path.parent() == Some(Path::new(PARENT))
        && path
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with(PREFIX));
    if is_ours {
        let _ = std::fs::remove_dir_all(path);
    }
}

/// The sweeper: waits for the parent's end and removes what it left. Processes that were just
/// starting may bring the directory back for a moment, so it looks again.
pub fn run_sweeper(path: &Path) {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let mut absent = 0;
    for _ in 0..100 {
        if path.exists() {
            sweep(path);
            absent = 0;
        } else if absent == 3 {
            return;
        } else {
            absent += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demonstrations_own_directory_is_swept() {
        let other = Path::new(PARENT).join(format!("corkboard-not-demo-{}", std::process::id()));
        std::fs::create_dir(&other).unwrap();
        sweep(&other);
        sweep(&Path::new(PARENT).join(format!("{PREFIX}x/../{}", other.display())));
        assert!(other.exists());
        std::fs::remove_dir(&other).unwrap();
    }
}
