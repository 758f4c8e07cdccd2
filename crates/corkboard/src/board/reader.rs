//! Reading and waiting.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::files::{self, Files, object};
use super::layout::*;
use super::{Integrity, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::crc64;
use crate::participants::Table;
use crate::space::Space;
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::wait;

/// A sleeping reader looks this often whether the board is still there.
const SLICE: Duration = Duration::from_millis(50);
/// One that may not ask to be woken looks this often for a value.
const OBSERVER_SLICE: Duration = Duration::from_millis(2);
const SPINS: u32 = 200;
const ATTEMPTS: u32 = 10_000;

/// A handle that reads a board's newest value.
///
/// It never disturbs the writer. A reader that may not write to the readers' table, or finds it
/// full, observes: it copies values instead of holding them in place.
///
/// # If a process dies
/// *Recovers*: a dead reader leaves at most one slot pinned until its entry is claimed again.
pub struct Reader {
    space: Space,
    name: String,
    geometry: Geometry,
    generation: Generation,
    data: Mapping,
    file_identity: (u64, u64),
    /// Absent for an observer of a large board and for anyone without the right to write it.
    table: Option<(Table, usize)>,
    trusted: bool,
    seen: u64,
    value: Value,
    copy: Vec<u64>,
}

/// The value that the handle holds: in its pinned slot, or in its private copy.
#[derive(Clone, Copy)]
struct Value {
    start: *const u8,
    len: usize,
    sequence: u64,
    monotonic: u64,
    realtime: u64,
}

impl Value {
    const NONE: Self = Self {
        start: std::ptr::null(),
        len: 0,
        sequence: 0,
        monotonic: 0,
        realtime: 0,
    };
}

// SAFETY: the pointer is into the mapping or the private copy that the same handle owns, and
// neither belongs to a thread.
unsafe impl Send for Reader {}
// SAFETY: a shared reference to a reader changes nothing.
unsafe impl Sync for Reader {}

/// What a slot's descriptor says.
struct Descriptor {
    len: usize,
    crc: u64,
    monotonic: u64,
    realtime: u64,
}

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
        let files = Files::open(space, name, Protection::ReadOnly)?;
        let object = object(name);
        let failed = |errno| Error::os("open", &object, errno);
        let generation = Generation::current().map_err(failed)?;
        let geometry = files.geometry;
        let data = files
            .map_data(Protection::ReadOnly, generation)
            .map_err(failed)?;
        let table = match files.table(Role::Readers, &object) {
            Ok(file) => Table::claim(file, &geometry, Role::Readers, generation).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        let us = rustix::process::geteuid().as_raw();
        Ok(Self {
            space: space.clone(),
            name: name.to_owned(),
            file_identity: files::identity(files.data.as_fd()).map_err(failed)?,
            trusted: files.owner_uid == us || files.owner_uid == 0,
            geometry,
            generation,
            data,
            table,
            seen: 0,
            value: Value::NONE,
            copy: Vec::new(),
        })
    }

    /// As [`open`](Self::open), waiting for the board's creation.
    ///
    /// # Errors
    /// `NotFound` when it is still absent after `timeout`; otherwise as [`open`](Self::open).
    ///
    /// # Blocking
    /// For at most `timeout`; looks every two milliseconds.
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way creates nothing.
    pub fn open_timeout(space: &Space, name: &str, timeout: Duration) -> Result<Self> {
        let start = Instant::now();
        loop {
            match Self::open(space, name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let left = timeout.saturating_sub(start.elapsed());
                    if left.is_zero() {
                        return Err(error);
                    }
                    std::thread::sleep(left.min(OBSERVER_SLICE));
                }
                result => return result,
            }
        }
    }

    /// Another handle on the same board, which has seen nothing yet.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # If a process dies
    /// *Recovers*, as [`open`](Self::open).
    pub fn try_clone(&self) -> Result<Self> {
        Self::open(&self.space, &self.name)
    }

    /// The longest value in bytes.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// Whether this handle observes: it copies large values, and looks for new ones every two
    /// milliseconds instead of being woken.
    pub fn is_observer(&self) -> bool {
        self.table.is_none()
    }

    /// The newest value, `None` before the first publication.
    ///
    /// # Errors
    /// `Corrupt` when the value does not match its checksum, until the next publication; `Lagged`
    /// when the writer replaces values faster than an observer copies them; `Removed`, `Forked`,
    /// `Damaged`.
    ///
    /// # If a process dies
    /// *Recovers*: a writer killed half-way leaves the value before as the newest.
    #[inline]
    pub fn read(&mut self) -> Result<Option<Snapshot<'_>>> {
        self.check()?;
        if self.value.sequence == 0 || self.value.sequence != self.seen || self.is_newer() {
            self.fetch()?;
        }
        Ok(self.snapshot())
    }

    /// Waits for a value newer than the last one this handle returned; `None` on time-out.
    ///
    /// # Errors
    /// As [`read`](Self::read). A value reported as `Corrupt` counts as seen.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one.
    ///
    /// # If a process dies
    /// *Recovers*: a value published by a writer that died before waking is seen within 50 ms.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Snapshot<'_>>> {
        let start = Instant::now();
        loop {
            self.check()?;
            if (0..SPINS).any(|_| {
                std::hint::spin_loop();
                self.is_newer()
            }) {
                self.fetch()?;
                return Ok(self.snapshot());
            }
            let left = timeout.map_or(Duration::MAX, |timeout| {
                timeout.saturating_sub(start.elapsed())
            });
            if left.is_zero() {
                return Ok(None);
            }
            self.sleep(left)?;
        }
    }

    /// Copies the newest value into `buffer` and returns its sequence; `None` before the first
    /// publication. The copy is checked after it was made and does not go through the mapping, so
    /// it is right even if the writer cannot be trusted.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// *Recovers*, as [`read`](Self::read).
    pub fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u64>> {
        self.check_generation()?;
        let object = object(&self.name);
        let file = self.reopen()?;
        for _ in 0..ATTEMPTS {
            let word_at = |offset: usize| -> Result<u64> {
                let mut word = [0; 8];
                files::read_at(file.as_fd(), &mut word, offset as u64, &object)?;
                Ok(u64::from_ne_bytes(word))
            };
            if word_at(STATE)? != STATE_LIVE {
                return Err(self.error(ErrorKind::Removed, "it was removed; open it anew"));
            }
            let word = word_at(LATEST)?;
            let (slot, sequence) = self.locate(word)?;
            if sequence == 0 && self.seen == 0 {
                return Ok(None);
            }
            // On a small board the latest word may be a moment behind what `read` saw.
            let (slot, sequence) = if sequence < self.seen && self.geometry.is_small() {
                (self.seen as usize % SMALL_SLOTS, self.seen)
            } else {
                (slot, sequence)
            };
            let descriptor = self.geometry.descriptor(slot);
            if word_at(descriptor + STAMP)? != sequence {
                std::thread::yield_now();
                continue;
            }
            fence(Ordering::SeqCst);
            let len = word_at(descriptor + LEN)?;
            let expected = word_at(descriptor + CRC)?;
            let len = usize::try_from(len)
                .ok()
                .filter(|len| *len <= self.geometry.capacity);
            if let Some(len) = len {
                buffer.clear();
                buffer.resize(len, 0);
                let payload = self.geometry.payload(slot) as u64;
                files::read_at(file.as_fd(), buffer, payload, &object)?;
            }
            fence(Ordering::SeqCst);
            if word_at(descriptor + STAMP)? != sequence {
                continue;
            }
            self.seen = sequence;
            if len.is_none() {
                buffer.clear();
                return Err(self.impossible_length());
            }
            if self.geometry.integrity == Integrity::Crc64 {
                let actual = crc64(buffer, 0);
                if actual != expected {
                    buffer.clear();
                    return Err(self.corrupt(sequence, expected, actual));
                }
            }
            return Ok(Some(sequence));
        }
        Err(self.lagged())
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

    fn snapshot(&self) -> Option<Snapshot<'_>> {
        (self.value.sequence > 0).then_some(Snapshot { reader: self })
    }

    /// Whether a value newer than the last one seen is published.
    #[inline]
    fn is_newer(&self) -> bool {
        if self.geometry.is_small() {
            let stamp = self.stamp(self.seen + 1).load(Ordering::Relaxed);
            let marked = stamp & !BUSY;
            return marked > self.seen && (stamp & BUSY == 0 || marked > self.seen + 1);
        }
        unpack(self.data.word(LATEST).load(Ordering::Relaxed)).1 > self.seen
    }

    fn fetch(&mut self) -> Result<()> {
        if self.geometry.is_small() {
            self.fetch_small()
        } else if self.trusted && self.table.is_some() {
            self.fetch_pinned()
        } else {
            self.fetch_copy()
        }
    }

    fn fetch_small(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (_, latest) = unpack(self.data.word(LATEST).load(Ordering::Acquire));
            let mut sequence = latest.max(self.seen);
            while sequence < latest.max(self.seen) + SMALL_SLOTS as u64
                && self.stamp(sequence + 1).load(Ordering::Relaxed) == sequence + 1
            {
                sequence += 1;
            }
            if sequence == 0 {
                return Ok(());
            }
            let slot = sequence as usize % SMALL_SLOTS;
            // Acquire pairs with the writer's Release store of the stamp.
            if self.stamp(sequence).load(Ordering::Acquire) != sequence {
                std::hint::spin_loop();
                continue;
            }
            let found = self.descriptor(slot);
            if let Some(found) = &found {
                let payload = self.geometry.payload(slot);
                let words = found.len.div_ceil(8);
                let mut copy = std::mem::take(&mut self.copy);
                copy.clear();
                copy.extend(
                    (0..words)
                        .map(|word| self.data.word(payload + word * 8).load(Ordering::Relaxed)),
                );
                self.copy = copy;
                self.value = Value::NONE;
            }
            // Pairs with the fence in `Writer::write_small`.
            fence(Ordering::Acquire);
            if self.stamp(sequence).load(Ordering::Relaxed) != sequence {
                continue;
            }
            let start = self.copy.as_ptr().cast();
            return self.accept(sequence, found, start);
        }
        Err(self.stuck())
    }

    fn fetch_pinned(&mut self) -> Result<()> {
        let mut stale = 0;
        for _ in 0..ATTEMPTS {
            let word = self.data.word(LATEST).load(Ordering::Acquire);
            let (slot, sequence) = self.locate(word)?;
            if sequence == 0 {
                return Ok(());
            }
            self.value = Value::NONE;
            if let Some((table, entry)) = &self.table {
                table.pin(*entry).store(slot as u64 + 1, Ordering::Release);
            }
            // Pairs with the fence in `Writer::reserve`: either we see its mark or it our pin.
            fence(Ordering::SeqCst);
            let stamp = self.data.word(self.geometry.descriptor(slot) + STAMP);
            if stamp.load(Ordering::Acquire) == sequence {
                let found = self.descriptor(slot);
                let len = found.as_ref().map_or(0, |found| found.len);
                let start = self.data.bytes(self.geometry.payload(slot), len);
                return self.accept(sequence, found, start);
            }
            // The latest slot is never marked, so a mismatch means that it is latest no more.
            stale += u32::from(self.data.word(LATEST).load(Ordering::Acquire) == word);
            if stale > 100 {
                return Err(self.stuck());
            }
        }
        Err(self.lagged())
    }

    fn fetch_copy(&mut self) -> Result<()> {
        let mut buffer = Vec::new();
        self.value = Value::NONE;
        let Some(sequence) = self.read_into(&mut buffer)? else {
            return Ok(());
        };
        let len = buffer.len();
        self.copy.clear();
        let (words, tail) = buffer.as_chunks::<8>();
        self.copy
            .extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.copy.push(u64::from_ne_bytes(last));
        self.value = Value {
            start: self.copy.as_ptr().cast(),
            len,
            sequence,
            monotonic: 0,
            realtime: 0,
        };
        Ok(())
    }

    /// Checks a value that nobody can change any more and makes it the one held.
    fn accept(&mut self, sequence: u64, found: Option<Descriptor>, start: *const u8) -> Result<()> {
        self.value = Value::NONE;
        self.seen = sequence;
        let Some(found) = found else {
            return Err(self.impossible_length());
        };
        if self.geometry.integrity == Integrity::Crc64 {
            let bytes: &[u8] = if found.len == 0 {
                &[]
            } else {
                // SAFETY: `len` bytes at `start` are in the private copy, or in a slot that the
                // caller has pinned, which no writer touches until the pin moves.
                unsafe { std::slice::from_raw_parts(start, found.len) }
            };
            let actual = crc64(bytes, 0);
            if actual != found.crc {
                return Err(self.corrupt(sequence, found.crc, actual));
            }
        }
        self.value = Value {
            start,
            len: found.len,
            sequence,
            monotonic: found.monotonic,
            realtime: found.realtime,
        };
        Ok(())
    }

    /// What the slot says of itself; `None` when its length is impossible.
    fn descriptor(&self, slot: usize) -> Option<Descriptor> {
        let base = self.geometry.descriptor(slot);
        let word = |field| self.data.word(base + field).load(Ordering::Relaxed);
        let len = usize::try_from(word(LEN)).ok()?;
        (len <= self.geometry.capacity).then(|| Descriptor {
            len,
            crc: word(CRC),
            monotonic: word(MONOTONIC),
            realtime: word(REALTIME),
        })
    }

    /// A small board's stamp of the slot in which `sequence` is, or will be.
    #[inline]
    fn stamp(&self, sequence: u64) -> &AtomicU64 {
        let slot = sequence as usize % SMALL_SLOTS;
        self.data.word(self.geometry.descriptor(slot) + STAMP)
    }

    fn locate(&self, latest: u64) -> Result<(usize, u64)> {
        let (slot, sequence) = unpack(latest);
        if slot < self.geometry.slots() {
            return Ok((slot, sequence));
        }
        Err(self.stuck())
    }

    fn sleep(&self, left: Duration) -> Result<()> {
        let latest = self.data.word(LATEST);
        let word = latest.load(Ordering::Relaxed);
        let slice = match &self.table {
            Some((table, _)) => {
                let waiting = table.mapping().word(WAITING);
                waiting.store(1 << 32 | u64::from(word as u32), Ordering::Relaxed);
                SLICE
            }
            None => OBSERVER_SLICE,
        };
        // Pairs with the fence in `Writer::wake`.
        fence(Ordering::SeqCst);
        let removed = self.data.word(STATE).load(Ordering::Relaxed) != STATE_LIVE;
        if removed || self.is_newer() {
            return Ok(());
        }
        let timed_out = wait::wait_low(latest, word as u32, left.min(slice));
        if timed_out && !files::is_in_place(&self.space, &self.name, self.file_identity) {
            return Err(self.error(ErrorKind::Removed, "it was removed; open it anew"));
        }
        Ok(())
    }

    fn reopen(&self) -> Result<OwnedFd> {
        Files::reopen(&self.space, &self.name, self.file_identity)?
            .map(|files| files.data)
            .ok_or_else(|| self.error(ErrorKind::Removed, "it was removed; open it anew"))
    }

    #[inline]
    fn check(&self) -> Result<()> {
        self.check_generation()?;
        if self.data.word(STATE).load(Ordering::Relaxed) == STATE_LIVE {
            return Ok(());
        }
        Err(self.error(ErrorKind::Removed, "it was removed; open it anew"))
    }

    #[inline]
    fn check_generation(&self) -> Result<()> {
        if self.generation.is_current() {
            return Ok(());
        }
        let cause = "this handle was made before a fork; open the board anew in the child";
        Err(self.error(ErrorKind::Forked, cause))
    }

    #[cold]
    fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        Error::new(kind, "read", object(&self.name), cause)
    }

    fn stuck(&self) -> Error {
        let cause = "its slots contradict each other; remove it and create it anew";
        self.error(ErrorKind::Damaged, cause)
    }

    fn lagged(&self) -> Error {
        let cause = "the writer replaces values faster than they can be copied; publish less often";
        self.error(ErrorKind::Lagged, cause)
    }

    fn impossible_length(&self) -> Error {
        let cause = "a value claims more bytes than the board holds; remove it and create it anew";
        self.error(ErrorKind::Damaged, cause)
    }

    fn corrupt(&self, sequence: u64, expected: u64, actual: u64) -> Error {
        let cause = format!(
            "value {sequence} has checksum {actual:016x}, its writer stated {expected:016x}; the next publication heals it"
        );
        self.error(ErrorKind::Corrupt, cause)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let (true, Some((table, entry))) = (self.generation.is_current(), &self.table) {
            // Release: our reads come before the slot's next use.
            table.pin(*entry).store(0, Ordering::Release);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A whole, verified value, borrowed from its reader.
///
/// # If a process dies
/// *Recovers*: the bytes stay as they are, also when the writer dies or the board is removed.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    reader: &'a Reader,
}

impl Snapshot<'_> {
    /// The value's number, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.reader.value.sequence
    }

    /// When it was published, by the wall clock; `None` where no time is recorded or the value
    /// was copied by an observer.
    pub fn published_at(&self) -> Option<SystemTime> {
        self.reader
            .has_time()
            .then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(self.reader.value.realtime))
    }

    /// How long ago it was published, by a clock that nobody sets; `None` as for
    /// [`published_at`](Self::published_at).
    pub fn age(&self) -> Option<Duration> {
        self.reader.has_time().then(|| {
            let now = clock_gettime(ClockId::Monotonic);
            let now_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
            Duration::from_nanos(now_ns.saturating_sub(self.reader.value.monotonic))
        })
    }
}

impl Reader {
    fn has_time(&self) -> bool {
        self.geometry.timestamp != Timestamp::None && self.value.monotonic != 0
    }

    fn bytes(&self) -> &[u8] {
        if self.value.len == 0 {
            return &[];
        }
        // SAFETY: `start` and `len` were checked by `accept` or `fetch_copy`; the bytes are in the
        // private copy or in the slot this handle pins, and both change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.value.start, self.value.len) }
    }
}

impl Deref for Snapshot<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.reader.bytes()
    }
}

/// A whole, verified value that owns its reader.
///
/// # If a process dies
/// *Recovers*, as for [`Snapshot`].
#[derive(Debug)]
pub struct OwnedSnapshot {
    reader: Reader,
}

impl OwnedSnapshot {
    /// The value's number, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.reader.value.sequence
    }

    /// The reader again.
    pub fn into_reader(self) -> Reader {
        self.reader
    }
}

impl Deref for OwnedSnapshot {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.reader.bytes()
    }
}
