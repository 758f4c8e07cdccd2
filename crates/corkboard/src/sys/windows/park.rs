//! Waiting for words in shared memory, of which the system knows nothing.
//!
//! Every shared file has a *lot* beside it: a table of who waits for which of its words. Who waits
//! writes down the word's place and a token, looks at the word once more and sleeps on an event of
//! its own that the token names. Who changed a word strikes out the entries for it and sets their
//! events.
//!
//! If a process dies: a dead waiter's event is gone, so its entry is struck out at the next wake,
//! and nobody is counted as woken. Who dies between striking out and setting leaves the waiter
//! asleep until its time-out; all waits on shared words are sliced.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, OpenEventW, SetEvent, WaitForMultipleObjects,
    WaitForSingleObject,
};

use super::section::View;
use super::security::Descriptor;
use super::wait::milliseconds;
use super::{Errno, owned, random, wide};
use crate::sync::{AtomicU64, Ordering, fence};

/// The bytes of a lot.
pub(crate) const LOT_LEN: usize = 4096;
/// How many can wait in one lot at a time.
const PLACES: usize = (LOT_LEN - FIRST) / 16;
/// In place of a token: the word is not written down yet. Who dies then leaves the place so; there
/// are many.
const ENTERING: u64 = u64::MAX;
/// One more than the highest place ever taken is the first word; the places follow.
const FIRST: usize = 64;
/// The most events that one thread can wait for beside its own.
pub(super) const MAX_HANDLES: usize = 63;

/// The table of those who wait, in shared memory or for this process alone.
pub(crate) enum Lot {
    Shared(View),
    Private(Box<[AtomicU64; LOT_LEN / 8]>),
}

impl Lot {
    fn words(&self) -> &[AtomicU64] {
        match self {
            // SAFETY: the view has as many bytes, all of them committed, is aligned to a page and
            // lives as long as `self`; everybody uses them through atomics.
            Self::Shared(view) => unsafe {
                std::slice::from_raw_parts(view.base().cast::<AtomicU64>(), LOT_LEN / 8)
            },
            Self::Private(words) => &words[..],
        }
    }

    /// Token and word of a place.
    fn place(&self, index: usize) -> [&AtomicU64; 2] {
        let at = FIRST / 8 + 2 * index;
        let words = self.words();
        [&words[at], &words[at + 1]]
    }

    /// Writes down that `token` waits for `word`; `None` when the lot is full.
    fn enter(&self, token: u64, word: u64) -> Option<usize> {
        for index in 0..PLACES {
            let [of, at] = self.place(index);
            if of.load(Ordering::Relaxed) == 0
                && of
                    .compare_exchange(0, ENTERING, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                at.store(word, Ordering::Relaxed);
                // Release: whoever finds the token finds the word.
                of.store(token, Ordering::Release);
                self.words()[0].fetch_max(index as u64 + 1, Ordering::AcqRel);
                return Some(index);
            }
        }
        None
    }

    /// Strikes `token` out again; whether nobody else has.
    fn leave(&self, index: usize, token: u64) -> bool {
        let [of, _] = self.place(index);
        of.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Wakes at most `count` of those who wait for `word`; how many.
    fn wake(&self, word: u64, count: usize) -> usize {
        // Pairs with the fence between entering and the last look: either we find the entry or
        // they the changed word.
        fence(Ordering::SeqCst);
        let high = usize::try_from(self.words()[0].load(Ordering::Acquire)).unwrap_or(PLACES);
        let mut woken = 0;
        for index in 0..high.min(PLACES) {
            if woken == count {
                break;
            }
            let [of, at] = self.place(index);
            let token = of.load(Ordering::Acquire);
            if token != 0
                && token != ENTERING
                && at.load(Ordering::Acquire) == word
                && self.leave(index, token)
                && set_event(token)
            {
                woken += 1;
            }
        }
        woken
    }
}

/// Where mapped memory is, and the lot beside it.
struct Mapped {
    len: usize,
    lot: Option<Arc<Lot>>,
}

/// This process's mappings, by address.
static MAPPED: RwLock<BTreeMap<usize, Mapped>> = RwLock::new(BTreeMap::new());

/// Makes the words at these addresses ones to wait for. Without a lot, who waits for them looks
/// again after a while.
pub(super) fn register(base: usize, len: usize, lot: Option<Arc<Lot>>) {
    let mut mapped = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
    mapped.insert(base, Mapped { len, lot });
}

pub(super) fn unregister(base: usize) {
    let mut mapped = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
    mapped.remove(&base);
}

/// The lot for a word, and the word's place in it; `None` when it has none.
fn find(address: usize) -> Option<(Arc<Lot>, u64)> {
    let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
    match mapped.range(..=address).next_back() {
        Some((base, found)) if address - base < found.len => {
            Some((found.lot.clone()?, (address - base) as u64))
        }
        // Not shared with anybody.
        _ => {
            static PRIVATE: OnceLock<Arc<Lot>> = OnceLock::new();
            let lot = PRIVATE.get_or_init(|| {
                let words = std::array::from_fn(|_| AtomicU64::new(0));
                Arc::new(Lot::Private(Box::new(words)))
            });
            Some((lot.clone(), address as u64))
        }
    }
}

/// Wakes at most `count` of those who wait for the word at this address; how many.
pub(super) fn wake(address: usize, count: usize) -> usize {
    find(address).map_or(0, |(lot, word)| lot.wake(word, count))
}

/// How a sleep went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slept {
    Woken,
    TimedOut,
    /// The system's event at this index.
    Signalled(usize),
}

/// Sleeps until somebody wakes one of the words at these addresses, or one of the events is
/// signalled. `is_unchanged` looks at the words once more. Where not every word can be waited for,
/// sleeps for `short` at most.
pub(super) fn sleep(
    addresses: &[usize],
    events: &[HANDLE],
    timeout: Duration,
    short: Duration,
    is_unchanged: impl Fn() -> bool,
) -> Slept {
    thread_local! {
        static OWN: OnceCell<Option<Own>> = const { OnceCell::new() };
    }
    OWN.with(|own| {
        let own = own.get_or_init(|| Own::new().ok());
        let mut entered = Vec::with_capacity(addresses.len());
        let mut timeout = timeout;
        for address in addresses {
            let entry = own.as_ref().and_then(|own| {
                let (lot, word) = find(*address)?;
                let index = lot.enter(own.token, word)?;
                Some((lot, index))
            });
            match entry {
                Some(entry) => entered.push(entry),
                None => timeout = timeout.min(short),
            }
        }
        fence(Ordering::SeqCst);
        let slept = match is_unchanged() {
            true => wait_for(own.as_ref(), events, timeout),
            false => Slept::Woken,
        };
        let token = own.as_ref().map_or(0, |own| own.token);
        let mut is_woken = false;
        for (lot, index) in entered {
            is_woken |= !lot.leave(index, token);
        }
        match slept {
            Slept::TimedOut if is_woken => Slept::Woken,
            slept => slept,
        }
    })
}

fn wait_for(own: Option<&Own>, events: &[HANDLE], timeout: Duration) -> Slept {
    let mut handles: Vec<HANDLE> = own.iter().map(|own| own.event.as_raw_handle()).collect();
    let first = handles.len();
    handles.extend(events.iter().take(MAX_HANDLES));
    let milliseconds = milliseconds(timeout);
    let status = match &handles[..] {
        [] => {
            std::thread::sleep(timeout);
            return Slept::TimedOut;
        }
        // SAFETY: the handle is open and can be waited for.
        [only] => unsafe { WaitForSingleObject(*only, milliseconds) },
        // SAFETY: as above, for as many handles as there are.
        several => unsafe {
            WaitForMultipleObjects(several.len() as u32, several.as_ptr(), 0, milliseconds)
        },
    };
    let index = status.wrapping_sub(WAIT_OBJECT_0) as usize;
    match index {
        _ if index >= handles.len() => Slept::TimedOut,
        _ if index < first => Slept::Woken,
        _ => Slept::Signalled(index - first),
    }
}

/// What a thread sleeps on.
struct Own {
    token: u64,
    event: OwnedHandle,
}

impl Own {
    fn new() -> Result<Self, Errno> {
        let token = random()?.max(1);
        // Whoever may write to an object wakes those who wait for it, whichever user that is. More
        // than to wake it in vain cannot be done with the event.
        let descriptor = Descriptor::wakeable()?;
        // SAFETY: the descriptor and the name live until the call returns; the handle is ours.
        let event = unsafe {
            owned(CreateEventW(
                &descriptor.attributes(),
                0,
                0,
                event_name(token).as_ptr(),
            ))?
        };
        Ok(Self { token, event })
    }
}

fn event_name(token: u64) -> Vec<u16> {
    wide(format!("Global\\corkboard-wake-{token:016x}"))
}

/// Sets the event that a token names; whether there is one.
fn set_event(token: u64) -> bool {
    // SAFETY: the name ends with a zero; the handle is ours.
    let event = unsafe {
        owned(OpenEventW(
            EVENT_MODIFY_STATE,
            0,
            event_name(token).as_ptr(),
        ))
    };
    // SAFETY: the handle is an event's, and open.
    event.is_ok_and(|event| unsafe { SetEvent(event.as_raw_handle()) != 0 })
}
