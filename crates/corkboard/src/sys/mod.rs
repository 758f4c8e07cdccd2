//! What the primitives need from the operating system, the same on each of them.
//!
//! - [`file`]: an object's files, read without mapping them.
//! - [`map`]: their bytes as memory shared with other processes.
//! - [`lock`]: locks on single bytes of a file that the kernel releases when its holder is gone,
//!   however that ended.
//! - [`wait`]: sleeping until another process changes a word.
//! - [`barrier`]: one side's fence made for both.
//! - [`watch`]: sleeping until a name appears in a directory.
//! - [`process`]: noticing that this process is a fork's child, and keeping files out of it.
//! - [`clock`]: what time it is, for all processes.
//! - [`signal`]: what an event loop watches.
//!
//! Nothing here knows what the bytes mean. What objects, spaces and lock files are made of differs
//! more than these: see the platforms' own files in `object`, `board::files`, `space`, `catalog`,
//! `doctor`, `lock::path` and `event`.

pub(crate) mod map;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(not(any(target_os = "linux", windows)))]
use unsupported as platform;
#[cfg(windows)]
use windows as platform;

use platform::region;
pub(crate) use platform::{
    Errno, barrier, clock, file, lock, process, random, signal, wait, watch,
};
#[cfg(windows)]
pub(crate) use platform::{owned, security, wide};
