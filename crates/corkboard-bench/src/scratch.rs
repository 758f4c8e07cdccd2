//! Where a run keeps its files: one directory on tmpfs, gone when the run is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use memmap2::MmapMut;
use rustix::fs::Mode;

const TMPFS: &str = "/dev/shm";
const PREFIX: &str = "corkboard-bench-";

/// The directory of a run. Its owner removes it when dropped; peers in other processes borrow it.
pub struct Scratch {
    path: PathBuf,
    owned: bool,
}

impl Scratch {
    /// Creates the directory, under a name that nobody else has, and short, because iceoryx2 puts
    /// sockets into it whose paths may have 108 bytes.
    pub fn create() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let unique = now.subsec_nanos() ^ std::process::id().rotate_left(16);
        let path = Path::new(TMPFS).join(format!("{PREFIX}{unique:08x}"));
        // Fails when the name exists, which takes two runs begun in the same nanosecond.
        rustix::fs::mkdir(&path, Mode::RWXU)
            .with_context(|| format!("create {}", path.display()))?;
        let scratch = Self { path, owned: true };
        let (path, name) = (scratch.path.clone(), scratch.iceoryx2_prefix());
        ctrlc::set_handler(move || {
            remove(&path, &name);
            std::process::exit(130);
        })?;
        Ok(scratch)
    }

    /// The directory that another process created.
    pub fn borrow(path: PathBuf) -> Self {
        Self { path, owned: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside that was never handed out before.
    pub fn fresh(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{name}-{number}"))
    }

    /// iceoryx2 puts its shared memory beside, not into, a directory of our choice, so its names
    /// begin with something to recognise them by.
    pub fn iceoryx2_prefix(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let tail = name.rsplit('-').next().unwrap_or_default();
        format!("cbb_{tail}_")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.owned {
            remove(&self.path, &self.iceoryx2_prefix());
        }
    }
}

fn remove(path: &Path, iceoryx2_prefix: &str) {
    let _ = std::fs::remove_dir_all(path);
    for entry in std::fs::read_dir(TMPFS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(iceoryx2_prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Sixty-four cache lines shared between processes, for floors and for progress.
pub struct SharedPage {
    map: MmapMut,
}

impl SharedPage {
    const LINE: usize = 128;
    const LINES: usize = 64;

    /// Creates the file, or opens it where the other process has.
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.set_len((Self::LINE * Self::LINES) as u64)?;
        // SAFETY: nobody truncates the file while it is mapped, and all access is atomic.
        let map = unsafe { MmapMut::map_mut(&file)? };
        Ok(Self { map })
    }

    /// The word at the beginning of a line of its own (two lines apart, for prefetchers fetch
    /// pairs).
    #[inline(always)]
    pub fn word(&self, line: usize) -> &AtomicU64 {
        assert!(line < Self::LINES);
        let start = self.map.as_ptr().wrapping_add(line * Self::LINE);
        // SAFETY: inside the mapping and aligned to a line; the word is only used atomically, by
        // every process; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(start.cast::<u64>().cast_mut()) }
    }
}
