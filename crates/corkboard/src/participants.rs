//! Who is attached: one table entry per handle, alive as long as the kernel says so.
//!
//! A handle claims an entry by locking that entry's byte through the description that maps the
//! table, and then closes the descriptor: the mapping keeps the description, and with it the lock,
//! until it is unmapped or the process ends. An entry whose byte can be locked is free, whatever
//! is written in it; who claims it resets it. The PID in it is for people, never an identity.

use std::time::SystemTime;

use crate::clock::{moment, wall_ns};
use crate::error::{self, Error, ErrorKind};
use crate::hook;
use crate::object::read_words_at;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::File;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, no_fork};
use crate::sys::{Errno, lock};

/// Of a board's readers: not 0 while somebody may sleep.
pub(crate) const WAITING: usize = 256;
/// Of a board's readers: not 0 while writers make a full fence after each publication.
pub(crate) const FENCED: usize = 264;
/// Of a board's readers: rung for everyone who sleeps.
pub(crate) const BELL: usize = 272;

const _: () = assert!(
    FENCED == WAITING + 8 && BELL == FENCED + 8,
    "the words are neighbours"
);

/// One more than the highest entry ever claimed.
pub(crate) const HIGH: usize = 384;
/// The first entry.
pub(crate) const ENTRIES: usize = 512;
/// An entry begins with its holder's word, on a cache line of its own: what a board's participant
/// pins, or how a lock's holds it. The line after it says who holds the entry.
pub(crate) const ENTRY_LEN: usize = 128;
pub(crate) const PID: usize = 64;
pub(crate) const SINCE: usize = 72;
pub(crate) const LABEL: usize = 80;
/// The longest label in bytes.
pub(crate) const LABEL_LEN: usize = 48;
/// Lock bytes are beyond the end of any file.
const LOCK_BASE: u64 = 1 << 40;

const _: () = assert!(LABEL + LABEL_LEN == ENTRY_LEN, "the label ends the entry");
const ENTRY_WORDS: usize = ENTRY_LEN / 8;

/// The byte that says whether an entry's holder is alive.
pub(crate) fn lock_byte(entry: usize) -> u64 {
    LOCK_BASE + entry as u64
}

/// A table's size.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The file's bytes that are mapped.
    pub(crate) mapped_len: usize,
    pub(crate) entries: usize,
}

impl Shape {
    /// The bytes that a table of so many entries takes up.
    pub(crate) const fn len_bytes(entries: usize) -> usize {
        ENTRIES + entries * ENTRY_LEN
    }
}

/// The table of writers or readers, mapped.
pub(crate) struct Table {
    mapping: Mapping,
    len: usize,
}

impl Record {
    fn of(words: &[u64; ENTRY_WORDS]) -> Self {
        let label: Vec<u8> = words[LABEL / 8..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        Self {
            pid: words[PID / 8] as u32,
            since: moment(words[SINCE / 8]),
            label: text(&label),
            word: words[0],
        }
    }
}

/// The entries in use, and what dead holders left in others: read without mapping the file, which
/// a stranger may cut short at any time.
pub(crate) fn list(file: &File, shape: Shape, object: &str) -> Result<Vec<Listed>, Error> {
    let mut words = vec![0; Shape::len_bytes(shape.entries) / 8];
    read_words_at(file, &mut words, 0, object)?;
    let used = usize::try_from(words[HIGH / 8]).unwrap_or(usize::MAX);
    let (entries, _) = words[ENTRIES / 8..].as_chunks::<ENTRY_WORDS>();
    let mut listed = Vec::new();
    for (entry, words) in entries.iter().enumerate().take(used) {
        let is_alive = lock::is_locked(file, lock_byte(entry), 1)
            .map_err(|errno| Error::os("look at", object, errno))?;
        if is_alive || words.iter().any(|word| *word != 0) {
            listed.push(Listed {
                entry,
                is_alive,
                record: Record::of(words),
            });
        }
    }
    Ok(listed)
}

/// An entry with something in it.
pub(crate) struct Listed {
    pub(crate) entry: usize,
    /// Whether the kernel says so.
    pub(crate) is_alive: bool,
    pub(crate) record: Record,
}

/// What a handle is called if nobody says: the program's name.
pub(crate) fn program_name() -> String {
    let name = || {
        let path = std::env::args_os().next()?;
        let name = std::path::Path::new(&path).file_name()?;
        Some(name.to_string_lossy().into_owned())
    };
    name().unwrap_or_default()
}

/// The text in a field that is filled up with zeros, harmless to print.
pub(crate) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())])
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// What an entry says of its holder, dead or alive.
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) since: Option<SystemTime>,
    pub(crate) label: String,
    /// The word that the entry begins with.
    pub(crate) word: u64,
}

impl Table {
    /// Maps the table and claims a free entry; `None` when every entry's holder is alive.
    pub(crate) fn claim(
        file: File,
        shape: Shape,
        generation: Generation,
        label: &str,
    ) -> Result<Option<(Self, usize)>, Errno> {
        Self::claim_in(file, shape, 0..shape.entries, generation, label)
    }

    /// As [`claim`](Self::claim), one of these entries.
    pub(crate) fn claim_in(
        file: File,
        shape: Shape,
        entries: std::ops::Range<usize>,
        generation: Generation,
        label: &str,
    ) -> Result<Option<(Self, usize)>, Errno> {
        let protection = Protection::ReadWrite;
        let table = Self::map(&file, shape, protection, generation)?;
        for entry in entries {
            if lock::try_lock(&file, lock_byte(entry))? {
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
        file: &File,
        shape: Shape,
        protection: Protection,
        generation: Generation,
    ) -> Result<Self, Errno> {
        let mapping = Mapping::new(
            file,
            shape.mapped_len,
            protection,
            Inheritance::Never,
            generation,
        )?
        .in_memory(shape.mapped_len, protection)?;
        let len = shape.entries;
        Ok(Self { mapping, len })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The slot that entry holds, plus one; 0 for none.
    #[inline]
    pub(crate) fn pin(&self, entry: usize) -> &AtomicU64 {
        &self.entry(entry)[0]
    }

    /// All words of an entry.
    #[inline]
    fn entry(&self, entry: usize) -> &[AtomicU64; ENTRY_WORDS] {
        self.mapping.array(ENTRIES + entry * ENTRY_LEN)
    }

    /// The pins of all entries that were ever claimed. Call it after a full fence.
    #[inline]
    pub(crate) fn pins(&self) -> impl Iterator<Item = &AtomicU64> {
        let words = self
            .mapping
            .words(ENTRIES, used(&self.mapping, self.len) * ENTRY_WORDS);
        let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
        entries.iter().map(|entry| &entry[0])
    }

    /// What is written in an entry.
    pub(crate) fn record(&self, entry: usize) -> Record {
        let words = self.entry(entry);
        Record::of(&std::array::from_fn(|word| {
            words[word].load(Ordering::Relaxed)
        }))
    }

    /// Lets go of the entry's pin and empties the rest. The caller holds its byte.
    pub(crate) fn wipe(&self, entry: usize) {
        // Release: its holder is dead, and its reads came before.
        self.pin(entry).store(0, Ordering::Release);
        for word in &self.entry(entry)[PID / 8..] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Writes who we are, for people to read.
    fn sign(&self, entry: usize, label: &str) {
        let words = self.entry(entry);
        let pid = u64::from(std::process::id());
        let mut padded = [0; LABEL_LEN];
        let len = label.floor_char_boundary(LABEL_LEN);
        padded[..len].copy_from_slice(&label.as_bytes()[..len]);
        for (to, bytes) in words[LABEL / 8..].iter().zip(padded.as_chunks::<8>().0) {
            to.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        words[SINCE / 8].store(wall_ns(), Ordering::Relaxed);
        words[PID / 8].store(pid, Ordering::Relaxed);
    }

    /// Of the readers' table: the waiting and the fenced word, and the bell.
    #[inline]
    pub(crate) fn wake_words(&self) -> &[AtomicU64; 3] {
        self.mapping.array(WAITING)
    }

    fn high(&self) -> &AtomicU64 {
        self.mapping.word(HIGH)
    }
}

/// How many of a table's entries were ever claimed.
#[inline]
pub(crate) fn used(mapping: &Mapping, entries: usize) -> usize {
    let high = mapping.word(HIGH).load(Ordering::Relaxed);
    usize::try_from(high).map_or(entries, |high| high.min(entries))
}

/// Runs `work` while holding the byte of `entry`, if its holder is dead; `false` when it is alive.
/// `open` opens the file: the byte is tried through a description of its own, for the one that holds
/// our lock cannot see that lock.
pub(crate) fn while_dead(
    object: &str,
    entry: usize,
    open: impl FnOnce() -> error::Result<File>,
    work: &mut dyn FnMut(),
) -> error::Result<bool> {
    let failed = |errno| Error::os("take over", object, errno);
    // A child would keep the dead one's byte.
    let _no_fork = no_fork();
    let file = open()?;
    let byte = lock_byte(entry);
    if !lock::try_lock(&file, byte).map_err(failed)? {
        return Ok(false);
    }
    hook::point("takeover.locked");
    work();
    hook::point("takeover.exchanged");
    lock::unlock(&file, byte).map_err(failed)?;
    Ok(true)
}

/// Empties the entry that a dead handle left in the table of a file, unless somebody has claimed
/// it. `open` opens the file; nothing, or `NotFound`, when the object is not the same any more.
pub(crate) fn wipe_dead(
    object: &str,
    entry: u32,
    open: impl FnOnce() -> error::Result<Option<(File, Shape)>>,
) -> error::Result<()> {
    let failed = |errno| Error::os("fix", object, errno);
    let entry = entry as usize;
    // A child would keep the entry's byte.
    let _no_fork = no_fork();
    let (file, shape) = match open() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if entry >= shape.entries || !lock::try_lock(&file, lock_byte(entry)).map_err(failed)? {
        return Ok(());
    }
    let generation = Generation::current().map_err(failed)?;
    let table = Table::map(&file, shape, Protection::ReadWrite, generation).map_err(failed)?;
    table.wipe(entry);
    Ok(())
}

/// Empties the pin of an entry that was just claimed, and makes scans include it.
pub(crate) fn reset(pin: &AtomicU64, high: &AtomicU64, entry: usize) {
    // Release: whoever held it before is dead, and its reads came before.
    pin.store(0, Ordering::Release);
    // Before the first pin, whose fence makes both visible to a scanning writer.
    high.fetch_max(entry as u64 + 1, Ordering::Relaxed);
}
