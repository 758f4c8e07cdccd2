//! A pair of Unix stream sockets: what one would do without shared memory.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

use crate::link::{Link, SLICE};
use crate::payload::{Proof, SHORT};

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
        Ok(self.stream.write_all(&value.bytes())?)
    }

    fn receive(&mut self) -> Result<Option<Proof>> {
        let mut bytes = [0; SHORT];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let value = Proof::check(&bytes).context("a torn value came back")?;
        Ok(Some(value))
    }
}
