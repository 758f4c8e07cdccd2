//! What every handle on a stream holds: the mapped file, where everything in it is, and the means
//! to find the file again. No descriptor stays open.

use std::sync::atomic::AtomicBool;

use super::layout::*;
use super::protocol;
use super::{Integrity, Overflow};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Header, STATE, STATE_LIVE};
use crate::integrity::crc64;
use crate::object::{self, Identity, Opened, Place, Removal};
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::File;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::{Errno, wait};

/// Sequences and places beyond this are not believed: nobody lives to see them.
pub(super) const MAX_COUNT: u64 = 1 << 62;

/// One stream, mapped.
pub(super) struct Ring {
    pub(super) space: Space,
    pub(super) name: String,
    pub(super) geometry: Geometry,
    pub(super) generation: Generation,
    pub(super) protection: Protection,
    mapping: Mapping,
    identity: Identity,
    /// Whether the last look at the stream's path found the file gone.
    is_deleted: AtomicBool,
    /// The geometry's answers, asked once.
    first_cell: usize,
    cell_mask: u64,
    arena: usize,
}

/// The words of a cell.
pub(super) type Cell = [AtomicU64; CELL / 8];

/// A record's checksum as its cell keeps it, or back: bound to the sequence.
#[inline]
pub(super) fn seal(crc: u64, sequence: u64) -> u64 {
    crc ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Copies words that somebody may be overwriting.
#[inline]
pub(super) fn copy_words(to: &mut [u64], from: &[AtomicU64]) {
    for (to, word) in to.iter_mut().zip(from) {
        *to = word.load(Ordering::Relaxed);
    }
}

/// The shape that a stream's file states.
fn geometry(space: &Space, name: &str) -> Result<Geometry> {
    crate::name::check("open", name)?;
    let object = object::label(Kind::Stream, name);
    let (_, _, header) = Place::open(space, Kind::Stream, name)?.main_file(Protection::ReadOnly)?;
    let header = Header::decode(&header, ROLE, "file", &object)?;
    Geometry::decode(&header, &object)
}

/// Opens a stream's file, whose length and header were checked.
pub(super) fn open(
    space: &Space,
    name: &str,
    protection: Protection,
) -> Result<(Geometry, Opened)> {
    let geometry = geometry(space, name)?;
    let opened = geometry.file().open(space, name, protection)?;
    let object = object::label(Kind::Stream, name);
    if Geometry::decode(&opened.header, &object)? != geometry {
        // Removed meanwhile, and made anew.
        return Err(Error::os("open", object, Errno::NOENT));
    }
    Ok((geometry, opened))
}

impl Ring {
    pub(super) fn open(space: &Space, name: &str, protection: Protection) -> Result<Self> {
        let failed = |errno| Error::os("open", object::label(Kind::Stream, name), errno);
        let (geometry, Opened { file, facts, .. }) = open(space, name, protection)?;
        let generation = Generation::current().map_err(failed)?;
        let single = geometry.file();
        let mapping = match protection {
            Protection::ReadWrite => single.map(&file, generation),
            Protection::ReadOnly => Mapping::new(
                &file,
                single.len,
                protection,
                Inheritance::Child,
                generation,
            ),
        };
        let mapping = mapping.map_err(failed)?;
        // Holes must not make touching it fail.
        mapping
            .populate(0, single.len, Protection::ReadOnly)
            .map_err(failed)?;
        Ok(Self {
            space: space.clone(),
            name: name.to_owned(),
            geometry,
            generation,
            protection,
            mapping,
            identity: facts.identity,
            is_deleted: AtomicBool::new(false),
            first_cell: geometry.first_cell(),
            cell_mask: geometry.cells() as u64 - 1,
            arena: geometry.arena(),
        })
    }

    /// Opens the file again; `None` when the stream's name no longer means it.
    fn find(&self) -> Result<Option<File>> {
        match open(&self.space, &self.name, Protection::ReadWrite) {
            Ok((_, opened)) if opened.facts.identity == self.identity => Ok(Some(opened.file)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn reopen(&self, operation: &'static str) -> Result<File> {
        self.find()?.ok_or_else(|| self.removed(operation))
    }

    /// As [`reopen`](Self::reopen), while the stream is being opened: then one that is gone is
    /// absent, and may be made anew.
    pub(super) fn reopen_to_claim(&self) -> Result<File> {
        self.find()?
            .ok_or_else(|| Error::os("open", self.object(), Errno::NOENT))
    }

    #[inline]
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        self.mapping.word(offset)
    }

    #[inline]
    pub(super) fn words<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        self.mapping.array(offset)
    }

    pub(super) fn mutex(&self) -> &crate::sync::AtomicU32 {
        self.mapping.half_word(MUTEX)
    }

    /// The cell in which a record is, or will be.
    #[inline]
    pub(super) fn cell(&self, sequence: u64) -> &Cell {
        let index = (sequence & self.cell_mask) as usize;
        self.mapping.array(self.first_cell + index * CELL)
    }

    /// Asks the processor for the cell that a record will be written to, without waiting for it.
    #[inline]
    pub(super) fn prefetch_cell(&self, sequence: u64) {
        let start = self.first_cell + (sequence & self.cell_mask) as usize * CELL;
        // The line in which the one before ends was asked for with that.
        if start.is_multiple_of(64) {
            self.mapping.prefetch_exclusive(start);
        }
        self.mapping.prefetch_exclusive(start + CELL - 8);
    }

    #[inline]
    pub(super) fn stamp(&self, sequence: u64) -> &AtomicU64 {
        &self.cell(sequence)[STAMP]
    }

    #[inline]
    pub(super) fn cells(&self) -> u64 {
        self.cell_mask + 1
    }

    /// The address of `len` bytes of the arena; `None` when they are not inside.
    pub(super) fn payload(&self, place: u64, len: usize) -> Option<*mut u8> {
        let offset = self.payload_offset(place, len)?;
        Some(self.mapping.bytes(offset, len))
    }

    fn payload_offset(&self, place: u64, len: usize) -> Option<usize> {
        let offset = (place % self.geometry.capacity as u64) as usize;
        let left = self.geometry.capacity - offset;
        (len <= left && offset.is_multiple_of(8)).then_some(self.arena + offset)
    }

    /// Copies words of the arena that may be overwritten meanwhile; `false` when they are not
    /// inside.
    pub(super) fn copy_payload(&self, place: u64, len: usize, to: &mut [u64]) -> bool {
        let Some(offset) = self.payload_offset(place, len) else {
            return false;
        };
        // The arena is a whole number of words, so the last one is inside.
        copy_words(to, self.mapping.words(offset, len.div_ceil(8)));
        true
    }

    #[inline]
    pub(super) fn overwrites(&self) -> bool {
        self.geometry.overflow == Overflow::Overwrite
    }

    #[inline]
    pub(super) fn is_verified(&self) -> bool {
        self.geometry.integrity == Integrity::Crc64
    }

    #[inline]
    pub(super) fn checksum(&self, record: &[u8]) -> u64 {
        if self.is_verified() {
            return crc64(record, 0);
        }
        0
    }

    /// The newest record's sequence.
    pub(super) fn newest(&self) -> Result<u64> {
        // Records go on meanwhile, and may have overwritten the one that was the newest lately.
        for _ in 0..1000 {
            let tail = self.word(TAIL).load(Ordering::Acquire);
            if tail > MAX_COUNT {
                break;
            }
            if (tail == 0 || protocol::is_published(self.stamp(tail), tail))
                && let Some(newest) = self.newest_from(tail)
            {
                return Ok(newest);
            }
            std::hint::spin_loop();
        }
        Err(self.contradictory())
    }

    /// The last of the records that follow one another from `tail` on; `None` when the next one was
    /// overwritten meanwhile, and so is not yet to come.
    fn newest_from(&self, tail: u64) -> Option<u64> {
        for newest in tail..=tail + self.cells() {
            let next = newest + 1;
            match protocol::published(self.stamp(next)).cmp(&next) {
                std::cmp::Ordering::Less => return Some(newest),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// Up to which record they may be overwritten.
    pub(super) fn reclaimed(&self) -> Result<u64> {
        let reclaimed = self.word(RECLAIMED).load(Ordering::Acquire);
        if reclaimed > MAX_COUNT {
            return Err(self.contradictory());
        }
        Ok(reclaimed)
    }

    /// Where in the arena a record is that nobody overwrites now, and where it ends.
    pub(super) fn extent(&self, sequence: u64) -> Result<(u64, u64)> {
        let cell = self.cell(sequence);
        let [len, place] = [LEN, PLACE].map(|word| cell[word].load(Ordering::Relaxed));
        let len = usize::try_from(len & !END).unwrap_or(usize::MAX);
        let is_place = place <= MAX_COUNT && place.is_multiple_of(GRAIN as u64);
        if len > self.geometry.max_len() || !is_place {
            return Err(self.contradictory());
        }
        Ok((place, place + footprint(len)))
    }

    /// Whether the stream is still live and this process the one that attached.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        self.generation.is_current()
            && self.word(STATE).load(Ordering::Relaxed) == STATE_LIVE
            && !self.is_deleted.load(Ordering::Relaxed)
    }

    /// Why the stream is not usable, if it is not.
    #[inline]
    pub(super) fn check_usable(&self, operation: &'static str) -> Result<()> {
        if self.is_usable() {
            return Ok(());
        }
        Err(self.unusable(operation))
    }

    #[cold]
    fn unusable(&self, operation: &'static str) -> Error {
        if self.generation.is_current() {
            return self.removed(operation);
        }
        let cause = "this handle was made before a fork; open the stream anew in the child";
        self.error(ErrorKind::Forked, operation, cause)
    }

    /// Whether the file at the stream's path is still the mapped one.
    pub(super) fn is_in_place(&self) -> bool {
        let is_in_place = object::is_in_place(&self.space, Kind::Stream, &self.name, self.identity);
        self.is_deleted.store(!is_in_place, Ordering::Relaxed);
        is_in_place
    }

    pub(super) fn check_in_place(&self, operation: &'static str) -> Result<()> {
        if self.is_in_place() {
            return Ok(());
        }
        Err(self.removed(operation))
    }

    pub(super) fn object(&self) -> String {
        object::label(Kind::Stream, &self.name)
    }

    #[cold]
    pub(super) fn error(
        &self,
        kind: ErrorKind,
        operation: &'static str,
        cause: impl Into<String>,
    ) -> Error {
        Error::new(kind, operation, self.object(), cause)
    }

    #[cold]
    fn removed(&self, operation: &'static str) -> Error {
        let cause = "it was removed; open it anew";
        self.error(ErrorKind::Removed, operation, cause)
    }

    #[cold]
    pub(super) fn contradictory(&self) -> Error {
        let cause = "its cells contradict each other; remove it and create it anew";
        self.error(ErrorKind::Damaged, "use", cause)
    }
}

/// Removes a stream: handles on it say `Removed`.
pub(super) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    let found = geometry(space, name).ok();
    // One that is damaged has no length that could be right, and is only deleted.
    let single = found.map_or(
        crate::object::Single {
            kind: Kind::Stream,
            role: ROLE,
            len: 0,
            allocated: 0,
        },
        |geometry| geometry.file(),
    );
    let wake = |mapping: &Mapping| {
        let Some(geometry) = found else {
            return;
        };
        // Subscribers sleep at the cell after the newest record; there may be millions of others.
        // One that waits for a record further on looks after a slice.
        let (tail, cells) = (mapping.word(TAIL).load(Ordering::Acquire), geometry.cells());
        let stamp = |sequence: u64| {
            let index = sequence as usize % cells;
            mapping.word(geometry.first_cell() + index * CELL)
        };
        let mut later = (tail.min(MAX_COUNT)..).skip(1).take(cells);
        if let Some(next) = later.find(|next| protocol::published(stamp(*next)) < *next) {
            wait::wake_low(stamp(next));
        }
        wait::wake_low(mapping.word(ROOM));
    };
    single.remove(space, name, removal, |_| Ok(()), wake)
}
