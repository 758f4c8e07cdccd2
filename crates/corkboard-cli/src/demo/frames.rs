//! Frames: 6 MiB of which every byte follows from the sequence.
//!
//! A frame is a row of pieces. Each is a window into one table of pseudo-random words, and where
//! the window begins follows from sequence and piece. So filling is copying and verifying is
//! comparing, both at memory speed even without optimisation. The windows of one piece begin at
//! different words for any 2^17 publications in a row, so no byte of another frame goes unseen.
//! The first words are the head, with a check of its own.

use super::content::{Defect, Head};

/// The length of a frame in bytes.
pub const LEN: usize = 6 << 20;
const PIECE: usize = 16 << 10;
const WINDOWS: u64 = 1 << 17;
const MAGIC: u64 = u64::from_le_bytes(*b"corkdemo");
const HEAD: usize = 5 * 8;

/// The table that frames are cut from.
pub struct Pattern(Vec<u8>);

impl Pattern {
    pub fn new() -> Self {
        let words = WINDOWS + (PIECE / 8) as u64;
        Self((0..words).flat_map(|i| mix(i).to_le_bytes()).collect())
    }

    fn piece(&self, sequence: u64, piece: usize) -> &[u8] {
        // An odd factor: 2^17 sequences in a row give as many windows.
        let window = sequence
            .wrapping_mul(40_503)
            .wrapping_add(piece as u64 * 77_773)
            % WINDOWS;
        let start = window as usize * 8;
        &self.0[start..start + PIECE]
    }

    /// Fills these pieces of the frame.
    pub fn fill(&self, frame: &mut [u8], sequence: u64, pieces: std::ops::Range<usize>) {
        let skipped = pieces.start;
        let wanted = frame.chunks_mut(PIECE).enumerate().skip(skipped);
        for (index, piece) in wanted.take(pieces.len()) {
            piece.copy_from_slice(&self.piece(sequence, index)[..piece.len()]);
        }
    }

    /// Verifies every byte.
    pub fn verify(&self, frame: &[u8], sequence: u64) -> Result<Head, Defect> {
        if frame.len() != LEN {
            let what = format!("frame {sequence} has {} bytes, not {LEN}", frame.len());
            return Err(Defect::Corrupt(what));
        }
        for (index, found) in frame.chunks(PIECE).enumerate() {
            let start = if index == 0 { HEAD } else { 0 };
            let expected = self.piece(sequence, index);
            if found[start..] != expected[start..] {
                return Err(self.defect(found, sequence, index));
            }
        }
        let word = |index: usize| {
            let bytes = frame[index * 8..][..8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let [magic, stated, writer, monotonic_ns, check] = [0, 1, 2, 3, 4].map(word);
        if magic != MAGIC || check != head_check(stated, writer, monotonic_ns) {
            let what = format!("frame {sequence} has a damaged head");
            return Err(Defect::Corrupt(what));
        }
        if stated != sequence {
            let what = format!("frame {sequence} has the head of frame {stated}");
            return Err(Defect::Torn(what));
        }
        Ok(Head {
            writer,
            monotonic_ns,
        })
    }

    /// Says whether the piece, or an end of it, comes from a frame published before or after.
    fn defect(&self, found: &[u8], sequence: u64, index: usize) -> Defect {
        let others = sequence.saturating_sub(64)..sequence + 64;
        let other = others.filter(|other| *other != sequence).find(|other| {
            let piece = self.piece(*other, index);
            piece[HEAD..][..64] == found[HEAD..][..64] || piece[PIECE - 64..] == found[PIECE - 64..]
        });
        match other {
            Some(other) => Defect::Torn(format!(
                "frame {sequence} contains a part of frame {other} in piece {index}"
            )),
            None => Defect::Corrupt(format!("frame {sequence} has wrong bytes in piece {index}")),
        }
    }
}

/// How many pieces a frame has.
pub const PIECES: usize = LEN / PIECE;

/// Writes the head, as the last thing before publishing.
pub fn stamp(frame: &mut [u8], sequence: u64, writer: u64, monotonic_ns: u64) {
    let check = head_check(sequence, writer, monotonic_ns);
    let words = [MAGIC, sequence, writer, monotonic_ns, check];
    for (bytes, word) in frame.chunks_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

fn head_check(sequence: u64, writer: u64, monotonic_ns: u64) -> u64 {
    mix(mix(mix(sequence) ^ writer) ^ monotonic_ns)
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pattern: &Pattern, sequence: u64) -> Vec<u8> {
        let mut frame = vec![0; LEN];
        pattern.fill(&mut frame, sequence, 0..PIECES);
        stamp(&mut frame, sequence, 3, 4);
        frame
    }

    #[test]
    fn a_whole_frame_is_accepted_and_says_who_wrote_it() {
        let pattern = Pattern::new();
        let head = pattern.verify(&frame(&pattern, 7), 7).ok().unwrap();
        assert_eq!((head.writer, head.monotonic_ns), (3, 4));
    }

    #[test]
    fn any_changed_byte_is_corrupt_and_any_mixture_is_torn() {
        let pattern = Pattern::new();
        for index in [0, 39, 40, PIECE - 1, PIECE, LEN / 2, LEN - 1] {
            let mut frame = frame(&pattern, 7);
            frame[index] ^= 1;
            let defect = pattern.verify(&frame, 7).err().unwrap();
            // A single byte leaves the ends of its piece alone, or is unlike any other frame.
            assert!(matches!(defect, Defect::Corrupt(_)), "{index}: {defect:?}");
        }
        let (old, new) = (frame(&pattern, 7), frame(&pattern, 8));
        for cut in [HEAD, PIECE, LEN / 2 + 100, LEN - 64] {
            let mixed = [&new[..cut], &old[cut..]].concat();
            let defect = pattern.verify(&mixed, 8).err().unwrap();
            assert!(matches!(defect, Defect::Torn(_)), "{cut}: {defect:?}");
        }
        let defect = pattern.verify(&frame(&pattern, 7)[..100], 7).err().unwrap();
        assert!(matches!(defect, Defect::Corrupt(_)));
    }
}
