//! Whose turn it is to publish.

use super::super::WriterMode;
use super::super::layout::{MUTEX, RELEASES, Role, WRITER_ENTRIES, pack, small_slot};
use super::super::protocol::{GONE, Reserved};
use super::{WRITE, Writer};
use crate::error::{ErrorKind, Result};
use crate::hook;
use crate::mutex::{self, Outcome};
use crate::participants;
use crate::sync::Ordering;

impl Writer {
    /// Whether the turn lasts as long as the handle: the board is exclusive.
    #[inline]
    pub(in crate::board) fn has_turn(&self) -> bool {
        self.board().geometry.writer_mode == WriterMode::Exclusive
    }

    /// Runs `work` while this handle has the turn: always, on an exclusive board.
    #[inline]
    pub(in crate::board) fn in_turn<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.has_turn() {
            return work(self);
        }
        self.take_turn()?;
        let result = work(self);
        // What is marked and not published is free for the next writer.
        self.reserved = Reserved::default();
        self.unlock();
        result
    }

    /// Keeps others from using a reserved slot after this turn; `None` lets go.
    pub(in crate::board) fn keep(&self, slot: Option<usize>) {
        let pin = self.control.pin(self.entry);
        // Release: what was done to the slot comes before its next use.
        pin.store(slot.map_or(0, |slot| slot as u64 + 1), Ordering::Release);
    }

    pub(super) fn unlock(&self) {
        mutex::unlock(self.control.mapping().half_word(MUTEX), self.entry);
    }

    pub(super) fn take_turn(&mut self) -> Result<()> {
        let word = self.control.mapping().half_word(MUTEX);
        let entries = WRITER_ENTRIES as usize;
        let while_dead = |holder, exchange: &mut dyn FnMut()| {
            let board = self.board();
            let open = || board.table(&board.reopen(WRITE)?, Role::Control);
            participants::while_dead(&board.object(), holder, open, exchange)
        };
        let locked = mutex::lock(word, self.entry, entries, self.timeout, &while_dead)
            .map_err(|error| error.on(self.board().object()))?;
        let Outcome::HeldBy(holder) = locked else {
            hook::point("turn.taken");
            self.latest = self.load_latest().inspect_err(|_| self.unlock())?;
            let releases = self
                .control
                .mapping()
                .word(RELEASES)
                .load(Ordering::Relaxed);
            if releases != self.releases {
                self.releases = releases;
                self.populated.fill(0);
            }
            return Ok(());
        };
        let record = self.control.record(holder);
        let cause = format!(
            "process {} ({}) is alive and has it; end that one, or wait longer",
            record.pid, record.label
        );
        Err(self.error(ErrorKind::WriterExists, cause))
    }

    /// The newest published slot and sequence. A small board's writer may have died after it
    /// stamped the slot, which readers watch, and before it said so in the latest word. That is
    /// made up for before anything else is published: one stamp is ahead of that word at most.
    fn load_latest(&self) -> Result<(usize, u64)> {
        let board = self.board();
        let word = board.latest().load(Ordering::Acquire);
        let (slot, sequence) = board.locate(word, WRITE)?;
        let Some(small) = &self.small else {
            return Ok((slot, sequence));
        };
        let next = sequence + 1;
        if small.stamp(next).load(Ordering::Acquire) != next {
            return Ok((slot, sequence));
        }
        let slot = small_slot(next);
        // Only a remover may come in between; then nothing is published any more.
        let _ = board.latest().compare_exchange(
            word,
            pack(slot, next) | word & GONE,
            Ordering::Release,
            Ordering::Relaxed,
        );
        Ok((slot, next))
    }
}
