//! Where everything is in an event's file; `docs/format.md` shows it as a table.

use crate::object::{CREATED, Single};
use crate::space::Kind;

/// An event's one file.
pub(crate) const FILE: Single = Single {
    kind: Kind::Event,
    role: 5,
    len: 4096,
    allocated: 4096,
};

/// The header's own word that says what ends a signal.
pub(super) const RESET: usize = CREATED + 1;
/// The event's word.
pub(super) const WORD: usize = 320;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::header::OWN;

    #[test]
    fn everything_has_its_place() {
        let text = include_str!("../../../../docs/format.md");
        assert_eq!(OWN + 8 * RESET, 40);
        for line in ["| 40 | reset", "| 320 | word"] {
            assert!(text.contains(line), "{line}");
        }
        assert_eq!(WORD, 320);
    }
}
