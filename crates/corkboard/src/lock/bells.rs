//! Where a lock's hints are: in words of its own file, in a page of a file that others may cut
//! short at any time, or nowhere.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::layout::{BELLS, CLAIMED, GATED, LISTENERS};
use super::protocol;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::lock;
use crate::sys::map::Mapping;
use crate::sys::wait::{self, Sleep};

/// Without words to sleep on, how long to sleep at first and at most.
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
    /// At the beginning of a file that anybody may cut short: only the kernel touches it.
    Page(&'a Mapping),
    /// Nowhere: looking again is all there is.
    None,
}

/// What a waiter saw of a bell before its last try.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u32);

impl Bells<'_> {
    fn place(mapping: &Mapping, bell: Bell) -> *const u32 {
        mapping
            .bytes(PAGE_BELLS + 4 * bell as usize, 4)
            .cast_const()
            .cast()
    }

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
    pub(super) fn announce(&self, file: BorrowedFd<'_>, bell: Bell) -> Result<Ticket, Errno> {
        match self {
            Self::Words(words) => {
                let [rung, listening] = bell_words(words, bell);
                let ticket = protocol::ticket(rung);
                protocol::announce(listening);
                Ok(Ticket(ticket))
            }
            Self::Page(_) => {
                let mut rung = [0; 4];
                let at = PAGE_BELLS + 4 * bell as usize;
                let _ = rustix::io::pread(file, &mut rung, at as u64)?;
                // The kernel's lock is a fence, and is gone when its holder is.
                lock::try_share(file, LISTENERS + bell as u64)?;
                Ok(Ticket(u32::from_ne_bytes(rung)))
            }
            Self::None => Ok(Ticket(0)),
        }
    }

    /// Takes the announcement down, where that is not left to who rings.
    pub(super) fn retract(&self, file: BorrowedFd<'_>, bell: Bell) {
        if let Self::Page(_) = self {
            let _ = lock::unlock(file, LISTENERS + bell as u64);
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
        let slept = match self {
            Self::Words(words) => {
                let [rung, _] = bell_words(words, bell);
                wait::wait_low(rung, ticket.0, slice);
                return;
            }
            Self::Page(page) => wait::wait_untouched(Self::place(page, bell), ticket.0, slice),
            Self::None => Sleep::Impossible,
        };
        if slept == Sleep::Impossible {
            *patience = (*patience * 2).max(SHORTEST);
            std::thread::sleep(slice.min(*patience));
        }
    }

    /// Wakes whoever waits for the bell; call it after the release.
    #[inline]
    pub(super) fn ring(&self, file: BorrowedFd<'_>, bell: Bell) {
        match self {
            Self::Words(words) => ring_words(words, bell),
            Self::Page(page) => {
                if lock::is_locked_or_shared(file, LISTENERS + bell as u64) != Ok(true) {
                    return;
                }
                let place = Self::place(page, bell);
                // Somebody may have put other content there: then the bell stays as it is, and
                // who is about to sleep wakes after a slice.
                match begins_as_page(file) {
                    Ok(true) => wait::bump_and_wake_untouched(place),
                    _ => wait::wake_untouched(place),
                }
            }
            Self::None => {}
        }
    }
}

/// How often a bell was rung, and whether somebody may listen.
fn bell_words(mapping: &Mapping, bell: Bell) -> [&AtomicU64; 2] {
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

/// Whether the file begins as a lock file's page does.
pub(super) fn begins_as_page(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut begin = [0; PAGE.len()];
    let count = rustix::io::pread(file, &mut begin, 0)?;
    Ok(begin[..count] == PAGE[..])
}

/// In a page: where the bells are.
const PAGE_BELLS: usize = 64;
/// How a page begins.
pub(super) const PAGE: &[u8; 64] =
    b"corkboard lock file, version 1. Its bytes say who waits.       \n";
pub(super) const PAGE_LEN: usize = 4096;

const _: () = assert!(PAGE.len() == PAGE_BELLS);
