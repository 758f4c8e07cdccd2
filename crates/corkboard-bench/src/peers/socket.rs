//! Unix stream sockets and pipes: what one would do without shared memory.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Result;

use crate::flow::{Inlet, Outlet};
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

/// Where records are written to, one call each: a socket or a pipe.
pub struct Written(File);

impl Written {
    /// A socket, and what becomes the far side's standard input.
    pub fn socket() -> Result<(Self, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        Ok((Self(OwnedFd::from(near).into()), far.into()))
    }

    /// As [`socket`](Self::socket), of a pipe.
    pub fn pipe() -> Result<(Self, OwnedFd)> {
        let (far, near) = std::io::pipe()?;
        Ok((Self(OwnedFd::from(near).into()), far.into()))
    }
}

impl Outlet for Written {
    fn push(&mut self, record: &[u8]) -> Result<()> {
        Ok(self.0.write_all(record)?)
    }
}

/// Standard input, as records of so many bytes. Short ones are read many at a time.
pub struct Records {
    from: BufReader<File>,
    record: Vec<u8>,
}

impl Records {
    pub fn inherited(len: usize) -> Result<Self> {
        let from = std::io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            from: BufReader::new(from.into()),
            record: vec![0; len],
        })
    }
}

impl Inlet for Records {
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool> {
        self.from.read_exact(&mut self.record)?;
        each(&self.record);
        Ok(true)
    }
}
