//! The algorithms on shared words, and nothing else: no system call, no byte offset.
//!
//! What is shared, and who may write it:
//! - a *stamp* a slot: the sequence of the value in it, with [`BUSY`] while a writer works on it.
//!   Only the one writer whose turn it is stores stamps.
//! - the *latest* word: slot and sequence of the newest value. Stored by the same writer.
//! - on large boards one more stamp and slot *beside* it: a copy of the newest value, if it is
//!   short. Stored by the same writer, who does not look for readers there.
//! - a *pin* a participant: the slot it holds, plus one. Only that participant stores it.
//! - the *state* word: live or removed. Stored once, by a remover, who then sets [`GONE`] in all
//!   words that readers watch. A writer may overwrite that with what it is just publishing; it
//!   looks at the state afterwards and sets it again.
//! - the *fenced* word: whether writers make a full fence after each publication, for readers that
//!   sleep now and then. Readers ask for that and confirm it, writers end it when nobody has slept
//!   for long.
//! - the *waiting* word: not 0 while somebody may sleep. Anyone stores it, the writer clears it.
//! - the *bell*, which everyone sleeps on who can be woken: changed whenever they are, by the
//!   writer or a remover.
//!
//! Invariants, which safety comments cite:
//! - **I1** The latest slot's stamp is never busy: a writer never marks it.
//! - **I2** Who sees a word of a slot that was stored after [`mark`], sees the mark or a later
//!   stamp when it looks at the stamp again.
//! - **I3** A slot whose pin was announced before its stamp was found unchanged is not written
//!   until the pin moves: [`pin`] and [`reserve`] each store, fence, and look at the other's word,
//!   so at least one of them sees the other; a reader that sees the mark does not touch the slot,
//!   a writer that sees the pin does not touch it either.
//! - **I4** A reader's last access to a slot comes before the writer's next: clearing or moving a
//!   pin is a Release store, and the scan reads pins with Acquire.
//! - **I5** Who found sequence n in the latest word, and then n in the stamp beside it before and
//!   after copying, has value n: that stamp is stored, busy or not, in every publication before the
//!   latest word is (Release), so what a writer left there that died before that is never taken for
//!   n; and a later publication's mark changes it first (I2).
//!
//! If a process dies: a mark left by a dead writer is on a slot that was not the latest; a small
//! board's latest word may be one behind the stamps, which the next writer makes up for; a pin left
//! by a dead reader costs one slot until its entry is claimed again.

use super::layout::MAX_SLOTS;
use crate::sync::{AtomicU64, Ordering, fence, store_and_fence};
pub(super) use crate::waking::{announce, ask_for_fences, end_fences, is_fenced, take_waiting};
pub(super) use crate::waking::{ring, ticket};

/// Set in the stamp of a slot that is being written.
pub(crate) const BUSY: u64 = 1 << 62;
/// Set in every word that readers watch, when the board is removed.
pub(crate) const GONE: u64 = 1 << 63;

/// Marks a slot as being written, before its first word is.
#[inline]
pub(super) fn mark(stamp: &AtomicU64, sequence: u64) {
    stamp.store(BUSY | sequence, Ordering::Relaxed);
    // Pairs with the Acquire fence in `read_retry`: I2.
    fence(Ordering::Release);
}

/// Makes a written slot readable.
#[inline]
pub(super) fn stamp(stamp: &AtomicU64, sequence: u64) {
    // Pairs with the Acquire loads in `read_begin` and `pin`.
    stamp.store(sequence, Ordering::Release);
}

/// Whether there is something to copy in a slot, which may be overwritten meanwhile.
#[inline]
pub(super) fn read_begin(stamp: &AtomicU64, sequence: u64) -> bool {
    // Pairs with the Release store in `stamp`.
    stamp.load(Ordering::Acquire) == sequence
}

/// Whether what was copied from a slot since [`read_begin`] is to be thrown away.
#[inline]
pub(super) fn read_retry(stamp: &AtomicU64, sequence: u64) -> bool {
    // Pairs with the Release fence in `mark`: I2.
    fence(Ordering::Acquire);
    stamp.load(Ordering::Relaxed) != sequence
}

/// Whether a watched stamp says that there is a value newer than `seen`. The watched slot is the
/// one of `seen + 1`; a stamp beyond that means that the reader was lapped.
#[inline]
pub(super) fn is_newer(watched: u64, seen: u64) -> bool {
    let sequence = watched & !(BUSY | GONE);
    sequence > seen && (watched & BUSY == 0 || sequence > seen + 1)
}

/// Announces a pin; `true` when the slot is ours until the pin moves.
#[inline]
pub(super) fn pin(pin: &AtomicU64, stamp: &AtomicU64, slot: usize, sequence: u64) -> bool {
    // Release: our reads of the slot pinned before come before its next use. I4.
    // The fence pairs with the one in `reserve`: I3.
    store_and_fence(pin, slot as u64 + 1);
    // Acquire pairs with the Release store in `stamp`.
    stamp.load(Ordering::Acquire) == sequence
}

/// Lets go of whatever is pinned.
#[inline]
pub(crate) fn unpin(pin: &AtomicU64) {
    // Release: as in `pin`. I4.
    pin.store(0, Ordering::Release);
}

/// A set of slots.
#[derive(Clone, Copy)]
pub(super) struct SlotSet([u64; MAX_SLOTS / 64]);

impl SlotSet {
    pub(super) const EMPTY: Self = Self([0; MAX_SLOTS / 64]);

    #[inline]
    pub(super) fn insert(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    #[inline]
    pub(super) fn contains(&self, slot: usize) -> bool {
        self.0
            .get(slot / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The lowest slots, below `count`, that are not in the set.
    #[inline]
    pub(super) fn lowest_others(&self, count: usize, wanted: usize) -> Reserved {
        let mut others = Reserved::default();
        for (index, word) in self.0.iter().enumerate() {
            let mut free = !word;
            while free != 0 {
                let slot = index * 64 + free.trailing_zeros() as usize;
                if slot >= count || others.len() == wanted.min(BATCH) {
                    return others;
                }
                others.push(slot);
                free &= free - 1;
            }
        }
        others
    }

    /// Whatever the pins name. Who names nothing that exists pins nothing.
    #[inline]
    fn pinned<'a>(pins: impl Iterator<Item = &'a AtomicU64>) -> Self {
        let mut set = Self::EMPTY;
        // The first slots are most used; a register for them waits for no store.
        let mut first = 0;
        for pin in pins {
            // Acquire pairs with the Release stores in `pin` and `unpin`: I4.
            let slot = pin.load(Ordering::Acquire).wrapping_sub(1);
            if slot < 64 {
                first |= 1_u64 << slot;
            } else if slot < MAX_SLOTS as u64 {
                set.insert(slot as usize);
            }
        }
        set.0[0] |= first;
        set
    }
}

/// How many slots are reserved at a time, at most: one fence and one look at the pins serve them
/// all.
pub(super) const BATCH: usize = 7;

/// Slots that the writer has marked and may write: none is pinned, none is the latest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserved {
    slots: [u16; BATCH],
    len: u16,
}

const _: () = assert!(MAX_SLOTS <= 1 << u16::BITS, "every slot's number fits");

impl Reserved {
    #[inline]
    pub(super) fn push(&mut self, slot: usize) {
        if let Some(free) = self.slots.get_mut(usize::from(self.len)) {
            *free = slot as u16;
            self.len += 1;
        }
    }

    #[inline]
    pub(super) fn last(&self) -> Option<usize> {
        let last = self.len.checked_sub(1)?;
        self.slots.get(usize::from(last)).copied().map(usize::from)
    }

    pub(super) fn contains(&self, slot: usize) -> bool {
        self.iter().any(|found| found == slot)
    }

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().take(self.len()).copied().map(usize::from)
    }

    /// All but the last.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> {
        self.iter().take(self.len().saturating_sub(1))
    }

    /// Makes one of them the last.
    pub(super) fn move_last(&mut self, slot: usize) {
        let found = self.iter().position(|found| found == slot);
        if let (Some(at), Some(last)) = (found, self.len().checked_sub(1)) {
            self.slots.swap(at, last);
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<usize> {
        let last = self.last()?;
        self.len -= 1;
        Some(last)
    }
}

/// Marks the candidates, which must not include the latest slot (I1), and keeps those that nobody
/// pins. Returns what is pinned.
pub(super) fn reserve<'a>(
    candidates: &mut Reserved,
    stamp: impl Fn(usize) -> &'a AtomicU64,
    pins: impl Iterator<Item = &'a AtomicU64>,
) -> SlotSet {
    let tried = *candidates;
    let mut before = [0; BATCH];
    for (before, slot) in before.iter_mut().zip(tried.iter()) {
        let stamp = stamp(slot);
        *before = stamp.load(Ordering::Relaxed);
        stamp.store(*before | BUSY, Ordering::Relaxed);
    }
    // Pairs with the fence in `pin`: I3.
    fence(Ordering::SeqCst);
    let pinned = SlotSet::pinned(pins);
    candidates.len = 0;
    for (before, slot) in before.iter().zip(tried.iter()) {
        if pinned.contains(slot) {
            // Release: nothing in the slot has changed since it was stamped.
            stamp(slot).store(*before, Ordering::Release);
        } else {
            candidates.push(slot);
        }
    }
    pinned
}

#[cfg(all(test, loom))]
mod models;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_watched_stamp_is_newer_only_when_a_value_can_be_had() {
        assert!(!is_newer(0, 0), "nothing yet");
        assert!(!is_newer(BUSY | 1, 0), "the first one is being written");
        assert!(is_newer(1, 0));
        assert!(!is_newer(4, 19), "the lap before");
        assert!(!is_newer(BUSY | 20, 19), "being written");
        assert!(is_newer(20, 19));
        assert!(is_newer(BUSY | 36, 19), "lapped, so there are newer ones");
    }

    #[test]
    fn the_lowest_others_are_found() {
        let mut set = SlotSet::EMPTY;
        for slot in [0, 2, 63, 64] {
            set.insert(slot);
        }
        let mut others = set.lowest_others(67, 3);
        assert_eq!(
            [others.pop(), others.pop(), others.pop()],
            [Some(4), Some(3), Some(1)]
        );
        for slot in 0..63 {
            set.insert(slot);
        }
        let mut others = set.lowest_others(67, BATCH);
        assert_eq!(
            [others.pop(), others.pop(), others.pop()],
            [Some(66), Some(65), None]
        );
        let mut all_but_the_last = SlotSet([u64::MAX; MAX_SLOTS / 64]);
        all_but_the_last.0[MAX_SLOTS / 64 - 1] = u64::MAX >> 1;
        let mut others = all_but_the_last.lowest_others(MAX_SLOTS, BATCH);
        assert_eq!([others.pop(), others.pop()], [Some(MAX_SLOTS - 1), None]);
    }

    #[test]
    fn reserving_leaves_pinned_slots_as_they_were() {
        let stamps: Vec<AtomicU64> = (10..14).map(AtomicU64::new).collect();
        let pins = [
            AtomicU64::new(3),
            AtomicU64::new(0),
            AtomicU64::new(u64::MAX),
        ];
        let mut slots = Reserved::default();
        for slot in [1, 2, 3] {
            slots.push(slot);
        }
        let pinned = reserve(&mut slots, |slot| &stamps[slot], pins.iter());
        assert!(pinned.contains(2) && !pinned.contains(1));
        assert_eq!(
            [slots.pop(), slots.pop(), slots.pop()],
            [Some(3), Some(1), None]
        );
        assert_eq!(stamps[2].load(Ordering::Relaxed), 12);
        assert_eq!(stamps[1].load(Ordering::Relaxed), BUSY | 11);
    }

    #[test]
    fn an_announcement_is_taken_down_once_unless_it_awaits_the_next_value() {
        let waiting = AtomicU64::new(0);
        assert!(!take_waiting(&waiting, 1));
        announce(&waiting, 0);
        assert!(take_waiting(&waiting, 1), "also when the awaited half is 0");
        assert!(!take_waiting(&waiting, 2));
        announce(&waiting, 3);
        assert!(take_waiting(&waiting, 3), "others may sleep, too");
        assert!(take_waiting(&waiting, 4));
        assert!(!take_waiting(&waiting, 5));
    }

    #[test]
    fn an_announcement_gives_way_only_to_a_later_one() {
        let waiting = AtomicU64::new(0);
        announce(&waiting, u32::MAX);
        announce(&waiting, 2);
        announce(&waiting, 1);
        assert_eq!(waiting.load(Ordering::Relaxed) as u32, 2);
    }

    #[test]
    fn fences_are_relied_on_only_when_they_are_confirmed() {
        let (fenced, waiting) = (AtomicU64::new(0), AtomicU64::new(0));
        assert!(!ask_for_fences(&fenced, || false));
        assert!(is_fenced(fenced.load(Ordering::Relaxed)), "asked for");
        assert!(!ask_for_fences(&fenced, || false), "not confirmed");
        assert!(ask_for_fences(&fenced, || {
            // An answer to a question from before the fences ended is none to the next.
            end_fences(&fenced, &waiting);
            assert!(!ask_for_fences(&fenced, || false));
            true
        }));
        assert!(!ask_for_fences(&fenced, || false), "not confirmed");
        assert!(ask_for_fences(&fenced, || true));
        assert!(ask_for_fences(&fenced, || unreachable!("confirmed")));
        announce(&waiting, 1);
        end_fences(&fenced, &waiting);
        assert!(ask_for_fences(&fenced, || unreachable!("taken back")));
    }
}
