//! A full fence that one side makes for both, see `membarrier(2)`.
//!
//! Who publishes often and who waits seldom need a fence each: store mine, then look for yours.
//! The kernel can make the publisher's on the waiter's behalf, by interrupting the processors that
//! run registered processes, so that publishing costs a plain load.

use std::sync::atomic::AtomicU8;

use rustix::thread::{MembarrierCommand, membarrier};

use crate::sync::{Ordering, fence};

/// Which side makes the fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Only the waiter, for both.
    Waiter,
    /// Each its own: the kernel does not know this process.
    Both,
}

/// Asks the kernel to make this process's fences whenever a waiter says so. Asking twice is no
/// harm, so threads do not wait for each other here: a fork's child would wait for a thread that it
/// does not have.
pub(crate) fn register() -> Side {
    const UNKNOWN: u8 = 0;
    const WAITER: u8 = 1;
    const BOTH: u8 = 2;
    static SIDE: AtomicU8 = AtomicU8::new(UNKNOWN);
    match SIDE.load(Ordering::Relaxed) {
        WAITER => return Side::Waiter,
        BOTH => return Side::Both,
        _ => {}
    }
    let (side, known) = match membarrier(MembarrierCommand::RegisterGlobalExpedited) {
        Ok(()) => (Side::Waiter, WAITER),
        Err(_) => (Side::Both, BOTH),
    };
    SIDE.store(known, Ordering::Relaxed);
    side
}

/// Keeps the compiler from moving what comes after before what comes before. A fence that the
/// kernel makes for us falls between two instructions, so their order must be the program's.
#[inline]
pub(crate) fn in_order() {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The publisher's fence, between its store and its look for waiters.
#[inline]
pub(crate) fn light(side: Side) {
    match side {
        Side::Waiter if !cfg!(loom) => in_order(),
        _ => fence(Ordering::SeqCst),
    }
}

/// The waiter's fence, for both sides. Returns whether registered publishers took part: without,
/// the waiter must look again by itself.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
