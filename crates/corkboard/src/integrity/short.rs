//! CRC-64/XZ of short inputs by carry-less multiplication, without a fixed cost to speak of.
//!
//! Leading zeros do not change a checksum that starts from zero. So the start value is added to
//! the first eight bytes, the message is moved to the end of whole 16-byte blocks, and the blocks
//! are folded one by one: `docs/design.md` names the source of the method.

use std::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_extract_epi64, _mm_loadu_si128,
    _mm_set_epi64x, _mm_slli_si128, _mm_srli_si128, _mm_xor_si128,
};

/// The polynomial without its highest term, highest degree in the highest bit.
const POLYNOMIAL: u64 = 0x42F0_E1EB_A9EA_3693;
/// Moves the two halves of a block over so many bits.
pub(super) const FOLD_128: (u64, u64) = fold_by(128);
pub(super) const FOLD_256: (u64, u64) = fold_by(256);
pub(super) const FOLD_384: (u64, u64) = fold_by(384);
pub(super) const FOLD_512: (u64, u64) = fold_by(512);
pub(super) const FOLD_2048: (u64, u64) = fold_by(2048);
/// x^128 divided by the polynomial, and the polynomial, both reflected without the lowest term.
const QUOTIENT: u64 = quotient().reverse_bits() << 1 | 1;
const REFLECTED: u64 = POLYNOMIAL.reverse_bits() << 1 | 1;

/// x^n modulo the polynomial.
const fn power(n: u32) -> u64 {
    let mut remainder = 1_u64;
    let mut step = 0;
    while step < n {
        let carry = remainder >> 63;
        remainder = (remainder << 1) ^ (POLYNOMIAL * carry);
        step += 1;
    }
    remainder
}

/// For the lower half, which has 64 bits more to go, and the upper; one bit less for the shift of
/// reflected products.
const fn fold_by(bits: u32) -> (u64, u64) {
    (
        power(bits + 63).reverse_bits(),
        power(bits - 1).reverse_bits(),
    )
}

/// x^128 divided by the polynomial, without the highest term, which is x^64.
const fn quotient() -> u64 {
    let mut remainder = POLYNOMIAL;
    let mut quotient = 0;
    let mut step = 0;
    while step < 64 {
        let carry = remainder >> 63;
        quotient = quotient << 1 | carry;
        remainder = (remainder << 1) ^ (POLYNOMIAL * carry);
        step += 1;
    }
    quotient
}

/// As [`crc64`](super::crc64); the quickest up to `SHORT` bytes.
#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(super) fn crc64(bytes: &[u8], previous: u64) -> u64 {
    match bytes.try_into() {
        Ok(line) => one_line(line, previous),
        Err(_) => any_length(bytes, previous),
    }
}

/// A cache line, which is what short values often are: no fold waits for another.
#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline]
fn one_line(line: &[u8; 64], previous: u64) -> u64 {
    let constants = constants();
    // SAFETY: a quarter of the line; the instruction needs no alignment.
    let at = |part: usize| unsafe { _mm_loadu_si128(line.as_ptr().add(16 * part).cast()) };
    let first = _mm_xor_si128(at(0), _mm_cvtsi64_si128(!previous as i64));
    let early = _mm_xor_si128(
        shift_by(first, constants.fold_384),
        shift_by(at(1), constants.fold_256),
    );
    let late = _mm_xor_si128(shift_by(at(2), constants.fold_128), at(3));
    !reduce_by(_mm_xor_si128(early, late), constants)
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline(never)]
fn any_length(bytes: &[u8], previous: u64) -> u64 {
    let start = !previous;
    let len = bytes.len();
    if len < 8 {
        if len == 0 {
            return previous;
        }
        let mut padded = [0; 8];
        padded[..len].copy_from_slice(bytes);
        // Of the start value, `len` bytes meet the message; the rest comes out shifted.
        let moved = (start ^ u64::from_le_bytes(padded)) << (64 - 8 * len);
        return !(reduce(_mm_set_epi64x(moved as i64, 0)) ^ start >> (8 * len));
    }
    let word = |at: usize| {
        bytes[at..]
            .first_chunk()
            .map_or(0, |w| u64::from_le_bytes(*w))
    };
    if len < 16 {
        let high = u128::from(word(len - 8)) << (8 * (len - 8));
        let both = high & !u128::from(u64::MAX) | u128::from(word(0) ^ start);
        return !reduce(block(both << (8 * (16 - len))));
    }
    let first = u128::from(word(8)) << 64 | u128::from(word(0) ^ start);
    let lead = len % 16;
    let (mut sum, rest) = if lead == 0 {
        (block(first), &bytes[16..])
    } else {
        let second = u128::from(word(lead + 8)) << 64 | u128::from(word(lead));
        let second = second ^ u128::from(start) >> (8 * lead);
        let sum = fold(block(first << (8 * (16 - lead))), block(second));
        (sum, &bytes[lead + 16..])
    };
    let (pieces, _) = rest.as_chunks::<16>();
    for piece in pieces {
        sum = fold(sum, block(u128::from_le_bytes(*piece)));
    }
    !reduce(sum)
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
fn block(bytes: u128) -> __m128i {
    _mm_set_epi64x((bytes >> 64) as i64, bytes as i64)
}

/// `sum` moved over the 16 bytes of `next`, which are added.
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn fold(sum: __m128i, next: __m128i) -> __m128i {
    _mm_xor_si128(shift(sum, FOLD_128), next)
}

/// A block moved over as many bits as `by` is for.
#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline]
pub(super) fn shift(block: __m128i, by: (u64, u64)) -> __m128i {
    shift_by(block, pair(by))
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline]
fn shift_by(block: __m128i, by: __m128i) -> __m128i {
    let low = _mm_clmulepi64_si128::<0x00>(block, by);
    let high = _mm_clmulepi64_si128::<0x11>(block, by);
    _mm_xor_si128(low, high)
}

/// The remainder of 128 bits, by Barrett's method.
#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline]
pub(super) fn reduce(sum: __m128i) -> u64 {
    reduce_by(sum, constants())
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
#[inline]
fn reduce_by(sum: __m128i, constants: &Constants) -> u64 {
    let sum = _mm_xor_si128(
        _mm_clmulepi64_si128::<0x10>(sum, constants.fold_128),
        _mm_srli_si128::<8>(sum),
    );
    let quotient = _mm_clmulepi64_si128::<0x00>(sum, constants.barrett);
    let product = _mm_clmulepi64_si128::<0x10>(quotient, constants.barrett);
    let top = _mm_xor_si128(product, _mm_slli_si128::<8>(quotient));
    _mm_extract_epi64::<1>(_mm_xor_si128(top, sum)) as u64
}

/// Multipliers as the instructions take them.
struct Constants {
    fold_128: __m128i,
    fold_256: __m128i,
    fold_384: __m128i,
    barrett: __m128i,
}

static CONSTANTS: Constants = Constants {
    fold_128: pair(FOLD_128),
    fold_256: pair(FOLD_256),
    fold_384: pair(FOLD_384),
    barrett: pair((QUOTIENT, REFLECTED)),
};

const fn pair((low, high): (u64, u64)) -> __m128i {
    // SAFETY: any 16 bytes make a vector.
    unsafe { std::mem::transmute((high as u128) << 64 | low as u128) }
}

/// The constants, from memory. If the compiler knew them it would build their halves one by one in
/// registers, which keeps the very unit busy that multiplies.
#[inline(always)]
fn constants() -> &'static Constants {
    let mut place: *const Constants = &CONSTANTS;
    // SAFETY: no instruction at all, and the place stays what it was.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) place, options(pure, readonly, nostack, preserves_flags));
        &*place
    }
}
