//! What the primitives need from the operating system.
//!
//! - [`map`]: a file's bytes as memory shared with other processes.
//! - [`lock`]: locks on single bytes of a file that the kernel releases when the last copy of the
//!   open file description is gone, however its process ended.
//! - [`wait`]: sleeping until another process changes a word.
//! - [`barrier`]: one side's fence made for both.
//! - [`watch`]: sleeping until a name appears in a directory.
//! - [`process`]: noticing that this process is a fork's child, and keeping files out of it.
//!
//! Nothing here knows what the bytes mean.

pub(crate) mod barrier;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod process;
pub(crate) mod wait;
pub(crate) mod watch;
