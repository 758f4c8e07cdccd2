//! Publishing.

mod slots;
mod turn;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{Immutable, IntoBytes};

use super::attached::{Attached, Descriptor};
use super::clock::Clock;
use super::files::{self, Beacon, Files, object};
use super::layout::*;
use super::loan::Loan;
use super::protocol::{self, Reserved, SlotSet};
use super::small::SmallSlots;
use super::snapshot::{Held, Snapshot};
use super::typed::{Known, TypeOf};
use super::{Options, WriterMode};
use crate::clock::Looks;
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::mutex;
use crate::object::{self, Removal};
use crate::participants::Table;
use crate::space::Space;
use crate::sync::Ordering;
use crate::sys::barrier::{self, Side};
use crate::sys::map::Protection;
use crate::sys::process::no_fork;

/// After so many publications that nobody waited for, readers that sleep again pay for the fence.
const UNWAITED: u32 = 1000;
/// How often to try again to light a beacon.
const RELIGHT: Duration = Duration::from_millis(20);
const SHARED_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const WRITE: &str = "write to";

/// A handle that publishes values to a board.
///
/// # If a process dies
/// *Recovers*: killed anywhere in a publication, the value before it stays the latest, and the
/// next writer goes on from there.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-writer-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::board::Options;
/// let mut writer = Options::new().capacity(1 << 20).writer(&space, "camera")?;
/// assert_eq!(writer.publish(b"a frame")?, 1);
/// let mut frame = writer.loan(640 * 480)?;
/// frame.fill(0);
/// assert_eq!(frame.publish()?, 2);
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// A loan borrows its writer, which cannot publish anything else meanwhile:
/// ```compile_fail,E0499
/// # fn publish_twice(writer: &mut corkboard::board::Writer) -> corkboard::Result<()> {
/// let loan = writer.loan(10)?;
/// writer.publish(b"something else")?;
/// loan.publish()?;
/// # Ok(())
/// # }
/// ```
// What a publication needs comes first, in as few cache lines as can be: see `Attached`.
#[repr(C, align(64))]
pub struct Writer {
    readers: Table,
    /// Marked slots of a large board; empty between turns.
    reserved: Reserved,
    /// Publications with a fence that nobody waited for, in a row.
    unwaited: u32,
    side: Side,
    /// Whether there is a beacon, or else something to see to before the next publication.
    is_lit: bool,
    /// Slot and sequence of the newest value, while this handle has the turn.
    latest: (usize, u64),
    /// The slots of a small board; `held.board` outlives them.
    small: Option<SmallSlots>,
    clock: Clock,
    pub(super) held: Held,
    control: Table,
    entry: usize,
    timeout: Duration,
    known: Known,
    /// What was pinned at the last look.
    pinned: SlotSet,
    /// Bytes at each slot's beginning that this handle has allocated, if no other handle has
    /// given any back since: `releases` is what that word was.
    populated: Vec<usize>,
    releases: u64,
    /// Says to those who may only read that a writer is alive.
    beacon: Option<Beacon>,
    /// When to try again, while there is no beacon.
    relight: Option<Looks>,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(
    std::mem::offset_of!(Writer, held) == 128 - size_of::<Arc<Attached>>(),
    "what comes before is in two lines, and so is the pointer that `held` begins with"
);

impl Writer {
    /// Opens an existing board for writing, adopting its options.
    ///
    /// # Errors
    /// `NotFound` when absent; otherwise as [`Options::writer`].
    ///
    /// # If a process dies
    /// *Recovers*, as for [`Options::writer`].
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        Self::open_with(space, name, &Options::new())
    }

    pub(super) fn open_with(space: &Space, name: &str, options: &Options) -> Result<Self> {
        let files = Files::open(space, name, Protection::ReadWrite)?;
        options.check(&files, name)?;
        Self::attach(space, name, &files, options)
    }

    pub(super) fn create_or_open(space: &Space, name: &str, options: &Options) -> Result<Self> {
        object::create_or_open(
            &object(name),
            || Self::open_with(space, name, options),
            || files::create(space, name, &options.geometry(name)?, options),
            || files::remove(space, name, Removal::Finish),
        )
    }

    fn attach(space: &Space, name: &str, files: &Files, options: &Options) -> Result<Self> {
        let board = Attached::new(space, name, files, Protection::ReadWrite)?;
        let failed = |errno| Error::os("open", object(name), errno);
        let (geometry, generation) = (board.geometry, board.generation);
        let readers = board.table(files, Role::Readers)?;
        let writable = Protection::ReadWrite;
        let readers = Table::map(
            &readers,
            geometry.table(Role::Readers),
            writable,
            generation,
        )
        .map_err(failed)?;
        // A child would keep the lock on the entry.
        let no_fork = no_fork();
        let control = board.table(files, Role::Control)?;
        let label = options.label_or_program();
        let claimed = Table::claim(control, geometry.table(Role::Control), generation, &label)
            .map_err(failed)?;
        drop(no_fork);
        let Some((control, entry)) = claimed else {
            let cause = format!("all {WRITER_ENTRIES} writers' entries are in use; close a writer");
            return Err(board.error(ErrorKind::Full, "open", cause));
        };
        // Whoever held this entry is dead, for we hold its byte; so is its hold on the mutex.
        mutex::unlock(control.mapping().half_word(MUTEX), entry);
        let timeout = options
            .writer_timeout
            .unwrap_or(match geometry.writer_mode {
                WriterMode::Exclusive => Duration::ZERO,
                WriterMode::Shared => SHARED_TIMEOUT,
            });
        let mut writer = Self {
            control,
            readers,
            entry,
            timeout,
            side: barrier::register(),
            unwaited: 0,
            clock: Clock::new(geometry.timestamp),
            known: Known::default(),
            latest: (0, 0),
            reserved: Reserved::default(),
            pinned: SlotSet::EMPTY,
            populated: vec![0; board.slots()],
            releases: 0,
            // SAFETY: the writer owns a share of the board as long as it has the slots.
            small: unsafe { SmallSlots::new(&board) },
            beacon: None,
            relight: None,
            is_lit: false,
            held: Held::new(Arc::new(board)),
        };
        if writer.has_turn() {
            writer.take_turn()?;
        }
        // What goes wrong with it may go well later.
        let beacon = files.light_beacon(entry, generation).unwrap_or(None);
        writer.set_beacon(beacon);
        Ok(writer)
    }

    fn set_beacon(&mut self, beacon: Option<Beacon>) {
        let is_lit = beacon.is_some();
        self.relight = (!is_lit).then(|| Looks::every(RELIGHT));
        self.is_lit = is_lit;
        self.beacon = beacon;
    }

    /// Tries again to say that a writer is alive, if somebody's lock was in the way. It matters to
    /// nobody but those who ask.
    #[cold]
    #[inline(never)]
    fn relight(&mut self) {
        if !self.relight.as_mut().is_some_and(Looks::is_due) {
            return;
        }
        let generation = self.board().generation;
        if let Ok(files) = self.board().reopen(WRITE)
            && let Ok(beacon @ Some(_)) = files.light_beacon(self.entry, generation)
        {
            self.set_beacon(beacon);
        }
    }

    /// The longest value in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.board().geometry.capacity
    }

    /// Replaces the board's value and returns its sequence, counted from 1.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`: nothing was published and the old value stays. `Removed`, `Forked`,
    /// `Damaged`; `Unsupported` when the sequence numbers are used up. `WriterExists`: another
    /// shared writer kept its turn until the time-out; `PermissionDenied`, `Io`: the files cannot
    /// be opened again to see whether a dead one has it.
    ///
    /// # Blocking
    /// Never for readers; on a shared board for other writers' publications.
    ///
    /// # If a process dies
    /// *Recovers*: killed before this returns, either the old or the new value is the latest.
    #[inline]
    pub fn publish(&mut self, value: &[u8]) -> Result<u64> {
        if self.has_turn() && self.is_ready(value.len()) {
            return self.publish_next(value);
        }
        self.publish_in_turn(value)
    }

    #[inline(never)]
    fn publish_in_turn(&mut self, value: &[u8]) -> Result<u64> {
        self.check(value.len())?;
        self.in_turn(|writer| writer.publish_next(value))
    }

    /// As [`publish`](Self::publish), if the latest sequence is `expected` (0: none yet).
    ///
    /// # Errors
    /// `Conflict` when it is not; otherwise as [`publish`](Self::publish).
    ///
    /// # If a process dies
    /// *Recovers*, as [`publish`](Self::publish).
    pub fn publish_if(&mut self, expected: u64, value: &[u8]) -> Result<u64> {
        self.check(value.len())?;
        self.in_turn(|writer| {
            let (_, latest) = writer.latest;
            if latest == expected {
                return writer.publish_next(value);
            }
            let cause =
                format!("the latest sequence is {latest}, not {expected}; read it and try again");
            Err(writer.error(ErrorKind::Conflict, cause))
        })
    }

    /// Publishes the bytes of a plain-old-data value.
    ///
    /// # Errors
    /// `Incompatible` when the board is of another type; otherwise as [`publish`](Self::publish).
    ///
    /// # If a process dies
    /// *Recovers*, as [`publish`](Self::publish).
    ///
    /// # Examples
    /// See [`Snapshot::value`].
    pub fn publish_value<T: IntoBytes + Immutable + 'static>(&mut self, value: &T) -> Result<u64> {
        TypeOf::of::<T>().check(&self.held.board, &self.known, WRITE)?;
        self.publish(value.as_bytes())
    }

    /// A buffer of `len` bytes to fill and publish. Its contents are initialised, but unspecified.
    /// Dropping it discards it. On a board of more than 1 KiB it is the shared memory itself, and
    /// publishing it copies nothing.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`, `Removed`, `Forked`; on a shared board also `WriterExists`.
    ///
    /// # Blocking
    /// On a shared board for other writers' publications; the loan itself blocks nobody.
    ///
    /// # If a process dies
    /// *Recovers*: what was not published was never visible.
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_>> {
        self.check(len)?;
        Loan::new(self, len)
    }

    /// The board's newest value, as a [`Reader`](super::Reader) would see it; `None` before the
    /// first publication.
    ///
    /// # Errors
    /// `Corrupt`, `Damaged`, `Removed`, `Forked`; on a shared board also `WriterExists`.
    ///
    /// # Blocking
    /// On a shared board for other writers' publications.
    ///
    /// # If a process dies
    /// *Recovers*: a dead writer's snapshot costs one slot until its entry is claimed again.
    pub fn latest(&mut self) -> Result<Option<Snapshot<'_>>> {
        self.check(0)?;
        self.in_turn(Self::hold_latest)?;
        Ok(self.held.snapshot())
    }

    fn hold_latest(&mut self) -> Result<()> {
        self.held.clear();
        let (slot, sequence) = self.latest;
        if sequence == 0 {
            return Ok(());
        }
        let board = &*self.held.board;
        let impossible = || {
            let cause = "its latest value claims more bytes than it holds; publish another one";
            board.error(ErrorKind::Damaged, "read", cause)
        };
        let found = board.descriptor(slot, sequence).ok_or_else(impossible)?;
        if let Some(small) = &self.small {
            let copy = &mut self.held.copy;
            copy.resize(found.len);
            small.of(sequence).copy_to(copy.words_mut(), found.len);
            return self.held.hold_copy(sequence, found);
        }
        if board.geometry.writer_mode == WriterMode::Shared {
            // Others may publish when our turn ends. It is our turn, so this slot is the latest
            // and unmarked (I1): the pin cannot fail, and holds until it moves (I3).
            let pin = self.control.pin(self.entry);
            protocol::pin(pin, board.stamp(slot), slot, sequence);
        }
        if found.len > self.populated[slot] {
            board.make_present(slot, found.len, "read")?;
            // It has memory as far as that, whoever allocated it.
            self.populated[slot] = found.len;
        }
        // SAFETY: the slot is the latest, and pinned where others may publish; the pin moves only
        // through `&mut self`, which a snapshot borrows.
        unsafe { self.held.hold_slot(slot, sequence, found) }
    }

    #[inline]
    pub(super) fn board(&self) -> &Attached {
        &self.held.board
    }

    /// Publishes in this handle's turn.
    #[inline]
    fn publish_next(&mut self, value: &[u8]) -> Result<u64> {
        match self.small {
            Some(small) => self.publish_small(small, value),
            None => self.publish_large(value),
        }
    }

    #[inline(never)]
    fn publish_large(&mut self, value: &[u8]) -> Result<u64> {
        if value.len() <= BESIDE_LEN {
            // Readers have it; on its way to us while we are busy with the slot.
            self.board().beside().prefetch();
        }
        let slot = self.reserve_for(value.len())?;
        let to = self
            .board()
            .data
            .bytes(self.board().payload_at(slot), value.len());
        // SAFETY: the range is inside the mapping (checked by `bytes`), allocated, and ours alone
        // while the slot is reserved (I3); `value` is not in it, for nobody has a reference to a
        // reserved slot.
        let crc = unsafe { self.board().checksums.copy(to, value) };
        hook::point("publish.copied");
        self.publish_slot(slot, value.len(), crc)
    }

    #[inline(never)]
    fn publish_small(&mut self, small: SmallSlots, value: &[u8]) -> Result<u64> {
        let sequence = self.next_sequence()?;
        let slot = small.of(sequence);
        // Readers have it; on its way to us while we look at the clock.
        slot.prefetch();
        let (monotonic, realtime) = self.clock.now();
        let found = Descriptor {
            len: value.len(),
            crc: self.board().checksums.of(&value),
            monotonic,
            realtime,
        };
        protocol::mark(slot.stamp(), sequence);
        hook::point("publish.marked");
        slot.fill(sequence, found, value);
        hook::point("publish.copied");
        protocol::stamp(slot.stamp(), sequence);
        self.make_latest(small_slot(sequence), sequence);
        Ok(sequence)
    }

    /// Publishes a reserved slot of a large board, whose payload is complete.
    #[inline(never)]
    pub(super) fn publish_slot(&mut self, slot: usize, len: usize, crc: u64) -> Result<u64> {
        let sequence = self.next_sequence()?;
        let (monotonic, realtime) = self.clock.now();
        let found = Descriptor {
            len,
            crc,
            monotonic,
            realtime,
        };
        self.reserved.pop();
        let board = self.board();
        let head = board.data.array(large_descriptor(slot));
        found.store(sequence, head);
        protocol::stamp(&head[STAMP / 8], sequence);
        protocol::mark(board.beside().stamp(), sequence);
        if found.len <= BESIDE_LEN {
            self.copy_beside(slot, sequence, found);
        }
        self.make_latest(slot, sequence);
        if self.reserves_many() && self.reserved.last().is_none() {
            // Now, while readers are busy with this value, rather than before the next one. What
            // goes wrong goes wrong again there, and is reported.
            let _ = self.reserve_more();
        }
        Ok(sequence)
    }

    /// Puts a copy of a short value beside the latest word, where the stamp says by now that there
    /// is none: I5.
    #[inline(never)]
    fn copy_beside(&self, slot: usize, sequence: u64, found: Descriptor) {
        let board = self.board();
        let beside = board.beside();
        let start = board.data.bytes(board.payload_at(slot), found.len);
        // SAFETY: inside the mapping (checked by `bytes`), written before, and by nobody now: the
        // slot was reserved by this handle (I3), and from its stamp on readers only read it.
        let value = unsafe { std::slice::from_raw_parts(start, found.len) };
        beside.fill(sequence, found, value);
        hook::point("publish.beside");
        protocol::stamp(beside.stamp(), sequence);
    }

    /// Tells everyone of a slot that is complete and stamped.
    #[inline(always)]
    fn make_latest(&mut self, slot: usize, sequence: u64) {
        let board = &*self.held.board;
        hook::point("publish.stamped");
        let latest = board.latest();
        // Pairs with the Acquire loads in `Reader`.
        let word = pack(slot, sequence);
        latest.store(word, Ordering::Release);
        // A waiter that has our fence made relies on it that this store comes before what follows.
        barrier::in_order();
        hook::point("publish.latest");
        let [waiting, fenced, _] = self.readers.wake_words();
        let is_fenced = protocol::is_fenced(fenced.load(Ordering::Relaxed));
        // Pairs with the waiter's fence, which is heavy unless it knows that we make ours: either
        // we see the flag or it the new value.
        barrier::light(if is_fenced { Side::Both } else { self.side });
        let is_awaited = protocol::take_waiting(waiting, word as u32);
        // Pairs with the remover's heavy fence: either it marks what we stored, or we do.
        let is_live = board.state().load(Ordering::Relaxed) == STATE_LIVE;
        self.latest = (slot, sequence);
        if is_awaited || is_fenced {
            self.attend(is_awaited);
        }
        if !is_live {
            self.mark_gone();
        }
    }

    /// Wakes those who wait, and ends the fences when nobody has waited for long.
    #[cold]
    #[inline(never)]
    fn attend(&mut self, is_awaited: bool) {
        let [waiting, fenced, bell] = self.readers.wake_words();
        if is_awaited {
            self.unwaited = 0;
            hook::point("publish.waking");
            files::ring(bell);
            return;
        }
        self.unwaited += 1;
        if self.unwaited > UNWAITED {
            self.unwaited = 0;
            protocol::end_fences(fenced, waiting);
        }
    }

    #[cold]
    #[inline(never)]
    fn mark_gone(&self) {
        files::mark_gone(&self.board().data, &self.board().geometry);
    }

    #[inline]
    fn next_sequence(&self) -> Result<u64> {
        let (_, latest) = self.latest;
        if latest < MAX_SEQUENCE {
            return Ok(latest + 1);
        }
        let cause = "it has used up its sequence numbers; remove it and create it anew";
        Err(self.error(ErrorKind::Unsupported, cause))
    }

    #[inline]
    fn is_ready(&self, len: usize) -> bool {
        self.is_lit && self.board().is_usable() && len <= self.capacity()
    }

    #[inline]
    fn check(&mut self, len: usize) -> Result<()> {
        if self.is_ready(len) {
            return Ok(());
        }
        self.board().check_usable(WRITE)?;
        self.relight();
        if len <= self.capacity() {
            return Ok(());
        }
        let cause = format!(
            "the value has {len} bytes, the board holds {}; create it with more capacity",
            self.board().geometry.capacity
        );
        Err(self.error(ErrorKind::TooLarge, cause))
    }

    #[cold]
    pub(super) fn error(&self, kind: ErrorKind, cause: impl Into<String>) -> Error {
        self.board().error(kind, WRITE, cause)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.board().generation.is_current() {
            self.unlock();
            // Before the entry, whose next holder lights one on the same byte.
            self.beacon = None;
            self.control.wipe(self.entry);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("name", &self.board().name)
            .finish_non_exhaustive()
    }
}
