//! Checksums of long inputs, and copies with them in one walk, 256 bytes at a step.
//!
//! A step moves the sixteen blocks of 16 bytes, several to a register, over the 256 bytes that
//! follow and adds those. What remains is folded into one block, as in [`short`](super::short).

mod avx2;
mod avx512;

use crate::prefetch;

/// From this length on, the widest instructions are worth their start.
const WIDE: usize = 512;
/// Bytes a step.
const STEP: usize = 256;
/// So many steps before it is written, the destination is asked for. Where it is in no near cache,
/// that is sooner than the stores would, of which the processor buffers few.
const AHEAD: usize = 2;

/// As [`copy_crc64`](super::copy_crc64); `None`, and nothing done, where something else is quicker.
///
/// # Safety
/// As there.
#[inline]
pub(super) unsafe fn copy_crc64(to: *mut u8, from: &[u8], previous: u64) -> Option<u64> {
    if from.len() < WIDE || !multiplies_vectors() {
        return None;
    }
    let (steps, tail) = from.as_chunks();
    let crc = if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the features; the caller vouches for `to`.
        unsafe { avx512::copy_crc64(to, steps, previous) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        unsafe { avx2::walk::<true>(to, steps, previous) }
    } else {
        return None;
    };
    // SAFETY: the caller vouches for `to`.
    unsafe {
        let rest = to.add(from.len() - tail.len());
        std::ptr::copy_nonoverlapping(tail.as_ptr(), rest, tail.len());
    }
    Some(super::crc64(tail, crc))
}

/// As [`crc64`](super::crc64); `None` where something else is quicker.
#[inline]
pub(super) fn crc64(bytes: &[u8], previous: u64) -> Option<u64> {
    let is_best = bytes.len() >= WIDE
        && !is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && multiplies_vectors();
    if !is_best {
        return None;
    }
    let (steps, tail) = bytes.as_chunks();
    // SAFETY: the processor has the features, and nothing is copied.
    let crc = unsafe { avx2::walk::<false>(std::ptr::null_mut(), steps, previous) };
    Some(super::crc64(tail, crc))
}

/// Whether the processor multiplies as all widths need it, besides loading and storing so much.
#[inline]
fn multiplies_vectors() -> bool {
    is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("vpclmulqdq")
}

/// Asks for the cache lines of a step, to write to them.
#[inline(always)]
fn prefetch(step: *mut u8) {
    for line in 0..STEP / prefetch::LINE {
        prefetch::to_write(step.wrapping_add(line * prefetch::LINE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_width_copies_and_gives_the_checksum(bytes in proptest::collection::vec(any::<u8>(), 0..5_000), previous: u64) {
            let (steps, _) = bytes.as_chunks();
            let whole = &bytes[..steps.len() * STEP];
            let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc64Xz, !previous);
            digest.update(whole);
            let expected = digest.finalize();
            if multiplies_vectors() && is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has the features, and nothing is copied.
                let crc = unsafe { avx2::walk::<false>(std::ptr::null_mut(), steps, previous) };
                prop_assert_eq!(crc, expected);
                let mut copy = vec![0; whole.len()];
                // SAFETY: as above, and the copy has as many bytes.
                let crc = unsafe { avx2::walk::<true>(copy.as_mut_ptr(), steps, previous) };
                prop_assert_eq!((crc, &copy[..]), (expected, whole));
            }
            if multiplies_vectors() && is_x86_feature_detected!("avx512f") {
                let mut copy = vec![0; whole.len()];
                // SAFETY: as above.
                let crc = unsafe { avx512::copy_crc64(copy.as_mut_ptr(), steps, previous) };
                prop_assert_eq!((crc, &copy[..]), (expected, whole));
            }
        }
    }
}
