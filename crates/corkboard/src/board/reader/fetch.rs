//! Taking the newest value, whatever the board and whatever this handle may do.

use super::super::attached::Descriptor;
use super::super::layout::{BESIDE, BESIDE_LEN, DESCRIPTOR_LEN, LATEST, LEN};
use super::super::layout::{STAMP, STATE, STATE_LIVE, unpack};
use super::super::protocol;
use super::super::small::SmallSlots;
use super::super::snapshot::Held;
use super::{READ, Reader};
use crate::buffer::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::object::{read_at, read_words_at};
use crate::sync::{Ordering, fence};

pub(super) const ATTEMPTS: u32 = 10_000;
/// How often to look again at a slot that contradicts an unchanged latest word.
const MAX_STALE: u32 = 100;
/// The copy of a short value is overwritten by the next one. A reader that was overtaken there pins
/// so many values, which the writer leaves alone.
const PINNING: u32 = 256;

impl Reader {
    pub(super) fn fetch(&mut self) -> Result<()> {
        self.expected.store(0);
        if let Some(small) = self.small {
            self.fetch_small(small)
        } else if self.table.is_some() {
            self.fetch_pinned()
        } else {
            self.fetch_copy()
        }
    }

    fn fetch_small(&mut self, small: SmallSlots) -> Result<()> {
        let mut stale = Stale::default();
        for _ in 0..ATTEMPTS {
            let mut sequence = self.seen;
            let mut watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
            if watched == sequence + 1 {
                sequence += 1;
                watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
            }
            if sequence == self.seen || protocol::is_newer(watched, sequence) {
                // Either nothing is newer than what was seen, or we were left behind. One stamp can
                // be ahead of the latest word, and no more: a writer that is faster than we are is
                // not run after.
                let (_, latest) = unpack(self.board().latest().load(Ordering::Acquire));
                sequence = sequence.max(latest);
                watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
                if watched == sequence + 1 {
                    sequence += 1;
                    watched = small.stamp(sequence + 1).load(Ordering::Relaxed);
                }
            }
            if sequence == 0 {
                return Ok(());
            }
            let found = self.held.copy_slot(small.of(sequence), sequence);
            let Some(found) = found else {
                self.retries += 1;
                self.board().check_usable(READ)?;
                // The latest slot is never marked (I1): the next look finds another one.
                if stale.again(sequence) {
                    break;
                }
                std::hint::spin_loop();
                continue;
            };
            self.seen = sequence;
            self.watch();
            let found = found.ok_or_else(|| self.impossible_length(sequence))?;
            self.held.hold_copy(sequence, found)?;
            if !protocol::is_newer(watched, sequence) {
                self.expect(watched);
            }
            return Ok(());
        }
        Err(self.board().contradictory(READ))
    }

    fn fetch_pinned(&mut self) -> Result<()> {
        let Some((table, entry)) = &self.table else {
            return self.fetch_copy();
        };
        let mut stale = 0;
        for _ in 0..ATTEMPTS {
            let word = self.board().latest().load(Ordering::Acquire);
            let (slot, sequence) = self.board().locate(word, READ)?;
            if sequence == 0 {
                return Ok(());
            }
            let pin = table.pin(*entry);
            if self.pinning > 0 {
                self.pinning -= 1;
            } else if let Some(beside) = copy_beside(&mut self.held, sequence) {
                if let Some(found) = beside {
                    // What is held from now on is the private copy.
                    if pin.load(Ordering::Relaxed) != 0 {
                        protocol::unpin(pin);
                    }
                    self.seen = sequence;
                    self.held.hold_copy(sequence, found)?;
                    self.expect(word);
                    return Ok(());
                }
                self.retries += 1;
                self.pinning = PINNING;
            }
            // On their way while the fence in `pin` waits for the pin to be seen.
            self.board().prefetch(slot);
            self.held.clear();
            hook::point("pin.before");
            if protocol::pin(pin, self.board().stamp(slot), slot, sequence) {
                hook::point("pin.held");
                return self.accept(slot, sequence, word);
            }
            self.retries += 1;
            // The latest slot is never marked (I1), so a mismatch means that it is latest no more.
            stale += u32::from(self.board().latest().load(Ordering::Acquire) == word);
            if stale > MAX_STALE {
                return Err(self.board().contradictory(READ));
            }
        }
        Err(self.lagged())
    }

    /// Checks a value in a slot that this handle has pinned, and holds it.
    fn accept(&mut self, slot: usize, sequence: u64, word: u64) -> Result<()> {
        self.seen = sequence;
        let found = self.board().descriptor(slot, sequence);
        let found = found.ok_or_else(|| self.impossible_length(sequence))?;
        if found.len > self.present[slot] {
            self.board().make_present(slot, found.len, READ)?;
            self.present[slot] = found.len;
        }
        // SAFETY: this handle pins the slot (I3); the pin moves only in `fetch_pinned`, which
        // clears `held` first, and in `drop`.
        unsafe { self.held.hold_slot(slot, sequence, found)? };
        self.expect(word);
        Ok(())
    }

    fn fetch_copy(&mut self) -> Result<()> {
        self.held.clear();
        let mut copy = std::mem::take(&mut self.held.copy);
        let result = self.copy_from_file(&mut copy);
        self.held.copy = copy;
        match result? {
            Some((sequence, found)) => self.held.hold_copy(sequence, found),
            None => Ok(()),
        }
    }

    /// Copies the newest value with system calls. The copy is whole, and to be verified.
    pub(super) fn copy_from_file(
        &mut self,
        to: &mut impl Destination,
    ) -> Result<Option<(u64, Descriptor)>> {
        let files = self.board().reopen(READ)?;
        let object = self.board().object();
        // State and latest word are near each other; one call reads both.
        let mut head = [0; (LATEST - STATE) / 8 + 1];
        let mut stale = Stale::default();
        for attempt in 0..ATTEMPTS {
            read_words_at(&files.data, &mut head, STATE, &object)?;
            if head[0] != STATE_LIVE {
                return Err(self.board().removed(READ));
            }
            let word = head[(LATEST - STATE) / 8];
            let located = self.board().locate(word, READ)?;
            let (slot, sequence) = files.one_ahead(located, &object)?;
            if sequence == 0 {
                return Ok(None);
            }
            let mut at = self.board().geometry.descriptor(slot);
            let mut payload = self.board().geometry.payload(slot);
            let mut words = [0; DESCRIPTOR_LEN / 8];
            if attempt == 0 && !self.board().is_small() {
                // What `read` would copy. Who was overtaken there takes the slot, which the writer
                // leaves alone for longer.
                read_words_at(&files.data, &mut words, BESIDE, &object)?;
                if words[STAMP / 8] == sequence && words[LEN / 8] <= BESIDE_LEN as u64 {
                    (at, payload) = (BESIDE, BESIDE + DESCRIPTOR_LEN);
                }
            }
            read_words_at(&files.data, &mut words, at, &object)?;
            if words[STAMP / 8] != sequence {
                self.retries += 1;
                // The latest slot is never marked (I1), so a mismatch means that it is latest no
                // more: the next look must find another one.
                if stale.again(word) {
                    return Err(self.board().contradictory(READ));
                }
                std::thread::yield_now();
                continue;
            }
            let found = self
                .board()
                .check_descriptor(sequence, |field| words[field / 8]);
            // What is wrong with a slot that was overwritten or given back meanwhile is no damage.
            let mut damage = None;
            if let Some(found) = found {
                match files.check_allocated(payload, found.len, &object) {
                    Ok(()) => {
                        let to = to
                            .resized(found.len)
                            .ok_or_else(|| self.board().no_memory(READ, found.len))?;
                        read_at(&files.data, to, payload, &object)?;
                    }
                    Err(error) => damage = Some(error),
                }
            }
            fence(Ordering::SeqCst);
            let mut stamp = [0];
            read_words_at(&files.data, &mut stamp, at + STAMP, &object)?;
            if stamp[0] != sequence {
                self.retries += 1;
                continue;
            }
            if let Some(damage) = damage {
                return Err(damage);
            }
            self.seen = sequence;
            self.watch();
            self.expected.store(0);
            let found = found.ok_or_else(|| self.impossible_length(sequence))?;
            return Ok(Some((sequence, found)));
        }
        Err(self.lagged())
    }

    fn lagged(&self) -> Error {
        let cause = "the writer replaces values faster than they can be copied; publish less often";
        self.board().error(ErrorKind::Lagged, READ, cause)
    }

    #[cold]
    fn impossible_length(&self, sequence: u64) -> Error {
        let cause = format!(
            "value {sequence} claims more bytes than the board holds; remove it and create it anew"
        );
        self.board().error(ErrorKind::Damaged, READ, cause)
    }
}

/// Copies a short value from beside the latest word of a large board: I5. `None` when it is not
/// there, nothing inside when the writer was faster.
#[inline]
fn copy_beside(held: &mut Held, sequence: u64) -> Option<Option<Descriptor>> {
    let board = &*held.board;
    let beside = board.beside();
    if beside.stamp().load(Ordering::Relaxed) != sequence {
        return None;
    }
    if !protocol::read_begin(beside.stamp(), sequence) {
        return Some(None);
    }
    let found = board.check_descriptor(sequence, |field| beside.word(field));
    let found = found.filter(|found| found.len <= BESIDE_LEN);
    let copy = &mut held.copy;
    if let Some(found) = found {
        // A private copy of two cache lines can be had.
        copy.resize(found.len);
        beside.copy_to(copy.words_mut(), found.len);
    }
    let is_whole = !protocol::read_retry(beside.stamp(), sequence);
    // The private copy is no longer what was held.
    held.clear();
    Some(found.filter(|_| is_whole))
}

/// Counts looks that found the same contradiction as the look before.
#[derive(Default)]
struct Stale {
    last: u64,
    count: u32,
}

impl Stale {
    /// Whether that was too often.
    fn again(&mut self, found: u64) -> bool {
        self.count = if found == self.last {
            self.count + 1
        } else {
            0
        };
        self.last = found;
        self.count > MAX_STALE
    }
}
