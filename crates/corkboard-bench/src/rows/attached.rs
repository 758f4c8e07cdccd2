//! Publishing while readers hold snapshots.
//!
//! Each reader has read a publication of its own and keeps it, so that on a large board as many
//! slots are pinned as there are readers: the hardest case for a writer that looks for a free
//! one. The readers are handles of the same process; they do nothing while the writer is timed,
//! so to the writer they are the same as sixty processes. Unverified, for a checksum would hide
//! the difference.

use anyhow::{Context, Result};
use corkboard::board::Reader;

use super::{Group, Row, Run};
use crate::board::{self, LARGE, SMALL, Shape};
use crate::measure::{Summary, batched};
use crate::payload::{SHORT, Source};

pub const SMALL_TITLE: &str = "publish 64 B with readers attached, small board, unverified";
pub const LARGE_TITLE: &str = "publish 64 B with readers attached, large board, unverified";
pub const LABELS: [(usize, &str); 4] = [
    (0, "no reader"),
    (1, "1 reader"),
    (8, "8 readers"),
    (60, "60 readers"),
];

pub fn groups() -> Vec<Group> {
    let group = |title, capacity| Group {
        title,
        references: vec![("no reader", LABELS[0].1)],
        floor: None,
        rows: LABELS
            .map(|(readers, label)| {
                Row::new(label, move |run| {
                    Ok(attached(run, capacity, readers)?.into())
                })
            })
            .into(),
    };
    vec![group(SMALL_TITLE, SMALL), group(LARGE_TITLE, LARGE)]
}

fn attached(run: Run, capacity: usize, readers: usize) -> Result<Summary> {
    let space = board::space(run.scratch)?;
    let mut writer = Shape::unverified(capacity).create(&space, "value")?;
    let mut source = Source::new(SHORT);
    let mut holding = Vec::new();
    // As long as the board has room for: short ones are copied also from a large board.
    let mut held = Source::new(capacity);
    for _ in 0..readers {
        writer.publish(held.next())?;
        let snapshot = Reader::open(&space, "value")?.into_snapshot()?;
        holding.push(snapshot.context("nothing is published")?);
    }
    Ok(batched(run.effort, || {
        writer.publish(source.next()).expect("corkboard publishes");
    }))
}
