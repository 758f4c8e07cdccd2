//! Who is attached: one table entry per handle, alive as long as the kernel says so.
//!
//! A handle claims an entry by locking that entry's byte through the description that maps the
//! table, and then closes the descriptor: the mapping keeps the description, and with it the lock,
//! until it is unmapped or the process ends. An entry whose byte can be locked is free, whatever
//! is written in it; who claims it resets it. The PID in it is for people, never an identity.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::io::Errno;

use crate::board::layout::{
    ENTRIES, ENTRY_LEN, FENCED, Geometry, HIGH, LABEL, LABEL_LEN, PID, Role, SINCE, WAITING,
    lock_byte, text,
};
use crate::board::{clock, protocol};
use crate::hook;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::lock;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;

const _: () = assert!(FENCED == WAITING + 8, "the two words are neighbours");
const _: () = assert!(LABEL + LABEL_LEN == ENTRY_LEN, "the label ends the entry");
const ENTRY_WORDS: usize = ENTRY_LEN / 8;

/// The table of writers or readers, mapped.
pub(crate) struct Table {
    mapping: Mapping,
    len: usize,
}

/// What an entry says of its holder, dead or alive.
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) since: Option<SystemTime>,
    pub(crate) label: String,
    /// The slot it pins.
    pub(crate) pinned: Option<usize>,
}

impl Table {
    /// Maps the table and claims a free entry; `None` when every entry's holder is alive.
    pub(crate) fn claim(
        file: OwnedFd,
        geometry: &Geometry,
        role: Role,
        generation: Generation,
        label: &str,
    ) -> Result<Option<(Self, usize)>, Errno> {
        let protection = Protection::ReadWrite;
        let table = Self::map(file.as_fd(), geometry, role, protection, generation)?;
        for entry in 0..table.len {
            if lock::try_lock(file.as_fd(), lock_byte(entry))? {
                hook::point("claim.locked");
                reset(table.pin(entry), table.high(), entry);
                table.sign(entry, label);
                hook::point("claim.signed");
                return Ok(Some((table, entry)));
            }
        }
        Ok(None)
    }

    /// Maps the table without taking part.
    pub(crate) fn map(
        file: BorrowedFd<'_>,
        geometry: &Geometry,
        role: Role,
        protection: Protection,
        generation: Generation,
    ) -> Result<Self, Errno> {
        let mapping = Mapping::new(
            file,
            geometry.file_len(role),
            protection,
            Inheritance::Never,
            generation,
        )?;
        let len = geometry.table_len(role);
        Ok(Self { mapping, len })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The slot that entry holds, plus one; 0 for none.
    pub(crate) fn pin(&self, entry: usize) -> &AtomicU64 {
        &self.entry(entry)[0]
    }

    /// All words of an entry.
    fn entry(&self, entry: usize) -> &[AtomicU64; ENTRY_WORDS] {
        self.mapping.array(ENTRIES + entry * ENTRY_LEN)
    }

    /// The pins of all entries that were ever claimed. Call it after a full fence.
    #[inline]
    pub(crate) fn pins(&self) -> impl Iterator<Item = &AtomicU64> {
        let words = self.mapping.words(ENTRIES, self.used() * ENTRY_WORDS);
        let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
        entries.iter().map(|entry| &entry[0])
    }

    /// How many entries were ever claimed.
    #[inline]
    pub(crate) fn used(&self) -> usize {
        let high = self.high().load(Ordering::Relaxed);
        usize::try_from(high).map_or(self.len, |high| high.min(self.len))
    }

    /// What is written in an entry.
    pub(crate) fn record(&self, entry: usize) -> Record {
        let words = self.entry(entry);
        let word = |field: usize| words[field / 8].load(Ordering::Relaxed);
        let since = word(SINCE);
        let label: Vec<u8> = words[LABEL / 8..]
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect();
        Record {
            pid: word(PID) as u32,
            since: (since > 0).then(|| clock::moment(since)).flatten(),
            label: text(&label),
            pinned: word(0)
                .checked_sub(1)
                .and_then(|slot| usize::try_from(slot).ok()),
        }
    }

    /// Lets go of the entry's pin and empties the rest. The caller holds its byte.
    pub(crate) fn wipe(&self, entry: usize) {
        protocol::unpin(self.pin(entry));
        for word in &self.entry(entry)[PID / 8..] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether anything is written in an entry.
    pub(crate) fn is_written(&self, entry: usize) -> bool {
        let mut words = self.entry(entry).iter();
        words.any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Writes who we are, for people to read.
    fn sign(&self, entry: usize, label: &str) {
        let words = self.entry(entry);
        let pid = rustix::process::getpid().as_raw_pid() as u64;
        let mut padded = [0; LABEL_LEN];
        let len = label.floor_char_boundary(LABEL_LEN);
        padded[..len].copy_from_slice(&label.as_bytes()[..len]);
        for (to, bytes) in words[LABEL / 8..].iter().zip(padded.as_chunks::<8>().0) {
            to.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        words[SINCE / 8].store(clock::wall_ns(), Ordering::Relaxed);
        words[PID / 8].store(pid, Ordering::Relaxed);
    }

    /// Of the readers' table: the waiting and the fenced word.
    #[inline]
    pub(crate) fn wake_words(&self) -> &[AtomicU64; 2] {
        self.mapping.array(WAITING)
    }

    fn high(&self) -> &AtomicU64 {
        self.mapping.word(HIGH)
    }
}

/// Empties the pin of an entry that was just claimed, and makes scans include it.
pub(crate) fn reset(pin: &AtomicU64, high: &AtomicU64, entry: usize) {
    // Release: whoever held it before is dead, and its reads came before.
    pin.store(0, Ordering::Release);
    // Before the first pin, whose fence makes both visible to a scanning writer.
    high.fetch_max(entry as u64 + 1, Ordering::Relaxed);
}
