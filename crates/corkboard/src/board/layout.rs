//! Where everything is in a board's three files; `docs/format.md` shows it as tables.

use super::{Integrity, Timestamp, WriterMode};
use crate::buffer::ALIGN;
use crate::error::Result;
use crate::header::{self, Header, OWN, OWN_WORDS};
pub(crate) use crate::header::{HEADER_LEN, STATE, STATE_LIVE, STATE_REMOVED};
use crate::participants::Shape;

/// Data file: slot and sequence of the newest value.
pub(crate) const LATEST: usize = 384;
/// Data file of a large board: a copy of the newest value, if it is short, in a slot like a small
/// board's, in the cache lines that a reader fetches with the latest word.
pub(crate) const BESIDE: usize = 392;
/// The longest such value in bytes.
pub(crate) const BESIDE_LEN: usize = SLOTS - BESIDE - DESCRIPTOR_LEN;
/// Data file: the first slot's descriptor.
const SLOTS: usize = 512;
/// Control file: the writer mutex.
pub(crate) const MUTEX: usize = 256;
/// Control file: how often memory of slots was given back.
pub(crate) const RELEASES: usize = 320;

/// A descriptor's words, as offsets from its beginning.
pub(crate) const STAMP: usize = 0;
pub(crate) const LEN: usize = 8;
pub(crate) const CRC: usize = 16;
pub(crate) const MONOTONIC: usize = 24;
pub(crate) const REALTIME: usize = 32;
pub(crate) const DESCRIPTOR_LEN: usize = 40;

const SEQUENCE_BITS: u32 = 53;
pub(crate) const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
pub(crate) const MAX_SLOTS: usize = 1 << 10;
pub(crate) const WRITER_ENTRIES: u32 = 64;
/// Slots beyond those that entries can hold: the latest, one to write, and more that are reserved
/// together with it. Those that are not needed take up no memory.
pub(crate) const SPARE_SLOTS: u32 = 8;
/// The largest table of readers: every slot must have a number.
pub(crate) const MAX_READERS: u32 = MAX_SLOTS as u32 - WRITER_ENTRIES - SPARE_SLOTS;
/// Boards up to this capacity are copied in and out, never pinned.
pub(crate) const SMALL_CAPACITY: usize = 1024;
/// Enough that a reader is seldom lapped, few enough to stay in the first-level cache.
pub(crate) const SMALL_SLOTS: usize = 16;
/// Keeps every offset far from overflow.
const MAX_CAPACITY: usize = 1 << 40;
/// The longest data file: a process has addresses for 128 TiB.
const MAX_LEN: usize = 100 << 40;

const PAGE: usize = 4096;
/// Every value begins at a multiple of this, in a slot and in a private copy.
pub(crate) const MAX_ALIGN: u64 = 64;
const _: () = assert!(MAX_ALIGN == ALIGN as u64, "private copies, too");
const TYPE_NAME: usize = 96;

#[inline]
pub(crate) fn pack(slot: usize, sequence: u64) -> u64 {
    (slot as u64) << SEQUENCE_BITS | sequence
}

#[inline]
pub(crate) fn unpack(word: u64) -> (usize, u64) {
    (
        (word >> SEQUENCE_BITS) as usize % MAX_SLOTS,
        word & MAX_SEQUENCE,
    )
}

/// The slot of a small board in which a sequence is, or will be.
#[inline]
pub(crate) fn small_slot(sequence: u64) -> usize {
    sequence as usize % SMALL_SLOTS
}

/// The offset of a large board's descriptor, whatever its capacity.
#[inline]
pub(crate) fn large_descriptor(slot: usize) -> usize {
    SLOTS + slot * 128
}

/// Which of a board's files a header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Data = 1,
    Control = 2,
    Readers = 3,
}

impl Role {
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Control => "control",
            Self::Readers => "readers",
        }
    }
}

/// A board's shape, fixed at creation. First what every publication looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Geometry {
    pub(crate) capacity: usize,
    pub(crate) integrity: Integrity,
    pub(crate) timestamp: Timestamp,
    pub(crate) writer_mode: WriterMode,
    pub(crate) max_readers: u32,
    pub(crate) instance: u64,
    pub(crate) created_ns: u64,
    pub(crate) value_type: Option<TypeRecord>,
}

/// The type of a typed board's values, as the header keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeRecord {
    /// UTF-8, filled up with zeros.
    pub(crate) name: [u8; TYPE_NAME_LEN],
    pub(crate) size: u64,
    pub(crate) align: u64,
}

/// The longest name of a type in bytes.
pub(crate) const TYPE_NAME_LEN: usize = 64;

impl Geometry {
    /// Whether the shape can exist; headers from files are not believed before this.
    pub(crate) fn is_possible(&self) -> bool {
        self.capacity <= MAX_CAPACITY
            && self.max_readers <= MAX_READERS
            && self.file_len(Role::Data) <= MAX_LEN
            && self.value_type.is_none_or(|of| {
                of.size <= self.capacity as u64
                    && of.align.is_power_of_two()
                    && of.align <= MAX_ALIGN
            })
    }

    #[inline]
    pub(crate) fn is_small(&self) -> bool {
        self.capacity <= SMALL_CAPACITY
    }

    /// Every entry can hold one slot, and there are always enough others to write to.
    pub(crate) fn slots(&self) -> usize {
        if self.is_small() {
            return SMALL_SLOTS;
        }
        let writers = match self.writer_mode {
            WriterMode::Exclusive => 0,
            WriterMode::Shared => WRITER_ENTRIES,
        };
        (self.max_readers + writers + SPARE_SLOTS) as usize
    }

    fn stride(&self) -> usize {
        if self.is_small() {
            (DESCRIPTOR_LEN + self.capacity.next_multiple_of(8)).next_multiple_of(128)
        } else {
            self.capacity.next_multiple_of(PAGE)
        }
    }

    #[inline]
    pub(crate) fn descriptor(&self, slot: usize) -> usize {
        if self.is_small() {
            return SLOTS + slot * self.stride();
        }
        large_descriptor(slot)
    }

    #[inline]
    pub(crate) fn payload(&self, slot: usize) -> usize {
        if self.is_small() {
            return self.descriptor(slot) + DESCRIPTOR_LEN;
        }
        self.preallocated(Role::Data) + slot * self.stride()
    }

    /// The number of a table's entries.
    fn table_len(&self, role: Role) -> usize {
        match role {
            Role::Data => 0,
            Role::Control => WRITER_ENTRIES as usize,
            Role::Readers => self.max_readers as usize,
        }
    }

    /// The shape of a table.
    pub(crate) fn table(&self, role: Role) -> Shape {
        Shape {
            mapped_len: self.file_len(role),
            entries: self.table_len(role),
        }
    }

    /// The bytes at a file's beginning that are allocated at creation.
    pub(crate) fn preallocated(&self, role: Role) -> usize {
        let end = match role {
            Role::Data => self.descriptor(self.slots()),
            table => Shape::len_bytes(self.table_len(table)),
        };
        end.next_multiple_of(PAGE)
    }

    pub(crate) fn file_len(&self, role: Role) -> usize {
        if role == Role::Data && !self.is_small() {
            return self.payload(self.slots());
        }
        self.preallocated(role)
    }

    pub(crate) fn encode(&self, role: Role) -> [u8; HEADER_LEN] {
        let mut own = [0; OWN_WORDS];
        own[..8].copy_from_slice(&[
            self.capacity as u64,
            u64::from(self.max_readers),
            self.integrity as u64,
            self.timestamp as u64,
            self.writer_mode as u64,
            self.created_ns,
            self.value_type.map_or(0, |of| of.size),
            self.value_type.map_or(0, |of| of.align),
        ]);
        if let Some(of) = &self.value_type {
            let name = &mut own[(TYPE_NAME - OWN) / 8..];
            for (to, bytes) in name.iter_mut().zip(of.name.as_chunks::<8>().0) {
                *to = u64::from_le_bytes(*bytes);
            }
        }
        let header = Header {
            instance: self.instance,
            role: role as u64,
            own,
        };
        header.encode()
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN], role: Role, object: &str) -> Result<Self> {
        let what = format!("{} file", role.file_name());
        let Header { instance, own, .. } = Header::decode(bytes, role as u64, &what, object)?;
        let geometry = (|| {
            Some(Self {
                instance,
                capacity: usize::try_from(own[0]).ok()?,
                max_readers: u32::try_from(own[1]).ok()?,
                integrity: Integrity::from_word(own[2])?,
                timestamp: Timestamp::from_word(own[3])?,
                writer_mode: WriterMode::from_word(own[4])?,
                created_ns: own[5],
                value_type: match own[7] {
                    0 => None,
                    align => Some(TypeRecord {
                        name: *bytes[TYPE_NAME..].first_chunk()?,
                        size: own[6],
                        align,
                    }),
                },
            })
        })();
        geometry
            .filter(Self::is_possible)
            .ok_or_else(|| header::impossible(&what, object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::VERSION;
    use crate::participants::{BELL, ENTRIES, FENCED, HIGH, LABEL, PID, SINCE, WAITING};

    fn geometry(capacity: usize, writer_mode: WriterMode) -> Geometry {
        Geometry {
            instance: 7,
            capacity,
            max_readers: 62,
            integrity: Integrity::Crc64,
            timestamp: Timestamp::Coarse,
            writer_mode,
            created_ns: 1,
            value_type: Some(TypeRecord {
                name: [b'x'; TYPE_NAME_LEN],
                size: 0,
                align: 8,
            }),
        }
    }

    #[test]
    fn a_header_survives_its_bytes_and_no_flip_goes_unnoticed() {
        let geometry = geometry(5000, WriterMode::Shared);
        let bytes = geometry.encode(Role::Control);
        assert_eq!(
            Geometry::decode(&bytes, Role::Control, "x").unwrap(),
            geometry
        );
        assert!(Geometry::decode(&bytes, Role::Data, "x").is_err());
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Geometry::decode(&flipped, Role::Control, "x").unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn slots_do_not_overlap_and_fit_the_file() {
        for capacity in [0, 1, 64, 1023, 1024, 1025, 1 << 20] {
            for mode in [WriterMode::Exclusive, WriterMode::Shared] {
                let geometry = geometry(capacity, mode);
                for slot in 0..geometry.slots() {
                    let end = geometry.payload(slot) + capacity;
                    let next = geometry.payload(slot + 1)
                        - if geometry.is_small() {
                            DESCRIPTOR_LEN
                        } else {
                            0
                        };
                    assert!(end <= next, "capacity {capacity}, slot {slot}");
                    assert!(end <= geometry.file_len(Role::Data));
                    assert_eq!(geometry.descriptor(slot) % 8, 0);
                }
            }
        }
    }

    /// The first column of the table whose heading names `what`, as far as it is numbers.
    fn documented(what: &str) -> Vec<usize> {
        let text = include_str!("../../../../docs/format.md");
        let (_, table) = text.split_once(&format!("| {what} offset")).unwrap();
        table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn the_documented_offsets_are_the_codes() {
        let name = TYPE_NAME;
        let seal = HEADER_LEN - 8;
        let words = [0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88];
        assert_eq!(documented("header"), [&words[..], &[name, seal]].concat());
        assert_eq!(documented("data"), [STATE, LATEST, BESIDE, SLOTS]);
        let fields = [STAMP, LEN, CRC, MONOTONIC, REALTIME];
        assert_eq!(documented("descriptor"), fields);
        assert_eq!(documented("control"), [MUTEX, RELEASES]);
        assert_eq!(documented("readers"), [WAITING, FENCED, BELL]);
        assert_eq!(documented("table"), [HIGH, ENTRIES]);
        assert_eq!(documented("entry"), [0, PID, SINCE, LABEL]);
        let text = include_str!("../../../../docs/format.md");
        assert!(text.starts_with(&format!("# Format, version {VERSION}\n")));
        assert!(text.contains(&format!("| 8 | layout version, {VERSION} |")));
        let bytes = geometry(5000, WriterMode::Shared).encode(Role::Readers);
        let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        assert_eq!([8, 16, 24, 32, 40].map(word), [VERSION, 7, 3, 5000, 62]);
        assert_eq!([48, 56, 64, 72, 80, 88].map(word), [1, 1, 2, 1, 0, 8]);
    }

    #[test]
    fn the_low_half_of_the_latest_word_changes_with_each_sequence() {
        let word = pack(63, 41);
        assert_eq!(unpack(word), (63, 41));
        assert_ne!(word as u32, pack(63, 42) as u32);
    }
}
