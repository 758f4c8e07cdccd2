//! What every handle on a board holds: the mapped data, where everything in it is, and the means
//! to find the board's files again. No descriptor stays open.

use std::sync::atomic::AtomicBool;

use super::files::{Files, object};
use super::layout::{BESIDE, CRC, Geometry, LATEST, LEN, MONOTONIC, REALTIME, Role, STAMP, STATE};
use super::layout::{DESCRIPTOR_LEN, SMALL_SLOTS, STATE_LIVE, STATE_REMOVED, pack, unpack};
use super::protocol::GONE;
use super::small::SmallSlot;
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::{Checksums, seal};
use crate::object::{self, Identity, read_words_at};
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::Errno;
use crate::sys::file::File;
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;

/// One board, mapped.
///
/// What every publication and every new value needs fills the first cache line, for who does
/// something else in between, or sleeps, finds them all cold.
#[repr(C, align(64))]
pub(super) struct Attached {
    /// The data; or, if it is not mapped, memory of our own with only its state and latest word,
    /// as they were at the last [`refresh`](Self::refresh).
    pub(super) data: Mapping,
    pub(super) generation: Generation,
    /// Whether the data is mapped. A reader maps no file of another user than root: whoever owns a
    /// file may cut it short, and touching the mapping then is the end of the process.
    pub(super) is_mapped: bool,
    /// Whether the last look at the board's path found the files gone.
    is_deleted: AtomicBool,
    pub(super) checksums: Checksums,
    pub(super) geometry: Geometry,
    /// The geometry's answers, asked once.
    places: Places,
    pub(super) space: Space,
    pub(super) name: String,
    identity: Identity,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(
    std::mem::offset_of!(Attached, geometry.max_readers) < 64,
    "all of it is in one line"
);

/// Where slots are: first offset and distance, of descriptors and of payloads.
#[derive(Clone, Copy)]
struct Places {
    slots: usize,
    descriptors: usize,
    descriptor_stride: usize,
    payloads: usize,
    payload_stride: usize,
}

/// The words of a slot's descriptor.
pub(super) const HEAD: usize = DESCRIPTOR_LEN / 8;

/// What a slot says of its value.
#[derive(Clone, Copy)]
pub(super) struct Descriptor {
    pub(super) len: usize,
    pub(super) crc: u64,
    pub(super) monotonic: u64,
    pub(super) realtime: u64,
}

impl Descriptor {
    /// Writes everything but the stamp.
    #[inline]
    pub(super) fn store(self, sequence: u64, words: &[AtomicU64; HEAD]) {
        let store = |field: usize, value| words[field / 8].store(value, Ordering::Relaxed);
        store(LEN, self.len as u64);
        store(CRC, seal(self.crc, sequence));
        store(MONOTONIC, self.monotonic);
        store(REALTIME, self.realtime);
    }
}

impl Attached {
    pub(super) fn new(
        space: &Space,
        name: &str,
        files: &Files,
        protection: Protection,
    ) -> Result<Self> {
        let failed = |errno| Error::os("open", object(name), errno);
        let generation = Generation::current().map_err(failed)?;
        let geometry = files.geometry;
        let is_mapped = protection == Protection::ReadWrite || files.facts.is_owner_trusted();
        let data = if is_mapped {
            files.map_data(protection, generation)
        } else {
            Mapping::private(LATEST + 8, generation)
        };
        let data = data.map_err(failed)?;
        if !is_mapped {
            data.word(STATE).store(STATE_LIVE, Ordering::Relaxed);
        }
        Ok(Self {
            space: space.clone(),
            name: name.to_owned(),
            data,
            is_mapped,
            identity: files.facts.identity,
            is_deleted: AtomicBool::new(false),
            checksums: geometry.integrity.checksums(),
            places: Places {
                slots: geometry.slots(),
                descriptors: geometry.descriptor(0),
                descriptor_stride: geometry.descriptor(1) - geometry.descriptor(0),
                payloads: geometry.payload(0),
                payload_stride: geometry.payload(1) - geometry.payload(0),
            },
            geometry,
            generation,
        })
    }

    #[inline]
    pub(super) fn is_small(&self) -> bool {
        self.geometry.is_small()
    }

    #[inline]
    pub(super) fn slots(&self) -> usize {
        self.places.slots
    }

    #[inline]
    pub(super) fn latest(&self) -> &AtomicU64 {
        self.data.word(LATEST)
    }

    #[inline]
    pub(super) fn state(&self) -> &AtomicU64 {
        self.data.word(STATE)
    }

    /// The offset of a slot's descriptor.
    #[inline]
    fn descriptor_at(&self, slot: usize) -> usize {
        self.places.descriptors + slot * self.places.descriptor_stride
    }

    /// The offset of a slot's first payload byte.
    #[inline]
    pub(super) fn payload_at(&self, slot: usize) -> usize {
        self.places.payloads + slot * self.places.payload_stride
    }

    /// Asks for the beginning of a slot, to read it.
    #[inline]
    pub(super) fn prefetch(&self, slot: usize) {
        self.data.prefetch(self.descriptor_at(slot));
        self.data.prefetch(self.payload_at(slot));
    }

    /// The slot beside the latest word of a large board.
    #[inline]
    pub(super) fn beside(&self) -> SmallSlot<'_> {
        SmallSlot::new(self.data.array(BESIDE))
    }

    #[inline]
    pub(super) fn stamp(&self, slot: usize) -> &AtomicU64 {
        self.data.word(self.descriptor_at(slot) + STAMP)
    }

    /// All words of a small board's slots.
    pub(super) fn small_words(&self) -> &[AtomicU64] {
        let count = SMALL_SLOTS * self.places.descriptor_stride / 8;
        self.data.words(self.places.descriptors, count)
    }

    /// What the slot says of itself; `None` when its length is impossible.
    #[inline]
    pub(super) fn descriptor(&self, slot: usize, sequence: u64) -> Option<Descriptor> {
        let words = self.head(slot);
        self.check_descriptor(sequence, |field| words[field / 8].load(Ordering::Relaxed))
    }

    /// As [`descriptor`](Self::descriptor), from wherever the words come.
    #[inline]
    pub(super) fn check_descriptor(
        &self,
        sequence: u64,
        word: impl Fn(usize) -> u64,
    ) -> Option<Descriptor> {
        let len = usize::try_from(word(LEN)).ok()?;
        (len <= self.geometry.capacity).then(|| Descriptor {
            len,
            crc: seal(word(CRC), sequence),
            monotonic: word(MONOTONIC),
            realtime: word(REALTIME),
        })
    }

    /// The words of a slot's descriptor.
    #[inline]
    fn head(&self, slot: usize) -> &[AtomicU64; HEAD] {
        self.data.array(self.descriptor_at(slot))
    }

    /// The slot and sequence that a latest word names.
    #[inline]
    pub(super) fn locate(&self, latest: u64, operation: &'static str) -> Result<(usize, u64)> {
        let (slot, sequence) = unpack(latest);
        if slot < self.slots() {
            return Ok((slot, sequence));
        }
        Err(self.contradictory(operation))
    }

    /// Whether these are the bytes that were published, as far as the board can tell.
    #[inline]
    pub(super) fn verify(&self, sequence: u64, found: Descriptor, value: &[u8]) -> Result<()> {
        if !self.checksums.are_kept() {
            return Ok(());
        }
        let actual = self.checksums.of(&value);
        if actual == found.crc {
            return Ok(());
        }
        Err(self.corrupt(sequence, found.crc, actual))
    }

    #[cold]
    fn corrupt(&self, sequence: u64, expected: u64, actual: u64) -> Error {
        let cause = format!(
            "value {sequence} has checksum {actual:016x}, its writer stated {expected:016x}; the next publication heals it"
        );
        self.error(ErrorKind::Corrupt, "read", cause)
    }

    /// Looks at state and latest word in the file, if the board is not mapped.
    #[inline]
    pub(super) fn refresh(&self, operation: &'static str) -> Result<()> {
        if self.is_mapped {
            return Ok(());
        }
        self.refresh_from_file(operation)
    }

    #[cold]
    fn refresh_from_file(&self, operation: &'static str) -> Result<()> {
        self.check_generation(operation)?;
        let found = self.reopen(operation).and_then(|files| {
            let mut words = [0; (LATEST - STATE) / 8 + 1];
            read_words_at(&files.data, &mut words, STATE, &self.object())?;
            let [state, .., latest] = words;
            // Never a word that `Reader::read` could take for an unchanged one.
            let latest = unpack(latest & !GONE);
            Ok((state, files.one_ahead(latest, &self.object())?))
        });
        match found {
            Ok((state, (slot, sequence))) => {
                self.state().store(state, Ordering::Relaxed);
                self.latest().store(pack(slot, sequence), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                // Want of memory or descriptors passes; for everything else, those who sleep for
                // the board have nothing more to wait for.
                if !matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) {
                    self.state().store(STATE_REMOVED, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    /// Whether the board is still live and this process the one that attached.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        self.generation.is_current() && self.state().load(Ordering::Relaxed) == STATE_LIVE
    }

    /// Why the board is not usable, if it is not.
    #[inline]
    pub(super) fn check_usable(&self, operation: &'static str) -> Result<()> {
        // Relaxed: what somebody else's look found is noticed sooner or later.
        if self.is_usable() && !self.is_deleted.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(self.unusable(operation))
    }

    #[cold]
    fn unusable(&self, operation: &'static str) -> Error {
        match self.check_generation(operation) {
            Ok(()) => self.removed(operation),
            Err(forked) => forked,
        }
    }

    pub(super) fn check_generation(&self, operation: &'static str) -> Result<()> {
        if self.generation.is_current() {
            return Ok(());
        }
        let cause = "this handle was made before a fork; open the board anew in the child";
        Err(self.error(ErrorKind::Forked, operation, cause))
    }

    /// Opens the board's files again, if its name still means them.
    pub(super) fn reopen(&self, operation: &'static str) -> Result<Files> {
        Files::reopen(&self.space, &self.name, self.identity)?
            .ok_or_else(|| self.removed(operation))
    }

    /// Whether the data file at the board's path is still the mapped one.
    pub(super) fn is_in_place(&self) -> bool {
        let is_in_place = object::is_in_place(&self.space, Kind::Board, &self.name, self.identity);
        self.is_deleted.store(!is_in_place, Ordering::Relaxed);
        is_in_place
    }

    /// Brings a slot's value into memory, so that reading it cannot fail. A length that the file
    /// has no memory for is damage, and must not make the system allocate it.
    #[cold]
    pub(super) fn make_present(
        &self,
        slot: usize,
        len: usize,
        operation: &'static str,
    ) -> Result<()> {
        let payload = self.payload_at(slot);
        let files = self.reopen(operation)?;
        files.check_allocated(payload, len, &self.object())?;
        self.data
            .populate(payload, len, Protection::ReadOnly)
            .map_err(|errno| self.os(operation, errno))
    }

    /// Opens one of the board's tables.
    pub(super) fn table(&self, files: &Files, role: Role) -> Result<File> {
        files.table(role, Protection::ReadWrite, &self.object())
    }

    pub(super) fn object(&self) -> String {
        object(&self.name)
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
    pub(super) fn os(&self, operation: &'static str, errno: Errno) -> Error {
        Error::os(operation, self.object(), errno)
    }

    #[cold]
    pub(super) fn no_memory(&self, operation: &'static str, len: usize) -> Error {
        let cause = format!("no memory for a copy of {len} bytes; free some");
        self.error(ErrorKind::NoSpace, operation, cause)
    }

    #[cold]
    pub(super) fn removed(&self, operation: &'static str) -> Error {
        let cause = "it was removed; open it anew";
        self.error(ErrorKind::Removed, operation, cause)
    }

    #[cold]
    pub(super) fn contradictory(&self, operation: &'static str) -> Error {
        let cause = "its slots contradict each other; remove it and create it anew";
        self.error(ErrorKind::Damaged, operation, cause)
    }
}
