//! CRC-64/XZ, the checksum of every value.
//!
//! ECMA-182 polynomial `0x42F0E1EBA9EA3693`, reflected, initial value and final exclusive-or all
//! ones; the check value of `"123456789"` is `0x995DC9BBDF1939FA`.

#[cfg(target_arch = "x86_64")]
mod short;

use crc_fast::{CrcAlgorithm, Digest};

/// Up to this length, the fixed cost of the bulk routine outweighs its speed.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 128;

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
pub fn crc64(bytes: &[u8], previous: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() <= SHORT
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("sse4.1")
    {
        // SAFETY: the processor has both features, as just checked.
        return unsafe { short::crc64(bytes, previous) };
    }
    bulk(bytes, previous)
}

fn bulk(bytes: &[u8], previous: u64) -> u64 {
    if previous == 0 {
        return crc_fast::checksum(CrcAlgorithm::Crc64Xz, bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, !previous);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::{bulk, crc64};
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
        fn parts_give_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..700), cut: usize) {
            let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
            prop_assert_eq!(crc64(tail, crc64(head, 0)), crc64(&bytes, 0));
        }
    }
}
