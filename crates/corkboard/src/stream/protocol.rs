//! The algorithms on shared words, and nothing else: no system call, no byte offset.
//!
//! What is shared, and who may write it:
//! - a *stamp* a cell: the sequence of the record in it. Record n is in cell n modulo their number.
//!   Only the producer whose turn it is stores stamps.
//! - the *reclaimed* word: records up to this sequence may be overwritten. Stored by the same
//!   producer, well before it overwrites them, for many records at a time.
//! - the *confirmed* word: the same, once no subscriber can need them. Stored and loaded by
//!   producers in their turn only. Where records are overwritten without asking it is not used.
//! - a *cursor* a subscriber: one more than the last record that it needs no longer, or 0. Only
//!   that subscriber stores it; or whoever holds a dead one's byte, to clear it.
//!
//! Invariants, which safety comments cite:
//! - **I1** Whoever finds record n's stamp in its cell finds its words and payload whole, unless
//!   they are being overwritten: the stamp is stored last (Release).
//! - **I2** Who sees a word of a record's cell or payload that was overwritten, sees `reclaimed` at
//!   or beyond that record when it looks after that: see [`withdraw`] and [`is_there`].
//! - **I3** A record beyond the cursor of a subscriber that has joined is not overwritten until the
//!   cursor moves: [`join`] and [`reclaim`] each store, fence, and look at the other's word, so at
//!   least one of them sees the other; a subscriber that sees `reclaimed` beyond its cursor joins
//!   again further on, a producer that sees the cursor takes `reclaimed` back.
//! - **I4** A subscriber's last access to a record comes before the producer's next: the cursor is
//!   moved with a Release store, and scanned with Acquire.
//! - **I5** Nothing beyond `confirmed` has been overwritten, so whoever takes a dead producer's
//!   place may take `reclaimed` back that far, and need not know how far the dead one had come.
//!
//! If a process dies: a record whose stamp was not stored was never visible, and its cell and
//! memory are written anew. A dead subscriber's cursor holds the producers up until one of them has
//! its byte and clears it.

use crate::sync::{AtomicU64, Ordering, fence, store_and_fence};

/// Makes a record visible that is complete.
#[inline]
pub(super) fn publish(stamp: &AtomicU64, sequence: u64) {
    // Pairs with the Acquire in `published`: I1.
    stamp.store(sequence, Ordering::Release);
}

/// Which record is in the cell.
#[inline]
pub(super) fn published(stamp: &AtomicU64) -> u64 {
    // Pairs with the Release in `publish`: I1.
    stamp.load(Ordering::Acquire)
}

/// Whether this record is in the cell.
#[inline]
pub(super) fn is_published(stamp: &AtomicU64, sequence: u64) -> bool {
    published(stamp) == sequence
}

/// Says that records up to this one are overwritten from now on, whoever may be reading them.
#[inline]
pub(super) fn withdraw(reclaimed: &AtomicU64, up_to: u64) {
    reclaimed.store(up_to, Ordering::Relaxed);
    // Pairs with the Acquire fence in `is_there`: I2.
    fence(Ordering::Release);
}

/// Whether a record that was copied was still whole.
#[inline]
pub(super) fn is_there(reclaimed: &AtomicU64, sequence: u64) -> bool {
    // Pairs with the Release fence in `withdraw`: I2.
    fence(Ordering::Acquire);
    reclaimed.load(Ordering::Relaxed) < sequence
}

/// Has the producers keep whatever comes after the record `from`, or as much of it as is still
/// there; returns after which one that begins.
pub(super) fn join(cursor: &AtomicU64, reclaimed: &AtomicU64, from: u64) -> u64 {
    let mut from = from.max(reclaimed.load(Ordering::Acquire));
    loop {
        // The fence pairs with the one in `reclaim`: I3.
        store_and_fence(cursor, from.wrapping_add(1));
        let gone = reclaimed.load(Ordering::Acquire);
        if gone <= from {
            return from;
        }
        from = gone;
    }
}

/// Needs the records up to this one no longer.
#[inline]
pub(super) fn advance(cursor: &AtomicU64, sequence: u64) {
    // Pairs with the Acquire in `slowest`: I4.
    cursor.store(sequence.wrapping_add(1), Ordering::Release);
}

/// The last record that no subscriber needs any more; `None` when nobody subscribes.
pub(super) fn slowest<'a>(cursors: impl Iterator<Item = &'a AtomicU64>) -> Option<u64> {
    cursors
        // Acquire pairs with the Release in `advance`: I4.
        .filter_map(|cursor| cursor.load(Ordering::Acquire).checked_sub(1))
        .min()
}

/// Reclaims records up to `wanted`, or as many of them as no subscriber needs; returns up to which.
/// `cursors` is asked twice.
pub(super) fn reclaim<'a, I: Iterator<Item = &'a AtomicU64>>(
    reclaimed: &AtomicU64,
    confirmed: &AtomicU64,
    wanted: u64,
    cursors: impl Fn() -> I,
) -> u64 {
    let old = confirmed.load(Ordering::Relaxed);
    let Some(free) = slowest(cursors()) else {
        return old;
    };
    let wanted = wanted.min(free);
    if wanted <= old {
        return old;
    }
    // The fence pairs with the one in `join`: I3.
    store_and_fence(reclaimed, wanted);
    // One that has left meanwhile needs nothing.
    let free = slowest(cursors()).unwrap_or(wanted).max(old);
    let new = wanted.min(free);
    if new < wanted {
        reclaimed.store(new, Ordering::Release);
    }
    confirmed.store(new, Ordering::Relaxed);
    // Whoever takes our place finds that before what we overwrite: I5.
    fence(Ordering::Release);
    new
}

/// Takes back what a dead producer had begun to reclaim: I5.
pub(super) fn take_back(reclaimed: &AtomicU64, confirmed: &AtomicU64) -> u64 {
    let confirmed = confirmed.load(Ordering::Relaxed);
    if reclaimed.load(Ordering::Relaxed) > confirmed {
        reclaimed.store(confirmed, Ordering::Release);
    }
    confirmed
}

#[cfg(all(test, loom))]
mod models;
