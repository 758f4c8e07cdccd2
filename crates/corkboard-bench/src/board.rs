//! corkboard itself, through its public interface only.

use anyhow::{Context, Result};
use corkboard::Space;
use corkboard::board::{Integrity, Options, Reader, Writer};

use crate::link::{Link, SLICE, Side};
use crate::payload::Proof;
use crate::process::DEADLINE;
use crate::scratch::Scratch;

/// What a board is made of; everything else, coarse timestamps included, is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub capacity: usize,
    pub integrity: Integrity,
}

/// A capacity that makes a small board: values are copied out.
pub const SMALL: usize = 64;
/// A capacity that makes a large board: values are pinned in place.
pub const LARGE: usize = 4096;

impl Shape {
    pub const fn verified(capacity: usize) -> Self {
        let integrity = Integrity::Crc64;
        Self {
            capacity,
            integrity,
        }
    }

    pub const fn unverified(capacity: usize) -> Self {
        let integrity = Integrity::None;
        Self {
            capacity,
            integrity,
        }
    }

    /// How rows call it.
    pub fn label(self) -> String {
        let board = match self.capacity {
            SMALL => "small",
            LARGE => "large",
            _ => "1 MiB",
        };
        let verified = match self.integrity {
            Integrity::Crc64 => "verified",
            Integrity::None => "unverified",
        };
        format!("corkboard, {board} board, {verified}")
    }

    /// How a peer's command line says it.
    pub fn arguments(self) -> [String; 2] {
        let verified = self.integrity == Integrity::Crc64;
        [self.capacity.to_string(), verified.to_string()]
    }

    pub fn from_arguments(capacity: usize, verified: bool) -> Self {
        if verified {
            Self::verified(capacity)
        } else {
            Self::unverified(capacity)
        }
    }

    pub fn create(self, space: &Space, name: &str) -> Result<Writer> {
        Options::new()
            .capacity(self.capacity)
            .integrity(self.integrity)
            .writer(space, name)
            .with_context(|| format!("create {name}"))
    }
}

/// A space of a row's own, so that rows can use the same names.
pub fn space(scratch: &Scratch) -> Result<Space> {
    Ok(Space::at(scratch.fresh("space"))?)
}

/// The space that both sides of a link use.
pub fn shared_space(scratch: &Scratch, name: &str) -> Result<Space> {
    Ok(Space::at(scratch.path().join(name))?)
}

/// One board in each direction.
pub struct Boards<const SLEEPS: bool> {
    out: Writer,
    back: Reader,
    seen: u64,
}

impl<const SLEEPS: bool> Boards<SLEEPS> {
    pub fn open(scratch: &Scratch, name: &str, side: Side, shape: Shape) -> Result<Self> {
        let space = shared_space(scratch, name)?;
        let (out, back) = side.choose("there", "back");
        let out = shape.create(&space, out)?;
        // Each side creates the board that it writes, then opens the other's.
        let back = Reader::open_timeout(&space, back, DEADLINE)?;
        Ok(Self { out, back, seen: 0 })
    }
}

impl<const SLEEPS: bool> Link for Boards<SLEEPS> {
    const SLEEPS: bool = SLEEPS;

    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        self.out.publish(&value.0)?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let snapshot = if SLEEPS {
            self.back.wait(Some(SLICE))?
        } else {
            self.back.read()?
        };
        match snapshot {
            Some(snapshot) if snapshot.sequence() != self.seen => {
                self.seen = snapshot.sequence();
                value.0.copy_from_slice(&snapshot);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
