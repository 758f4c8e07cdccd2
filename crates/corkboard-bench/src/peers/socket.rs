//! A pair of Unix stream sockets: what one would do without shared memory.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Result;

use crate::link::{Link, SLICE};
use crate::payload::Proof;

pub struct Socket {
    stream: UnixStream,
}

impl Socket {
    /// The near side, and what becomes the far side's standard input.
    pub fn pair() -> Result<(Self, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        Ok((Self::new(near)?, far.into()))
    }

    /// The far side: the socket that is standard input.
    pub fn inherited() -> Result<Self> {
        let far = std::io::stdin().as_fd().try_clone_to_owned()?;
        Self::new(far.into())
    }

    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(SLICE))?;
        Ok(Self { stream })
    }
}

impl Link for Socket {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &Proof) -> Result<()> {
        Ok(self.stream.write_all(&value.0)?)
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        match self.stream.read_exact(&mut value.0) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
