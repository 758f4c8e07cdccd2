//! What the machine needs when there is no library at all.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use memmap2::MmapMut;
use rustix::io::Errno;
use rustix::thread::futex;

use crate::flow::{Inlet, Outlet};
use crate::link::{Link, Side};
use crate::measure::{Effort, Summary, batched};
use crate::payload::{LONG, Proof, Source, consume};
use crate::process::Patience;
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

/// Four places for long values, which one side fills in turns and the other reads where they are,
/// and one count on each side of how far it is.
pub struct Places {
    map: MmapMut,
    page: SharedPage,
    turn: u64,
}

impl Places {
    const COUNT: u64 = 4;
    const FILLED: usize = 0;
    const READ: usize = 1;

    pub fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let path = |what| scratch.path().join(format!("{name}-{what}"));
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path("places"))?;
        file.set_len(Self::COUNT * LONG as u64)?;
        // SAFETY: nobody truncates the file while it is mapped; who may access which place is
        // settled by the counts.
        let map = unsafe { MmapMut::map_mut(&file)? };
        let page = SharedPage::open(&path("counts"))?;
        let turn = 0;
        Ok(Self { map, page, turn })
    }

    fn place(&mut self) -> *mut u8 {
        let start = (self.turn % Self::COUNT) as usize * LONG;
        self.map[start..start + LONG].as_mut_ptr()
    }
}

impl Outlet for Places {
    fn push(&mut self, record: &[u8]) -> Result<()> {
        assert_eq!(record.len(), LONG);
        let mut patience = Patience::new();
        // Acquire pairs with the Release in `pop`.
        while self.turn - self.page.word(Self::READ).load(Ordering::Acquire) == Self::COUNT {
            patience.spin()?;
        }
        let to = self.place();
        // SAFETY: `LONG` bytes inside the mapping, which the reader is done with.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), to, LONG) };
        self.turn += 1;
        // Release pairs with the Acquire in `pop`.
        self.page
            .word(Self::FILLED)
            .store(self.turn, Ordering::Release);
        Ok(())
    }
}

impl Inlet for Places {
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool> {
        // Acquire and Release pair with those in `push`.
        if self.page.word(Self::FILLED).load(Ordering::Acquire) == self.turn {
            return Ok(false);
        }
        let from = self.place();
        // SAFETY: `LONG` bytes inside the mapping, which are not overwritten until the count below.
        each(unsafe { std::slice::from_raw_parts(from, LONG) });
        self.turn += 1;
        self.page
            .word(Self::READ)
            .store(self.turn, Ordering::Release);
        Ok(true)
    }
}
