//! The algorithm of the Windows C++ ShareMemory library, of which corkboard is the successor.
//!
//! Each access opens and closes two lock files, and polls every 15 ms while another holds them;
//! the content's CRC-64 is computed byte by byte from a table of 256 words, when writing and when
//! reading. Here `flock` on tmpfs takes the place of Windows' sharing modes, which favours the
//! original: opening a file costs less on tmpfs than on NTFS. Nothing contends in these rows, so
//! the polls never happen; that, too, favours it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use memmap2::MmapMut;
use rustix::fs::{FlockOperation, flock};

use crate::payload::consume;
use crate::scratch::Scratch;

const POLL: Duration = Duration::from_millis(15);
const HEADER: usize = 32;
const CONTENT_SIZE: usize = 8;
const CRC: usize = 16;

/// A shared block with its two lock files.
struct Block {
    map: MmapMut,
    writers: PathBuf,
    readers: PathBuf,
    table: [u64; 256],
}

impl Block {
    fn create(path: &Path, capacity: usize) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        file.set_len((HEADER + capacity) as u64)?;
        Ok(Self {
            // SAFETY: the file is this run's own; nobody truncates it, and its only two mappings
            // are not used at the same time.
            map: unsafe { MmapMut::map_mut(&file)? },
            writers: path.with_extension("wlc"),
            readers: path.with_extension("rlc"),
            table: crc_table(),
        })
    }

    fn write(&mut self, content: &[u8]) -> Result<()> {
        let _writers = lock(&self.writers, FlockOperation::NonBlockingLockExclusive)?;
        let _readers = lock(&self.readers, FlockOperation::NonBlockingLockExclusive)?;
        let crc = crc64(&self.table, content);
        let len = u32::try_from(content.len())?;
        self.map[CONTENT_SIZE..CONTENT_SIZE + 4].copy_from_slice(&len.to_le_bytes());
        self.map[CRC..CRC + 8].copy_from_slice(&crc.to_le_bytes());
        self.map[HEADER..HEADER + content.len()].copy_from_slice(content);
        Ok(())
    }

    fn read(&self, content: &mut Vec<u8>) -> Result<()> {
        drop(lock(&self.writers, FlockOperation::NonBlockingLockShared)?);
        let _readers = lock(&self.readers, FlockOperation::NonBlockingLockShared)?;
        let word: &[u8; 4] = self.map[CONTENT_SIZE..CONTENT_SIZE + 4].try_into()?;
        let len = u32::from_le_bytes(*word) as usize;
        let crc: &[u8; 8] = self.map[CRC..CRC + 8].try_into()?;
        content.clear();
        content.extend_from_slice(&self.map[HEADER..HEADER + len]);
        anyhow::ensure!(crc64(&self.table, content) == u64::from_le_bytes(*crc));
        Ok(())
    }
}

/// Opens a lock file, creating it when it is absent; closing it unlocks.
pub fn lock(path: &Path, operation: FlockOperation) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if flock(&file, operation).is_ok() {
            return Ok(file);
        }
        drop(file);
        std::thread::sleep(POLL);
    }
}

/// CRC-64/XZ: polynomial 0x42F0E1EBA9EA3693, reflected.
fn crc_table() -> [u64; 256] {
    std::array::from_fn(|index| {
        (0..8).fold(index as u64, |crc, _| {
            let bit = crc & 1;
            crc >> 1 ^ (0xc96c_5795_d787_0f42 * bit)
        })
    })
}

fn crc64(table: &[u64; 256], bytes: &[u8]) -> u64 {
    let mut crc = !0;
    for byte in bytes {
        crc = table[(crc as u8 ^ byte) as usize] ^ crc >> 8;
    }
    !crc
}

pub fn publisher(scratch: &Scratch, capacity: usize) -> Result<impl FnMut(&[u8]) + use<>> {
    let mut block = Block::create(&scratch.fresh("original"), capacity)?;
    Ok(move |value: &[u8]| block.write(value).expect("the original writes"))
}

pub fn reader<const N: usize>(scratch: &Scratch, value: &[u8]) -> Result<impl FnMut() + use<N>> {
    let mut block = Block::create(&scratch.fresh("original"), value.len())?;
    block.write(value)?;
    let mut content = Vec::new();
    Ok(move || {
        block.read(&mut content).expect("the original reads");
        consume::<N>(&content);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_that_everybody_computes() {
        assert_eq!(crc64(&crc_table(), b"123456789"), 0x995d_c9bb_df19_39fa);
    }
}
