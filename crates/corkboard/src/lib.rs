//! Named shared memory between processes.
//!
//! A [`Space`] is a directory of named objects, in memory:
//!
//! | object | what it is for |
//! |---|---|
//! | [board] | what is true now: writers replace a value, readers see the newest whole one, verified |
//! | [lock] | who may do something now: many readers or one writer |
//! | [event] | that something happened: others wait for it |
//! | [stream] | everything that was said: producers append, every subscriber gets each record |
//! | [call] | a question and its answer: clients ask, a server replies |
//! | [classic] | the block of the Windows C++ library that inspired this, to mix old and new |
//!
//! [`wait::any`] waits for several boards, events, streams and calls at once.
//!
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-lib-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::board::{Options, Reader};
//! use std::time::Duration;
//! // let space = corkboard::Space::user()?;
//! let mut writer = Options::new().writer(&space, "temperature")?;
//! writer.publish(b"21.5")?;
//! // In any other process:
//! let mut reader = Reader::open(&space, "temperature")?;
//! while let Some(value) = reader.wait(Some(Duration::from_millis(10)))? {
//!     println!("{}", String::from_utf8_lossy(&value));
//! }
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Space::user`] is the directory that the environment variable `CORKBOARD_DIR` names, or
//! `/dev/shm/corkboard-<euid>`; on Windows `%LOCALAPPDATA%\corkboard`. On Linux, objects stay
//! until they are removed or the machine restarts.
//!
//! # If a process dies
//! Every item that touches shared memory says what happens, in one of three words: *Recovers*, the
//! others go on as if nothing had been; *Reports*, the others are told; *Stuck until removed*. A
//! process counts as dead when the kernel has released its locks, never because it is slow or
//! stopped.
//!
//! # Platforms
//! Linux 5.14 or later, objects on tmpfs; Windows 10 or later, 64 bits, where an object lives as
//! long as some process has it open: see [`Space::keep`].
//! Elsewhere it compiles, without `classic`, and opening a space or a lock file is `Unsupported`.

#![cfg_attr(
    not(any(target_os = "linux", windows)),
    allow(
        dead_code,
        unreachable_code,
        unused,
        reason = "nothing can be opened there"
    )
)]

mod access;
mod attachment;
pub mod board;
mod buffer;
pub mod call;
mod catalog;
#[cfg(any(target_os = "linux", windows))]
pub mod classic;
mod clock;
mod doctor;
mod error;
pub mod event;
mod header;
mod hook;
pub mod integrity;
pub mod lock;
mod mutex;
mod name;
mod object;
mod participants;
mod prefetch;
mod space;
mod spins;
pub mod stream;
mod sync;
mod sys;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
pub mod wait;
mod waking;

pub use access::Access;
pub use catalog::{Entry, Keeper};
pub use doctor::{Finding, Problem};
pub use error::{Error, ErrorKind, Result};
pub use space::{Kind, Space, SpaceOptions};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
