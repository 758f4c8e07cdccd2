//! How every file of an object begins: what it is, and a checksum over that.

use crate::error::{Error, ErrorKind, Result};
use crate::integrity::crc64;

const MAGIC: u64 = u64::from_le_bytes(*b"corkbrd\x01");
pub(crate) const VERSION: u64 = 4;

/// A header's length in bytes.
pub(crate) const HEADER_LEN: usize = 192;
#[cfg(target_os = "linux")]
const INSTANCE: usize = 16;
/// Words that each kind of file uses as it likes, from this offset on.
pub(crate) const OWN: usize = 32;
pub(crate) const OWN_WORDS: usize = (HEADER_LEN - OWN) / 8 - 1;

/// Where every object says whether it is live or removed, in its first file.
pub(crate) const STATE: usize = 256;
pub(crate) const STATE_LIVE: u64 = 1;
pub(crate) const STATE_REMOVED: u64 = 2;

/// What a header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Tells this object from every other, also of the same name.
    pub(crate) instance: u64,
    /// What the file is for.
    pub(crate) role: u64,
    pub(crate) own: [u64; OWN_WORDS],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let words = [MAGIC, VERSION, self.instance, self.role];
        let mut bytes = [0; HEADER_LEN];
        let places = bytes.as_chunks_mut::<8>().0.iter_mut();
        for (to, word) in places.zip(words.iter().chain(&self.own)) {
            *to = word.to_le_bytes();
        }
        let seal = crc64(&bytes[..HEADER_LEN - 8], 0);
        bytes[HEADER_LEN - 8..].copy_from_slice(&seal.to_le_bytes());
        bytes
    }

    /// Reads back what [`encode`](Self::encode) wrote; `what` names the file in errors.
    pub(crate) fn decode(
        bytes: &[u8; HEADER_LEN],
        role: u64,
        what: &str,
        object: &str,
    ) -> Result<Self> {
        let mut words = [0; HEADER_LEN / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let [magic, version, instance, found_role, own @ .., seal] = words;
        if magic != MAGIC {
            return Err(damaged(what, "does not begin like one", object));
        }
        if seal != crc64(&bytes[..HEADER_LEN - 8], 0) {
            let problem = "has a header that does not match its checksum";
            return Err(damaged(what, problem, object));
        }
        if version != VERSION {
            let cause = format!(
                "it has layout version {version}, this program knows version {VERSION}; use the same version on both sides, or remove it"
            );
            return Err(Error::new(ErrorKind::Incompatible, "open", object, cause));
        }
        if found_role != role {
            return Err(impossible(what, object));
        }
        Ok(Self {
            instance,
            role,
            own,
        })
    }
}

/// The instance that a header states, whatever else is in it.
#[cfg(target_os = "linux")]
pub(crate) fn instance(bytes: &[u8; HEADER_LEN]) -> u64 {
    let (_, rest) = bytes.split_at(INSTANCE);
    rest.first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// The header states what no object can be.
pub(crate) fn impossible(what: &str, object: &str) -> Error {
    damaged(what, "has a header with impossible values", object)
}

fn damaged(what: &str, problem: &str, object: &str) -> Error {
    let cause = format!("its {what} {problem}; remove it and create it anew");
    Error::new(ErrorKind::Damaged, "open", object, cause)
}
