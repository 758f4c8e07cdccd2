//! With four blocks in each of four registers.

use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm_xor_si128, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32,
    _mm512_loadu_si512, _mm512_set_epi64, _mm512_storeu_si512, _mm512_ternarylogic_epi64,
    _mm512_xor_si512, _mm512_zextsi128_si512,
};

use super::super::short::{self, FOLD_128, FOLD_256, FOLD_384, FOLD_512, FOLD_2048};
use super::{AHEAD, STEP, prefetch};

/// Copies whole steps to `to` and returns their checksum, continued from `previous`.
///
/// # Safety
/// `to` is valid for writing as many bytes as `steps` has, and nobody else accesses them.
#[target_feature(enable = "avx512f,vpclmulqdq,pclmulqdq,sse4.1")]
pub(super) unsafe fn copy_crc64(to: *mut u8, steps: &[[u8; STEP]], previous: u64) -> u64 {
    let Some((first, rest)) = steps.split_first() else {
        return previous;
    };
    let load = |step: &[u8; STEP]| -> [__m512i; 4] {
        // SAFETY: the 64 bytes of a quarter of the step; the instruction needs no alignment.
        std::array::from_fn(|part| unsafe {
            _mm512_loadu_si512(step.as_ptr().add(part * 64).cast())
        })
    };
    let store = |index: usize, step: &[__m512i; 4]| {
        for (part, bytes) in step.iter().enumerate() {
            // SAFETY: `index` is that of a step, so this is below the end that the caller vouches
            // for; the instruction needs no alignment.
            unsafe { _mm512_storeu_si512(to.add(index * STEP + part * 64).cast(), *bytes) };
        }
    };
    let mut sums = load(first);
    store(0, &sums);
    let start = _mm512_zextsi128_si512(_mm_set_epi64x(0, !previous as i64));
    sums[0] = _mm512_xor_si512(sums[0], start);
    let by = broadcast(FOLD_2048);
    for (index, step) in rest.iter().enumerate() {
        if index + AHEAD < rest.len() {
            prefetch(to.wrapping_add((index + 1 + AHEAD) * STEP));
        }
        let step = load(step);
        store(index + 1, &step);
        for (sum, bytes) in sums.iter_mut().zip(step) {
            *sum = fold(*sum, by, bytes);
        }
    }
    let by = broadcast(FOLD_512);
    let [sum, rest @ ..] = sums;
    let sum = rest.into_iter().fold(sum, |sum, next| fold(sum, by, next));
    let early = _mm_xor_si128(
        short::shift(_mm512_extracti32x4_epi32::<0>(sum), FOLD_384),
        short::shift(_mm512_extracti32x4_epi32::<1>(sum), FOLD_256),
    );
    let late = _mm_xor_si128(
        short::shift(_mm512_extracti32x4_epi32::<2>(sum), FOLD_128),
        _mm512_extracti32x4_epi32::<3>(sum),
    );
    !short::reduce(_mm_xor_si128(early, late))
}

#[target_feature(enable = "avx512f")]
fn broadcast(by: (u64, u64)) -> __m512i {
    let (low, high) = (by.0 as i64, by.1 as i64);
    _mm512_set_epi64(high, low, high, low, high, low, high, low)
}

/// Four blocks moved over as many bits as `by` is for, and four others added.
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn fold(sum: __m512i, by: __m512i, next: __m512i) -> __m512i {
    const XOR_OF_THREE: i32 = 0x96;
    let low = _mm512_clmulepi64_epi128::<0x00>(sum, by);
    let high = _mm512_clmulepi64_epi128::<0x11>(sum, by);
    _mm512_ternarylogic_epi64::<XOR_OF_THREE>(low, high, next)
}
