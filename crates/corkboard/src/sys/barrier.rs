//! A full fence that one side makes for both, see `membarrier(2)`.
//!
//! Who publishes often and who waits seldom need a fence each: store mine, then look for yours.
//! The kernel can make the publisher's on the waiter's behalf, by interrupting the processors that
//! run registered processes, so that publishing costs a plain load.

use std::sync::OnceLock;

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

/// Asks the kernel, once, to make this process's fences whenever a waiter says so.
pub(crate) fn register() -> Side {
    static SIDE: OnceLock<Side> = OnceLock::new();
    *SIDE.get_or_init(
        || match membarrier(MembarrierCommand::RegisterGlobalExpedited) {
            Ok(()) => Side::Waiter,
            Err(_) => Side::Both,
        },
    )
}

/// The publisher's fence, between its store and its look for waiters.
#[inline]
pub(crate) fn light(side: Side) {
    match side {
        Side::Waiter if !cfg!(loom) => std::sync::atomic::compiler_fence(Ordering::SeqCst),
        _ => fence(Ordering::SeqCst),
    }
}

/// The waiter's fence, for both sides. Returns whether registered publishers took part: without,
/// the waiter must look again by itself.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
