//! The algorithms on shared words, and nothing else: no system call, no byte offset.
//!
//! What is shared, and who may write it:
//! - a *state* a slot: how far its call has come, see [`Phase`], and the number of that call. A
//!   slot belongs to one client for the client's life.
//! - a *pending* word a client: a bit for each slot, or for several, in which a request may wait.
//!   Clients set bits, the server takes them down.
//! - the *bell*: odd while the server may sleep.
//! - the *epoch*: which server is the one now. Only that one stores it, when it begins.
//!
//! Invariants, which safety comments cite:
//! - **I1** A slot's words and payload are the client's while its phase is [`Phase::Free`] or an
//!   answer, and the server's of the epoch in its state while it is [`Phase::Taken`] or
//!   [`Phase::Cancelled`]. While it is [`Phase::Pending`] nobody writes to them. Each change of
//!   hands is a Release store, or exchange, that the other side acquires.
//! - **I2** A request is taken once, and answered once: both are exchanges of the whole state, with
//!   the call's number in it. What comes late finds another state and changes nothing.
//! - **I3** A server of an earlier epoch is dead, and so is one whose byte can be locked: nothing
//!   writes for it any more, and what it had taken is the client's again.
//! - **I4** A request that is pending has its bit set, or its client is about to set it, or the
//!   server is about to look at it; or that server died, and the next one looks at every slot.
//! - **I5** A server that sleeps saw no bit after it made the bell odd, and a client looks at the
//!   bell after it set the bit. Both make a full fence in between, so one sees the other.
//!
//! If a process dies: what a dead server had taken is found by its epoch; what a dead client had
//! asked is answered to nobody, and whoever claims its entry takes its slots back.

use crate::hook;
use crate::sync::{AtomicU64, Ordering, fence_behind_exchange};

/// How far a slot's call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Phase {
    /// There is none.
    Free = 0,
    /// A request waits for the server.
    Pending = 1,
    /// The server of the state's epoch has it.
    Taken = 2,
    /// There is a reply.
    Replied = 3,
    /// The server answered with an error.
    Failed = 4,
    /// The server let go of the request without an answer.
    Dropped = 5,
    /// The server has it, and the client does not want the answer any more.
    Cancelled = 6,
}

const PHASE: u64 = 7;
/// The client sleeps on the state's low half.
const ASLEEP: u64 = 1 << 3;
/// The call's number is in the rest of the low half.
const NUMBER: u32 = 4;
const NUMBERS: u64 = (1 << 32) - (1 << NUMBER);

/// A slot's state, as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    /// Acquire pairs with whoever handed the slot over: I1.
    #[inline]
    pub(super) fn load(state: &AtomicU64) -> Self {
        Self(state.load(Ordering::Acquire))
    }

    /// `None` for what no program of ours stores.
    #[inline]
    pub(super) fn phase(self) -> Option<Phase> {
        Some(match self.0 & PHASE {
            0 => Phase::Free,
            1 => Phase::Pending,
            2 => Phase::Taken,
            3 => Phase::Replied,
            4 => Phase::Failed,
            5 => Phase::Dropped,
            6 => Phase::Cancelled,
            _ => return None,
        })
    }

    /// The number of the call.
    #[inline]
    pub(super) fn number(self) -> u64 {
        (self.0 & NUMBERS) >> NUMBER
    }

    /// The epoch of the server that has the request, if one has.
    #[inline]
    pub(super) fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn is_asleep(self) -> bool {
        self.0 & ASLEEP != 0
    }

    /// The same call in another phase, nobody asleep.
    #[inline]
    fn to(self, phase: Phase) -> u64 {
        self.0 & NUMBERS | phase as u64
    }
}

/// Whether the server may sleep, and must be woken; the bell is silent then until the next sleep.
#[inline]
fn ring(bell: &AtomicU64) -> bool {
    let found = bell.load(Ordering::Relaxed);
    // Who else has just rung does the waking.
    found & 1 == 1
        && bell
            .compare_exchange(
                found,
                found.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
}

/// The number that the next call in a free slot has.
#[inline]
pub(super) fn next_number(state: &AtomicU64) -> u64 {
    State(state.load(Ordering::Relaxed).wrapping_add(1 << NUMBER)).number()
}

/// Hands a free slot's request to the server; returns the state, and whether the server must be
/// woken.
#[inline]
pub(super) fn ask(
    state: &AtomicU64,
    pending: &AtomicU64,
    bit: u64,
    bell: &AtomicU64,
) -> (State, bool) {
    let number = state.load(Ordering::Relaxed).wrapping_add(1 << NUMBER) & NUMBERS;
    let asked = State(number | Phase::Pending as u64);
    // Release: I1.
    state.store(asked.0, Ordering::Release);
    hook::point("call.pending");
    // Release: who takes the bit down sees the request. I4.
    pending.fetch_or(bit, Ordering::Release);
    // I5.
    fence_behind_exchange();
    (asked, ring(bell))
}

/// Takes the bit down if it is set: what it stands for must then be looked at. I4.
#[inline]
pub(super) fn take_bit(pending: &AtomicU64, bit: u64) -> bool {
    // Acquire pairs with the Release in `ask`.
    pending.fetch_and(!bit, Ordering::AcqRel) & bit != 0
}

/// Sets a bit again that was taken down, for there is another request behind it; returns whether a
/// server's thread must be woken. One may have gone to sleep while the bit was down.
#[cold]
pub(super) fn remind(pending: &AtomicU64, bit: u64, bell: &AtomicU64) -> bool {
    // Release: who takes the bit down sees the requests that we saw. I4.
    pending.fetch_or(bit, Ordering::Release);
    // I5.
    fence_behind_exchange();
    ring(bell)
}

/// Takes a request, if there is one.
#[inline]
pub(super) fn take(state: &AtomicU64, epoch: u32) -> Option<State> {
    let mut found = State(state.load(Ordering::Relaxed));
    while found.phase() == Some(Phase::Pending) {
        let asleep = found.0 & ASLEEP;
        let taken = found.to(Phase::Taken) | asleep | u64::from(epoch) << 32;
        // Acquire: I1. Release: who sees that this epoch's server has it sees the epoch. I3.
        match state.compare_exchange(found.0, taken, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(State(taken)),
            Err(now) => found = State(now),
        }
    }
    None
}

/// Whose the answer was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The client has it, and must be woken or not.
    Delivered { asleep: bool },
    /// The client does not want it any more.
    Unwanted,
}

/// Hands a taken slot back with an answer in it.
#[inline]
pub(super) fn answer(state: &AtomicU64, taken: State, phase: Phase) -> Answered {
    let mut found = State(state.load(Ordering::Relaxed));
    while found.epoch() == taken.epoch() && found.number() == taken.number() {
        let (next, answered) = match found.phase() {
            Some(Phase::Taken) => {
                let asleep = found.is_asleep();
                (phase, Answered::Delivered { asleep })
            }
            Some(Phase::Cancelled) => (Phase::Free, Answered::Unwanted),
            _ => break,
        };
        let next = taken.to(next);
        // Release: I1.
        match state.compare_exchange(found.0, next, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return answered,
            Err(now) => found = State(now),
        }
    }
    Answered::Unwanted
}

/// Whether a taken request's client wants no answer any more.
#[inline]
pub(super) fn is_cancelled(state: &AtomicU64) -> bool {
    State(state.load(Ordering::Relaxed)).phase() != Some(Phase::Taken)
}

/// What became of a call that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The slot is free.
    Free,
    /// The server has it still; it frees the slot when it is done, or dead.
    Taken,
    /// It was answered before.
    Answered(State),
}

/// Gives a call up.
pub(super) fn give_up(state: &AtomicU64) -> GivenUp {
    let mut found = State::load(state);
    loop {
        let (next, given_up) = match found.phase() {
            Some(Phase::Pending) => (found.to(Phase::Free), GivenUp::Free),
            Some(Phase::Taken) => {
                let cancelled = found.to(Phase::Cancelled) | u64::from(found.epoch()) << 32;
                (cancelled, GivenUp::Taken)
            }
            Some(Phase::Free) => return GivenUp::Free,
            Some(Phase::Cancelled) => return GivenUp::Taken,
            // What nobody could have stored is as good as free.
            Some(Phase::Replied | Phase::Failed | Phase::Dropped) | None => {
                return GivenUp::Answered(found);
            }
        };
        // Acquire: the slot may be ours again.
        match state.compare_exchange(found.0, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return given_up,
            Err(now) => found = State(now),
        }
    }
}

/// Takes a slot back whose call was answered, or whose server is dead (I3).
#[inline]
pub(super) fn free(state: &AtomicU64) {
    let found = State(state.load(Ordering::Relaxed));
    state.store(found.to(Phase::Free), Ordering::Release);
}

/// Takes a slot back that a dead server had taken and whose call was given up since (I3).
pub(super) fn free_if_cancelled(state: &AtomicU64) {
    let found = State::load(state);
    if found.phase() == Some(Phase::Cancelled) {
        let free = found.to(Phase::Free);
        // Whoever else takes it back does the same.
        let _ = state.compare_exchange(found.0, free, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Says that the client sleeps until the state's low half is no longer what is returned; `None`
/// when there is an answer.
pub(super) fn sleep(state: &AtomicU64) -> Option<u32> {
    let mut found = State::load(state);
    while matches!(found.phase(), Some(Phase::Pending | Phase::Taken)) {
        if found.is_asleep() {
            return Some(found.0 as u32);
        }
        let asleep = found.0 | ASLEEP;
        match state.compare_exchange(found.0, asleep, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => return Some(asleep as u32),
            Err(now) => found = State(now),
        }
    }
    None
}

/// Says that the server may sleep until the bell's low half is no longer what is returned. Another
/// look at the pending words, with [`is_pending`], must follow.
pub(super) fn listen(bell: &AtomicU64) -> u32 {
    let ticket = bell.fetch_or(1, Ordering::Relaxed) | 1;
    // I5.
    fence_behind_exchange();
    ticket as u32
}

/// Whether a request may wait in one of the client's slots.
#[inline]
pub(super) fn is_pending(pending: &AtomicU64) -> bool {
    pending.load(Ordering::Relaxed) != 0
}

#[cfg(all(test, loom))]
mod models;
