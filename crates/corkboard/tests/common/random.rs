//! Numbers, and values that tell whether they are whole.
#![allow(dead_code, reason = "not every test file needs all of it")]

use corkboard::integrity::crc64;

/// A source of numbers that differ from process to process, or from turn to turn, as it is begun.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        let factor = 6_364_136_223_846_793_005;
        self.0 = self.0.wrapping_mul(factor).wrapping_add(1);
        (self.0 >> 33) % limit
    }

    /// Nothing, or at most `capacity` bytes with their checksum at the end.
    pub fn value(&mut self, capacity: usize) -> Vec<u8> {
        let len = match self.below(8) {
            0 => [0, capacity][self.below(2) as usize],
            _ => self.below(capacity as u64 + 1) as usize,
        };
        let Some(len) = len.checked_sub(8) else {
            return Vec::new();
        };
        let mut value: Vec<u8> = (0..len).map(|_| self.below(256) as u8).collect();
        let sum = crc64(&value, 0);
        value.extend(sum.to_le_bytes());
        value
    }
}

/// Fails unless this is a [`Random::value`].
pub fn check_value(value: &[u8]) {
    let Some((bytes, sum)) = value.split_last_chunk::<8>() else {
        assert!(value.is_empty(), "mismatch");
        return;
    };
    assert_eq!(crc64(bytes, 0).to_le_bytes(), *sum, "mismatch");
}
