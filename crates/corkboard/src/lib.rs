//! Named shared memory between processes.
//!
//! A [`Space`] is a directory of named objects. Linux only for now.

#[cfg(not(target_os = "linux"))]
compile_error!("corkboard supports Linux only for now");

pub mod board;
mod clock;
mod doctor;
mod error;
pub mod event;
mod header;
mod hook;
pub mod integrity;
pub mod lock;
mod name;
mod object;
mod participants;
mod space;
mod sync;
mod sys;
pub mod wait;

pub use doctor::{Finding, Problem};
pub use error::{Error, ErrorKind, Result};
pub use space::{Access, Entry, Kind, Space, SpaceOptions};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
