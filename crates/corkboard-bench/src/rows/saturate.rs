//! A writer without pause on one core, a reader without pause on the other.
//!
//! Each value proves which publication it is, so that a torn value, or one of another publication
//! than its sequence says, cannot go unnoticed. Every read is timed by itself; reads that found
//! nothing new are counted but not in the quantiles, for they would flatter them. The time is that
//! of the read and of the check of all bytes, and includes one time stamp.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use corkboard::board::Reader;

use super::{Group, Outcome, Row, Run};
use crate::board::{LARGE, SMALL, Shape, shared_space};
use crate::clock::ticks;
use crate::measure::Histogram;
use crate::payload::Proof;
use crate::process::{DEADLINE, FAR, Patience, Peer, say_ready};
use crate::scratch::{Scratch, SharedPage};

pub const TITLE: &str = "read 64 B from a saturating writer";
pub const TORN: &str = "torn";
pub const BACKWARDS: &str = "backwards";
/// How often a read began again because the writer was faster, for 100 distinct values.
pub const RETRIES: &str = "retries per 100";

/// The writer's orders.
#[derive(Args, Clone, Debug)]
pub struct Writing {
    name: String,
    capacity: usize,
    #[arg(action = clap::ArgAction::Set)]
    verified: bool,
}

/// Lines of the page that both sides share.
const STOP: usize = 0;
const WRITTEN: usize = 1;

impl Writing {
    /// Publishes as fast as it can until told to stop.
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        let space = shared_space(scratch, &self.name)?;
        let shape = Shape::from_arguments(self.capacity, self.verified);
        let mut writer = shape.create(&space, "value")?;
        let page = page(scratch, &self.name)?;
        let mut number = 0;
        say_ready()?;
        while page.word(STOP).load(Ordering::Relaxed) == 0 {
            number += 1;
            let sequence = writer.publish(&Proof::new(number).0)?;
            ensure!(sequence == number, "publication {number} got {sequence}");
        }
        page.word(WRITTEN).store(number, Ordering::Release);
        Ok(())
    }
}

fn page(scratch: &Scratch, name: &str) -> Result<SharedPage> {
    SharedPage::open(&scratch.path().join(format!("{name}-page")))
}

pub fn groups() -> Vec<Group> {
    let shapes = [
        Shape::unverified(SMALL),
        Shape::verified(SMALL),
        Shape::unverified(LARGE),
        Shape::verified(LARGE),
    ];
    vec![Group {
        title: TITLE,
        references: vec![],
        floor: None,
        rows: shapes
            .map(|shape| Row::new(shape.label(), move |run| saturated(run, shape)))
            .into(),
    }]
}

fn saturated(run: Run, shape: Shape) -> Result<Outcome> {
    let path = run.scratch.fresh("saturated");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let page = page(run.scratch, &name)?;
    let [capacity, verified] = shape.arguments();
    let role = ["publish", &name, &capacity, &verified];
    let mut peer = Peer::spawn(run.scratch, FAR, &role, Stdio::piped())?;
    peer.await_ready()?;
    let space = shared_space(run.scratch, &name)?;
    let mut reader = Reader::open_timeout(&space, "value", DEADLINE)?;
    let wanted = run.effort.distinct_values();
    let (mut distinct, mut unchanged, mut torn, mut backwards) = (0_u64, 0_u64, 0_u64, 0_u64);
    let mut last = 0;
    let mut times = Histogram::new();
    let mut patience = Patience::new();
    let start = Instant::now();
    while distinct < wanted {
        let before = ticks();
        let snapshot = reader.read()?;
        let (sequence, proof) = match &snapshot {
            Some(snapshot) => (snapshot.sequence(), Proof::check(snapshot)),
            None => (0, None),
        };
        let time = ticks() - before;
        if sequence == last {
            unchanged += 1;
            patience.spin()?;
            continue;
        }
        patience = Patience::new();
        times.add(time);
        distinct += 1;
        torn += u64::from(proof != Some(sequence));
        backwards += u64::from(sequence < last);
        last = sequence;
    }
    let elapsed = start.elapsed();
    page.word(STOP).store(1, Ordering::Relaxed);
    peer.finish()?;
    let written = page.word(WRITTEN).load(Ordering::Acquire);
    let millions_a_second = |count: u64| count as f64 / elapsed.as_secs_f64() / 1e6;
    Ok(Outcome {
        summary: times.summary(),
        facts: vec![
            (TORN, torn as f64),
            (BACKWARDS, backwards as f64),
            (RETRIES, reader.retries() as f64 * 100.0 / distinct as f64),
            ("distinct values", distinct as f64),
            ("unchanged reads", unchanged as f64),
            ("million values a second", millions_a_second(distinct)),
            ("million published a second", millions_a_second(written)),
        ],
    })
}
