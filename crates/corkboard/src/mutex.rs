//! Whose turn it is to write: one 32-bit futex word.
//!
//! Bits 0 to 9: the owner's entry plus one, 0 when free. Bit 10: somebody may sleep. The rest:
//! counts acquisitions, so that a word never returns while somebody compares it.
//!
//! Only a dead owner is replaced, and who replaces it holds the dead entry's lock byte while it
//! exchanges the word: nobody can claim that entry and acquire the mutex anew in between.

use std::time::{Duration, Instant};

use crate::clock::Looks;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU32, Ordering};
use crate::sys::wait;

const OWNER: u32 = (1 << 10) - 1;
const CONTENDED: u32 = 1 << 10;
const TURN: u32 = 1 << 11;

/// How soon a sleeper looks whether the owner died, which wakes nobody.
const SLICE: Duration = Duration::from_millis(5);

fn held_by(word: u32, entry: usize) -> u32 {
    (word.wrapping_add(TURN) & !OWNER) | (entry as u32 + 1)
}

fn freed(word: u32) -> u32 {
    word.wrapping_add(TURN) & !(OWNER | CONTENDED)
}

/// The entry that holds the mutex, dead or alive.
pub(crate) fn owner(word: u32) -> Option<usize> {
    (word & OWNER).checked_sub(1).map(|entry| entry as usize)
}

/// Runs an exchange while the lock byte of a dead entry is held; `Ok(false)` when it is alive.
pub(crate) type WhileDead<'a> = &'a dyn Fn(usize, &mut dyn FnMut()) -> Result<bool>;

/// How an attempt to take the mutex ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is ours.
    Locked,
    /// The live holder of this entry kept it until the time-out.
    HeldBy(usize),
}

/// Takes the mutex for `entry`, one of so many.
pub(crate) fn lock(
    mutex: &AtomicU32,
    entry: usize,
    entries: usize,
    timeout: Duration,
    while_dead: WhileDead<'_>,
) -> Result<Outcome> {
    let start = Instant::now();
    let mut slept = 0;
    let mut looks = Looks::every(SLICE);
    loop {
        let word = mutex.load(Ordering::Relaxed);
        let Some(holder) = owner(word) else {
            let mine = held_by(word, entry) | slept;
            // Acquire pairs with the Release in `unlock`.
            if mutex
                .compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Outcome::Locked);
            }
            continue;
        };
        let impossible = match holder {
            _ if holder == entry => Some("this handle"),
            _ if holder >= entries => Some("an entry that there is not"),
            _ => None,
        };
        if let Some(owner) = impossible {
            let cause =
                format!("it names {owner} as its owner; remove the object and create it anew");
            let mutex = "the writer mutex";
            return Err(Error::new(ErrorKind::Damaged, "lock", mutex, cause));
        }
        let left = timeout.saturating_sub(start.elapsed());
        // Once more before giving up.
        if looks.is_due() || left.is_zero() {
            let mut won = false;
            while_dead(holder, &mut || {
                won = mutex
                    .compare_exchange(
                        word,
                        held_by(word, entry),
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok();
            })?;
            if won {
                return Ok(Outcome::Locked);
            }
        }
        if left.is_zero() {
            return Ok(Outcome::HeldBy(holder));
        }
        if word & CONTENDED == 0
            && mutex
                .compare_exchange(word, word | CONTENDED, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            continue;
        }
        slept = CONTENDED;
        wait::wait_half(mutex, word | CONTENDED, left.min(SLICE));
    }
}

/// Gives the mutex back, if `entry` has it.
pub(crate) fn unlock(mutex: &AtomicU32, entry: usize) {
    let mut word = mutex.load(Ordering::Relaxed);
    while owner(word) == Some(entry) {
        // Release pairs with the Acquire in `lock`.
        match mutex.compare_exchange(word, freed(word), Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                if word & CONTENDED != 0 {
                    wait::wake_half_one(mutex);
                }
                return;
            }
            Err(changed) => word = changed,
        }
    }
}
