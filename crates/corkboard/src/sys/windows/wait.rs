//! Sleeping on words shared between processes.

use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{INFINITE, SetEvent};

use super::park::{self, Slept};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Where a word cannot be waited for, how long to sleep before looking again.
const SHORT: Duration = Duration::from_millis(2);

/// As the system takes it: rounded up, so that no wait is too short.
pub(crate) fn milliseconds(timeout: Duration) -> u32 {
    let rounded = timeout.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded).unwrap_or(INFINITE).min(INFINITE - 1)
}

/// Sleeps until woken, unless the low half of `word` is not `expected`; at most `timeout`.
/// Returns whether the time ran out. May return early for no reason.
pub(crate) fn wait_low(word: &AtomicU64, expected: u32, timeout: Duration) -> bool {
    wait_any(&[Target::new(word, expected)], timeout, SHORT)
}

/// Wakes everyone who sleeps in [`wait_low`].
pub(crate) fn wake_low(word: &AtomicU64) {
    park::wake(address(word), usize::MAX);
}

/// As [`wait_low`], on a whole 32-bit word.
pub(crate) fn wait_half(word: &AtomicU32, expected: u32, timeout: Duration) -> bool {
    let is_unchanged = || word.load(Ordering::Relaxed) == expected;
    park::sleep(&[address(word)], &[], timeout, SHORT, is_unchanged) == Slept::TimedOut
}

/// Wakes one who sleeps in [`wait_half`].
pub(crate) fn wake_half_one(word: &AtomicU32) {
    park::wake(address(word), 1);
}

fn address<T>(word: &T) -> usize {
    ptr::from_ref(word).addr()
}

/// Sleeps until one of the system's events is signalled, or the word woken or changed; at most
/// `timeout`. A signal that ends the sleep is consumed, where that can be.
pub(crate) fn wait_event(
    word: &AtomicU64,
    expected: u32,
    event: &OwnedHandle,
    timeout: Duration,
) -> EventSleep {
    let is_unchanged = || word.load(Ordering::Relaxed) as u32 == expected;
    let events = [event.as_raw_handle()];
    match park::sleep(&[address(word)], &events, timeout, SHORT, is_unchanged) {
        Slept::Signalled(_) => EventSleep::Signalled,
        Slept::TimedOut => EventSleep::TimedOut,
        Slept::Woken => EventSleep::Woken,
    }
}

/// How a sleep for an event went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EventSleep {
    Signalled,
    TimedOut,
    Woken,
}

/// A word to sleep on together with others (its low half, while that is what was found), or one of
/// the system's events.
#[derive(Clone, Copy)]
pub struct Target<'a>(On<'a>);

/// Whether a sleep that ends with an event takes its signal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resets {
    Itself,
    ByHand,
}

#[derive(Clone, Copy)]
enum On<'a> {
    Word(&'a AtomicU64, u32),
    Event(HANDLE, Resets, PhantomData<&'a ()>),
}

impl<'a> Target<'a> {
    pub(crate) fn new(word: &'a AtomicU64, expected: u32) -> Self {
        Self(On::Word(word, expected))
    }

    /// An event. A sleep that ends with it leaves it as it was.
    pub(crate) fn event(event: &'a OwnedHandle, resets: Resets) -> Self {
        Self(On::Event(event.as_raw_handle(), resets, PhantomData))
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        match self.0 {
            On::Word(word, expected) => word.load(Ordering::Relaxed) as u32 == expected,
            On::Event(..) => true,
        }
    }
}

/// Sleeps until one of the targets is woken or changes; at most `timeout`, or `short` when not all
/// of them can be waited for. Returns whether the time ran out.
pub(crate) fn wait_any(targets: &[Target<'_>], timeout: Duration, short: Duration) -> bool {
    let (mut addresses, mut events, mut by_hand) = (Vec::new(), Vec::new(), Vec::new());
    for target in targets {
        match target.0 {
            On::Word(word, _) => addresses.push(address(word)),
            On::Event(event, resets, _) => {
                events.push(event);
                by_hand.push(resets == Resets::ByHand);
            }
        }
    }
    let timeout = match events.len() > park::MAX_HANDLES {
        true => timeout.min(short),
        false => timeout,
    };
    let is_unchanged = || targets.iter().all(Target::is_unchanged);
    match park::sleep(&addresses, &events, timeout, short, is_unchanged) {
        Slept::TimedOut => true,
        Slept::Woken => false,
        Slept::Signalled(index) if by_hand[index] => false,
        Slept::Signalled(index) => {
            // The sleep took the signal, which is for whoever comes for it.
            // SAFETY: the handle is an event's, and open as long as the target lives.
            unsafe { SetEvent(events[index]) };
            false
        }
    }
}
