//! What the machine needs when there is no library at all.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use rustix::io::Errno;
use rustix::thread::futex;

use crate::link::{Link, Side};
use crate::measure::{Effort, Summary, batched};
use crate::payload::{Proof, Source, consume};
use crate::scratch::{Scratch, SharedPage};

/// Copying the value, from the same sources that everybody publishes from, to private memory.
pub fn copy(effort: Effort, len: usize) -> Summary {
    let mut source = Source::new(len);
    // One destination, always in cache: no publication can do with less, because the value before
    // must stay readable meanwhile.
    let mut destination = vec![1_u8; len];
    batched(effort, || {
        let value = source.next();
        destination.copy_from_slice(value);
        black_box(&mut destination);
    })
}

/// The CRC-64/XZ of the value, by the library that corkboard uses for long ones.
pub fn checksum(effort: Effort, len: usize) -> Summary {
    let mut source = Source::new(len);
    batched(effort, || {
        let value = source.next();
        black_box(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, value));
    })
}

/// The fold that stands for using a value, over private memory.
pub fn fold<const N: usize>(effort: Effort) -> Summary {
    let value = Source::new(N).next().to_vec();
    batched(effort, || consume::<N>(black_box(&value[..])))
}

/// Two cache lines, one in each direction, of which one word carries the number and nothing else.
/// No transport of 64 bytes between two cores can be faster.
pub struct CacheLines {
    page: SharedPage,
    out: usize,
    back: usize,
    seen: u64,
}

impl CacheLines {
    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let page = SharedPage::open(&scratch.path().join(name))?;
        let (out, back) = side.choose(0, 1);
        let seen = 0;
        Ok(Self {
            page,
            out,
            back,
            seen,
        })
    }
}

impl Link for CacheLines {
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        // Release pairs with the Acquire in the other side's `receive`.
        self.page
            .word(self.out)
            .store(value.number(), Ordering::Release);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let number = self.page.word(self.back).load(Ordering::Acquire);
        if number == self.seen {
            return Ok(false);
        }
        self.seen = number;
        *value = Proof::new(number);
        Ok(true)
    }
}

/// One futex in each direction: the price of sleeping and being woken, whatever is transported.
pub struct Futexes {
    lines: CacheLines,
}

impl Futexes {
    const SLICE: futex::Timespec = futex::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };

    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let lines = CacheLines::open(scratch, name, side)?;
        Ok(Self { lines })
    }

    /// The lower half of a line's word: both sides count rounds in these 32 bits.
    fn half(&self, line: usize) -> &AtomicU32 {
        let word = self.lines.page.word(line).as_ptr().cast::<u32>();
        // SAFETY: aligned, inside the mapping that `self` keeps, only ever used atomically and,
        // in this link, only as 32 bits.
        unsafe { AtomicU32::from_ptr(word) }
    }
}

impl Link for Futexes {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &Proof) -> Result<()> {
        let word = self.half(self.lines.out);
        // Release pairs with the Acquire in the other side's `receive`.
        word.store(value.number() as u32, Ordering::Release);
        futex::wake(word, futex::Flags::empty(), 1)?;
        Ok(())
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let seen = self.lines.seen as u32;
        let word = self.half(self.lines.back);
        let mut number = word.load(Ordering::Acquire);
        if number == seen {
            match futex::wait(word, futex::Flags::empty(), seen, Some(&Self::SLICE)) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
                Err(errno) => return Err(errno.into()),
            }
            number = word.load(Ordering::Acquire);
        }
        if number == seen {
            return Ok(false);
        }
        self.lines.seen = u64::from(number);
        *value = Proof::new(u64::from(number));
        Ok(true)
    }
}
