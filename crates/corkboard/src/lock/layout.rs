//! Where everything is in a lock's file; `docs/format.md` shows it as tables.

use crate::object::Single;
use crate::participants::Shape;
use crate::space::Kind;

/// How many handles can say who they are. More are possible, and nameless.
pub(super) const ENTRIES: usize = 124;

pub(crate) const SHAPE: Shape = Shape {
    mapped_len: Shape::len_bytes(ENTRIES),
    entries: ENTRIES,
};

/// A lock's one file.
pub(crate) const FILE: Single = Single {
    kind: Kind::Lock,
    role: 4,
    len: SHAPE.mapped_len,
    allocated: SHAPE.mapped_len,
};

/// Not 0 while a writer may have the gate.
pub(super) const GATED: usize = 264;
/// Not 0 while a reader may have claimed a turn.
pub(super) const CLAIMED: usize = 272;
/// Two bells, two words each: how often it was rung, and whether somebody may listen.
pub(super) const BELLS: usize = 320;

/// Bytes that the kernel locks, beyond the end of any file and of the entries' bytes.
pub(super) const GATE: u64 = 1 << 41;
pub(super) const BODY: u64 = GATE + 1;
pub(super) const TURN: u64 = GATE + 2;
/// Of files without words of our own: who listens for a bell holds its byte for reading.
#[cfg(target_os = "linux")]
pub(super) const LISTENERS: u64 = GATE + 3;

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use super::super::bells::Bell;
    use super::*;

    #[test]
    fn everything_has_its_place() {
        assert_eq!(FILE.len, 16 << 10);
        let text = include_str!("../../../../docs/format.md");
        for (offset, what) in [(GATED, "gated"), (CLAIMED, "claimed"), (BELLS, "bells")] {
            assert!(text.contains(&format!("| {offset} | {what}")), "{what}");
        }
        let listeners = |bell| format!("listeners of the {bell}'s bell");
        for (byte, what) in [
            (0, "gate".to_owned()),
            (1, "body".to_owned()),
            (2, "turn".to_owned()),
            (3 + Bell::Gate as u64, listeners("gate")),
            (3 + Bell::Body as u64, listeners("body")),
        ] {
            let line = format!("| 2^41 + {byte} | {what}");
            assert!(text.contains(&line), "{line}");
        }
        assert_eq!([BODY, TURN, LISTENERS].map(|byte| byte - GATE), [1, 2, 3]);
    }
}
