//! mmap-sync: two files that take turns, a reference count for each, wyhash over what is written.
//!
//! Values go in by `write_raw` and come out as archived byte arrays in place, which is its fastest
//! way both ways. It computes its checksum when writing and never checks it, so its
//! reads do less than a verified board's first read.

use std::time::Duration;

use anyhow::{Context, Result};
use mmap_sync::synchronizer::Synchronizer;

use crate::payload::consume;
use crate::scratch::Scratch;

/// How long a writer would wait for a reader that keeps a value. No row makes it wait.
const GRACE: Duration = Duration::from_secs(1);

pub fn publisher<const N: usize>(scratch: &Scratch) -> Result<impl FnMut(&[u8]) + use<N>> {
    let mut synchronizer = Synchronizer::new(scratch.fresh("mmap-sync").as_os_str());
    Ok(move |value: &[u8]| {
        let written = synchronizer.write_raw::<[u8; N]>(value, GRACE);
        let (len, reset) = written.expect("mmap-sync writes");
        assert!(len == N && !reset);
    })
}

/// Whether a read validates the bytes as an archive of its type, as it must to be sound with bytes
/// that one does not trust. For an array of bytes there is nothing to find, but it takes time.
#[derive(Clone, Copy)]
pub enum Archive {
    Trusted,
    Checked,
}

pub fn reader<const N: usize>(
    scratch: &Scratch,
    value: &[u8],
    archive: Archive,
) -> Result<impl FnMut() + use<N>> {
    let path = scratch.fresh("mmap-sync");
    Synchronizer::new(path.as_os_str())
        .write_raw::<[u8; N]>(value, GRACE)
        .context("mmap-sync writes")?;
    let mut synchronizer = Synchronizer::new(path.as_os_str());
    let check = matches!(archive, Archive::Checked);
    Ok(move || {
        // SAFETY: the bytes are an archived array of N bytes, for those are its own bytes, and
        // nobody writes while the result is in use.
        let value = unsafe { synchronizer.read::<[u8; N]>(check) }.expect("mmap-sync reads");
        consume::<N>(&value[..]);
    })
}
