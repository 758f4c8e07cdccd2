//! Where everything is in a call's file; `docs/format.md` shows it as tables.

use crate::attachment::Shaped;
use crate::error::Result;
use crate::header::{self, Header};
use crate::integrity::Integrity;
use crate::object::{CREATED, Single};
use crate::participants::Shape;
use crate::space::Kind;

/// Which server is the one now: counted up by each.
pub(super) const EPOCH: usize = 264;
/// Rung by clients when the server may sleep.
pub(super) const BELL: usize = 320;
/// How many requests were answered: on a line that clients have no use for.
pub(super) const ANSWERED: usize = 448;

/// The table's first entry is the server's.
pub(super) const SERVER: usize = 0;
/// The first client's.
pub(super) const CLIENTS: usize = 1;
const MAX_CLIENTS: u32 = 1000;
/// A client's word of the pending ones has so many bits, each for as many slots.
pub(super) const BITS: usize = 64;
const MAX_CALLS: u32 = 1 << 16;
const MAX_CAPACITY: usize = 1 << 40;
/// The longest that a file may be.
const MAX_LEN: usize = 1 << 45;
pub(super) const PAGE: usize = 4096;

/// A slot's cell, two cache lines: words, and a payload that is short.
pub(super) const CELL: usize = 128;
/// A cell's words, as indices.
pub(super) const STATE: usize = 0;
pub(super) const LEN: usize = 1;
pub(super) const CRC: usize = 2;
pub(super) const CODE: usize = 3;
pub(super) const MEMORY: usize = 4;
pub(super) const HEAD: usize = 8;
/// The longest payload that is in the cell itself, in bytes.
pub(super) const INLINE: usize = CELL - 8 * HEAD;

/// A call's shape, fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// The longest request and the longest reply, in bytes.
    pub(super) capacity: usize,
    pub(super) max_clients: u32,
    /// How many calls a client can have on their way; a multiple of [`BITS`].
    pub(super) calls: u32,
    pub(super) integrity: Integrity,
}

impl Geometry {
    /// Whether the shape can exist; headers from files are not believed before this.
    pub(super) fn is_possible(&self) -> bool {
        self.capacity > 0
            && self.capacity <= MAX_CAPACITY
            && (1..=MAX_CLIENTS).contains(&self.max_clients)
            && (1..=MAX_CALLS).contains(&self.calls)
            && self.calls.is_multiple_of(BITS as u32)
            && self.stride() <= (MAX_LEN - self.payload(0)) / self.slots()
    }

    pub(super) fn table(&self) -> Shape {
        let entries = CLIENTS + self.max_clients as usize;
        Shape {
            mapped_len: Shape::len_bytes(entries),
            entries,
        }
    }

    /// How many slots there are, for all clients.
    pub(super) fn slots(&self) -> usize {
        self.max_clients as usize * self.calls as usize
    }

    /// The offset of the words that say which slots have pending requests, one for each client.
    pub(super) fn pending(&self) -> usize {
        self.table().mapped_len.next_multiple_of(CELL)
    }

    /// The offset of the first slot's cell.
    pub(super) fn first_cell(&self) -> usize {
        (self.pending() + 8 * self.max_clients as usize).next_multiple_of(PAGE)
    }

    /// How far apart the payloads are that are in no cell.
    pub(super) fn stride(&self) -> usize {
        // None shares a page with another when they are long, or a line when they are short.
        match self.capacity {
            capacity if capacity <= INLINE => 0,
            capacity if capacity < PAGE => capacity.next_multiple_of(CELL),
            capacity => capacity.next_multiple_of(PAGE),
        }
    }

    /// The offset of a slot's payload that is not in its cell.
    pub(super) fn payload(&self, slot: usize) -> usize {
        (self.first_cell() + self.slots() * CELL).next_multiple_of(PAGE) + slot * self.stride()
    }

    /// As the header keeps it.
    pub(super) fn encode(&self) -> [u64; 4] {
        [
            self.capacity as u64,
            u64::from(self.max_clients),
            u64::from(self.calls),
            self.integrity as u64,
        ]
    }
}

impl Shaped for Geometry {
    const KIND: Kind = Kind::Call;
    const ROLE: u64 = 7;

    fn decode(header: &Header, object: &str) -> Result<Self> {
        let own = &header.own[CREATED + 1..];
        let geometry = (|| {
            Some(Self {
                capacity: usize::try_from(own[0]).ok()?,
                max_clients: u32::try_from(own[1]).ok()?,
                calls: u32::try_from(own[2]).ok()?,
                integrity: Integrity::from_word(own[3])?,
            })
        })();
        geometry
            .filter(Self::is_possible)
            .ok_or_else(|| header::impossible("file", object))
    }

    /// The call's one file. Payloads have memory when they are needed, everything before them from
    /// the start.
    fn file(&self) -> Single {
        Single {
            kind: Self::KIND,
            role: Self::ROLE,
            len: self.payload(self.slots()).next_multiple_of(PAGE),
            allocated: self.payload(0),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        capacity: 1000,
        max_clients: 3,
        calls: 128,
        integrity: Integrity::None,
    };

    #[test]
    fn the_documented_offsets_are_the_codes() {
        let text = include_str!("../../../../docs/format.md");
        for (offset, what) in [
            (EPOCH, "epoch"),
            (ANSWERED, "answered"),
            (BELL, "bell"),
            (8 * STATE, "state"),
            (8 * LEN, "length"),
            (8 * CRC, "CRC-64"),
            (8 * CODE, "code"),
            (8 * MEMORY, "memory"),
            (8 * HEAD, "the payload"),
        ] {
            assert!(text.contains(&format!("| {offset} | {what}")), "{what}");
        }
    }

    #[test]
    fn nothing_overlaps() {
        for capacity in [1, INLINE, INLINE + 1, 5000] {
            let geometry = Geometry {
                capacity,
                ..GEOMETRY
            };
            assert!(geometry.table().mapped_len <= geometry.pending());
            assert!(geometry.pending() + 8 * 3 <= geometry.first_cell());
            assert!(geometry.first_cell() + geometry.slots() * CELL <= geometry.payload(0));
            assert!(capacity <= INLINE || geometry.payload(0) + capacity <= geometry.payload(1));
            assert!(geometry.payload(geometry.slots()) <= geometry.file().len);
        }
    }

    #[test]
    fn a_header_survives_its_words() {
        let mut header = Header {
            instance: 1,
            role: Geometry::ROLE,
            own: [0; _],
        };
        header.own[CREATED + 1..][..4].copy_from_slice(&GEOMETRY.encode());
        assert_eq!(Geometry::decode(&header, "x").unwrap(), GEOMETRY);
        for (word, value) in [(0, 0), (0, 1 << 41), (1, 0), (2, 65), (2, 0), (3, 9)] {
            let mut header = header;
            header.own[CREATED + 1 + word] = value;
            assert!(
                Geometry::decode(&header, "x").is_err(),
                "word {word}: {value}"
            );
        }
    }
}
