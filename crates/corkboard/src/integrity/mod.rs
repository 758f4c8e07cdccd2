//! What guards values: CRC-64/XZ, or nothing.
//!
//! ECMA-182 polynomial `0x42F0E1EBA9EA3693`, reflected, initial value and final exclusive-or all
//! ones; the check value of `"123456789"` is `0x995DC9BBDF1939FA`.

#[cfg(target_arch = "x86_64")]
mod short;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::ops::Deref;

use crc_fast::{CrcAlgorithm, Digest};

/// Up to this length, the fixed cost of the bulk routine outweighs its speed.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 128;
/// Without them, copy and checksum alternate on pieces that stay in the first-level cache.
const PIECE: usize = 8 << 10;

/// The CRC-64/XZ of `bytes`, continued from `previous`.
///
/// Start with 0; feeding the parts of a message one after the other gives the checksum of the
/// whole.
///
/// # Examples
/// ```
/// use corkboard::integrity::crc64;
/// assert_eq!(crc64(b"123456789", 0), 0x995D_C9BB_DF19_39FA);
/// assert_eq!(crc64(b"56789", crc64(b"1234", 0)), crc64(b"123456789", 0));
/// ```
#[inline]
pub fn crc64(bytes: &[u8], previous: u64) -> u64 {
    Means::find().crc64(bytes, previous)
}

/// What guards a value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// A CRC-64/XZ, computed at publication and checked once per publication by each reader.
    Crc64 = 1,
    /// Nothing; values are still never torn.
    None = 2,
}

impl Integrity {
    pub(crate) fn checksums(self) -> Checksums {
        match self {
            Self::Crc64 => Checksums::new(),
            Self::None => Checksums::NONE,
        }
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        [Self::Crc64, Self::None]
            .into_iter()
            .find(|value| *value as u64 == word)
    }
}

/// What guards an object's values: their checksums, or nothing. For those who ask often enough to
/// look for the processor's means once.
#[derive(Clone, Copy)]
pub(crate) struct Checksums(Option<Means>);

impl Checksums {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new() -> Self {
        Self(Some(Means::find()))
    }

    /// Whether values have any.
    #[inline]
    pub(crate) fn are_kept(self) -> bool {
        self.0.is_some()
    }

    /// A value's checksum; 0 where none is kept, and the value is not looked for.
    #[inline]
    pub(crate) fn of(self, value: &impl Deref<Target = [u8]>) -> u64 {
        self.0.map_or(0, |means| means.crc64(value, 0))
    }

    /// Copies `from` to `to`, and returns its checksum; 0 where none is kept.
    ///
    /// # Safety
    /// As for [`copy_crc64`].
    #[inline]
    pub(crate) unsafe fn copy(self, to: *mut u8, from: &[u8]) -> u64 {
        // SAFETY: the caller vouches for the same.
        unsafe {
            if self.are_kept() {
                return copy_crc64(to, from, 0);
            }
            std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
        }
        0
    }
}

/// What this processor has for checksums.
#[derive(Clone, Copy)]
struct Means {
    /// **C1** Whether the processor has the features that `short::crc64` needs.
    #[cfg(target_arch = "x86_64")]
    has_short: bool,
}

impl Means {
    #[inline]
    fn find() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            has_short: is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("sse4.1"),
        }
    }

    /// As [`crc64`].
    #[inline]
    fn crc64(self, bytes: &[u8], previous: u64) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() <= SHORT && self.has_short {
            // SAFETY: C1.
            return unsafe { short::crc64(bytes, previous) };
        }
        bulk(bytes, previous)
    }
}

/// 2^64 divided by the golden ratio: odd, and every number's multiple differs in many bits.
const SEAL: u64 = 0x9E37_79B9_7F4A_7C15;

/// A checksum as it is kept beside what it is of, or back: bound to the number of that, so that no
/// flipped stamp passes an old value, or an empty slot, for a new one.
#[inline]
pub(crate) fn seal(crc: u64, number: u64) -> u64 {
    crc ^ number.wrapping_mul(SEAL)
}

/// Copies `from` to `to` and returns its checksum, continued from `previous`. Large memory is
/// walked once.
///
/// # Safety
/// `to` is valid for writing `from.len()` bytes, does not overlap `from`, and nobody else accesses
/// it meanwhile.
unsafe fn copy_crc64(to: *mut u8, from: &[u8], previous: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller vouches for the same.
    if let Some(crc) = unsafe { wide::copy_crc64(to, from, previous) } {
        return crc;
    }
    let mut crc = previous;
    for (index, piece) in from.chunks(PIECE).enumerate() {
        // SAFETY: inside what the caller vouches for.
        unsafe {
            let to = to.add(index * PIECE);
            std::ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
        }
        crc = crc64(piece, crc);
    }
    crc
}

#[inline(never)]
fn bulk(bytes: &[u8], previous: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = wide::crc64(bytes, previous) {
        return crc;
    }
    if previous == 0 {
        return crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, !previous);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::{bulk, copy_crc64, crc64};
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn reference(bytes: &[u8], previous: u64) -> u64 {
        let mut crc = !previous;
        for &byte in bytes {
            crc ^= u64::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xC96C_5795_D787_0F42 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    proptest! {
        #[test]
        fn matches_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..700), previous: u64) {
            prop_assert_eq!(crc64(&bytes, 0), reference(&bytes, 0));
            prop_assert_eq!(crc64(&bytes, previous), reference(&bytes, previous));
            prop_assert_eq!(bulk(&bytes, previous), reference(&bytes, previous));
        }

        #[test]
        fn short_inputs_match_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..130), previous: u64) {
            prop_assert_eq!(crc64(&bytes, previous), reference(&bytes, previous));
        }

        #[test]
        fn a_cache_line_matches_the_definition(line in proptest::array::uniform32(any::<[u8; 2]>()), previous: u64) {
            let line = line.as_flattened();
            prop_assert_eq!(crc64(line, 0), reference(line, 0));
            prop_assert_eq!(crc64(line, previous), reference(line, previous));
        }

        #[test]
        fn copying_gives_the_same_bytes_and_checksum(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), previous: u64) {
            let mut copy = vec![0; bytes.len()];
            // SAFETY: the copy has as many bytes.
            let crc = unsafe { copy_crc64(copy.as_mut_ptr(), &bytes, previous) };
            prop_assert_eq!(crc, bulk(&bytes, previous));
            prop_assert_eq!(copy, bytes);
        }

        #[test]
        fn parts_give_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..700), cut: usize) {
            let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
            prop_assert_eq!(crc64(tail, crc64(head, 0)), crc64(&bytes, 0));
        }
    }
}
