//! The fuzzer's bytes as numbers.

/// What is left of the fuzzer's bytes; zeros follow.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn short(&mut self) -> u16 {
        let bytes = [(); 2].map(|()| self.byte().unwrap_or(0));
        u16::from_le_bytes(bytes)
    }

    /// `count` bytes, or as many as there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
