//! Linux, through rustix and, where that has no safe form, libc.

pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod process;
pub(crate) mod region;
pub(crate) mod signal;
pub(crate) mod wait;
pub(crate) mod watch;

use std::mem::MaybeUninit;

/// What the kernel says when it refuses.
pub(crate) use rustix::io::Errno;

/// A number nobody else has.
pub(crate) fn random() -> Result<u64, Errno> {
    let mut bytes = [MaybeUninit::uninit(); 8];
    let (filled, _) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let filled: [u8; 8] = (&*filled).try_into().map_err(|_| Errno::IO)?;
    Ok(u64::from_ne_bytes(filled))
}
