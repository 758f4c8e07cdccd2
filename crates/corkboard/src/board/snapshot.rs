//! Values as readers hold them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zerocopy::{FromBytes, Immutable};

use super::attached::{Attached, Descriptor};
use super::small::SmallSlot;
use super::typed::{Known, TypeOf};
use super::{Reader, Timestamp};
use super::{clock, protocol};
use crate::buffer::Buffer;
use crate::clock::moment;
use crate::error::Result;

/// The value that a handle holds, in the slot it pins or in a private copy.
///
/// **H1** `start` and `len` are inside the mapped data or inside `copy`, and those bytes change
/// only through `&mut` of this: a pinned slot is written by nobody until the pin moves (I3).
#[repr(C)]
pub(super) struct Held {
    pub(super) board: Arc<Attached>,
    start: *const u8,
    len: usize,
    sequence: u64,
    pub(super) copy: Buffer,
    monotonic: u64,
    realtime: u64,
    known: Known,
}

// SAFETY: the pointer is into memory that this owns, and no part of it belongs to a thread.
unsafe impl Send for Held {}
// SAFETY: a shared reference changes nothing but `known`, which is atomic.
unsafe impl Sync for Held {}

impl Held {
    pub(super) fn new(board: Arc<Attached>) -> Self {
        Self {
            board,
            copy: Buffer::default(),
            start: std::ptr::null(),
            len: 0,
            sequence: 0,
            monotonic: 0,
            realtime: 0,
            known: Known::default(),
        }
    }

    /// Holds nothing from now on.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.sequence = 0;
        self.len = 0;
    }

    /// Copies a slot that may be overwritten meanwhile, and holds nothing until that is found good;
    /// `None` if it was, nothing inside when its length is impossible.
    #[inline(always)]
    pub(super) fn copy_slot(
        &mut self,
        slot: SmallSlot<'_>,
        sequence: u64,
    ) -> Option<Option<Descriptor>> {
        if !protocol::read_begin(slot.stamp(), sequence) {
            return None;
        }
        self.clear();
        let found = self
            .board
            .check_descriptor(sequence, |field| slot.word(field));
        if let Some(found) = found {
            // `hold_copy` notices if there is no memory.
            self.copy.resize(found.len);
            slot.copy_to(self.copy.words_mut(), found.len);
        }
        (!protocol::read_retry(slot.stamp(), sequence)).then_some(found)
    }

    /// Holds the private copy, if it is what was published.
    #[inline(always)]
    pub(super) fn hold_copy(&mut self, sequence: u64, found: Descriptor) -> Result<()> {
        let value = self.copy.bytes();
        if value.len() != found.len {
            // There was no memory to copy it to.
            return Err(self.board.no_memory("read", found.len));
        }
        self.board.verify(sequence, found, value)?;
        self.start = value.as_ptr();
        self.describe(sequence, found);
        Ok(())
    }

    /// Holds a slot, if what is in it is what was published.
    ///
    /// # Safety
    /// Nobody writes to the slot until [`clear`](Self::clear) or another `hold`.
    #[inline]
    pub(super) unsafe fn hold_slot(
        &mut self,
        slot: usize,
        sequence: u64,
        found: Descriptor,
    ) -> Result<()> {
        let board = &*self.board;
        let start = board.data.bytes(board.payload_at(slot), found.len);
        // SAFETY: inside the mapping (checked by `bytes`), and written by nobody meanwhile, as the
        // caller vouches.
        let value = unsafe { std::slice::from_raw_parts(start, found.len) };
        board.verify(sequence, found, value)?;
        self.start = start;
        self.describe(sequence, found);
        Ok(())
    }

    #[inline]
    fn describe(&mut self, sequence: u64, found: Descriptor) {
        self.len = found.len;
        self.sequence = sequence;
        self.monotonic = found.monotonic;
        self.realtime = found.realtime;
    }

    /// The sequence of the value held; 0 for none.
    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[inline]
    pub(super) fn snapshot(&self) -> Option<Snapshot<'_>> {
        (self.sequence > 0).then_some(Snapshot { held: self })
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: H1.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    fn has_time(&self) -> bool {
        self.board.geometry.timestamp != Timestamp::None
    }
}

/// A whole, verified value, borrowed from its handle.
///
/// In a fork's child, the value of a large board stays as it is only as long as the parent's handle
/// holds it: the child has a copy of the handle, but not its place among the readers. Copy it
/// before the fork.
///
/// # If a process dies
/// *Recovers*: the bytes stay as they are, also when the writer dies or the board is removed.
#[derive(Clone, Copy)]
pub struct Snapshot<'a> {
    held: &'a Held,
}

impl<'a> Snapshot<'a> {
    /// The value's number, counted from 1.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.held.sequence
    }

    /// When it was published, by the wall clock; `None` where no time is recorded. The resolution
    /// is that of the board's [`Timestamp`].
    pub fn published_at(&self) -> Option<SystemTime> {
        self.held
            .has_time()
            .then(|| moment(self.held.realtime))
            .flatten()
    }

    /// How long ago it was published, by a clock that nobody sets; `None` where no time is
    /// recorded.
    pub fn age(&self) -> Option<Duration> {
        self.held
            .has_time()
            .then(|| clock::age(self.held.monotonic))
    }

    /// The value as a `T`, in place.
    ///
    /// # Errors
    /// `Incompatible` when the board is of another type, or the value is not as long as a `T`.
    ///
    /// # If a process dies
    /// *Recovers*, as for the bytes.
    ///
    /// # Examples
    /// ```
    /// # let dir = format!("/dev/shm/corkboard-doc-value-{}", std::process::id());
    /// # let space = corkboard::Space::at(&dir)?;
    /// use corkboard::board::Options;
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable)]
    /// #[repr(C)]
    /// struct Position { x: f64, y: f64 }
    ///
    /// let options = Options::new().value_type::<Position>();
    /// options.writer(&space, "robot")?.publish_value(&Position { x: 1.0, y: 2.0 })?;
    /// let mut reader = options.reader(&space, "robot")?;
    /// let snapshot = reader.read()?.expect("published above");
    /// assert_eq!(snapshot.value::<Position>()?.y, 2.0);
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value<T: FromBytes + Immutable + 'static>(&self) -> Result<&'a T> {
        let held = self.held;
        TypeOf::of::<T>().check(&held.board, &held.known, "read")?;
        let bytes = held.bytes();
        if bytes.len() != size_of::<T>() || !bytes.as_ptr().cast::<T>().is_aligned() {
            return Err(TypeOf::of::<T>().wrong_length(&held.board, bytes.len()));
        }
        // SAFETY: as many bytes as a `T` has, aligned (both checked above), initialised, any of
        // which make a `T` (FromBytes) without interior mutability (Immutable), and unchanged
        // while the handle is borrowed: H1.
        Ok(unsafe { &*bytes.as_ptr().cast::<T>() })
    }
}

impl Deref for Snapshot<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.held.bytes()
    }
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("sequence", &self.sequence())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A whole, verified value that owns its reader. In a fork's child it is not protected, see
/// [`Snapshot`].
///
/// # If a process dies
/// *Recovers*, as for [`Snapshot`].
#[derive(Debug)]
pub struct OwnedSnapshot {
    pub(super) reader: Reader,
}

impl OwnedSnapshot {
    /// The value, borrowed.
    pub fn as_snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            held: self.reader.held(),
        }
    }

    /// The value's number, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.as_snapshot().sequence()
    }

    /// As [`Snapshot::published_at`].
    pub fn published_at(&self) -> Option<SystemTime> {
        self.as_snapshot().published_at()
    }

    /// As [`Snapshot::age`].
    pub fn age(&self) -> Option<Duration> {
        self.as_snapshot().age()
    }

    /// As [`Snapshot::value`].
    ///
    /// # Errors
    /// As [`Snapshot::value`].
    ///
    /// # If a process dies
    /// *Recovers*, as for the bytes.
    pub fn value<T: FromBytes + Immutable + 'static>(&self) -> Result<&T> {
        self.as_snapshot().value()
    }

    /// The reader again, which lets go of the value when it reads the next one.
    pub fn into_reader(self) -> Reader {
        self.reader
    }
}

impl Deref for OwnedSnapshot {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.reader.held().bytes()
    }
}
