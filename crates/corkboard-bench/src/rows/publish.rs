//! Publishing to nobody in particular: what a writer pays, with no reader attached.
//!
//! Fair, because everybody copies from the same cached sources, in one process without contention,
//! to tmpfs, and has to keep the value before readable until the new one is whole. corkboard also
//! stores a coarse time stamp, which no peer does. iceoryx2's publish/subscribe has one subscriber,
//! because without any it delivers nothing.

use anyhow::Result;

use super::{Group, Row, Run};
use crate::board::{self, LARGE, SMALL, Shape};
use crate::clock::ticks;
use crate::floors;
use crate::measure::{Effort, Summary, batched, each};
use crate::payload::{LONG, PAGE, SHORT, Source};
use crate::peers::{iceoryx2, lmdb, mmap_sync, original, ringfire};
use crate::scratch::Scratch;

pub const SHORT_TITLE: &str = "publish 64 B";
pub const PAGE_TITLE: &str = "publish 4 KiB";
pub const LONG_TITLE: &str = "publish 1 MiB";
pub const LOAN_TITLE: &str = "publish a filled loan of 1 MiB, unverified";

pub const MEMCPY: &str = "memcpy alone";
const CRC: &str = "crc-fast CRC-64/XZ alone";
pub const MMAP_SYNC: &str = "mmap-sync, write_raw";
const BLACKBOARD: &str = "iceoryx2 blackboard";
const PUB_SUB: &str = "iceoryx2 pub/sub, one subscriber";
const LMDB: &str = "LMDB, no sync";
pub const LOAN: &str = "corkboard, Loan::publish alone";
const ORIGINAL: &str = "the original's algorithm";

pub fn groups() -> Vec<Group> {
    let references = || vec![("memcpy", MEMCPY), ("mmap-sync", MMAP_SYNC)];
    vec![
        Group {
            title: SHORT_TITLE,
            references: references(),
            rows: vec![
                floor(MEMCPY, SHORT, floors::copy),
                floor(CRC, SHORT, floors::checksum),
                ours(SHORT, Shape::unverified(SMALL)),
                ours(SHORT, Shape::verified(SMALL)),
                ours(SHORT, Shape::unverified(LARGE)),
                ours(SHORT, Shape::verified(LARGE)),
                row("ringfire blackboard", SHORT, ringfire::publisher::<SHORT>),
                row("ringfire ring", SHORT, ringfire::ring_publisher::<SHORT>),
                row(BLACKBOARD, SHORT, iceoryx2::publisher::<SHORT>),
                row(PUB_SUB, SHORT, |scratch| {
                    iceoryx2::sample_publisher(scratch, SHORT)
                }),
                row(MMAP_SYNC, SHORT, mmap_sync::publisher::<SHORT>),
                row(LMDB, SHORT, lmdb::publisher),
                row(ORIGINAL, SHORT, |scratch| {
                    original::publisher(scratch, SHORT)
                }),
            ],
        },
        Group {
            title: PAGE_TITLE,
            references: references(),
            rows: vec![
                floor(MEMCPY, PAGE, floors::copy),
                floor(CRC, PAGE, floors::checksum),
                ours(PAGE, Shape::unverified(LARGE)),
                ours(PAGE, Shape::verified(LARGE)),
                row("ringfire blackboard", PAGE, ringfire::publisher::<PAGE>),
                row("ringfire ring", PAGE, ringfire::ring_publisher::<PAGE>),
                row(BLACKBOARD, PAGE, iceoryx2::publisher::<PAGE>),
                row(PUB_SUB, PAGE, |scratch| {
                    iceoryx2::sample_publisher(scratch, PAGE)
                }),
                row(MMAP_SYNC, PAGE, mmap_sync::publisher::<PAGE>),
                row(LMDB, PAGE, lmdb::publisher),
                row(ORIGINAL, PAGE, |scratch| original::publisher(scratch, PAGE)),
            ],
        },
        Group {
            title: LONG_TITLE,
            references: references(),
            rows: vec![
                floor(MEMCPY, LONG, floors::copy),
                floor(CRC, LONG, floors::checksum),
                ours(LONG, Shape::unverified(LONG)),
                ours(LONG, Shape::verified(LONG)),
                Row::new("corkboard, loan, fill and publish, unverified", |run| {
                    Ok(loan(run, Timed::Everything)?.into())
                }),
                row(PUB_SUB, LONG, |scratch| {
                    iceoryx2::sample_publisher(scratch, LONG)
                }),
                row(MMAP_SYNC, LONG, mmap_sync::publisher::<LONG>),
                row(LMDB, LONG, lmdb::publisher),
                row(ORIGINAL, LONG, |scratch| original::publisher(scratch, LONG)),
            ],
        },
        Group {
            title: LOAN_TITLE,
            references: vec![("iceoryx2", "iceoryx2 pub/sub, send alone")],
            rows: vec![
                Row::new(LOAN, |run| Ok(loan(run, Timed::Publication)?.into())),
                Row::new("iceoryx2 pub/sub, send alone", |run| {
                    Ok(iceoryx2::send_loan(run.effort, run.scratch)?.into())
                }),
            ],
        },
    ]
}

fn floor(label: &'static str, len: usize, measure: fn(Effort, usize) -> Summary) -> Row {
    Row::new(label, move |run| Ok(measure(run.effort, len).into()))
}

/// A peer, or we: the same loop around whatever publishes.
fn row<P: FnMut(&[u8])>(
    label: impl Into<String>,
    len: usize,
    publisher: impl Fn(&Scratch) -> Result<P> + 'static,
) -> Row {
    Row::new(label, move |run| {
        let mut publish = publisher(run.scratch)?;
        let mut source = Source::new(len);
        Ok(batched(run.effort, || publish(source.next())).into())
    })
}

fn ours(len: usize, shape: Shape) -> Row {
    row(shape.label(), len, move |scratch| {
        let mut writer = shape.create(&board::space(scratch)?, "value")?;
        Ok(move |value: &[u8]| {
            writer.publish(value).expect("corkboard publishes");
        })
    })
}

enum Timed {
    Everything,
    Publication,
}

/// A loan of 1 MiB is taken, filled from the source, and published, each timed by itself.
fn loan(run: Run, timed: Timed) -> Result<Summary> {
    let space = board::space(run.scratch)?;
    let mut writer = Shape::unverified(LONG).create(&space, "value")?;
    let mut source = Source::new(LONG);
    Ok(each(run.effort.samples(2_000), || {
        let value = source.next();
        let start = ticks();
        let mut loan = writer.loan(LONG).expect("corkboard loans");
        loan.copy_from_slice(value);
        let filled = ticks();
        loan.publish().expect("corkboard publishes");
        let end = ticks();
        match timed {
            Timed::Everything => end - start,
            Timed::Publication => end - filled,
        }
    }))
}
