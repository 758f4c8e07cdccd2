//! The peers, each as it is meant to be used.
//!
//! Every module offers some of three things: a closure that publishes a value of any content, a
//! closure that reads the newest value and consumes all of it, and a [`Link`](crate::link::Link).
//! Errors inside the timed closures end the run by a panic, for all alike: a branch that is never
//! taken costs nothing, and corkboard's rows pay for it, too.

pub mod dbus;
pub mod iceoryx2;
pub mod lmdb;
pub mod mmap_sync;
pub mod original;
pub mod ringfire;
pub mod socket;
