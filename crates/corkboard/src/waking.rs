//! Who publishes and who sleeps until then, on words shared between processes: no system call.
//!
//! Who waits *announces*, fences, looks once more, and sleeps. Who publishes looks for an
//! announcement after that, and wakes. Either the look finds what was published, or the publisher
//! the announcement, if there is a full fence on both sides. Publishers make none as long as whoever
//! waits has the kernel make it for them (`sys::barrier`); the *fenced* word says when they do.
//!
//! Announcements name what is awaited: the low half of a count of publications, as it was when the
//! waiter looked. Boards and streams both count theirs.

use crate::sync::{AtomicU64, Ordering, fence};

/// The fenced word's lower bits: 0 while writers make no fence, [`ASKED`] once a reader asked for
/// it, [`CONFIRMED`] when no writer can have missed that. The upper bits count how often the fences
/// ended, so that nobody confirms an older question.
const FENCING: u64 = 3;
pub(crate) const ASKED: u64 = 1;
pub(crate) const CONFIRMED: u64 = 2;
const ENDED: u64 = 4;

/// Whether writers are to make a full fence after each publication.
#[inline]
pub(crate) fn is_fenced(fenced: u64) -> bool {
    fenced & FENCING != 0
}

/// Has writers make a full fence after each publication from now on, on account of a reader that
/// announced and fenced; until that is confirmed, makes one for them: `heavy`, which says whether
/// that succeeded. `false` when neither can be relied on.
///
/// A writer that did not see the question may be publishing still. The heavy fence is what shows
/// it the question or us its value, so only who made one after the question may confirm it.
#[inline]
pub(crate) fn ask_for_fences(fenced: &AtomicU64, heavy: impl FnOnce() -> bool) -> bool {
    // Acquire pairs with the Release in `ask_anew`: what writers published before the heavy fence
    // is seen by whoever relies on it.
    let found = fenced.load(Ordering::Acquire);
    found & FENCING == CONFIRMED || ask_anew(fenced, found, heavy)
}

#[cold]
fn ask_anew(fenced: &AtomicU64, mut found: u64, heavy: impl FnOnce() -> bool) -> bool {
    if !is_fenced(found) {
        let asked = found | ASKED;
        found = match fenced.compare_exchange(found, asked, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => asked,
            Err(now) => now,
        };
    }
    let is_settled = heavy();
    if is_settled && found & FENCING == ASKED {
        let confirmed = found ^ ASKED ^ CONFIRMED;
        // Release pairs with the Acquire in `ask_for_fences`.
        let _ = fenced.compare_exchange(found, confirmed, Ordering::Release, Ordering::Relaxed);
    }
    is_settled
}

/// Ends the fences, when nobody has slept for long. A reader that relied on them announced before
/// it looked at `fenced`, so either it sees this or we see the announcement, and take it back. Only
/// a writer in its turn calls this, so no other one publishes in between.
#[cold]
pub(crate) fn end_fences(fenced: &AtomicU64, waiting: &AtomicU64) {
    let found = fenced.load(Ordering::Relaxed);
    let ended = (found & !FENCING).wrapping_add(ENDED);
    if fenced
        .compare_exchange(found, ended, Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        // Somebody is about to sleep.
        return;
    }
    // Pairs with the fence between announcing and `ask_for_fences`.
    fence(Ordering::SeqCst);
    if waiting.load(Ordering::Relaxed) != 0 {
        let back = ended | (found & FENCING);
        let _ = fenced.compare_exchange(ended, back, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Says that somebody may sleep who has seen what is published as far as `awaited`, the low half of
/// its count. A fence and another look at what is published must follow.
///
/// An announcement that awaits a later word stays: its owner may be about to sleep, while we find
/// at the look that follows that our own word has passed.
#[inline]
pub(crate) fn announce(waiting: &AtomicU64, awaited: u32) {
    let ours = 1 << 32 | u64::from(awaited);
    let mut found = waiting.load(Ordering::Relaxed);
    while found == 0 || (awaited.wrapping_sub(found as u32) as i32) > 0 {
        match waiting.compare_exchange(found, ours, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => found = now,
        }
    }
}

/// Whether somebody may sleep; call it after publishing and a fence. Takes down what it saw: a dead
/// sleeper costs one wake, not one a publication. What was announced since stays, and so does the
/// announcement of one who knows of the value `published` already and awaits the next.
#[inline]
pub(crate) fn take_waiting(waiting: &AtomicU64, published: u32) -> bool {
    let seen = waiting.load(Ordering::Relaxed);
    if seen == 0 {
        return false;
    }
    take_down(waiting, seen, published);
    true
}

#[cold]
fn take_down(waiting: &AtomicU64, seen: u64, published: u32) {
    if seen as u32 != published {
        let _ = waiting.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// What a bell says. Who takes this, announces, fences and finds nothing new may sleep until the
/// bell says something else.
#[inline]
pub(crate) fn ticket(bell: &AtomicU64) -> u32 {
    // Acquire pairs with the Release in `ring`: who takes a ticket afterwards finds what it was
    // rung for, and that the announcements which were taken down for it are gone.
    bell.load(Ordering::Acquire) as u32
}

/// Ends the sleep of everyone with a ticket; they are to be woken after this.
#[inline]
pub(crate) fn ring(bell: &AtomicU64) {
    bell.fetch_add(1, Ordering::Release);
}

#[cfg(all(test, loom))]
mod models;
