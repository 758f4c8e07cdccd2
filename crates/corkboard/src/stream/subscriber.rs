//! Receiving records.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::layout::*;
use super::ring::{MAX_COUNT, Ring};
use super::{From, protocol, watching};
use crate::buffer::Buffer;
use crate::clock::{Deadline, Looks};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::integrity::seal;
use crate::object;
use crate::participants::{Table, program_name};
use crate::space::Space;
use crate::spins;
use crate::sync::{Ordering, copy_words, fence};
use crate::sys::barrier::{self, Side};
use crate::sys::map::Protection;
use crate::sys::process::no_fork;
use crate::sys::wait;
use crate::waking;
use watching::{OBSERVER_SLICE, SLICE};

/// Records up to this many bytes are copied, so that their place is free at once.
const COPIED: usize = 4096;
pub(super) const RECEIVE: &str = "receive from";

/// A handle that receives every record of a stream once, in order.
///
/// Where the oldest records are overwritten, a subscriber that may not write to the stream's file,
/// or finds its table full, observes: it looks for new records every two milliseconds.
///
/// # If a process dies
/// *Recovers*: a dead subscriber holds nobody up once the kernel has released its lock.
pub struct Subscriber {
    ring: Arc<Ring>,
    /// Absent for an observer.
    table: Option<(Arc<Table>, usize)>,
    side: Side,
    /// The last record that was received or missed.
    seen: u64,
    /// Records that were missed, and not told of yet.
    missed: u64,
    is_ended: bool,
    held: Held,
    buffer: Buffer,
    spins: u32,
    sleeps: u32,
}

/// Where the last record received is.
#[derive(Clone, Copy)]
enum Held {
    /// Its length in the private buffer.
    Copy,
    /// **H1** So many bytes at this place in the arena, inside of it, beyond this subscriber's
    /// cursor, which moves only when the next one is received.
    InPlace { place: u64, len: usize },
}

/// A record, from [`Subscriber::recv`]. It must not be used in a fork's child.
pub struct Message<'a> {
    bytes: &'a [u8],
    sequence: u64,
}

impl Message<'_> {
    /// The record's number, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Deref for Message<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sequence", &self.sequence)
            .field("len", &self.bytes.len())
            .finish()
    }
}

/// What came.
enum Taken {
    Nothing,
    Record,
    End,
}

impl Subscriber {
    /// Opens an existing stream for receiving.
    ///
    /// # Errors
    /// `NotFound` when absent; `Full` when the table has no free entry, and `PermissionDenied` when
    /// the file may only be read, unless the oldest records are overwritten; `InvalidName`,
    /// `Damaged`, `Incompatible`, `Unsupported`, `Io`; `NoSpace` when somebody took memory away from
    /// its file, and there is none left.
    ///
    /// # If a process dies
    /// *Recovers*: its entry is free as soon as the kernel has released its lock.
    pub fn open(space: &Space, name: &str, from: From) -> Result<Self> {
        let ring = match Ring::open(space, name, Protection::ReadWrite) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let ring = Ring::open(space, name, Protection::ReadOnly)?;
                if !ring.overwrites() {
                    return Err(error);
                }
                ring
            }
            ring => ring?,
        };
        let mut table = None;
        if ring.attachment.protection == Protection::ReadWrite {
            let failed = |errno| Error::os("open", ring.attachment.object(), errno);
            let shape = ring.geometry.table();
            // A child would keep the lock on the entry.
            let no_fork = no_fork();
            let file = ring.attachment.reopen_to_claim()?;
            let (entries, label) = (PRODUCERS..shape.entries, program_name());
            table = Table::claim_in(file, shape, entries, ring.attachment.generation, &label)
                .map_err(failed)?;
            drop(no_fork);
        }
        if table.is_none() && !ring.overwrites() {
            let cause = format!(
                "all {} subscribers' entries are in use; close one, or create the stream with more",
                ring.geometry.max_subscribers
            );
            return Err(ring.attachment.error(ErrorKind::Full, "open", cause));
        }
        let mut subscriber = Self {
            table: table.map(|(table, entry)| (Arc::new(table), entry)),
            side: barrier::register(),
            seen: 0,
            missed: 0,
            is_ended: false,
            held: Held::Copy,
            buffer: Buffer::default(),
            spins: spins::FIRST,
            sleeps: 0,
            ring: Arc::new(ring),
        };
        subscriber.join(from)?;
        Ok(subscriber)
    }

    /// As [`open`](Self::open), waiting for the stream's creation.
    ///
    /// # Errors
    /// `NotFound` when it is still absent after `timeout`; otherwise as [`open`](Self::open).
    ///
    /// # Blocking
    /// For at most `timeout`.
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way creates nothing.
    pub fn open_timeout(space: &Space, name: &str, from: From, timeout: Duration) -> Result<Self> {
        object::await_creation(space, timeout, || Self::open(space, name, from))
    }

    fn join(&mut self, from: From) -> Result<()> {
        let wanted = match from {
            From::Oldest => 0,
            From::Newest => self.ring.newest()?,
            // No stream ever has more.
            From::Sequence(sequence) => sequence.saturating_sub(1).min(MAX_COUNT),
        };
        let reclaimed = self.ring.word(RECLAIMED);
        self.seen = match &self.table {
            Some((table, entry)) => protocol::join(table.pin(*entry), reclaimed, wanted),
            None => wanted.max(reclaimed.load(Ordering::Acquire)),
        };
        if self.seen > MAX_COUNT {
            return Err(self.ring.contradictory());
        }
        if matches!(from, From::Sequence(1..)) {
            self.missed = self.seen - wanted;
        }
        hook::point("join.joined");
        Ok(())
    }

    /// Whether this handle observes.
    pub fn is_observer(&self) -> bool {
        self.table.is_none()
    }

    /// Whether the last receive came to an end mark: a producer said that nothing more is to come.
    /// The next receive goes on after it.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The next record, waiting for it; `None` on time-out, and when a producer has ended the
    /// stream here ([`is_ended`](Self::is_ended)).
    ///
    /// A record of more than 4 KiB is handed out in place where nothing is overwritten, and keeps
    /// its place until the next receive.
    ///
    /// # Errors
    /// `Lagged` when records were overwritten that this handle had not received; how many, says
    /// [`Error::missed`]. The next receive goes on with the oldest. `Corrupt` when a record does
    /// not match its checksum; the next receive goes on after it. `Removed`, `Forked`, `Damaged`;
    /// `NoSpace` when there is no memory for a copy.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one. Looks for some microseconds, then sleeps.
    ///
    /// # If a process dies
    /// *Recovers*: a record whose producer died before waking anybody is seen within 50 ms.
    #[inline]
    pub fn recv(&mut self, timeout: Option<Duration>) -> Result<Option<Message<'_>>> {
        self.release();
        let mut taken = self.take()?;
        if let Taken::Nothing = taken
            && timeout != Some(Duration::ZERO)
        {
            taken = self.wait(Deadline::within(timeout))?;
        }
        Ok(matches!(taken, Taken::Record).then(|| self.message()))
    }

    /// As [`recv`](Self::recv), without waiting.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # If a process dies
    /// *Recovers*, as [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>> {
        self.recv(Some(Duration::ZERO))
    }

    /// Waits for a record as [`recv`](Self::recv) does, and hands it to `each`, and those after it
    /// that are there already, `limit` at most. Returns how many there were.
    ///
    /// # Errors
    /// As [`recv`](Self::recv). The records before that were handed to `each` all the same.
    ///
    /// # Blocking
    /// As [`recv`](Self::recv), for the first record.
    ///
    /// # If a process dies
    /// *Recovers*, as [`recv`](Self::recv).
    pub fn recv_each(
        &mut self,
        limit: usize,
        timeout: Option<Duration>,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<usize> {
        let mut count = 0;
        let mut wait = timeout;
        while count < limit {
            if count > 0 && self.ring.stamp(self.seen + 1).load(Ordering::Relaxed) != self.seen + 1
            {
                break;
            }
            let Some(message) = self.recv(wait)? else {
                break;
            };
            each(message);
            count += 1;
            wait = Some(Duration::ZERO);
        }
        Ok(count)
    }

    pub(super) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref().map(|(table, _)| table)
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether there is something to receive, or an error to be had.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.missed > 0 || self.ring.stamp(self.seen + 1).load(Ordering::Relaxed) > self.seen
    }

    /// Lets go of a record that was handed out in place.
    #[inline]
    fn release(&mut self) {
        if let Held::InPlace { .. } = self.held {
            self.held = Held::Copy;
            self.buffer.truncate(0);
            self.advance();
        }
    }

    /// Needs what it has seen no longer.
    #[inline]
    fn advance(&self) {
        if !self.ring.attachment.generation.is_current() {
            return;
        }
        let Some((table, entry)) = &self.table else {
            return;
        };
        protocol::advance(table.pin(*entry), self.seen);
        hook::point("recv.advanced");
        if self.ring.overwrites() {
            return;
        }
        // Pairs with the producer's heavy fence: we see that it waits, or it our cursor.
        barrier::light(self.side);
        let wanted = self.ring.word(WANTED).load(Ordering::Relaxed);
        if wanted != 0 && self.seen >= wanted - 1 {
            self.make_room();
        }
    }

    /// Wakes the producers that wait for room.
    #[cold]
    #[inline(never)]
    fn make_room(&self) {
        self.ring.word(WANTED).swap(0, Ordering::Relaxed);
        hook::point("recv.waking");
        let room = self.ring.word(ROOM);
        // The announcements are down before a ticket says so.
        waking::ring(room);
        wait::wake_low(room);
    }

    /// Takes the next record, if it is there.
    #[inline]
    fn take(&mut self) -> Result<Taken> {
        self.is_ended = false;
        self.ring.attachment.check_usable(RECEIVE)?;
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            return Err(Error::lagged(self.ring.attachment.object(), missed));
        }
        let sequence = self.seen + 1;
        let Self { ring, buffer, .. } = self;
        let cell = ring.cell(sequence);
        match protocol::published(&cell[STAMP]).cmp(&sequence) {
            std::cmp::Ordering::Less => return Ok(Taken::Nothing),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Err(self.lag()),
        }
        let [len, crc, place] = [LEN, CRC, PLACE].map(|word| cell[word].load(Ordering::Relaxed));
        let is_end = len & END != 0;
        let len = usize::try_from(len & !END).unwrap_or(usize::MAX);
        let found = if len > INLINE {
            self.take_long(place, len)?
        } else if buffer.resize(INLINE) {
            buffer.truncate(len);
            // So many words whatever the length is, for counting takes longer than copying.
            let (near, far) = cell[HEAD..].split_at(NEAR / 8);
            let (to_near, to_far) = buffer.words_mut().split_at_mut(NEAR / 8);
            copy_words(to_near, near);
            if len > NEAR {
                copy_words(to_far, far);
            }
            Some(Held::Copy)
        } else {
            return Err(self.no_memory(INLINE));
        };
        if self.ring.overwrites() && !protocol::is_there(self.ring.word(RECLAIMED), sequence) {
            return Err(self.lag());
        }
        hook::point("recv.copied");
        self.seen = sequence;
        let Some(held) = found else {
            self.advance();
            return Err(self.impossible(sequence));
        };
        self.held = held;
        let sum = || match is_end {
            true => END,
            false => self.ring.checksums.of(&self.bytes()),
        };
        let is_whole = !self.ring.checksums.are_kept() || sum() == seal(crc, sequence);
        if matches!(held, Held::Copy) {
            self.advance();
        }
        if !is_whole {
            return Err(self.corrupt(sequence));
        }
        if is_end {
            self.is_ended = true;
            return Ok(Taken::End);
        }
        Ok(Taken::Record)
    }

    /// Finds a record that is in the arena, or copies it; `None` when it cannot be there.
    #[inline(never)]
    fn take_long(&mut self, place: u64, len: usize) -> Result<Option<Held>> {
        let Self { ring, buffer, .. } = self;
        if len > ring.geometry.max_len() {
            return Ok(None);
        }
        if !ring.overwrites() && len > COPIED {
            let held = Held::InPlace { place, len };
            return Ok(ring.payload(place, len).map(|_| held));
        }
        if !buffer.resize(len) {
            return Err(self.no_memory(len));
        }
        let to = &mut buffer.words_mut()[..len.div_ceil(8)];
        Ok(ring.copy_payload(place, len, to).then_some(Held::Copy))
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self.held {
            Held::Copy => self.buffer.bytes(),
            Held::InPlace { place, len } => {
                let start = self.ring.payload(place, len).expect("checked by `take`");
                // SAFETY: H1 and I3: nobody writes there until the cursor moves, for which this
                // handle is borrowed mutably.
                unsafe { std::slice::from_raw_parts(start, len) }
            }
        }
    }

    #[inline]
    fn message(&self) -> Message<'_> {
        Message {
            bytes: self.bytes(),
            sequence: self.seen,
        }
    }

    /// Goes on with the oldest record that is left.
    #[cold]
    #[inline(never)]
    fn lag(&mut self) -> Error {
        let reclaimed = match self.ring.reclaimed() {
            Ok(reclaimed) => reclaimed,
            Err(error) => return error,
        };
        let Some(missed @ 1..) = reclaimed.checked_sub(self.seen) else {
            return self.ring.contradictory();
        };
        self.seen = reclaimed;
        self.advance();
        Error::lagged(self.ring.attachment.object(), missed)
    }

    #[cold]
    fn no_memory(&self, len: usize) -> Error {
        let cause = format!("no memory for a copy of {len} bytes; free some");
        self.ring
            .attachment
            .error(ErrorKind::NoSpace, RECEIVE, cause)
    }

    #[cold]
    fn impossible(&self, sequence: u64) -> Error {
        let cause = format!("record {sequence} is impossibly long; remove it and create it anew");
        self.ring
            .attachment
            .error(ErrorKind::Damaged, RECEIVE, cause)
    }

    #[cold]
    fn corrupt(&self, sequence: u64) -> Error {
        let cause = format!("record {sequence} does not match its checksum; the next ones may");
        self.ring
            .attachment
            .error(ErrorKind::Corrupt, RECEIVE, cause)
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Deadline) -> Result<Taken> {
        let mut looks = None;
        for _ in 0..self.spins {
            if self.is_ready() {
                break;
            }
            std::hint::spin_loop();
        }
        loop {
            let taken = self.take()?;
            if !matches!(taken, Taken::Nothing) {
                return Ok(taken);
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(Taken::Nothing);
            }
            self.sleep(left, looks.get_or_insert_with(|| Looks::every(SLICE)))?;
        }
    }

    /// `looks` says when to look whether the stream is still there, if no sleep runs to its end.
    fn sleep(&mut self, left: Duration, looks: &mut Looks) -> Result<()> {
        let stamp = self.ring.stamp(self.seen + 1);
        let found = stamp.load(Ordering::Relaxed) as u32;
        let slice = watching::announce(&self.ring, self.seen);
        // Pairs with the producer's fence after publishing, if it makes one.
        fence(Ordering::SeqCst);
        let is_settled = slice == OBSERVER_SLICE
            || waking::ask_for_fences(self.ring.word(FENCED), barrier::heavy);
        let slice = if is_settled { slice } else { OBSERVER_SLICE };
        if !self.ring.attachment.is_usable() || self.is_ready() {
            return Ok(());
        }
        hook::point("recv.announced");
        // Who does not look any more finds out now and then whether that would pay off again.
        self.sleeps = self.sleeps.wrapping_add(1);
        let start = (self.spins > 0 || self.sleeps.is_multiple_of(16)).then(Instant::now);
        let timed_out = wait::wait_low(stamp, found, left.min(slice));
        if let Some(start) = start {
            self.spins = spins::after_sleep(self.spins, start.elapsed());
        }
        if (timed_out || !self.is_ready()) && looks.is_due() {
            self.ring.attachment.check_in_place(RECEIVE)?;
        }
        Ok(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let (true, Some((table, entry))) =
            (self.ring.attachment.generation.is_current(), &self.table)
        {
            table.wipe(*entry);
            // A producer may wait for us.
            if self.ring.word(WANTED).load(Ordering::Relaxed) != 0 {
                self.make_room();
            }
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("name", &self.ring.attachment.name)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
