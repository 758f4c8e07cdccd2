//! Reading a value of 64 bytes that has not changed since the last read, and using all of it.
//!
//! Fair, because everybody folds every byte in every read, by the same code, and the fold alone is
//! shown. Writer and reader are two handles of one process: no cache line moves while nothing is
//! published, so a second process would change nothing.

use anyhow::{Context, Result};
use corkboard::board::Reader;

use super::{Group, Row};
use crate::board::{self, LARGE, SMALL, Shape};
use crate::floors;
use crate::measure::batched;
use crate::payload::{SHORT, Source, consume};
use crate::peers::mmap_sync::Archive;
use crate::peers::{iceoryx2, lmdb, mmap_sync, original, ringfire};
use crate::scratch::Scratch;

pub const TITLE: &str = "read 64 B, unchanged, and fold it";
pub const FOLD: &str = "fold alone";
pub const MMAP_SYNC: &str = "mmap-sync, read";
pub const RINGFIRE: &str = "ringfire blackboard";

pub fn groups() -> Vec<Group> {
    vec![Group {
        title: TITLE,
        references: vec![
            ("fold", FOLD),
            ("mmap-sync", MMAP_SYNC),
            ("ringfire", RINGFIRE),
        ],
        floor: Some(FOLD),
        rows: vec![
            Row::new(FOLD, |run| Ok(floors::fold::<SHORT>(run.effort).into())),
            ours(Shape::unverified(SMALL)),
            ours(Shape::verified(SMALL)),
            ours(Shape::unverified(LARGE)),
            ours(Shape::verified(LARGE)),
            row(RINGFIRE, ringfire::reader::<SHORT>),
            row("iceoryx2 blackboard, get", iceoryx2::reader::<SHORT>),
            row(
                "iceoryx2 blackboard, is_up_to_date",
                iceoryx2::cached_reader::<SHORT>,
            ),
            row(MMAP_SYNC, |scratch, value| {
                mmap_sync::reader::<SHORT>(scratch, value, Archive::Trusted)
            }),
            row("mmap-sync, read, check_bytes", |scratch, value| {
                mmap_sync::reader::<SHORT>(scratch, value, Archive::Checked)
            }),
            row("LMDB, read transaction", lmdb::reader::<SHORT>),
            row("the original's algorithm", original::reader::<SHORT>),
        ],
    }]
}

fn row<R: FnMut()>(
    label: impl Into<String>,
    reader: impl Fn(&Scratch, &[u8]) -> Result<R> + 'static,
) -> Row {
    Row::new(label, move |run| {
        let read = reader(run.scratch, Source::new(SHORT).next())?;
        Ok(batched(run.effort, read).into())
    })
}

fn ours(shape: Shape) -> Row {
    row(shape.label(), move |scratch, value| {
        let space = board::space(scratch)?;
        let mut writer = shape.create(&space, "value")?;
        writer.publish(value)?;
        let mut reader = Reader::open(&space, "value")?;
        reader.read()?.context("nothing is published")?;
        Ok(move || {
            let _ = &writer;
            let snapshot = reader.read().expect("corkboard reads");
            consume::<SHORT>(&snapshot.expect("it was published"));
        })
    })
}
