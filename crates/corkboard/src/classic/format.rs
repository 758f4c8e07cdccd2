//! The block's bytes, which are the same on every platform; `docs/format.md` shows them as a table.
//!
//! What is in a block was written by programs that check little, and one of them may be rewriting
//! the header at this moment without the lock. So nothing here is believed that the view does not
//! bear out, and every [`Flaw`] is to be looked at again before it is reported.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::integrity::crc64;

/// Where the content begins.
pub(super) const HEADER_LEN: usize = 32;
const MEMORY_SIZE: usize = 0;
const HEAD_SIZE: usize = 4;
const CONTENT_SIZE: usize = 8;
/// The size of the zero byte after the content in [`Dialect::Seed`]; padding elsewhere.
const TAIL_SIZE: usize = 12;
/// Also what waiters sleep on where they can: it changes with each value.
pub(super) const CRC: usize = 16;

/// Which of the original's three layouts a block has.
///
/// The first two use the same names, so programs of both can meet at one block. They are told
/// apart by the word at 12: 1 in `Seed`. In `Untailed` it is padding with any value; a block in
/// which that happens to be 1 counts as `Seed`, whose rules are the stricter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// June 2022 to April 2023: a zero byte follows the content and is counted in the block's size.
    Seed,
    /// April 2023 to June 2025: without that byte.
    Untailed,
    /// Since June 2025: as `Untailed`, under other names, with the time of the system's start in
    /// those of the lock files.
    Current,
}

impl Dialect {
    /// The dialect's name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Untailed => "untailed",
            Self::Current => "current",
        }
    }

    /// How many bytes a block has besides its content.
    pub(super) fn overhead(self) -> usize {
        HEADER_LEN + self.tail()
    }

    /// How many zero bytes follow the content.
    pub(super) fn tail(self) -> usize {
        usize::from(self == Self::Seed)
    }

    /// The longest content that a block of this dialect can have: its size is 31 bits.
    pub(super) fn max_capacity(self) -> usize {
        i32::MAX as usize - self.overhead()
    }

    /// The name of the memory.
    pub(super) fn memory_name(self, name: &str) -> String {
        match self {
            Self::Seed | Self::Untailed => format!("ShareMemoryMap-{name}"),
            Self::Current => format!("SMM-{name}"),
        }
    }

    /// The name of the lock's files without what tells them apart. `boot_time` is for `Current`.
    pub(super) fn lock_name(self, name: &str, boot_time: u64) -> String {
        match self {
            Self::Seed | Self::Untailed => format!("ShareMemoryLockedFile-{name}.mdb"),
            Self::Current => format!("{boot_time}{}", current_lock_suffix(name)),
        }
    }
}

/// What follows the time of the system's start in the name of a lock of [`Dialect::Current`].
pub(super) fn current_lock_suffix(name: &str) -> String {
    format!("_SMLF-{name}.mdb")
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a header states, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) memory_size: i32,
    pub(super) head_size: i32,
    pub(super) content_size: i32,
    /// `Seed`: the tail's size. Otherwise anything.
    pub(super) tail_size: i32,
    pub(super) crc: u64,
    pub(super) reserved: i32,
}

/// What waiters compare: the header without what may change for no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u64; 3]);

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [
            memory_size,
            head_size,
            content_size,
            tail_size,
            low,
            high,
            reserved,
            _,
        ] = quarters(bytes);
        let crc = u64::from(low) | u64::from(high) << 32;
        Self {
            memory_size: memory_size.cast_signed(),
            head_size: head_size.cast_signed(),
            content_size: content_size.cast_signed(),
            tail_size: tail_size.cast_signed(),
            crc,
            reserved: reserved.cast_signed(),
        }
    }

    pub(super) fn mark(self) -> Mark {
        let pair = |low: i32, high: i32| {
            u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
        };
        Mark([
            pair(self.memory_size, self.head_size),
            pair(self.content_size, 0),
            self.crc,
        ])
    }

    /// Whether nobody has written a whole header yet: new memory is zero, and the block's size is
    /// the last part that we write.
    pub(super) fn is_blank(self) -> bool {
        matches!(self.head_size, 0 | 32)
            && (self.memory_size, self.content_size) == (0, 0)
            && self.crc == 0
    }

    /// The dialect of a block under the older name, by its marks.
    pub(super) fn dialect(self) -> Dialect {
        match self.tail_size {
            1 => Dialect::Seed,
            _ => Dialect::Untailed,
        }
    }

    /// Checks the header against the dialect and the view's real length.
    pub(super) fn check(self, dialect: Dialect, view: usize) -> Checked<Shape> {
        if self.is_blank() {
            return Err(Flaw::Blank);
        }
        if self.head_size != HEADER_LEN as i32 {
            return Err(Flaw::HeadSize(self.head_size));
        }
        if dialect != Dialect::Current && self.dialect() != dialect {
            return Err(Flaw::Dialect {
                wanted: dialect,
                found: self.dialect(),
            });
        }
        let memory = usize::try_from(self.memory_size).ok();
        let Some(capacity) = memory.and_then(|size| size.checked_sub(dialect.overhead())) else {
            return Err(Flaw::MemorySize(self.memory_size));
        };
        // A view can be too short even for what comes besides the content.
        let room = view.checked_sub(dialect.overhead());
        let Some(room) = room.filter(|room| capacity <= *room) else {
            let claimed = self.memory_size;
            return Err(Flaw::BeyondView { claimed, view });
        };
        // A program that starts with a smaller size overwrites the block's size and nothing else,
        // so longer content may be there: what bounds it is the view.
        match usize::try_from(self.content_size) {
            Ok(len) if len <= room => Ok(Shape { capacity, len }),
            _ => {
                let claimed = self.content_size;
                Err(Flaw::ContentSize { claimed, room })
            }
        }
    }

    /// Checks content that the header belongs to.
    pub(super) fn verify(self, content: &[u8]) -> Checked<()> {
        let (expected, actual) = (self.crc, crc64(content, 0));
        match expected == actual {
            true => Ok(()),
            false => Err(Flaw::Checksum { expected, actual }),
        }
    }
}

/// What a checked header comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The longest content that programs of the block's dialect have room for.
    pub(super) capacity: usize,
    /// The length of the content.
    pub(super) len: usize,
}

/// The bytes to write, and where.
pub(super) type Patch<const N: usize> = (usize, [u8; N]);

/// The parts of a new block's header. What is not in them is kept as found.
pub(super) fn new_header(dialect: Dialect, capacity: usize) -> Option<[Patch<4>; 3]> {
    let memory_size = i32::try_from(capacity.checked_add(dialect.overhead())?).ok()?;
    Some([
        (HEAD_SIZE, (HEADER_LEN as i32).to_le_bytes()),
        // For other dialects, what new memory has anyway.
        (TAIL_SIZE, (dialect.tail() as i32).to_le_bytes()),
        // Last: a header without it is still blank, should we die before.
        (MEMORY_SIZE, memory_size.to_le_bytes()),
    ])
}

/// The two parts of a header that a new value changes.
pub(super) fn value_header(content: &[u8], crc: u64) -> Option<(Patch<4>, Patch<8>)> {
    let len = i32::try_from(content.len()).ok()?;
    Some(((CONTENT_SIZE, len.to_le_bytes()), (CRC, crc.to_le_bytes())))
}

/// Something that is as it should be, or what is wrong.
pub(super) type Checked<T> = std::result::Result<T, Flaw>;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Blank,
    HeadSize(i32),
    Dialect { wanted: Dialect, found: Dialect },
    MemorySize(i32),
    BeyondView { claimed: i32, view: usize },
    ContentSize { claimed: i32, room: usize },
    Checksum { expected: u64, actual: u64 },
}

impl Flaw {
    #[cold]
    pub(super) fn into_error(self, operation: &'static str, object: &str) -> Error {
        // Where a block is a file, it outlives the programs.
        let remake = if cfg!(windows) {
            "end the programs that use it, and start them anew"
        } else {
            "remove it, and write to it anew"
        };
        let (kind, cause) = match self {
            Self::Blank => (
                ErrorKind::NotFound,
                "it has no header; start a program that writes to it".to_owned(),
            ),
            Self::HeadSize(size) => (
                ErrorKind::Damaged,
                format!("its header claims to have {size} bytes, not {HEADER_LEN}; {remake}"),
            ),
            Self::Dialect { wanted, found } => (
                ErrorKind::Incompatible,
                format!("its dialect is {found}, not {wanted}; open it as {found}"),
            ),
            Self::MemorySize(size) => (
                ErrorKind::Damaged,
                format!("its header claims an impossible size of {size} bytes; {remake}"),
            ),
            Self::BeyondView { claimed, view } => (
                ErrorKind::Damaged,
                format!("its header claims {claimed} bytes, and there are {view}; {remake}"),
            ),
            Self::ContentSize { claimed, room } => (
                ErrorKind::Damaged,
                format!(
                    "its header claims {claimed} bytes of content, and there is room for {room}; {remake}"
                ),
            ),
            Self::Checksum { expected, actual } => (
                ErrorKind::Corrupt,
                format!(
                    "its content has the checksum {actual:016x}, not {expected:016x}; write it again"
                ),
            ),
        };
        Error::new(kind, operation, object, cause)
    }
}

fn quarters(bytes: &[u8; HEADER_LEN]) -> [u32; HEADER_LEN / 4] {
    let mut words = [0; HEADER_LEN / 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const RESERVED: usize = 24;

    fn header(dialect: Dialect, capacity: usize, content: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        for (at, part) in new_header(dialect, capacity).unwrap() {
            bytes[at..at + 4].copy_from_slice(&part);
        }
        let (size, crc) = value_header(content, crc64(content, 0)).unwrap();
        bytes[size.0..size.0 + 4].copy_from_slice(&size.1);
        bytes[crc.0..crc.0 + 8].copy_from_slice(&crc.1);
        bytes
    }

    #[test]
    fn everything_has_its_documented_place() {
        let text = include_str!("../../../../docs/format.md");
        for (offset, what) in [
            (MEMORY_SIZE, "memorySize"),
            (HEAD_SIZE, "headSize"),
            (CONTENT_SIZE, "contentSize"),
            (TAIL_SIZE, "tailSize"),
            (CRC, "crcCheck"),
            (RESERVED, "reserved"),
            (HEADER_LEN, "content"),
        ] {
            assert!(text.contains(&format!("| {offset} | {what}")), "{what}");
        }
        let mut bytes = [0; HEADER_LEN];
        bytes[RESERVED..RESERVED + 4].copy_from_slice(&(-7_i32).to_le_bytes());
        assert_eq!(Header::decode(&bytes).reserved, -7);
    }

    #[test]
    fn a_header_is_as_the_table_says() {
        let seed = header(Dialect::Seed, 100, b"123456789");
        let expected: [u8; HEADER_LEN] = [
            133, 0, 0, 0, 32, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, // sizes
            0xfa, 0x39, 0x19, 0xdf, 0xbb, 0xc9, 0x5d, 0x99, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(seed, expected);
        let untailed = header(Dialect::Untailed, 100, b"123456789");
        assert_eq!((untailed[0], untailed[12]), (132, 0));
        let shape = Header::decode(&seed).check(Dialect::Seed, 133);
        let (capacity, len) = (100, 9);
        assert_eq!(shape, Ok(Shape { capacity, len }));
        let shape = Header::decode(&untailed).check(Dialect::Untailed, 4096);
        assert_eq!(shape, Ok(Shape { capacity, len }));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = Header::decode(&header(Dialect::Seed, 100, b"abc"));
        let check = |header: Header| header.check(Dialect::Seed, 133).unwrap_err();
        for size in [i32::MIN, -1, 1, 32] {
            let memory_size = size;
            let bad = Header {
                memory_size,
                ..good
            };
            assert_eq!(check(bad), Flaw::MemorySize(size));
        }
        for size in [134, 4096, i32::MAX] {
            let memory_size = size;
            let bad = Header {
                memory_size,
                ..good
            };
            let (claimed, view) = (size, 133);
            assert_eq!(check(bad), Flaw::BeyondView { claimed, view });
        }
        for size in [i32::MIN, -1, 101, i32::MAX] {
            let content_size = size;
            let bad = Header {
                content_size,
                ..good
            };
            let (claimed, room) = (size, 100);
            assert_eq!(check(bad), Flaw::ContentSize { claimed, room });
        }
        for head_size in [i32::MIN, -1, 0, 31, 33, i32::MAX] {
            let bad = Header { head_size, ..good };
            assert_eq!(check(bad), Flaw::HeadSize(head_size));
        }
        let view = |view| good.check(Dialect::Seed, view);
        assert_eq!(
            view(32),
            Err(Flaw::BeyondView {
                claimed: 133,
                view: 32
            })
        );
        assert_eq!(
            view(0),
            Err(Flaw::BeyondView {
                claimed: 133,
                view: 0
            })
        );
        // Room for the header, and not for the tail.
        let memory_size = 33;
        let empty = Header {
            memory_size,
            content_size: 0,
            ..good
        };
        let (claimed, view) = (33, 32);
        let flaw = Flaw::BeyondView { claimed, view };
        assert_eq!(empty.check(Dialect::Seed, 32), Err(flaw));
        let (capacity, len) = (0, 0);
        let shape = empty.check(Dialect::Seed, 33);
        assert_eq!(shape, Ok(Shape { capacity, len }));
        let blank = Header::decode(&[0; HEADER_LEN]);
        assert_eq!(check(blank), Flaw::Blank);
        let half_made = Header {
            head_size: 32,
            ..blank
        };
        assert_eq!(check(half_made), Flaw::Blank);
        assert!(good.verify(b"abc").is_ok() && good.verify(b"abd").is_err());
    }

    #[test]
    fn dialects_are_told_apart_by_their_marks() {
        let seed = Header::decode(&header(Dialect::Seed, 100, b"abc"));
        let flaw = seed.check(Dialect::Untailed, 4096).unwrap_err();
        let error = flaw.into_error("open", "x");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        for padding in [0, -1, 0x7777_7777, 2] {
            let tail_size = padding;
            let found = Header { tail_size, ..seed };
            assert!(found.check(Dialect::Seed, 4096).is_err());
            assert!(found.check(Dialect::Untailed, 4096).is_ok());
            assert!(found.check(Dialect::Current, 4096).is_ok());
        }
        // Another name, so that nothing is to be told apart.
        assert!(seed.check(Dialect::Current, 4096).is_ok());
    }

    #[test]
    fn the_longest_content_is_what_a_size_can_say() {
        for dialect in [Dialect::Seed, Dialect::Untailed, Dialect::Current] {
            let most = dialect.max_capacity();
            assert!(new_header(dialect, most).is_some());
            assert!(new_header(dialect, most + 1).is_none());
            assert!(new_header(dialect, usize::MAX).is_none());
        }
    }
}
