//! Where a lock's hints are: in words of its own file, in a page of a file that others may cut
//! short at any time, or nowhere.

use std::time::Duration;

use super::gates::SLICE;
use super::layout::{BELLS, CLAIMED, GATED};
use super::path::Page;
use super::protocol;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::File;
use crate::sys::map::Mapping;
use crate::sys::{Errno, wait};

/// Without words to sleep on, how long to sleep at first; it grows up to a [`SLICE`].
const SHORTEST: Duration = Duration::from_micros(200);

/// What one waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bell {
    /// The gate, or a claimed turn. A writer rings it when it leaves.
    Gate = 0,
    /// The body, with the gate in hand. Readers ring it when they leave.
    Body = 1,
}

/// Where the hints are.
pub(super) enum Bells<'a> {
    /// In a lock's own file, which nobody who may write to it cuts short.
    Words(&'a Mapping),
    /// Where the platform has them for a lock file at any path.
    Page(&'a Page),
    /// Nowhere: looking again is all there is.
    None,
}

/// What a waiter saw of a bell before its last try.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u32);

impl Bells<'_> {
    /// Whether a writer may have the gate: if not, none had it when this was asked.
    #[inline]
    pub(super) fn is_gated(&self) -> bool {
        match self {
            // Relaxed: a writer that came just now is no harm, the body decides.
            Self::Words(words) => words.word(GATED).load(Ordering::Relaxed) != 0,
            Self::Page(_) | Self::None => true,
        }
    }

    /// Says whether a writer may have the gate. Only who has it says so.
    #[inline]
    pub(super) fn set_gated(&self, is_gated: bool) {
        if let Self::Words(words) = self {
            words
                .word(GATED)
                .store(u64::from(is_gated), Ordering::Relaxed);
        }
    }

    /// Whether a reader may have claimed a turn.
    #[inline]
    pub(super) fn is_claimed(&self) -> bool {
        match self {
            Self::Words(words) => words.word(CLAIMED).load(Ordering::Relaxed) != 0,
            Self::Page(_) | Self::None => true,
        }
    }

    /// Says whether a reader may have claimed a turn. One that has says so again each slice.
    #[inline]
    pub(super) fn set_claimed(&self, is_claimed: bool) {
        if let Self::Words(words) = self {
            let value = u64::from(is_claimed);
            words.word(CLAIMED).store(value, Ordering::Relaxed);
        }
    }

    /// Says that somebody may sleep until the bell is rung. A last try must follow.
    pub(super) fn announce(&self, file: &File, bell: Bell) -> Result<Ticket, Errno> {
        match self {
            Self::Words(words) => {
                let [rung, listening] = bell_words(words, bell);
                let ticket = protocol::ticket(rung);
                protocol::announce(listening);
                Ok(Ticket(ticket))
            }
            Self::Page(page) => page.announce(file, bell).map(Ticket),
            Self::None => Ok(Ticket(0)),
        }
    }

    /// Takes the announcement down, where that is not left to who rings.
    pub(super) fn retract(&self, file: &File, bell: Bell) {
        if let Self::Page(page) = self {
            page.retract(file, bell);
        }
    }

    /// Sleeps until the bell is rung, `slice` at most. `patience` is how long to sleep where
    /// nobody can wake us; it grows.
    pub(super) fn sleep(
        &self,
        bell: Bell,
        ticket: Ticket,
        slice: Duration,
        patience: &mut Duration,
    ) {
        let has_slept = match self {
            Self::Words(words) => {
                let [rung, _] = bell_words(words, bell);
                wait::wait_low(rung, ticket.0, slice);
                true
            }
            Self::Page(page) => page.sleep(bell, ticket.0, slice),
            Self::None => false,
        };
        if !has_slept {
            *patience = (*patience * 2).clamp(SHORTEST, SLICE);
            std::thread::sleep(slice.min(*patience));
        }
    }

    /// Wakes whoever waits for the bell; call it after the release.
    #[inline]
    pub(super) fn ring(&self, file: &File, bell: Bell) {
        match self {
            Self::Words(words) => ring_words(words, bell),
            Self::Page(page) => page.ring(file, bell),
            Self::None => {}
        }
    }
}

/// How often a bell was rung, and whether somebody may listen.
pub(super) fn bell_words(mapping: &Mapping, bell: Bell) -> [&AtomicU64; 2] {
    let [rung, listening] = mapping.array(BELLS + 16 * bell as usize);
    [rung, listening]
}

/// Rings a bell of a lock's own file, if somebody may listen.
#[inline]
pub(super) fn ring_words(mapping: &Mapping, bell: Bell) {
    let [rung, listening] = bell_words(mapping, bell);
    if protocol::is_awaited(listening) {
        protocol::ring(rung, listening);
        wait::wake_low(rung);
    }
}
