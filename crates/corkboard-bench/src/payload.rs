//! What is published, and what is done with what was read: the same for everybody.

use std::hint::black_box;

/// The size of the short value.
pub const SHORT: usize = 64;
/// The size of the page-sized value.
pub const PAGE: usize = 4 << 10;
/// The size of the long value.
pub const LONG: usize = 1 << 20;

/// XOR of all bytes as little-endian words; a short tail counts as padded with zeros.
///
/// It is the cheapest computation that needs every byte, so it hides least of a read's own cost.
/// It is also timed alone, as a floor.
#[inline(always)]
pub fn fold(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    words.iter().fold(u64::from_le_bytes(last), |sum, word| {
        sum ^ u64::from_le_bytes(*word)
    })
}

/// Uses every byte of what was read, and keeps the compiler from dropping or merging reads.
///
/// The length is checked and from then on a constant for everybody: peers with values of a fixed
/// type get that for nothing, and a program that reads a slice knows what it expects in it.
#[inline(always)]
pub fn consume<const N: usize>(bytes: &[u8]) {
    let bytes: &[u8; N] = bytes.try_into().expect("a value of N bytes");
    black_box(fold(bytes));
}

/// Values to publish: different from turn to turn, ready in the first-level cache where they fit.
///
/// Preparing a value costs the same for all peers: moving on to the next of several prepared
/// ones, or, for values too long for that, storing the turn's number in one word.
pub struct Source {
    bytes: Vec<Line>,
    len: usize,
    count: usize,
    turn: usize,
}

/// Sources are aligned, so that no peer is favoured by where the allocator put them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Source {
    /// Values of `len` bytes, a multiple of 64.
    pub fn new(len: usize) -> Self {
        let count = match len {
            SHORT => 64,
            PAGE => 4,
            _ => 1,
        };
        let mut number = 0_u64;
        let mut next = || {
            number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (number >> 56) as u8
        };
        let lines = (0..len * count / 64)
            .map(|_| Line(std::array::from_fn(|_| next())))
            .collect();
        Self {
            bytes: lines,
            len,
            count,
            turn: 0,
        }
    }

    /// The next value.
    #[inline(always)]
    pub fn next(&mut self) -> &[u8] {
        self.turn = self.turn.wrapping_add(1);
        let len = self.len;
        if self.count == 1 {
            return self.numbered(self.turn as u64);
        }
        let start = (self.turn & (self.count - 1)) * len;
        self.at(start)
    }

    /// The first value, with a number for its first word.
    #[inline(always)]
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        self.bytes[0].0[..8].copy_from_slice(&number.to_le_bytes());
        self.at(0)
    }

    #[inline(always)]
    fn at(&self, start: usize) -> &[u8] {
        let len = self.len;
        let bytes = self.bytes[start / 64..(start + len) / 64].as_ptr().cast();
        // SAFETY: the range was just checked; `Line` is 64 bytes without padding, borrowed as long
        // as `self`.
        black_box(unsafe { std::slice::from_raw_parts(bytes, len) })
    }
}

/// A value that proves itself: every word is the number, disguised differently.
///
/// A reader that sees words of two publications cannot take them for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Proof(pub [u8; SHORT]);

const DISGUISE: [u64; SHORT / 8] = [
    0,
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xff51_afd7_ed55_8ccd,
    0xc4ce_b9fe_1a85_ec53,
    0xa076_1d64_78bd_642f,
];

impl Proof {
    #[inline(always)]
    pub fn new(number: u64) -> Self {
        let mut bytes = [0; SHORT];
        let (words, _) = bytes.as_chunks_mut::<8>();
        for (word, disguise) in words.iter_mut().zip(DISGUISE) {
            *word = (disguise ^ number).to_le_bytes();
        }
        Self(bytes)
    }

    /// The first word is not disguised.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        u64::from_le_bytes(self.0.as_chunks().0[0])
    }

    /// The number that `bytes` prove, or `None` when they are torn, cut or foreign.
    #[inline(always)]
    pub fn check(bytes: &[u8]) -> Option<u64> {
        let bytes: &[u8; SHORT] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let number = u64::from_le_bytes(words[0]);
        let differences = words.iter().zip(DISGUISE).fold(0, |all, (word, disguise)| {
            all | (u64::from_le_bytes(*word) ^ disguise ^ number)
        });
        (differences == 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_needs_every_byte() {
        let mut bytes: Vec<u8> = (0..77).collect();
        let whole = fold(&bytes);
        for index in 0..bytes.len() {
            bytes[index] ^= 0x10;
            assert_ne!(fold(&bytes), whole, "byte {index} is not used");
            bytes[index] ^= 0x10;
        }
        assert_eq!(fold(&bytes), whole);
        assert_eq!(fold(&[]), 0);
        assert_eq!(fold(&[1, 0, 0, 0, 0, 0, 0, 0, 2]), 3);
    }

    #[test]
    fn sources_differ_from_turn_to_turn() {
        for len in [SHORT, PAGE, LONG] {
            let mut source = Source::new(len);
            let first = source.next().to_vec();
            assert_eq!(first.len(), len);
            assert_ne!(source.next(), first);
        }
    }

    #[test]
    fn a_proof_cannot_be_mixed() {
        let (one, two) = (Proof::new(41).0, Proof::new(42).0);
        assert_eq!(Proof::check(&one), Some(41));
        for cut in 1..SHORT - 8 {
            let mixed = [&one[..cut], &two[cut..]].concat();
            assert_eq!(Proof::check(&mixed), None, "mixed at {cut}");
        }
        assert_eq!(Proof::check(&one[..63]), None);
    }
}
