//! Buffers to fill and publish.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::buffer::Buffer;
use super::{Integrity, Writer, WriterMode};
use crate::error::Result;
use crate::hook;
use crate::integrity::crc64;

/// A buffer to fill and publish, from [`Writer::loan`].
///
/// A loan must not be used in a fork's child: it is the parent's shared memory there, too.
///
/// # If a process dies
/// *Recovers*: what was not published was never visible.
pub struct Loan<'a> {
    writer: &'a mut Writer,
    place: Place,
    len: usize,
}

enum Place {
    /// Small boards move words one by one, so the loan is private memory.
    Private(Buffer),
    /// A reserved slot; kept (pinned by the writer's own entry) on a shared board.
    Slot(usize),
}

impl<'a> Loan<'a> {
    pub(super) fn new(writer: &'a mut Writer, len: usize) -> Result<Self> {
        if writer.board().is_small() {
            let mut buffer = std::mem::take(&mut writer.held.copy);
            writer.held.clear();
            buffer.resize(len);
            let place = Place::Private(buffer);
            return Ok(Self { writer, place, len });
        }
        let is_shared = writer.board().geometry.writer_mode == WriterMode::Shared;
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
        let place = Place::Slot(slot);
        Ok(Self { writer, place, len })
    }

    /// Shortens the value to `len` bytes; longer than it is has no effect.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Place::Private(buffer) = &mut self.place {
            buffer.truncate(len);
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
    pub fn publish(mut self) -> Result<u64> {
        self.writer.board().check_usable(super::writer::WRITE)?;
        if let Place::Slot(slot) = self.place {
            let crc = match self.writer.board().geometry.integrity {
                Integrity::Crc64 => crc64(&self, 0),
                Integrity::None => 0,
            };
            let len = self.len;
            return self
                .writer
                .in_turn(|writer| writer.publish_loaned(slot, len, crc));
        }
        let Place::Private(buffer) = &mut self.place else {
            unreachable!("the other place is handled above");
        };
        let buffer = std::mem::take(buffer);
        let result = self.writer.publish(buffer.bytes());
        self.writer.held.copy = buffer;
        result
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let slot = match &self.place {
            Place::Private(buffer) => return buffer.bytes(),
            Place::Slot(slot) => *slot,
        };
        let board = self.writer.board();
        let start = board.data.bytes(board.payload_at(slot), self.len);
        // SAFETY: inside the mapping (checked by `bytes`), allocated, and touched by nobody else
        // while the slot is reserved (I3), which lasts as long as the loan borrows the writer: it
        // is in the exclusive writer's own list, or kept by the shared writer's pin.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let slot = match &mut self.place {
            Place::Private(buffer) => return buffer.bytes_mut(),
            Place::Slot(slot) => *slot,
        };
        let board = self.writer.board();
        let start = board.data.bytes(board.payload_at(slot), self.len);
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.len).finish()
    }
}
