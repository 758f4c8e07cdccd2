//! Processes that say where they are, in a file that everyone reads, and notice who else is there.
//!
//! Each process has a slot of its own, never used again. Who is killed inside leaves its slot as
//! it is, so a slot that says "inside" is a contradiction only if its process is not dead, or
//! about to be: the kernel releases a dying process's locks before it says that it has died.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::At as _;

/// Where a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Outside = 0,
    Reading = 1,
    Writing = 2,
}

/// The slots of all processes.
pub struct Witness {
    file: File,
    slot: usize,
    entries: u64,
}

/// What a slot says: the process, how often it came in, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    pub pid: u32,
    pub entries: u64,
    place: u64,
}

impl Witness {
    /// Opens the file with this process's slot.
    pub fn open(path: &Path, slot: usize) -> Self {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        Self {
            file: file.open(path).unwrap(),
            slot,
            entries: 0,
        }
    }

    /// Says where this process is now.
    pub fn say(&mut self, place: Place) {
        self.entries += u64::from(place != Place::Outside);
        let word = u64::from(std::process::id()) << 32 | self.entries << 2 | place as u64;
        let at = self.slot as u64 * 8;
        self.file.write_all_to(&word.to_ne_bytes(), at);
    }

    /// All slots that were ever used.
    pub fn slots(&self) -> Vec<Slot> {
        let mut bytes = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exactly_at(&mut bytes, 0);
        let slot = |bytes: &[u8; 8]| {
            let word = u64::from_ne_bytes(*bytes);
            Slot {
                pid: (word >> 32) as u32,
                entries: word as u32 as u64 >> 2,
                place: word & 3,
            }
        };
        bytes.as_chunks().0.iter().map(slot).collect()
    }

    /// Fails when a process is where it may not be while this one is at `place`.
    pub fn check_alone(&self, place: Place) {
        for (index, slot) in self.slots().into_iter().enumerate() {
            let is_writing = slot.place == Place::Writing as u64;
            let is_inside = slot.place != Place::Outside as u64;
            let is_wrong = is_writing || (place == Place::Writing && is_inside);
            if index == self.slot || !is_wrong {
                continue;
            }
            let start = Instant::now();
            while !is_dead(slot.pid) {
                let now = self.slots()[index];
                assert_eq!(now, slot, "{slot:?} and we ({place:?}) were in together");
                let patience = Duration::from_secs(30);
                assert!(
                    start.elapsed() < patience,
                    "{slot:?} is in, and we ({place:?})"
                );
                std::thread::yield_now();
            }
        }
    }
}

/// Whether the process has ended, reaped or not.
#[cfg(unix)]
pub fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Whether the process has ended.
#[cfg(windows)]
pub fn is_dead(pid: u32) -> bool {
    use windows_sys::Win32::Foundation::CloseHandle;
    use windows_sys::Win32::System::Threading::{
        OpenProcess, PROCESS_SYNCHRONIZE, WaitForSingleObject,
    };
    // SAFETY: the handle is ours, and closed when it was used.
    unsafe {
        let process = OpenProcess(PROCESS_SYNCHRONIZE, 0, pid);
        let has_ended = process.is_null() || WaitForSingleObject(process, 0) == 0;
        CloseHandle(process);
        has_ended
    }
}
