//! With two blocks in each of eight registers.

use std::arch::x86_64::{
    __m256i, _mm_set_epi64x, _mm_xor_si128, _mm256_castsi256_si128, _mm256_clmulepi64_epi128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set_epi64x, _mm256_storeu_si256,
    _mm256_xor_si256, _mm256_zextsi128_si256,
};

use super::super::short::{self, FOLD_128, FOLD_256, FOLD_2048};
use super::{AHEAD, STEP, prefetch};

/// The checksum of whole steps, continued from `previous`; copies them to `to` if `COPY`.
///
/// # Safety
/// If `COPY`, `to` is valid for writing as many bytes as `steps` has, and nobody else accesses
/// them.
#[target_feature(enable = "avx2,vpclmulqdq,pclmulqdq,sse4.1")]
pub(super) unsafe fn walk<const COPY: bool>(
    to: *mut u8,
    steps: &[[u8; STEP]],
    previous: u64,
) -> u64 {
    let Some((first, rest)) = steps.split_first() else {
        return previous;
    };
    let take = |index: usize, step: &[u8; STEP], part: usize| -> __m256i {
        // SAFETY: the 32 bytes of an eighth of the step; the instruction needs no alignment.
        let bytes = unsafe { _mm256_loadu_si256(step.as_ptr().add(part * 32).cast()) };
        if COPY {
            // SAFETY: `index` is that of a step, so this is below the end that the caller vouches
            // for; the instruction needs no alignment.
            unsafe { _mm256_storeu_si256(to.add(index * STEP + part * 32).cast(), bytes) };
        }
        bytes
    };
    let mut sums: [__m256i; 8] = std::array::from_fn(|part| take(0, first, part));
    let start = _mm256_zextsi128_si256(_mm_set_epi64x(0, !previous as i64));
    sums[0] = _mm256_xor_si256(sums[0], start);
    let by = broadcast(FOLD_2048);
    for (index, step) in rest.iter().enumerate() {
        if COPY && index + AHEAD < rest.len() {
            prefetch(to.wrapping_add((index + 1 + AHEAD) * STEP));
        }
        for (part, sum) in sums.iter_mut().enumerate() {
            *sum = fold(*sum, by, take(index + 1, step, part));
        }
    }
    let by = broadcast(FOLD_256);
    let [sum, rest @ ..] = sums;
    let sum = rest.into_iter().fold(sum, |sum, next| fold(sum, by, next));
    let early = short::shift(_mm256_castsi256_si128(sum), FOLD_128);
    let late = _mm256_extracti128_si256::<1>(sum);
    !short::reduce(_mm_xor_si128(early, late))
}

#[target_feature(enable = "avx2")]
fn broadcast(by: (u64, u64)) -> __m256i {
    let (low, high) = (by.0 as i64, by.1 as i64);
    _mm256_set_epi64x(high, low, high, low)
}

/// Two blocks moved over as many bits as `by` is for, and two others added.
#[target_feature(enable = "avx2,vpclmulqdq")]
fn fold(sum: __m256i, by: __m256i, next: __m256i) -> __m256i {
    let low = _mm256_clmulepi64_epi128::<0x00>(sum, by);
    let high = _mm256_clmulepi64_epi128::<0x11>(sum, by);
    _mm256_xor_si256(_mm256_xor_si256(low, next), high)
}
