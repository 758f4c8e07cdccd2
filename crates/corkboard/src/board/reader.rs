//! Reading and waiting.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use super::attached::{Attached, Descriptor};
use super::files::Files;
use super::layout::{BESIDE, BESIDE_LEN, LATEST, LEN, Role, STAMP};
use super::layout::{DESCRIPTOR_LEN, STATE, STATE_LIVE, unpack};
use super::protocol::{self, GONE};
use super::small::SmallSlots;
use super::snapshot::{Held, OwnedSnapshot, Snapshot};
use super::watching::{self, OBSERVER_SLICE, SLICE};
use crate::buffer::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::object::{self, read_at, read_words_at};
use crate::participants::Table;
use crate::prefetch;
use crate::space::Space;
use crate::spins;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::sys::map::Protection;
use crate::sys::process::{WipedWord, no_fork};
use crate::sys::{barrier, clock, wait};

const ATTEMPTS: u32 = 10_000;
/// How often to look again at a slot that contradicts an unchanged latest word.
const MAX_STALE: u32 = 100;
/// The copy of a short value is overwritten by the next one. A reader that was overtaken there pins
/// so many values, which the writer leaves alone.
const PINNING: u32 = 256;
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
    /// `PermissionDenied`, `Io`.
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

    fn fetch(&mut self) -> Result<()> {
        self.expected.store(0);
        if let Some(small) = self.small {
            self.fetch_small(small)
        } else if self.table.is_some() {
            self.fetch_pinned()
        } else {
            self.fetch_copy()
        }
    }

    fn fetch_small(&mut self, small: SmallSlots) -> Result<()> {
        let mut stale = Stale::default();
        for _ in 0..ATTEMPTS {
            let mut sequence = self.seen;
            let mut watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
            if watched == sequence + 1 {
                sequence += 1;
                watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
            }
            if sequence == self.seen || protocol::is_newer(watched, sequence) {
                // Either nothing is newer than what was seen, or we were left behind. One stamp can
                // be ahead of the latest word, and no more: a writer that is faster than we are is
                // not run after.
                let (_, latest) = unpack(self.board().latest().load(Ordering::Acquire));
                sequence = sequence.max(latest);
                watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
                if watched == sequence + 1 {
                    sequence += 1;
                    watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
                }
            }
            if sequence == 0 {
                return Ok(());
            }
            let found = self.held.copy_slot(small.of(sequence), sequence);
            let Some(found) = found else {
                self.retries += 1;
                self.board().check_usable(READ)?;
                // The latest slot is never marked (I1): the next look finds another one.
                if stale.again(sequence) {
                    break;
                }
                std::hint::spin_loop();
                continue;
            };
            self.seen = sequence;
            self.watch();
            let found = found.ok_or_else(|| self.impossible_length(sequence))?;
            self.held.hold_copy(sequence, found)?;
            if !protocol::is_newer(watched, sequence) {
                self.expect(watched);
            }
            return Ok(());
        }
        Err(self.board().contradictory(READ))
    }

    fn fetch_pinned(&mut self) -> Result<()> {
        let Some((table, entry)) = &self.table else {
            return self.fetch_copy();
        };
        let mut stale = 0;
        for _ in 0..ATTEMPTS {
            let word = self.board().latest().load(Ordering::Acquire);
            let (slot, sequence) = self.board().locate(word, READ)?;
            if sequence == 0 {
                return Ok(());
            }
            let pin = table.pin(*entry);
            if self.pinning > 0 {
                self.pinning -= 1;
            } else if let Some(beside) = copy_beside(&mut self.held, sequence) {
                if let Some(found) = beside {
                    // What is held from now on is the private copy.
                    if pin.load(Ordering::Relaxed) != 0 {
                        protocol::unpin(pin);
                    }
                    self.seen = sequence;
                    self.held.hold_copy(sequence, found)?;
                    self.expect(word);
                    return Ok(());
                }
                self.retries += 1;
                self.pinning = PINNING;
            }
            // On their way while the fence in `pin` waits for the pin to be seen.
            self.board().prefetch(slot);
            self.held.clear();
            hook::point("pin.before");
            if protocol::pin(pin, self.board().stamp(slot), slot, sequence) {
                hook::point("pin.held");
                return self.accept(slot, sequence, word);
            }
            self.retries += 1;
            // The latest slot is never marked (I1), so a mismatch means that it is latest no more.
            stale += u32::from(self.board().latest().load(Ordering::Acquire) == word);
            if stale > MAX_STALE {
                return Err(self.board().contradictory(READ));
            }
        }
        Err(self.lagged())
    }

    /// Checks a value in a slot that this handle has pinned, and holds it.
    fn accept(&mut self, slot: usize, sequence: u64, word: u64) -> Result<()> {
        self.seen = sequence;
        let found = self.board().descriptor(slot, sequence);
        let found = found.ok_or_else(|| self.impossible_length(sequence))?;
        if found.len > self.present[slot] {
            self.board().make_present(slot, found.len, READ)?;
            self.present[slot] = found.len;
        }
        // SAFETY: this handle pins the slot (I3); the pin moves only in `fetch_pinned`, which
        // clears `held` first, and in `drop`.
        unsafe { self.held.hold_slot(slot, sequence, found)? };
        self.expect(word);
        Ok(())
    }

    fn fetch_copy(&mut self) -> Result<()> {
        self.held.clear();
        let mut copy = std::mem::take(&mut self.held.copy);
        let result = self.copy_from_file(&mut copy);
        self.held.copy = copy;
        match result? {
            Some((sequence, found)) => self.held.hold_copy(sequence, found),
            None => Ok(()),
        }
    }

    /// Copies the newest value with system calls. The copy is whole, and to be verified.
    fn copy_from_file(&mut self, to: &mut impl Destination) -> Result<Option<(u64, Descriptor)>> {
        let files = self.board().reopen(READ)?;
        let object = self.board().object();
        // State and latest word are near each other; one call reads both.
        let mut head = [0; (LATEST - STATE) / 8 + 1];
        let mut stale = Stale::default();
        for attempt in 0..ATTEMPTS {
            read_words_at(&files.data, &mut head, STATE, &object)?;
            if head[0] != STATE_LIVE {
                return Err(self.board().removed(READ));
            }
            let word = head[(LATEST - STATE) / 8];
            let located = self.board().locate(word, READ)?;
            let (slot, sequence) = files.one_ahead(located, &object)?;
            if sequence == 0 {
                return Ok(None);
            }
            let mut at = self.board().geometry.descriptor(slot);
            let mut payload = self.board().geometry.payload(slot);
            let mut words = [0; DESCRIPTOR_LEN / 8];
            if attempt == 0 && !self.board().is_small() {
                // What `read` would copy. Who was overtaken there takes the slot, which the writer
                // leaves alone for longer.
                read_words_at(&files.data, &mut words, BESIDE, &object)?;
                if words[STAMP / 8] == sequence && words[LEN / 8] <= BESIDE_LEN as u64 {
                    (at, payload) = (BESIDE, BESIDE + DESCRIPTOR_LEN);
                }
            }
            read_words_at(&files.data, &mut words, at, &object)?;
            if words[STAMP / 8] != sequence {
                self.retries += 1;
                // The latest slot is never marked (I1), so a mismatch means that it is latest no
                // more: the next look must find another one.
                if stale.again(word) {
                    return Err(self.board().contradictory(READ));
                }
                std::thread::yield_now();
                continue;
            }
            let found = self
                .board()
                .check_descriptor(sequence, |field| words[field / 8]);
            // What is wrong with a slot that was overwritten or given back meanwhile is no damage.
            let mut damage = None;
            if let Some(found) = found {
                match files.check_allocated(payload, found.len, &object) {
                    Ok(()) => {
                        let to = to
                            .resized(found.len)
                            .ok_or_else(|| self.board().no_memory(READ, found.len))?;
                        read_at(&files.data, to, payload, &object)?;
                    }
                    Err(error) => damage = Some(error),
                }
            }
            fence(Ordering::SeqCst);
            let mut stamp = [0];
            read_words_at(&files.data, &mut stamp, at + STAMP, &object)?;
            if stamp[0] != sequence {
                self.retries += 1;
                continue;
            }
            if let Some(damage) = damage {
                return Err(damage);
            }
            self.seen = sequence;
            self.watch();
            self.expected.store(0);
            let found = found.ok_or_else(|| self.impossible_length(sequence))?;
            return Ok(Some((sequence, found)));
        }
        Err(self.lagged())
    }

    /// Looks for a newer value for as long as that has been worth it; whether there is one.
    #[inline(never)]
    fn spin(&mut self) -> bool {
        for _ in 0..self.spins {
            if self.is_newer() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Sleeps until there is a newer value, and takes it; `false` on time-out.
    #[inline(never)]
    fn await_newer(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.map_or(u64::MAX, nanoseconds);
        let mut left = timeout;
        if left == 0 {
            return Ok(false);
        }
        let begin = clock::monotonic();
        let (mut last_look, mut futile) = (begin, 0);
        loop {
            let timed_out = self.sleep(left);
            if self.take_newer()? {
                return Ok(true);
            }
            // Something is there that cannot be had, so nobody sleeps.
            futile = if self.is_newer() { futile + 1 } else { 0 };
            if futile > ATTEMPTS {
                return Err(self.board().contradictory(READ));
            }
            let now = clock::monotonic();
            // By the clock: a sleep that signals keep interrupting never runs out.
            if timed_out || now.saturating_sub(last_look) >= nanoseconds(SLICE) {
                last_look = now;
                self.check_in_place()?;
            }
            left = timeout.saturating_sub(now.saturating_sub(begin));
            if left == 0 {
                return Ok(false);
            }
        }
    }

    /// Sleeps for at most so many nanoseconds; returns whether they, or a slice, went by.
    #[inline]
    fn sleep(&mut self, left: u64) -> bool {
        let table = self.table().map(|table| &**table);
        let (word, expected, slice) = watching::announce(self.board(), table);
        // Pairs with the writer's fence after publishing, if it makes one.
        fence(Ordering::SeqCst);
        let is_settled = table.is_none_or(|table| {
            let [_, fenced, _] = table.wake_words();
            protocol::ask_for_fences(fenced, barrier::heavy)
        });
        let slice = if is_settled { slice } else { OBSERVER_SLICE };
        let state = self.board().state().load(Ordering::Relaxed);
        if state != STATE_LIVE || self.is_newer() {
            return false;
        }
        hook::point("wait.announced");
        let slice = Duration::from_nanos(left.min(nanoseconds(slice)));
        // Who does not look any more finds out now and then whether that would pay off again.
        let sleeps = self.sleeps.wrapping_add(1);
        let learns = self.spins > 0 || sleeps.is_multiple_of(16);
        let begin = learns.then(Instant::now);
        let timed_out = wait::wait_low(word, expected, slice);
        self.sleeps = sleeps;
        if let Some(begin) = begin {
            self.spins = spins::after_sleep(self.spins, begin.elapsed());
        }
        timed_out
    }

    fn lagged(&self) -> Error {
        let cause = "the writer replaces values faster than they can be copied; publish less often";
        self.board().error(ErrorKind::Lagged, READ, cause)
    }

    #[cold]
    fn impossible_length(&self, sequence: u64) -> Error {
        let cause = format!(
            "value {sequence} claims more bytes than the board holds; remove it and create it anew"
        );
        self.board().error(ErrorKind::Damaged, READ, cause)
    }
}

/// Copies a short value from beside the latest word of a large board: I5. `None` when it is not
/// there, nothing inside when the writer was faster.
#[inline]
fn copy_beside(held: &mut Held, sequence: u64) -> Option<Option<Descriptor>> {
    let board = &*held.board;
    let beside = board.beside();
    if beside.stamp().load(Ordering::Relaxed) != sequence {
        return None;
    }
    if !protocol::read_begin(beside.stamp(), sequence) {
        return Some(None);
    }
    let found = board.check_descriptor(sequence, |field| beside.word(field));
    let found = found.filter(|found| found.len <= BESIDE_LEN);
    let copy = &mut held.copy;
    if let Some(found) = found {
        // A private copy of two cache lines can be had.
        copy.resize(found.len);
        beside.copy_to(copy.words_mut(), found.len);
    }
    let is_whole = !protocol::read_retry(beside.stamp(), sequence);
    // The private copy is no longer what was held.
    held.clear();
    Some(found.filter(|_| is_whole))
}

/// As many as fit; those of a time-out that does not are for ever.
#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts looks that found the same contradiction as the look before.
#[derive(Default)]
struct Stale {
    last: u64,
    count: u32,
}

impl Stale {
    /// Whether that was too often.
    fn again(&mut self, found: u64) -> bool {
        self.count = if found == self.last {
            self.count + 1
        } else {
            0
        };
        self.last = found;
        self.count > MAX_STALE
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
