//! corkboard's streams, through their public interface only.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use corkboard::stream::{From, Integrity, Options, Overflow, Producer, Subscriber};
use corkboard::{ErrorKind, Space};

use crate::board::shared_space;
use crate::flow::{Inlet, Outlet};
use crate::link::{Link, SLICE, Side};
use crate::payload::{LONG, Proof, SHORT};
use crate::peers::ringfire::RING;
use crate::process::DEADLINE;
use crate::scratch::Scratch;

/// What a stream is made of; everything else is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub integrity: Integrity,
    pub overflow: Overflow,
}

pub const UNVERIFIED: Shape = Shape {
    integrity: Integrity::None,
    overflow: Overflow::Block,
};
pub const VERIFIED: Shape = Shape {
    integrity: Integrity::Crc64,
    overflow: Overflow::Block,
};

impl Shape {
    /// The same, overwriting the oldest records instead of waiting.
    pub fn overwriting(self) -> Self {
        let overflow = Overflow::Overwrite;
        Self { overflow, ..self }
    }

    /// How rows call it.
    pub fn label(self) -> String {
        let overwriting = match self.overflow {
            Overflow::Block => "",
            Overflow::Overwrite => "overwriting, ",
        };
        let verified = match self.integrity {
            Integrity::Crc64 => "verified",
            Integrity::None => "unverified",
        };
        format!("corkboard, stream, {overwriting}{verified}")
    }

    /// With room for as many records of 64 bytes as ringfire's ring has, or for four of 1 MiB.
    pub fn create(self, space: &Space, name: &str, len: usize) -> Result<Producer> {
        let capacity = match len {
            SHORT => RING as usize * SHORT,
            _ => 4 * len,
        };
        Options::new()
            .capacity(capacity)
            .integrity(self.integrity)
            .overflow(self.overflow)
            .producer(space, name)
            .with_context(|| format!("create {name}"))
    }
}

/// Opens a stream that the other side creates meanwhile.
fn subscribe(space: &Space, name: &str) -> Result<Subscriber> {
    let start = Instant::now();
    loop {
        match Subscriber::open(space, name, From::Oldest) {
            Err(error) if error.kind() == ErrorKind::NotFound && start.elapsed() < DEADLINE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.with_context(|| format!("open {name}")),
        }
    }
}

/// One stream in each direction.
pub struct Streams<const SLEEPS: bool> {
    out: Producer,
    back: Subscriber,
}

impl<const SLEEPS: bool> Streams<SLEEPS> {
    pub fn open(scratch: &Scratch, name: &str, side: Side, shape: Shape) -> Result<Self> {
        let space = shared_space(scratch, name)?;
        let (out, back) = side.choose("there", "back");
        // Each side creates the stream that it produces, then opens the other's.
        let out = shape.create(&space, out, SHORT)?;
        let back = subscribe(&space, back)?;
        Ok(Self { out, back })
    }
}

impl<const SLEEPS: bool> Link for Streams<SLEEPS> {
    const SLEEPS: bool = SLEEPS;

    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        self.out.send(&value.0)?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let message = if SLEEPS {
            self.back.recv(Some(SLICE))?
        } else {
            self.back.try_recv()?
        };
        if let Some(message) = &message {
            value.0.copy_from_slice(message);
        }
        Ok(message.is_some())
    }
}

/// Sends short records, and fills loans with long ones.
pub struct Out(Producer);

impl Out {
    pub fn create(scratch: &Scratch, name: &str, len: usize, shape: Shape) -> Result<Self> {
        Ok(Self(shape.create(
            &shared_space(scratch, name)?,
            "flow",
            len,
        )?))
    }
}

impl Outlet for Out {
    #[inline(always)]
    fn push(&mut self, record: &[u8]) -> Result<()> {
        if record.len() < LONG {
            self.0.send(record)?;
        } else {
            let mut loan = self.0.loan(record.len())?;
            loan.copy_from_slice(record);
            loan.send()?;
        }
        Ok(())
    }
}

pub struct In(Subscriber);

impl In {
    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        Ok(Self(subscribe(&shared_space(scratch, name)?, "flow")?))
    }
}

impl Inlet for In {
    #[inline(always)]
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool> {
        let message = self.0.try_recv()?;
        if let Some(message) = &message {
            each(message);
        }
        Ok(message.is_some())
    }
}
