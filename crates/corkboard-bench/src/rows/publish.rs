//! Publishing to nobody in particular: what a writer pays, with no reader attached.
//!
//! Fair, because everybody copies from the same cached sources, in one process without contention,
//! to tmpfs, and has to keep the value before readable until the new one is whole. corkboard also
//! stores a coarse time stamp, which no peer does. iceoryx2's publish/subscribe has one subscriber,
//! because without any it delivers nothing.

use std::sync::atomic::{Ordering, fence};

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
const LOAN_BEHIND: &str = "corkboard, Loan::publish right behind the fill";
const ORIGINAL: &str = "the original's algorithm";

pub fn groups() -> Vec<Group> {
    let group = |title, rows: [Vec<Row>; 3]| Group {
        title,
        references: vec![("memcpy", MEMCPY), ("mmap-sync", MMAP_SYNC)],
        floor: None,
        rows: rows.into_iter().flatten().collect(),
    };
    let mut short = ours(SHORT, SMALL);
    short.extend(ours(SHORT, LARGE));
    let mut long = ours(LONG, LONG);
    long.push(Row::new(
        "corkboard, loan, fill and publish, unverified",
        |run| Ok(loan(run, Timed::Everything)?.into()),
    ));
    vec![
        group(SHORT_TITLE, [bare(SHORT), short, all_peers::<SHORT>()]),
        group(
            PAGE_TITLE,
            [bare(PAGE), ours(PAGE, LARGE), all_peers::<PAGE>()],
        ),
        group(LONG_TITLE, [bare(LONG), long, peers::<LONG>()]),
        Group {
            title: LOAN_TITLE,
            references: vec![("iceoryx2", "iceoryx2 pub/sub, send alone")],
            floor: None,
            rows: vec![
                Row::new(LOAN, |run| Ok(loan(run, Timed::Publication)?.into())),
                Row::new(LOAN_BEHIND, |run| Ok(loan(run, Timed::Behind)?.into())),
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

fn bare(len: usize) -> Vec<Row> {
    vec![
        floor(MEMCPY, len, floors::copy),
        floor(CRC, len, floors::checksum),
    ]
}

/// Unverified and verified.
fn ours(len: usize, capacity: usize) -> Vec<Row> {
    let row = |shape: Shape| {
        row(shape.label(), len, move |scratch| {
            let mut writer = shape.create(&board::space(scratch)?, "value")?;
            Ok(move |value: &[u8]| {
                writer.publish(value).expect("corkboard publishes");
            })
        })
    };
    vec![
        row(Shape::unverified(capacity)),
        row(Shape::verified(capacity)),
    ]
}

/// Those that take values of a fixed size, through the stack, and all others.
fn all_peers<const LEN: usize>() -> Vec<Row> {
    let mut rows = vec![
        row("ringfire blackboard", LEN, ringfire::publisher::<LEN>),
        row("ringfire ring", LEN, ringfire::ring_publisher::<LEN>),
        row(BLACKBOARD, LEN, iceoryx2::publisher::<LEN>),
    ];
    rows.extend(peers::<LEN>());
    rows
}

/// Those that take any number of bytes.
fn peers<const LEN: usize>() -> Vec<Row> {
    vec![
        row(PUB_SUB, LEN, |scratch| {
            iceoryx2::sample_publisher(scratch, LEN)
        }),
        row(MMAP_SYNC, LEN, mmap_sync::publisher::<LEN>),
        row(LMDB, LEN, lmdb::publisher),
        row(ORIGINAL, LEN, |scratch| original::publisher(scratch, LEN)),
    ]
}

#[derive(Clone, Copy)]
enum Timed {
    Everything,
    /// From when the fill's stores have left the processor.
    Publication,
    /// From the fill's last instruction, with its last stores still on their way.
    Behind,
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
        if matches!(timed, Timed::Publication) {
            fence(Ordering::SeqCst);
        }
        let filled = ticks();
        loan.publish().expect("corkboard publishes");
        let end = ticks();
        match timed {
            Timed::Everything => end - start,
            Timed::Publication | Timed::Behind => end - filled,
        }
    }))
}
