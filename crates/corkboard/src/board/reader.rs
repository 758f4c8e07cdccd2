//! Reading and waiting.

mod fetch;
mod sleep;

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::attached::Attached;
use super::files::Files;
use super::layout::{Role, unpack};
use super::protocol::{self, GONE};
use super::small::SmallSlots;
use super::snapshot::{Held, OwnedSnapshot, Snapshot};
use crate::error::{ErrorKind, Result};
use crate::object;
use crate::participants::Table;
use crate::prefetch;
use crate::space::Space;
use crate::spins;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::map::Protection;
use crate::sys::process::{WipedWord, no_fork};

pub(super) const READ: &str = "read";

/// A handle that reads a board's newest value.
///
/// It never disturbs the writer. A reader that may not write to the readers' table, or finds it
/// full, observes: it copies values instead of holding them in place. So does a reader of a board
/// whose data another user owns (other than root), and it copies with system calls only: whatever
/// that user does to the files is an error here, and not the end of this process.
///
/// # If a process dies
/// *Recovers*: a dead reader leaves at most one slot pinned until its entry is claimed again.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-reader-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// # corkboard::board::Options::new().writer(&space, "weather")?.publish(b"sunny")?;
/// use corkboard::board::Reader;
/// let mut reader = Reader::open(&space, "weather")?;
/// // The newest value, again and again:
/// if let Some(value) = reader.read()? {
///     println!("{}: {:?}", value.sequence(), &*value);
/// }
/// // Each new one, as it comes; this one was seen above:
/// let timeout = std::time::Duration::from_millis(1);
/// assert!(reader.wait(Some(timeout))?.is_none());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A snapshot is borrowed from its reader, which cannot read on meanwhile:
/// ```compile_fail,E0499
/// # fn read_twice(reader: &mut corkboard::board::Reader) -> corkboard::Result<()> {
/// let first = reader.read()?;
/// let second = reader.read()?;
/// drop(first);
/// # Ok(())
/// # }
/// ```
// What a new value needs comes first, in as few cache lines as can be: see `Attached`.
#[repr(C, align(64))]
pub struct Reader {
    /// **W1** The word that a newer value, or removal, changes: inside the data that `held.board`
    /// maps.
    watched: NonNull<AtomicU64>,
    /// What the watched word was when the held value was the newest, inverted; 0 when there is no
    /// such value. A fork's child finds 0, which matches no word that a program of ours stores.
    expected: WipedWord,
    seen: u64,
    /// The slots of a small board; `held.board` outlives them.
    small: Option<SmallSlots>,
    /// Absent for an observer.
    table: Option<(Arc<Table>, usize)>,
    spins: u32,
    sleeps: u32,
    held: Held,
    retries: u64,
    /// So many values are pinned before a copy of a short one is tried again.
    pinning: u32,
    label: String,
    /// Bytes at each slot's beginning that are known to be in memory.
    present: Vec<usize>,
}

// SAFETY: W1: the pointers are into a mapping that the handle keeps alive and that belongs to no
// thread.
unsafe impl Send for Reader {}
// SAFETY: a shared reference to a reader changes nothing.
unsafe impl Sync for Reader {}

impl Reader {
    /// Opens an existing board for reading.
    ///
    /// # Errors
    /// `NotFound` when absent; `InvalidName`, `Damaged`, `Incompatible`, `Unsupported`,
    /// `PermissionDenied`, `Io`; `NoSpace` when somebody took memory away from its files, and there
    /// is none left.
    ///
    /// # If a process dies
    /// *Recovers*: its entry is free as soon as the kernel has released its lock.
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        Self::open_with(space, name, &Options::new())
    }

    pub(super) fn open_with(space: &Space, name: &str, options: &Options) -> Result<Self> {
        Self::attach(space, name, options, true)
    }

    /// An observer, whatever it is permitted: opening it changes nothing on the board.
    pub(crate) fn observe(space: &Space, name: &str) -> Result<Self> {
        Self::attach(space, name, &Options::new(), false)
    }

    fn attach(space: &Space, name: &str, options: &Options, takes_part: bool) -> Result<Self> {
        let files = Files::open(space, name, Protection::ReadOnly)?;
        options.check(&files, name)?;
        let board = Attached::new(space, name, &files, Protection::ReadOnly)?;
        let label = options.label_or_program();
        let (shape, generation) = (board.geometry.table(Role::Readers), board.generation);
        // A child would keep the lock on the entry.
        let no_fork = no_fork();
        let table = match board.table(&files, Role::Readers) {
            Ok(_) if !(takes_part && board.is_mapped) => None,
            Ok(file) => Table::claim(file, shape, generation, &label)
                .map_err(|errno| board.os("open", errno))?,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        drop(no_fork);
        let mut reader = Self {
            table: table.map(|(table, entry)| (Arc::new(table), entry)),
            seen: 0,
            watched: NonNull::from(board.latest()),
            // SAFETY: the reader owns a share of the board as long as it has the slots.
            small: unsafe { SmallSlots::new(&board) },
            expected: WipedWord::new().map_err(|errno| board.os("open", errno))?,
            spins: if board.is_mapped { spins::FIRST } else { 0 },
            sleeps: 0,
            retries: 0,
            pinning: 0,
            label,
            present: vec![0; board.slots()],
            held: Held::new(Arc::new(board)),
        };
        reader.watch();
        Ok(reader)
    }

    /// As [`open`](Self::open), waiting for the board's creation.
    ///
    /// # Errors
    /// `NotFound` when it is still absent after `timeout`; otherwise as [`open`](Self::open).
    ///
    /// # Blocking
    /// For at most `timeout`.
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way creates nothing.
    pub fn open_timeout(space: &Space, name: &str, timeout: Duration) -> Result<Self> {
        object::await_creation(space, timeout, || Self::open(space, name))
    }

    /// Another handle on the same board, which has seen nothing yet.
    ///
    /// # Errors
    /// `Removed` when the board is no longer there; otherwise as [`open`](Self::open).
    ///
    /// # If a process dies
    /// *Recovers*, as [`open`](Self::open).
    pub fn try_clone(&self) -> Result<Self> {
        self.board().check_usable("open")?;
        Self::open_with(
            &self.board().space,
            &self.board().name,
            &Options::new().label(&self.label),
        )
    }

    /// The longest value in bytes.
    pub fn capacity(&self) -> usize {
        self.board().geometry.capacity
    }

    /// Whether this handle observes: it copies large values, and looks for new ones every two
    /// milliseconds instead of being woken. Where another user owns the data, it copies all values.
    pub fn is_observer(&self) -> bool {
        self.table.is_none()
    }

    /// Whether a writer is attached and alive: on an exclusive board one that holds it, a standby
    /// does not count. `false` when the board was removed or cannot be looked at.
    ///
    /// Whoever may read the board can, by locks of its own on the data file, make this say `false`
    /// of a writer that attaches while they last. Nothing else depends on it.
    ///
    /// # If a process dies
    /// *Reports*: `false` as soon as the kernel has released a dead writer's lock.
    pub fn writer_alive(&self) -> bool {
        let board = self.board();
        let is_alive = || -> Result<bool> {
            board.check_usable(READ)?;
            let files = board.reopen(READ)?;
            files.has_live_writer()
        };
        is_alive().unwrap_or(false)
    }

    /// How often a read of this handle had to begin again because the writer was faster: it
    /// published, or began to overwrite, what was just being copied or pinned.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// The newest value, also when it was read before; `None` before the first publication. It
    /// counts as seen for [`wait`](Self::wait).
    ///
    /// # Errors
    /// `Corrupt` when the value does not match its checksum, until the next publication; `Lagged`
    /// when the writer replaces values faster than an observer copies them; `NoSpace` when there is
    /// no memory for a copy; `Removed`, `Forked`, `Damaged`; `PermissionDenied` and `Io` where files
    /// are opened again, which observers do, and others for a value in memory new to them.
    ///
    /// # If a process dies
    /// *Recovers*: a writer killed half-way leaves the value before as the newest.
    #[inline]
    pub fn read(&mut self) -> Result<Option<Snapshot<'_>>> {
        // SAFETY: W1.
        let watched = unsafe { self.watched.as_ref() };
        // Equal says it all: no newer value, not removed (GONE), not a fork's child (0).
        if !watched.load(Ordering::Relaxed) != self.expected.load() {
            self.look()?;
        }
        Ok(self.held.snapshot())
    }

    /// Waits for a value newer than the last one this handle returned; `None` on time-out. A fresh
    /// handle has returned none, and gets the present value at once, if there is one.
    ///
    /// # Errors
    /// As [`read`](Self::read). A value reported as `Corrupt` counts as seen.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one. Looks for some microseconds, then sleeps.
    ///
    /// # If a process dies
    /// *Recovers*: a value published by a writer that died before waking is seen within 50 ms.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Snapshot<'_>>> {
        let is_there = self.take_newer()?
            || (self.spins > 0
                && timeout != Some(Duration::ZERO)
                && self.spin()
                && self.take_newer()?)
            || self.await_newer(timeout)?;
        Ok(is_there.then(|| self.held.snapshot()).flatten())
    }

    /// Copies the newest value into `buffer` and returns its sequence; `None` before the first
    /// publication. The copy is checked after it was made and does not go through the mapping, so
    /// it is right even if the writer cannot be trusted.
    ///
    /// # Errors
    /// As [`read`](Self::read); `NoSpace` when there is no memory for the copy.
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u64>> {
        self.board().check_generation(READ)?;
        let result = self.copy_from_file(buffer).and_then(|copied| {
            let Some((sequence, found)) = copied else {
                return Ok(None);
            };
            self.board().verify(sequence, found, buffer)?;
            Ok(Some(sequence))
        });
        result.inspect_err(|_| buffer.clear())
    }

    /// Turns the handle into the newest value, to keep and to send between threads; `None` before
    /// the first publication.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn into_snapshot(mut self) -> Result<Option<OwnedSnapshot>> {
        let is_some = self.read()?.is_some();
        Ok(is_some.then_some(OwnedSnapshot { reader: self }))
    }

    #[inline]
    fn board(&self) -> &Attached {
        &self.held.board
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref().map(|(table, _)| table)
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Notices that somebody deleted the board's files without telling.
    pub(super) fn check_in_place(&self) -> Result<()> {
        if self.board().is_in_place() {
            return Ok(());
        }
        Err(self.board().removed(READ))
    }

    /// Whether a value newer than the last one seen is published.
    #[inline]
    pub(super) fn is_newer(&self) -> bool {
        // SAFETY: W1.
        let watched = unsafe { self.watched.as_ref() }.load(Ordering::Relaxed);
        if self.small.is_some() {
            return protocol::is_newer(watched, self.seen);
        }
        unpack(watched).1 > self.seen
    }

    /// Watches the word that the value after the last one seen will change.
    #[inline]
    fn watch(&mut self) {
        if let Some(small) = &self.small {
            self.watched = NonNull::from(small.stamp(self.seen + 1));
        }
    }

    /// Looks for the newest value, and remembers what the watched word is when there is none newer
    /// than the one held.
    #[inline(never)]
    fn look(&mut self) -> Result<()> {
        // Where a new value goes on, whatever the board: on its way as soon as can be.
        let start = self.watched.as_ptr().cast::<u8>();
        prefetch::to_read(start.wrapping_add(prefetch::LINE));
        if self.board().check_usable(READ).is_ok() && self.take_next() {
            return Ok(());
        }
        self.look_around()
    }

    /// Takes a value newer than the last one seen; `false` when there is none.
    #[inline]
    fn take_newer(&mut self) -> Result<bool> {
        if !self.board().is_mapped {
            return self.fetch_newer();
        }
        self.board().check_usable(READ)?;
        Ok(self.is_newer() && (self.take_next() || self.fetch_newer()?))
    }

    #[inline(never)]
    fn fetch_newer(&mut self) -> Result<bool> {
        self.board().refresh(READ)?;
        self.board().check_usable(READ)?;
        if !self.is_newer() {
            return Ok(false);
        }
        let seen = self.seen;
        self.fetch()?;
        Ok(self.seen > seen)
    }

    /// Takes the value after the one seen, if this board is small and that value there, whole, and
    /// the newest: what comes to a reader that keeps up, in as few steps as can be. What is wrong
    /// with it otherwise is found, and said, by who fetches it.
    #[inline]
    fn take_next(&mut self) -> bool {
        let Some(small) = self.small else {
            return false;
        };
        let sequence = self.seen + 1;
        let (slot, next) = (small.of(sequence), small.stamp(sequence + 1));
        let watched = next.load(Ordering::Relaxed);
        if watched & GONE != 0
            || protocol::is_newer(watched, sequence)
            || slot.stamp().load(Ordering::Relaxed) != sequence
        {
            return false;
        }
        self.expected.store(0);
        let Some(found) = self.held.copy_slot(slot, sequence) else {
            self.retries += 1;
            return false;
        };
        if found.is_none_or(|found| self.held.hold_copy(sequence, found).is_err()) {
            return false;
        }
        self.seen = sequence;
        self.watched = NonNull::from(next);
        self.expected.store(!watched);
        true
    }

    #[cold]
    #[inline(never)]
    fn look_around(&mut self) -> Result<()> {
        self.board().refresh(READ)?;
        self.board().check_usable(READ)?;
        // Before the look at what is newer, so that it is not the word of a newer one.
        // SAFETY: W1.
        let watched = unsafe { self.watched.as_ref() }.load(Ordering::Relaxed);
        if self.is_newer() || self.held.sequence() == 0 || self.held.sequence() != self.seen {
            return self.fetch();
        }
        self.expect(watched);
        Ok(())
    }

    /// Remembers what the watched word is while the held value is the newest.
    #[inline]
    fn expect(&mut self, watched: u64) {
        // What is not mapped does not change before our eyes.
        let is_final = watched & GONE == 0 && self.held.board.is_mapped;
        self.expected.store(if is_final { !watched } else { 0 });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let (true, Some((table, entry))) = (self.board().generation.is_current(), &self.table) {
            table.wipe(*entry);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.board().name)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
