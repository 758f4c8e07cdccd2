//! Named shared memory between processes.
//!
//! A [`Space`] is a directory of named objects. Linux only for now.

#[cfg(not(target_os = "linux"))]
compile_error!("corkboard supports Linux only for now");

mod error;
pub mod integrity;
mod name;
mod space;

pub use error::{Error, ErrorKind, Result};
pub use space::{Access, Entry, Kind, Space, SpaceOptions};
