//! Fences. The system makes them for the threads of one process only, so each side makes its own.

use crate::sync::{Ordering, fence};

/// Which side makes the fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Each its own.
    Both,
}

pub(crate) fn register() -> Side {
    Side::Both
}

/// Keeps the compiler from moving what comes after before what comes before.
#[inline]
pub(crate) fn in_order() {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The publisher's fence, between its store and its look for waiters.
#[inline]
pub(crate) fn light(_: Side) {
    fence(Ordering::SeqCst);
}

/// The waiter's fence. Publishers always make theirs.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    true
}
