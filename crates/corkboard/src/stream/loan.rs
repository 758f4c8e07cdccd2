//! Buffers to fill and send.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::Producer;
use super::layout::INLINE;
use super::producer::{Record, SEND};
use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::error::{ErrorKind, Result};

/// A buffer to fill and send, from [`Producer::loan`].
///
/// A loan must not be used in a fork's child: it is the parent's shared memory there, too.
///
/// # If a process dies
/// *Recovers*: what was not sent was never visible.
pub struct Loan<'a> {
    producer: &'a mut Producer,
    place: Place,
}

enum Place {
    /// Short, or on a stream where others take turns.
    Private(Buffer),
    /// **L1** So many bytes of the arena from `start` on: inside the mapping, reclaimed, and
    /// written by nobody else, for the producer has the turn and is borrowed.
    Arena {
        start: *mut u8,
        len: usize,
        loaned: usize,
    },
}

// SAFETY: L1: memory that belongs to no thread, and to nobody else meanwhile.
unsafe impl Send for Loan<'_> {}
// SAFETY: a shared reference only reads it.
unsafe impl Sync for Loan<'_> {}

impl<'a> Loan<'a> {
    pub(super) fn new(producer: &'a mut Producer, len: usize) -> Result<Self> {
        if len <= INLINE || !producer.has_turn() {
            let mut buffer = std::mem::take(&mut producer.buffer);
            if len > producer.max_len() || !buffer.resize(len) {
                let (kind, cause) = match len > producer.max_len() {
                    true => (
                        ErrorKind::TooLarge,
                        "it is longer than a quarter of the capacity",
                    ),
                    false => (ErrorKind::NoSpace, "no memory for a private buffer"),
                };
                return Err(producer.ring().attachment.error(kind, SEND, cause));
            }
            let place = Place::Private(buffer);
            return Ok(Self { producer, place });
        }
        producer.wait_for(len)?;
        let place = Place::Arena {
            start: producer.loaned(len),
            len,
            loaned: len,
        };
        Ok(Self { producer, place })
    }

    /// Shortens the record to `len` bytes; longer than it is has no effect.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.place {
            Place::Private(buffer) => buffer.truncate(len),
            Place::Arena { len: loaned, .. } => *loaned = len.min(*loaned),
        }
    }

    /// Sends the buffer and returns its sequence. On a verified stream this reads it once.
    ///
    /// # Errors
    /// As [`Producer::send`]; the buffer is lost.
    ///
    /// # Blocking
    /// As [`Producer::send`]; on an exclusive stream not at all.
    ///
    /// # If a process dies
    /// *Recovers*, as [`Producer::send`].
    pub fn send(mut self) -> Result<u64> {
        match self.place {
            Place::Private(ref mut buffer) => {
                let buffer = std::mem::take(buffer);
                let result = self.producer.send(buffer.bytes());
                self.producer.buffer = buffer;
                result
            }
            // What is short goes into the cell, and what was skipped for the longer one need not be.
            Place::Arena { len, loaned, .. } if len <= INLINE || len < loaned => {
                let copy = self.to_vec();
                self.producer.send(&copy)
            }
            Place::Arena { len, .. } => {
                let crc = self.producer.ring().checksums.of(&self);
                let record = Record::Loaned { len, crc };
                loop {
                    if let Some(sent) = self.producer.append_within(record, Deadline::Never)? {
                        return Ok(sent);
                    }
                }
            }
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Private(buffer) => buffer.bytes(),
            // SAFETY: L1.
            Place::Arena { start, len, .. } => unsafe { std::slice::from_raw_parts(*start, *len) },
        }
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.place {
            Place::Private(ref mut buffer) => buffer.bytes_mut(),
            // SAFETY: L1, and borrowed mutably.
            Place::Arena { start, len, .. } => unsafe {
                std::slice::from_raw_parts_mut(start, len)
            },
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len()).finish()
    }
}
