//! One way: records from this process to another, which checks each in full.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};

use crate::clock::ticks;
use crate::measure::Summary;
use crate::payload::{LONG, Proof, Source, fold};
use crate::process::Patience;
use crate::scratch::SharedPage;

/// The end of a transport that records go into.
pub trait Outlet {
    /// Sends a record, waiting for room.
    fn push(&mut self, record: &[u8]) -> Result<()>;
}

/// The end of a transport that records come out of.
pub trait Inlet {
    /// Hands the next record to `each`, where the transport has it or makes it available; `false`
    /// when there is none yet.
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool>;
}

/// Lines of the page that both sides share: up to which record the far side may receive, and has
/// received.
const ALLOWED: usize = 0;
const DRAINED: usize = 1;
/// What tells the far side to end.
const END: u64 = u64::MAX;

/// Records of 64 bytes that are sent while the far side waits.
const BATCH: u64 = 64;
/// Records in a sample of sustained sending: of 64 bytes, and of 1 MiB.
const SUSTAINED: u64 = 16_384;
const SUSTAINED_LONG: u64 = 64;

/// Long records that say which one they are: the first word is the number, the rest is known to
/// both sides.
pub struct Numbered {
    source: Source,
    rest: u64,
}

impl Numbered {
    pub fn new() -> Self {
        let mut source = Source::new(LONG);
        let rest = fold(source.numbered(0));
        Self { source, rest }
    }

    #[inline(always)]
    pub fn record(&mut self, number: u64) -> &[u8] {
        self.source.numbered(number)
    }

    /// The number of a record, every byte of which was needed to tell.
    #[inline(always)]
    pub fn check(&self, record: &[u8]) -> Option<u64> {
        let record: &[u8; LONG] = record.try_into().ok()?;
        let number = u64::from_le_bytes(record.as_chunks().0[0]);
        (fold(record) == self.rest ^ number).then_some(number)
    }
}

/// The near side: what sending costs it. Each batch is timed, then drained by the far side, so
/// that its memory is in the other core's caches, and nobody waits for room.
pub fn produce(outlet: &mut impl Outlet, page: &SharedPage, samples: usize) -> Result<Summary> {
    let warm_up = samples / 10;
    let mut times = Vec::with_capacity(samples);
    let mut sent = 0;
    for sample in 0..warm_up + samples {
        let batch: [_; BATCH as usize] =
            std::array::from_fn(|index| Proof::new(sent + 1 + index as u64));
        let start = ticks();
        for record in &batch {
            outlet.push(&record.0)?;
        }
        let time = ticks() - start;
        sent += BATCH;
        allow(page, sent);
        await_drained(page, sent)?;
        if sample >= warm_up {
            times.push(time);
        }
    }
    Ok(Summary::of_ticks(times, BATCH))
}

/// The near side: what a record costs when both sides do what they can, until the last of so many
/// has been received.
pub fn sustain(outlet: &mut impl Outlet, page: &SharedPage, samples: usize) -> Result<Summary> {
    sustained(page, samples, SUSTAINED, |number| {
        outlet.push(&Proof::new(number).0)
    })
}

/// As [`sustain`], with records of 1 MiB.
pub fn sustain_long(
    outlet: &mut impl Outlet,
    page: &SharedPage,
    samples: usize,
) -> Result<Summary> {
    let mut records = Numbered::new();
    sustained(page, samples, SUSTAINED_LONG, |number| {
        outlet.push(records.record(number))
    })
}

#[inline(always)]
fn sustained(
    page: &SharedPage,
    samples: usize,
    count: u64,
    mut send: impl FnMut(u64) -> Result<()>,
) -> Result<Summary> {
    let warm_up = samples / 10;
    let mut times = Vec::with_capacity(samples);
    let mut sent = 0;
    for sample in 0..warm_up + samples {
        let start = ticks();
        allow(page, sent + count);
        for number in sent + 1..=sent + count {
            send(number)?;
        }
        sent += count;
        await_drained(page, sent)?;
        if sample >= warm_up {
            times.push(ticks() - start);
        }
    }
    Ok(Summary::of_ticks(times, count))
}

fn allow(page: &SharedPage, number: u64) {
    // Release pairs with the Acquire in `drain`.
    page.word(ALLOWED).store(number, Ordering::Release);
}

fn await_drained(page: &SharedPage, number: u64) -> Result<()> {
    let mut patience = Patience::new();
    // Acquire pairs with the Release in `drain`.
    while page.word(DRAINED).load(Ordering::Acquire) != number {
        patience.spin()?;
    }
    Ok(())
}

/// Tells the far side to end.
pub fn end(page: &SharedPage) {
    allow(page, END);
}

/// The far side: receives what it may, and says so, until the end. `check` finds out which record
/// it is, from all of its bytes.
pub fn drain(
    inlet: &mut impl Inlet,
    page: &SharedPage,
    check: impl Fn(&[u8]) -> Option<u64>,
) -> Result<()> {
    let mut seen = 0;
    let mut patience = Patience::new();
    loop {
        // Acquire and Release pair with those of the near side.
        let allowed = page.word(ALLOWED).load(Ordering::Acquire);
        if allowed == END {
            return Ok(());
        }
        if allowed == seen {
            patience.spin()?;
            continue;
        }
        while seen < allowed {
            let mut found = None;
            if !inlet.pop(|record| found = check(record))? {
                patience.spin()?;
                continue;
            }
            patience = Patience::new();
            seen += 1;
            ensure!(found == Some(seen), "record {seen} is {found:?}");
        }
        page.word(DRAINED).store(seen, Ordering::Release);
    }
}
