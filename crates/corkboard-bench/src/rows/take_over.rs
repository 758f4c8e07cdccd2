//! From a writer's death to its standby's first publication.
//!
//! Real processes on a core each. The writer publishes without pause until it is killed with
//! SIGKILL, at a random moment. The standby waits to be a writer, publishes one value, and then
//! looks at the clock that all processes share: the time is from just before the kill until then.
//! The kernel's tearing down of the killed process is in it. The standby's core also runs this
//! process, which sleeps meanwhile.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use corkboard::board::Options;
use rustix::time::{ClockId, clock_gettime};

use super::{Group, Row, Run};
use crate::board::{SMALL, Shape, shared_space};
use crate::measure::Summary;
use crate::payload::Proof;
use crate::process::{DEADLINE, FAR, NEAR, Patience, Peer, say_ready};
use crate::scratch::{Scratch, SharedPage};

pub const TITLE: &str = "take-over after SIGKILL";
pub const LABEL: &str = "corkboard, standby's first publication";

/// The standby's orders.
#[derive(Args, Clone, Debug)]
pub struct Standing {
    name: String,
}

/// The line of the page in which the standby says when it published, in nanoseconds.
const PUBLISHED: usize = 2;

impl Standing {
    /// Waits to be a writer, publishes once, and says when that was.
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        let space = shared_space(scratch, &self.name)?;
        let page = page(scratch, &self.name)?;
        say_ready()?;
        let mut writer = Options::new()
            .writer_timeout(DEADLINE)
            .open_writer(&space, "value")?;
        writer.publish(&Proof::new(1).0)?;
        // Release pairs with the Acquire in `killed`.
        page.word(PUBLISHED).store(now_ns(), Ordering::Release);
        Ok(())
    }
}

fn page(scratch: &Scratch, name: &str) -> Result<SharedPage> {
    SharedPage::open(&scratch.path().join(format!("{name}-page")))
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub fn groups() -> Vec<Group> {
    vec![Group {
        title: TITLE,
        references: vec![],
        floor: None,
        rows: vec![Row::new(LABEL, |run| Ok(taken_over(run)?.into()))],
    }]
}

fn taken_over(run: Run) -> Result<Summary> {
    let samples = (0..run.effort.samples(400)).map(|round| killed(run, round as u64));
    Ok(Summary::of_ns(samples.collect::<Result<Vec<_>>>()?))
}

/// One death. Returns the nanoseconds until the standby had published.
fn killed(run: Run, round: u64) -> Result<u64> {
    let path = run.scratch.fresh("take-over");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let page = page(run.scratch, &name)?;
    let [capacity, verified] = Shape::verified(SMALL).arguments();
    let role = ["publish", &name, &capacity, &verified];
    let mut writer = Peer::spawn(run.scratch, FAR, &role, Stdio::piped())?;
    writer.await_ready()?;
    let role = ["stand-by", &name];
    let mut standby = Peer::spawn(run.scratch, NEAR, &role, Stdio::piped())?;
    standby.await_ready()?;
    // From when it surely waits, over more than one of its looks.
    let random = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    std::thread::sleep(Duration::from_millis(10) + Duration::from_nanos(random * 10));
    let published = page.word(PUBLISHED);
    ensure!(
        published.load(Ordering::Acquire) == 0,
        "the standby did not wait for the writer's death"
    );
    let killed = now_ns();
    drop(writer);
    let mut patience = Patience::new();
    loop {
        // Acquire pairs with the Release in `Standing::play`.
        let published = published.load(Ordering::Acquire);
        if published != 0 {
            standby.finish()?;
            let time = published.checked_sub(killed);
            return time.context("the standby published before the writer was killed");
        }
        patience.look()?;
        std::thread::sleep(Duration::from_micros(200));
    }
}
