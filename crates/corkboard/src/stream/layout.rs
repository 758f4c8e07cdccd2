//! Where everything is in a stream's file; `docs/format.md` shows it as tables.

use crate::attachment::Shaped;
use crate::error::Result;
use crate::header::{self, Header};
use crate::integrity::Integrity;
use crate::object::{CREATED, Single};
use crate::participants::Shape;
use crate::space::Kind;

use super::{Overflow, ProducerMode};

/// Records up to this sequence may be overwritten soon.
pub(super) const RECLAIMED: usize = 264;
/// Not 0 while a producer waits for room: the cursor that it waits for.
pub(super) const WANTED: usize = 272;
/// How often producers that waited for room were woken.
pub(super) const ROOM: usize = 280;
/// Whose turn it is to produce.
pub(super) const MUTEX: usize = 320;
/// A sequence that was the newest one lately.
pub(super) const TAIL: usize = 328;
/// Records up to this sequence may have been overwritten.
pub(super) const CONFIRMED: usize = 336;
/// Not 0 while a subscriber may sleep, and whether producers make a full fence for it.
pub(super) const WAITING: usize = 448;
pub(super) const FENCED: usize = 456;

/// The table's first entries are for producers.
pub(super) const PRODUCERS: usize = 64;
pub(super) const MAX_SUBSCRIBERS: u32 = 900;
const MAX_CAPACITY: usize = 1 << 40;
const PAGE: usize = 4096;

/// A record's cell: four words, and a payload that is short. Cells begin at a cache line or in the
/// middle of one, so each is in two lines, and two cells in three.
pub(super) const CELL: usize = 96;
/// A cell's words, as indices.
pub(super) const STAMP: usize = 0;
pub(super) const LEN: usize = 1;
pub(super) const CRC: usize = 2;
pub(super) const PLACE: usize = 3;
pub(super) const HEAD: usize = 4;
/// The longest payload that is in the cell itself, in bytes.
pub(super) const INLINE: usize = CELL - 8 * HEAD;
/// So many bytes of it are in the line of the stamp, or none.
pub(super) const NEAR: usize = 32;
/// Longer ones begin at a multiple of this in the arena.
pub(super) const GRAIN: usize = 64;
/// Set in the length of an end mark, and what stands for its checksum.
pub(super) const END: u64 = 1 << 63;

/// A stream's shape, fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) capacity: usize,
    pub(super) max_subscribers: u32,
    pub(super) integrity: Integrity,
    pub(super) overflow: Overflow,
    pub(super) mode: ProducerMode,
}

impl Geometry {
    /// Whether the shape can exist; headers from files are not believed before this.
    pub(super) fn is_possible(&self) -> bool {
        self.capacity >= 4 * GRAIN
            && self.capacity <= MAX_CAPACITY
            && self.capacity.is_multiple_of(GRAIN)
            && self.max_subscribers <= MAX_SUBSCRIBERS
    }

    /// The capacity in bytes that a wish comes to.
    pub(super) fn rounded(capacity: usize) -> usize {
        capacity
            .max(4 * GRAIN)
            .checked_next_multiple_of(GRAIN)
            .unwrap_or(usize::MAX)
    }

    /// The longest record in bytes.
    pub(super) fn max_len(&self) -> usize {
        self.capacity / 4
    }

    /// How many records there is room for, a power of two.
    pub(super) fn cells(&self) -> usize {
        (self.capacity / GRAIN).next_power_of_two().max(16)
    }

    pub(super) fn table(&self) -> Shape {
        let entries = PRODUCERS + self.max_subscribers as usize;
        Shape {
            mapped_len: Shape::len_bytes(entries),
            entries,
        }
    }

    /// The offset of the first cell.
    pub(super) fn first_cell(&self) -> usize {
        self.table().mapped_len.next_multiple_of(PAGE)
    }

    /// The offset of the arena.
    pub(super) fn arena(&self) -> usize {
        self.first_cell() + self.cells() * CELL
    }

    /// As the header keeps it.
    pub(super) fn encode(&self) -> [u64; 5] {
        [
            self.capacity as u64,
            u64::from(self.max_subscribers),
            self.integrity as u64,
            self.overflow as u64,
            self.mode as u64,
        ]
    }
}

impl Shaped for Geometry {
    const KIND: Kind = Kind::Stream;
    const ROLE: u64 = 6;

    fn decode(header: &Header, object: &str) -> Result<Self> {
        let own = &header.own[CREATED + 1..];
        let geometry = (|| {
            Some(Self {
                capacity: usize::try_from(own[0]).ok()?,
                max_subscribers: u32::try_from(own[1]).ok()?,
                integrity: Integrity::from_word(own[2])?,
                overflow: Overflow::from_word(own[3])?,
                mode: ProducerMode::from_word(own[4])?,
            })
        })();
        geometry
            .filter(Self::is_possible)
            .ok_or_else(|| header::impossible("file", object))
    }

    /// The stream's one file.
    fn file(&self) -> Single {
        let len = (self.arena() + self.capacity).next_multiple_of(PAGE);
        Single {
            kind: Self::KIND,
            role: Self::ROLE,
            len,
            allocated: len,
        }
    }
}

/// The bytes of the arena that a payload takes up.
#[inline]
pub(super) fn footprint(len: usize) -> u64 {
    if len <= INLINE {
        return 0;
    }
    len.next_multiple_of(GRAIN) as u64
}

/// Where in the arena, counted on and on, a payload begins when everything before `head` is taken:
/// none goes beyond the arena's end.
#[inline]
pub(super) fn place(head: u64, footprint: u64, capacity: usize) -> u64 {
    let capacity = capacity as u64;
    // Nothing fits anywhere, and dividing takes as long as everything else.
    if footprint > 0 && head % capacity + footprint > capacity {
        return head.next_multiple_of(capacity);
    }
    head
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_documented_offsets_are_the_codes() {
        let text = include_str!("../../../../docs/format.md");
        for (offset, what) in [
            (RECLAIMED, "reclaimed"),
            (WANTED, "wanted"),
            (ROOM, "room"),
            (MUTEX, "mutex"),
            (TAIL, "tail"),
            (CONFIRMED, "confirmed"),
            (WAITING, "waiting"),
            (FENCED, "fenced"),
            (8 * STAMP, "stamp"),
            (8 * LEN, "length"),
            (8 * CRC, "CRC-64"),
            (8 * PLACE, "place"),
            (8 * HEAD, "the payload"),
        ] {
            assert!(text.contains(&format!("| {offset} | {what}")), "{what}");
        }
    }

    #[test]
    fn payloads_stay_inside_the_arena() {
        let capacity = 4096;
        let mut head = 0;
        for len in [65, 1024, 1000, 500, 1024, 64, 1024, 1024, 129] {
            let at = place(head, footprint(len), capacity);
            assert!(at >= head);
            assert!(at as usize % capacity + len <= capacity);
            head = at + footprint(len);
        }
    }

    #[test]
    fn a_header_survives_its_words() {
        let geometry = Geometry {
            capacity: Geometry::rounded(1000),
            max_subscribers: 3,
            integrity: Integrity::None,
            overflow: Overflow::Overwrite,
            mode: ProducerMode::Shared,
        };
        let mut header = Header {
            instance: 1,
            role: Geometry::ROLE,
            own: [0; _],
        };
        header.own[CREATED + 1..][..5].copy_from_slice(&geometry.encode());
        assert_eq!(Geometry::decode(&header, "x").unwrap(), geometry);
        header.own[CREATED + 4] = 7;
        assert!(Geometry::decode(&header, "x").is_err());
    }
}
