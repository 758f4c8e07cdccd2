//! Buffers to fill and publish.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::Writer;
use crate::buffer::Buffer;
use crate::error::Result;
use crate::hook;

/// A buffer to fill and publish, from [`Writer::loan`].
///
/// A loan must not be used in a fork's child: it is the parent's shared memory there, too.
///
/// # If a process dies
/// *Recovers*: what was not published was never visible.
pub struct Loan<'a> {
    writer: &'a mut Writer,
    place: Place,
}

enum Place {
    /// Small boards move words one by one, so the loan is private memory.
    Private(Buffer),
    /// So many bytes of a reserved slot; kept (pinned by the writer's own entry) on a shared board.
    Slot { slot: usize, len: usize },
}

impl<'a> Loan<'a> {
    pub(super) fn new(writer: &'a mut Writer, len: usize) -> Result<Self> {
        if writer.board().is_small() {
            let mut buffer = std::mem::take(&mut writer.held.copy);
            writer.held.clear();
            if !buffer.resize(len) {
                return Err(writer.board().no_memory(super::writer::WRITE, len));
            }
            let place = Place::Private(buffer);
            return Ok(Self { writer, place });
        }
        let is_shared = !writer.has_turn();
        let slot = writer.in_turn(|writer| {
            if is_shared {
                // What an earlier loan or snapshot of this handle kept is borrowed no more.
                writer.keep(None);
            }
            let slot = writer.reserve_for(len)?;
            if is_shared {
                writer.keep(Some(slot));
            }
            Ok(slot)
        })?;
        hook::point("loan.taken");
        let place = Place::Slot { slot, len };
        Ok(Self { writer, place })
    }

    /// Shortens the value to `len` bytes; longer than it is has no effect.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.place {
            Place::Private(buffer) => buffer.truncate(len),
            Place::Slot { len: loaned, .. } => *loaned = len.min(*loaned),
        }
    }

    /// Publishes the buffer and returns its sequence. On a verified board this reads it once.
    ///
    /// # Errors
    /// As [`Writer::publish`]; the buffer is lost.
    ///
    /// # Blocking
    /// As [`Writer::publish`].
    ///
    /// # If a process dies
    /// *Recovers*, as [`Writer::publish`].
    #[inline]
    pub fn publish(self) -> Result<u64> {
        match self.place {
            Place::Slot { slot, len }
                if self.writer.has_turn() && self.writer.board().is_usable() =>
            {
                let crc = self.writer.board().checksums.of(&self);
                self.writer.publish_slot(slot, len, crc)
            }
            _ => self.publish_otherwise(),
        }
    }

    /// From private memory, in a turn of a shared board's, or not at all.
    #[inline(never)]
    fn publish_otherwise(mut self) -> Result<u64> {
        self.writer.board().check_usable(super::writer::WRITE)?;
        match self.place {
            Place::Private(ref mut buffer) => {
                let buffer = std::mem::take(buffer);
                let result = self.writer.publish(buffer.bytes());
                self.writer.held.copy = buffer;
                result
            }
            Place::Slot { slot, len } => {
                let crc = self.writer.board().checksums.of(&self);
                self.writer.in_turn(|writer| {
                    let sequence = writer.publish_slot(slot, len, crc);
                    writer.keep(None);
                    sequence
                })
            }
        }
    }

    /// **L1** `len` bytes from here on are inside the mapping (checked by `bytes`), allocated, and
    /// touched by nobody else while the slot is reserved (I3), which lasts as long as the loan
    /// borrows the writer: it is in the exclusive writer's own list, or kept by the shared
    /// writer's pin.
    fn start(&self, slot: usize, len: usize) -> *mut u8 {
        let board = self.writer.board();
        board.data.bytes(board.payload_at(slot), len)
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Private(buffer) => buffer.bytes(),
            // SAFETY: L1.
            Place::Slot { slot, len } => unsafe {
                std::slice::from_raw_parts(self.start(*slot, *len), *len)
            },
        }
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.place {
            Place::Private(ref mut buffer) => buffer.bytes_mut(),
            // SAFETY: L1, and borrowed mutably.
            Place::Slot { slot, len } => unsafe {
                std::slice::from_raw_parts_mut(self.start(slot, len), len)
            },
        }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len()).finish()
    }
}
