//! What the values consist of, so that a reader can verify every byte without the library.

use super::frames::Pattern;
use super::machine;
use super::protocol::Board;

/// What every value says about itself.
pub struct Head {
    /// The number of the process that wrote it.
    pub writer: u64,
    /// `CLOCK_MONOTONIC` just before it was published.
    pub monotonic_ns: u64,
}

/// What is wrong with a value that the library handed out as whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Defect {
    /// Parts of it belong to another publication.
    Torn(String),
    /// Bytes that no writer ever wrote.
    Corrupt(String),
}

/// Verifies the values of one board.
pub enum Verifier {
    Machine,
    Frames(Pattern),
}

impl Verifier {
    pub fn new(board: Board) -> Self {
        match board {
            Board::Machine => Self::Machine,
            Board::Frames => Self::Frames(Pattern::new()),
        }
    }

    /// Looks at every byte of the value with this sequence.
    pub fn verify(&self, value: &[u8], sequence: u64) -> Result<Head, Defect> {
        match self {
            Self::Machine => machine::verify(value, sequence),
            Self::Frames(pattern) => pattern.verify(value, sequence),
        }
    }
}
