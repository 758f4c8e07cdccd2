//! Publishing.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::files::{self, Files, Removal, object};
use super::layout::*;
use super::{Integrity, Options, Timestamp, WriterMode, mutex};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::crc64;
use crate::participants::Table;
use crate::space::Space;
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::{lock, wait};

/// Copy and checksum alternate on pieces that stay in the first-level cache.
const PIECE: usize = 16 << 10;
/// Slots tried first: reusing few keeps memory and caches warm.
const WORKING_SET: usize = 4;
const SHARED_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle that publishes values to a board.
///
/// # If a process dies
/// *Recovers*: killed anywhere in a publication, the value before it stays the latest, and the
/// next writer goes on from there.
pub struct Writer {
    space: Space,
    name: String,
    geometry: Geometry,
    generation: Generation,
    data: Mapping,
    control: Table,
    readers: Table,
    entry: usize,
    timeout: Duration,
    identity: (u64, u64),
    /// Bytes at each slot's beginning that this handle has allocated.
    populated: Vec<usize>,
    cursor: usize,
}

impl Writer {
    /// Opens an existing board for writing, adopting its options.
    ///
    /// # Errors
    /// `NotFound` when absent; otherwise as [`Options::writer`].
    ///
    /// # If a process dies
    /// *Recovers*, as for [`Options::writer`].
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        let files = Files::open(space, name, Protection::ReadWrite)?;
        Self::attach(space, name, files, &Options::new())
    }

    pub(super) fn create_or_open(space: &Space, name: &str, options: &Options) -> Result<Self> {
        for _ in 0..1000 {
            match Files::open(space, name, Protection::ReadWrite) {
                Ok(files) => {
                    check_options(&files.geometry, options, name)?;
                    return Self::attach(space, name, files, options);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let geometry = Geometry {
                instance: files::random()
                    .map_err(|errno| Error::os("create", object(name), errno))?,
                capacity: options.capacity.unwrap_or(1 << 20),
                max_readers: options.max_readers.unwrap_or(62),
                integrity: options.integrity.unwrap_or(Integrity::Crc64),
                timestamp: options.timestamp.unwrap_or(Timestamp::Coarse),
                writer_mode: options.writer_mode.unwrap_or(WriterMode::Exclusive),
                created_ns: files::now_ns(),
            };
            if !geometry.is_possible() {
                let cause = format!(
                    "capacity {} or {} readers is more than a board can have (1 TiB, {MAX_READERS}); ask for less",
                    geometry.capacity, geometry.max_readers
                );
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "create",
                    object(name),
                    cause,
                ));
            }
            if !Files::create(space, name, &geometry, options)? {
                // Taken: by another creator, or by a board whose remover died.
                match files::remove(space, name, Removal::Finish) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        let cause = "it is removed as fast as it is created; find out by whom";
        Err(Error::new(
            ErrorKind::Conflict,
            "create",
            object(name),
            cause,
        ))
    }

    fn attach(space: &Space, name: &str, files: Files, options: &Options) -> Result<Self> {
        let object = object(name);
        let failed = |errno| Error::os("open", &object, errno);
        let generation = Generation::current().map_err(failed)?;
        let geometry = files.geometry;
        let data = files
            .map_data(Protection::ReadWrite, generation)
            .map_err(failed)?;
        let readers = files.table(Role::Readers, &object)?;
        let readers =
            Table::map(readers.as_fd(), &geometry, Role::Readers, generation).map_err(failed)?;
        let control = files.table(Role::Control, &object)?;
        let claimed =
            Table::claim(control, &geometry, Role::Control, generation).map_err(failed)?;
        let Some((control, entry)) = claimed else {
            let cause = format!("all {WRITER_ENTRIES} writers' entries are in use; close a writer");
            return Err(Error::new(ErrorKind::Full, "open", object, cause));
        };
        // Whoever held this entry is dead, for we hold its byte; so is its hold on the mutex.
        mutex::unlock(control.mapping().half_word(MUTEX), entry);
        let timeout = options
            .writer_timeout
            .unwrap_or(match geometry.writer_mode {
                WriterMode::Exclusive => Duration::ZERO,
                WriterMode::Shared => SHARED_TIMEOUT,
            });
        let writer = Self {
            space: space.clone(),
            name: name.to_owned(),
            identity: files::identity(files.data.as_fd()).map_err(failed)?,
            populated: vec![0; geometry.slots()],
            cursor: 0,
            geometry,
            generation,
            data,
            control,
            readers,
            entry,
            timeout,
        };
        if geometry.writer_mode == WriterMode::Exclusive {
            writer.lock()?;
        }
        Ok(writer)
    }

    /// The longest value in bytes.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// Replaces the board's value and returns its sequence, counted from 1.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`: nothing was published and the old value stays. `Removed`, `Forked`.
    /// `WriterExists`: another shared writer kept its turn until the time-out.
    ///
    /// # Blocking
    /// Never for readers; on a shared board for other writers' publications.
    ///
    /// # If a process dies
    /// *Recovers*: killed before this returns, either the old or the new value is the latest.
    pub fn publish(&mut self, value: &[u8]) -> Result<u64> {
        self.begin(value.len())?;
        let result = self.publish_locked(value, None);
        self.end();
        result
    }

    /// As [`publish`](Self::publish), if the latest sequence is `expected` (0: none yet).
    ///
    /// # Errors
    /// `Conflict` when it is not; otherwise as [`publish`](Self::publish).
    ///
    /// # If a process dies
    /// *Recovers*, as [`publish`](Self::publish).
    pub fn publish_if(&mut self, expected: u64, value: &[u8]) -> Result<u64> {
        self.begin(value.len())?;
        let result = self.publish_locked(value, Some(expected));
        self.end();
        result
    }

    /// A buffer of `len` bytes to fill and publish. Its contents are initialised, but unspecified.
    /// Dropping it discards it.
    ///
    /// # Errors
    /// `TooLarge`, `Removed`, `Forked`.
    ///
    /// # If a process dies
    /// *Recovers*: what was not published was never visible.
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_>> {
        self.check(len)?;
        Ok(Loan {
            buffer: vec![0; len],
            writer: self,
        })
    }

    fn publish_locked(&mut self, value: &[u8], expected: Option<u64>) -> Result<u64> {
        let (latest_slot, latest) = self.latest();
        if let Some(expected) = expected
            && expected != latest
        {
            let cause =
                format!("the latest sequence is {latest}, not {expected}; read it and try again");
            return Err(self.error(ErrorKind::Conflict, cause));
        }
        if latest == MAX_SEQUENCE {
            let cause = "it has used up its sequence numbers; remove it and create it anew";
            return Err(self.error(ErrorKind::Unsupported, cause));
        }
        let sequence = latest + 1;
        let slot = if self.geometry.is_small() {
            self.write_small(sequence, value)
        } else {
            let slot = self.reserve((latest > 0).then_some(latest_slot))?;
            self.write_large(slot, value)?;
            slot
        };
        let stamp = self.word(slot, STAMP);
        // Release pairs with the readers' Acquire loads of the stamp and of the latest word.
        stamp.store(sequence, Ordering::Release);
        let latest = self.data.word(LATEST);
        latest.store(pack(slot, sequence), Ordering::Release);
        self.wake(latest);
        Ok(sequence)
    }

    /// The newest published slot and sequence. A small board's writer may have died after it
    /// stamped the slot, which readers watch, and before it said so in the latest word.
    fn latest(&self) -> (usize, u64) {
        let (slot, sequence) = unpack(self.data.word(LATEST).load(Ordering::Acquire));
        if self.geometry.is_small() {
            let next = (sequence + 1) as usize % SMALL_SLOTS;
            if self.word(next, STAMP).load(Ordering::Acquire) == sequence + 1 {
                return (next, sequence + 1);
            }
        }
        (slot, sequence)
    }

    fn write_small(&self, sequence: u64, value: &[u8]) -> usize {
        let slot = sequence as usize % SMALL_SLOTS;
        self.word(slot, STAMP)
            .store(BUSY | sequence, Ordering::Relaxed);
        // Release: who sees any of the words below sees the mark above (the readers' second look).
        fence(Ordering::Release);
        let crc = match self.geometry.integrity {
            Integrity::Crc64 => crc64(value, 0),
            Integrity::None => 0,
        };
        self.describe(slot, value.len(), crc);
        let payload = self.geometry.payload(slot);
        let (words, tail) = value.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let to = self.data.word(payload + index * 8);
            to.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        if !tail.is_empty() {
            let mut last = [0; 8];
            last[..tail.len()].copy_from_slice(tail);
            let to = self.data.word(payload + words.len() * 8);
            to.store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        slot
    }

    /// Finds a slot that nobody pins and that is not the latest, and marks it busy.
    fn reserve(&mut self, latest_slot: Option<usize>) -> Result<usize> {
        let slots = self.geometry.slots();
        let warm = slots.min(WORKING_SET);
        let first = (0..warm).map(|step| (self.cursor + step) % warm);
        for slot in first.chain(warm..slots) {
            if Some(slot) == latest_slot || self.control.is_pinned(slot) {
                continue;
            }
            let stamp = self.word(slot, STAMP);
            let before = stamp.load(Ordering::Relaxed);
            stamp.store(before | BUSY, Ordering::Relaxed);
            // Pairs with the fence in `Reader::pin`: either we see the pin or the reader our mark.
            fence(Ordering::SeqCst);
            if self.readers.is_pinned(slot) {
                stamp.store(before, Ordering::Release);
                continue;
            }
            // Pairs with the Release store that cleared the last pin: its reads came before.
            fence(Ordering::Acquire);
            self.cursor = (slot + 1) % warm;
            return Ok(slot);
        }
        let cause = "the readers' table claims every slot; remove the board and create it anew";
        Err(self.error(ErrorKind::Damaged, cause))
    }

    fn write_large(&mut self, slot: usize, value: &[u8]) -> Result<()> {
        let payload = self.geometry.payload(slot);
        if value.len() > self.populated[slot] {
            let wanted = value.len().next_multiple_of(4096);
            if let Err(errno) = self.data.populate(payload, wanted) {
                // No reader looks into a slot that is not published, so its pages can go.
                let _ = self.data.release(payload, wanted);
                self.populated[slot] = 0;
                let cause = match errno {
                    Errno::FAULT | Errno::NOMEM | Errno::NOSPC => {
                        let cause = format!(
                            "no memory left for {} bytes on its file system; free some or enlarge it",
                            value.len()
                        );
                        return Err(self.error(ErrorKind::NoSpace, cause));
                    }
                    errno => errno,
                };
                return Err(Error::os("publish to", object(&self.name), cause));
            }
            self.populated[slot] = wanted;
        }
        let to = self.data.bytes(payload, value.len());
        let mut crc = 0;
        for (index, piece) in value.chunks(PIECE).enumerate() {
            // SAFETY: the range is inside the mapping (checked by `bytes`), allocated, and ours
            // alone while the slot is busy and unpinned; `value` is not in the mapping.
            unsafe {
                let to = to.add(index * PIECE);
                std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
            }
            if self.geometry.integrity == Integrity::Crc64 {
                crc = crc64(piece, crc);
            }
        }
        self.describe(slot, value.len(), crc);
        Ok(())
    }

    fn describe(&self, slot: usize, len: usize, crc: u64) {
        self.word(slot, LEN).store(len as u64, Ordering::Relaxed);
        self.word(slot, CRC).store(crc, Ordering::Relaxed);
        let (monotonic, realtime) = match self.geometry.timestamp {
            Timestamp::Coarse => (ClockId::MonotonicCoarse, ClockId::RealtimeCoarse),
            Timestamp::Precise => (ClockId::Monotonic, ClockId::Realtime),
            Timestamp::None => return,
        };
        for (field, clock) in [(MONOTONIC, monotonic), (REALTIME, realtime)] {
            let time = clock_gettime(clock);
            let time_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
            self.word(slot, field).store(time_ns, Ordering::Relaxed);
        }
    }

    fn wake(&self, latest: &std::sync::atomic::AtomicU64) {
        let waiting = self.readers.mapping().word(WAITING);
        // Pairs with the fence in `Reader::sleep`: either we see the flag or it the new value.
        fence(Ordering::SeqCst);
        let seen = waiting.load(Ordering::Relaxed);
        if seen != 0 {
            let _ = waiting.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
            wait::wake_low(latest);
        }
    }

    fn word(&self, slot: usize, field: usize) -> &std::sync::atomic::AtomicU64 {
        let slot = slot.min(self.geometry.slots() - 1);
        self.data.word(self.geometry.descriptor(slot) + field)
    }

    fn check(&self, len: usize) -> Result<()> {
        if !self.generation.is_current() {
            let cause = "this handle was made before a fork; open the board anew in the child";
            return Err(self.error(ErrorKind::Forked, cause));
        }
        if self.data.word(STATE).load(Ordering::Relaxed) != STATE_LIVE {
            let cause = "it was removed; open it anew";
            return Err(self.error(ErrorKind::Removed, cause));
        }
        if len > self.geometry.capacity {
            let cause = format!(
                "the value has {len} bytes, the board holds {}; create it with more capacity",
                self.geometry.capacity
            );
            return Err(self.error(ErrorKind::TooLarge, cause));
        }
        Ok(())
    }

    fn begin(&self, len: usize) -> Result<()> {
        self.check(len)?;
        match self.geometry.writer_mode {
            WriterMode::Exclusive => Ok(()),
            WriterMode::Shared => self.lock(),
        }
    }

    fn end(&self) {
        if self.geometry.writer_mode == WriterMode::Shared {
            self.unlock();
        }
    }

    fn unlock(&self) {
        mutex::unlock(self.control.mapping().half_word(MUTEX), self.entry);
    }

    fn lock(&self) -> Result<()> {
        let word = self.control.mapping().half_word(MUTEX);
        let locked = mutex::lock(word, self.entry, self.timeout, &|entry, exchange| {
            self.while_dead(entry, exchange)
        })?;
        if locked {
            return Ok(());
        }
        let cause =
            "another writer is alive and has it; end that one, or wait longer (writer_timeout)";
        Err(self.error(ErrorKind::WriterExists, cause))
    }

    /// Runs `exchange` while holding the byte of `entry`, if its holder is dead. The byte is tried
    /// through a description of its own: the one that holds our lock cannot see that lock.
    fn while_dead(&self, entry: usize, exchange: &mut dyn FnMut()) -> Result<bool> {
        let object = object(&self.name);
        let failed = |errno| Error::os("take over", &object, errno);
        let Some(files) = Files::reopen(&self.space, &self.name, self.identity)? else {
            return Err(self.error(ErrorKind::Removed, "it was removed; open it anew"));
        };
        let control = files.table(Role::Control, &object)?;
        let byte = LOCK_BASE + entry as u64;
        if !lock::try_lock(control.as_fd(), byte).map_err(failed)? {
            return Ok(false);
        }
        exchange();
        lock::unlock(control.as_fd(), byte).map_err(failed)?;
        Ok(true)
    }

    #[cold]
    fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        Error::new(kind, "write to", object(&self.name), cause)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.generation.is_current() {
            self.unlock();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A buffer to fill and publish, from [`Writer::loan`].
#[derive(Debug)]
pub struct Loan<'a> {
    writer: &'a mut Writer,
    buffer: Vec<u8>,
}

impl Loan<'_> {
    /// Shortens the value to `len` bytes; longer than it is has no effect.
    pub fn truncate(&mut self, len: usize) {
        self.buffer.truncate(len);
    }

    /// Publishes the buffer, as [`Writer::publish`].
    ///
    /// # Errors
    /// As [`Writer::publish`].
    ///
    /// # If a process dies
    /// *Recovers*, as [`Writer::publish`].
    pub fn publish(self) -> Result<u64> {
        self.writer.publish(&self.buffer)
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

fn check_options(geometry: &Geometry, options: &Options, name: &str) -> Result<()> {
    fn differs<T: PartialEq + fmt::Debug>(
        what: &str,
        wanted: Option<T>,
        found: T,
    ) -> Option<String> {
        let wanted = wanted.filter(|wanted| *wanted != found)?;
        Some(format!(
            "it has {what} {found:?}, not {wanted:?}; leave that unset to adopt it, or remove the board"
        ))
    }
    let cause = differs("capacity", options.capacity, geometry.capacity)
        .or_else(|| differs("max_readers", options.max_readers, geometry.max_readers))
        .or_else(|| differs("integrity", options.integrity, geometry.integrity))
        .or_else(|| differs("timestamp", options.timestamp, geometry.timestamp))
        .or_else(|| differs("writer_mode", options.writer_mode, geometry.writer_mode));
    match cause {
        None => Ok(()),
        Some(cause) => Err(Error::new(
            ErrorKind::Incompatible,
            "open",
            object(name),
            cause,
        )),
    }
}
