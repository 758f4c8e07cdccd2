//! Calls: a request from one process, a reply from another. Two-way, many at a time.
//!
//! A [`Server`] answers what any number of [`Client`]s ask. A call ends in exactly one of these:
//! a reply; the error that the server answered with (`Failed`); `PeerGone`, when the server died or
//! let go of the request; `TimedOut`, at the call's deadline. While no server is there, requests
//! wait for one until their deadline. A process may serve and call at the same time, also under
//! the same name. `docs/design.md` explains the protocol.
//!
//! # Examples
//! ```
//! # let dir = format!("/dev/shm/corkboard-doc-call-{}", std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::call::{Client, Options, Server};
//! use std::time::Duration;
//! let server = Server::create(&space, "upper", Options::new())?;
//! std::thread::spawn(move || {
//!     while let Ok(Some(request)) = server.next(None) {
//!         let reply = request.to_ascii_uppercase();
//!         request.reply(&reply).ok();
//!     }
//! });
//! // In any other process:
//! let client = Client::open(&space, "upper")?;
//! let reply = client.call(b"hello", Duration::from_secs(1))?;
//! assert_eq!(&*reply, b"HELLO");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod desk;
mod layout;
mod options;
mod protocol;
mod server;
mod stat;
mod watching;

use crate::error::Result;
use crate::object::Removal;
use crate::space::Space;

pub use crate::access::Access;
pub use crate::integrity::Integrity;
pub use client::{Client, Pending, Reply};
pub use options::Options;
pub use server::{Request, Server};
pub(crate) use stat::wipe;
pub use stat::{Caller, Stat, stat};

/// Removes a call: handles on it say `Removed`.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    desk::remove(space, name, removal)
}
