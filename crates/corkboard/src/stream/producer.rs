//! Appending records.

mod room;
mod turn;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::layout::*;
use super::loan::Loan;
use super::options::Options;
use super::protocol;
use super::remove;
use super::ring::{Cell, Ring};
use crate::attachment::Shaped as _;
use crate::buffer::Buffer;
use crate::clock::{Deadline, Looks};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::integrity::seal;
use crate::mutex;
use crate::object::{self, Removal};
use crate::participants::Table;
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering, store_bytes};
use crate::sys::barrier::{self, Side};
use crate::sys::map::Protection;
use crate::sys::process::no_fork;
use crate::sys::wait;
use crate::waking;

/// After so many records that nobody waited for, subscribers that sleep again pay for the fence.
const UNWAITED: u32 = 1000;
/// How long who does not wait for room waits for another producer's turn to end.
const TURN: Duration = Duration::from_millis(20);
/// So many records ahead the lines of cells are fetched: as many as are sent while that takes.
const AHEAD: u64 = 12;
pub(super) const SEND: &str = "send to";

/// A handle that appends records to a stream.
///
/// # If a process dies
/// *Recovers*: killed anywhere in a send, the record is whole or not there, and the next producer
/// goes on from there. A dead subscriber holds a blocked producer up until the kernel has released
/// its lock, and 5 ms more.
pub struct Producer {
    ring: Arc<Ring>,
    table: Table,
    entry: usize,
    side: Side,
    /// Records with a fence that nobody waited for, in a row.
    unwaited: u32,
    /// The next record's sequence, while this handle has the turn.
    next: u64,
    /// Where in the arena, counted on and on, is room.
    head: u64,
    /// Records up to this may be overwritten, and the arena is in use from there on.
    free: u64,
    floor: u64,
    /// There is a cell for each record before this one; 0 where turns are taken.
    limit: u64,
    /// Up to which record the subscribers must get, before there is room for what was to be sent.
    wanted: u64,
    /// How often a wait for room looks before it sleeps.
    spins: u32,
    waits: u32,
    /// When to look for dead subscribers, if there is no room.
    looks: Looks,
    pub(super) buffer: Buffer,
}

/// What is appended.
#[derive(Clone, Copy)]
pub(super) enum Record<'a> {
    Bytes(&'a [u8]),
    /// What a loan has filled: so many bytes of the arena, with this checksum.
    Loaned {
        len: usize,
        crc: u64,
    },
    End,
}

impl Record<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Loaned { len, .. } => *len,
            Self::End => 0,
        }
    }
}

impl Producer {
    /// Opens an existing stream for producing, adopting its options.
    ///
    /// # Errors
    /// `NotFound` when absent; otherwise as [`Options::producer`].
    ///
    /// # If a process dies
    /// *Recovers*, as for [`Options::producer`].
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        Self::open_with(space, name, &Options::new())
    }

    pub(super) fn create_or_open(space: &Space, name: &str, options: &Options) -> Result<Self> {
        object::create_or_open(
            &object::label(Kind::Stream, name),
            || Self::open_with(space, name, options),
            || {
                let geometry = options.geometry(name)?;
                let access = options.access_of_new();
                geometry
                    .file()
                    .create(space, name, &geometry.encode(), access)
            },
            || remove(space, name, Removal::Finish),
        )
    }

    fn open_with(space: &Space, name: &str, options: &Options) -> Result<Self> {
        let ring = Ring::open(space, name, Protection::ReadWrite)?;
        options.check(&ring.geometry, name)?;
        let failed = |errno| Error::os("open", ring.attachment.object(), errno);
        let (shape, label) = (ring.geometry.table(), options.label_or_program());
        // A child would keep the lock on the entry.
        let no_fork = no_fork();
        let file = ring.attachment.reopen_to_claim()?;
        let claimed = Table::claim_in(
            file,
            shape,
            0..PRODUCERS,
            ring.attachment.generation,
            &label,
        );
        drop(no_fork);
        let Some((table, entry)) = claimed.map_err(failed)? else {
            let cause = format!("all {PRODUCERS} producers' entries are in use; close a producer");
            return Err(ring.attachment.error(ErrorKind::Full, "open", cause));
        };
        // Whoever held this entry is dead, for we hold its byte; so is its hold on the mutex.
        mutex::unlock(ring.mutex(), entry);
        let mut producer = Self {
            table,
            entry,
            side: barrier::register(),
            unwaited: 0,
            next: 1,
            head: 0,
            free: 0,
            floor: 0,
            limit: 0,
            wanted: 0,
            spins: room::MAX_SPINS,
            waits: 0,
            looks: Looks::every(room::SLICE),
            buffer: Buffer::default(),
            ring: Arc::new(ring),
        };
        if producer.has_turn()
            && let Some(holder) = producer.take_turn(options.timeout)?
        {
            let record = producer.table.record(holder);
            let cause = format!(
                "process {} ({}) is alive and has it; end that one, or wait longer",
                record.pid, record.label
            );
            return Err(producer
                .ring
                .attachment
                .error(ErrorKind::WriterExists, "open", cause));
        }
        Ok(producer)
    }

    /// The longest record in bytes.
    pub fn max_len(&self) -> usize {
        self.ring.geometry.max_len()
    }

    /// Appends a record and returns its sequence, counted from 1.
    ///
    /// # Errors
    /// `TooLarge` when it is longer than a quarter of the capacity; `Removed`, `Forked`, `Damaged`.
    ///
    /// # Blocking
    /// Where nothing is overwritten, until there is room; on a shared stream for other producers'
    /// turns.
    ///
    /// # If a process dies
    /// *Recovers*: killed before this returns, the record is there as a whole or not at all. What
    /// dead subscribers have not received holds nobody up.
    #[inline]
    pub fn send(&mut self, record: &[u8]) -> Result<u64> {
        match self.append_short(record) {
            Some(sequence) => Ok(sequence),
            None => self.send_slowly(record),
        }
    }

    #[inline(never)]
    fn send_slowly(&mut self, record: &[u8]) -> Result<u64> {
        loop {
            if let Some(sequence) = self.append_within(Record::Bytes(record), Deadline::Never)? {
                return Ok(sequence);
            }
        }
    }

    /// As [`send`](Self::send), for at most `timeout`; `None` when there was no room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Blocking
    /// For at most `timeout`; on a shared stream 20 ms for another producer's turn, if that is
    /// longer.
    ///
    /// # If a process dies
    /// *Recovers*, as [`send`](Self::send).
    #[inline]
    pub fn send_timeout(&mut self, record: &[u8], timeout: Duration) -> Result<Option<u64>> {
        if let Some(sequence) = self.append_short(record) {
            return Ok(Some(sequence));
        }
        self.append_within(Record::Bytes(record), Deadline::after(timeout))
    }

    /// As [`send`](Self::send) without waiting for room; `None` when there is none.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Blocking
    /// On a shared stream for another producer's turn, 20 ms at most.
    ///
    /// # If a process dies
    /// *Recovers*, as [`send`](Self::send).
    #[inline]
    pub fn try_send(&mut self, record: &[u8]) -> Result<Option<u64>> {
        if let Some(sequence) = self.append_short(record) {
            return Ok(Some(sequence));
        }
        self.append_within(Record::Bytes(record), Deadline::Now)
    }

    /// A buffer of `len` bytes to fill and send. Its contents are initialised, but unspecified.
    /// Dropping it discards it. On an exclusive stream a buffer of more than 64 bytes is the shared
    /// memory itself, and sending it copies nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send); `NoSpace` when there is no memory for a private buffer.
    ///
    /// # Blocking
    /// As [`send`](Self::send).
    ///
    /// # If a process dies
    /// *Recovers*: what was not sent was never visible.
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_>> {
        Loan::new(self, len)
    }

    /// Says that there is nothing more to come, after what was sent: subscribers that get there
    /// receive nothing, and know why. The mark takes a sequence, which is returned; `None` when
    /// there was no room for it until the time-out. More records may follow all the same.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Blocking
    /// As [`send`](Self::send), for at most `timeout`, for ever without one.
    ///
    /// # If a process dies
    /// *Recovers*, as [`send`](Self::send).
    pub fn end(&mut self, timeout: Option<Duration>) -> Result<Option<u64>> {
        let deadline = Deadline::within(timeout);
        loop {
            let sequence = self.append_within(Record::End, deadline)?;
            if sequence.is_some() || timeout.is_some() {
                return Ok(sequence);
            }
        }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Appends what fits into a cell, if there is one and nothing else to do first.
    #[inline]
    fn append_short(&mut self, bytes: &[u8]) -> Option<u64> {
        if bytes.len() > INLINE || self.next >= self.limit || !self.ring.attachment.is_usable() {
            return None;
        }
        let (sequence, ring) = (self.next, &*self.ring);
        let cell = ring.cell(sequence);
        fill(cell, bytes);
        let crc = ring.checksums.of(&bytes);
        publish(cell, sequence, bytes.len() as u64, crc, self.head);
        self.go_on(self.head);
        Some(sequence)
    }

    #[inline(never)]
    pub(super) fn append_within(
        &mut self,
        record: Record<'_>,
        deadline: Deadline,
    ) -> Result<Option<u64>> {
        loop {
            if let Some(sequence) = self.try_append(record, deadline)? {
                return Ok(Some(sequence));
            }
            if !self.wait_for_room(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits until there is room for `len` bytes in this handle's turn.
    pub(super) fn wait_for(&mut self, len: usize) -> Result<()> {
        self.check(len)?;
        while !self.has_room(len) && !self.make_room(len)? {
            self.wait_for_room(Deadline::Never)?;
            self.check(len)?;
        }
        Ok(())
    }

    fn try_append(&mut self, record: Record<'_>, deadline: Deadline) -> Result<Option<u64>> {
        self.check(record.len())?;
        if self.has_turn() {
            return self.append_in_turn(record);
        }
        if self.take_turn(deadline.left().max(TURN))?.is_some() {
            return Ok(None);
        }
        let result = self.append_in_turn(record);
        hook::point("turn.ending");
        self.note_tail();
        mutex::unlock(self.ring.mutex(), self.entry);
        result
    }

    fn append_in_turn(&mut self, record: Record<'_>) -> Result<Option<u64>> {
        let len = record.len();
        match self.has_room(len) || self.make_room(len)? {
            true => self.append(record).map(Some),
            false => Ok(None),
        }
    }

    fn check(&self, len: usize) -> Result<()> {
        self.ring.attachment.check_usable(SEND)?;
        if len <= self.max_len() {
            return Ok(());
        }
        Err(self.too_large(len))
    }

    #[cold]
    fn too_large(&self, len: usize) -> Error {
        let cause = format!(
            "the record has {len} bytes, the longest is a quarter of the capacity, {}; create the stream with more capacity",
            self.max_len()
        );
        self.ring.attachment.error(ErrorKind::TooLarge, SEND, cause)
    }

    /// The address of a loan of so many bytes, for which there is room.
    pub(super) fn loaned(&self, len: usize) -> *mut u8 {
        let at = place(self.head, footprint(len), self.ring.geometry.capacity);
        self.ring.payload(at, len).expect("room inside the arena")
    }

    /// Appends in this handle's turn, if there is room.
    fn append(&mut self, record: Record<'_>) -> Result<u64> {
        let (sequence, ring) = (self.next, &*self.ring);
        let cell = ring.cell(sequence);
        let len = record.len();
        let footprint = footprint(len);
        let at = place(self.head, footprint, ring.geometry.capacity);
        let mut word = len as u64;
        let crc = match record {
            Record::Bytes(bytes) if footprint == 0 => {
                fill(cell, bytes);
                ring.checksums.of(&bytes)
            }
            Record::Bytes(bytes) => {
                let to = ring.payload(at, len).expect("room inside the arena");
                // SAFETY: inside the mapping (checked by `payload`). What was there is reclaimed
                // (I3), or readers discard what they copy from it (I2); `bytes` is not in it, for
                // nobody has a reference to reclaimed memory.
                unsafe { ring.checksums.copy(to, bytes) }
            }
            Record::Loaned { crc, .. } => crc,
            Record::End => {
                word |= END;
                END
            }
        };
        publish(cell, sequence, word, crc, at);
        self.go_on(at + footprint);
        Ok(sequence)
    }

    /// Goes on after the record that was just published, whose payload ends there.
    #[inline]
    fn go_on(&mut self, end: u64) {
        let sequence = self.next;
        // A cell that subscribers need no more is still in their caches.
        if sequence + AHEAD < self.limit {
            self.ring.prefetch_cell(sequence + AHEAD);
        }
        self.next = sequence + 1;
        self.head = end;
        self.tell(sequence);
    }

    /// Wakes those who wait for a record that was just published.
    #[inline]
    fn tell(&mut self, sequence: u64) {
        // A waiter that has our fence made relies on it that the stamp comes before what follows.
        barrier::in_order();
        hook::point("send.stamped");
        let [waiting, fenced] = self.wake_words();
        let is_fenced = waking::is_fenced(fenced.load(Ordering::Relaxed));
        // Pairs with the waiter's fence, which is heavy unless it knows that we make ours: either
        // we see its announcement or it the stamp.
        barrier::light(if is_fenced { Side::Both } else { self.side });
        let is_awaited = waking::take_waiting(waiting, sequence as u32);
        if is_awaited || is_fenced {
            self.attend(sequence, is_awaited);
        }
    }

    #[inline]
    fn wake_words(&self) -> [&AtomicU64; 2] {
        const { assert!(FENCED == WAITING + 8) };
        self.ring.words(WAITING).each_ref()
    }

    /// Wakes those who wait, and ends the fences when nobody has waited for long.
    #[cold]
    #[inline(never)]
    fn attend(&mut self, sequence: u64, is_awaited: bool) {
        if is_awaited {
            self.unwaited = 0;
            hook::point("send.waking");
            wait::wake_low(self.ring.stamp(sequence));
            return;
        }
        self.unwaited += 1;
        if self.unwaited > UNWAITED {
            self.unwaited = 0;
            let [waiting, fenced] = self.wake_words();
            waking::end_fences(fenced, waiting);
        }
    }
}

/// Copies a short payload into a cell.
#[inline]
fn fill(cell: &Cell, bytes: &[u8]) {
    // The stamp's line last: who watches the stamp takes that line away meanwhile.
    let (near, far) = bytes.split_at(bytes.len().min(NEAR));
    store_bytes(&cell[HEAD + NEAR / 8..], far);
    store_bytes(&cell[HEAD..], near);
}

/// Publishes a record whose payload is complete.
#[inline]
fn publish(cell: &Cell, sequence: u64, len: u64, crc: u64, place: u64) {
    hook::point("send.copied");
    cell[LEN].store(len, Ordering::Relaxed);
    cell[CRC].store(seal(crc, sequence), Ordering::Relaxed);
    cell[PLACE].store(place, Ordering::Relaxed);
    protocol::publish(&cell[STAMP], sequence);
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.ring.attachment.generation.is_current() {
            if mutex::owner(self.ring.mutex().load(Ordering::Relaxed)) == Some(self.entry) {
                self.note_tail();
            }
            mutex::unlock(self.ring.mutex(), self.entry);
            self.table.wipe(self.entry);
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("name", &self.ring.attachment.name)
            .finish_non_exhaustive()
    }
}
