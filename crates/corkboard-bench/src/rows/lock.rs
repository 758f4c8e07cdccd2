//! Locks and events: alone, handed over, among many.
//!
//! Fair, because every lock is held exclusively but where it says that it is shared, both sides of
//! a hand-over are asleep until it comes, and each does the same work in between: none. The
//! original's lock polls every 15 ms; a robust mutex survives its owner's death as ours does, but
//! knows no readers and no computers beyond this one.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use corkboard::event::{Event, Reset};
use corkboard::lock::RwLock;

use super::{Group, Outcome, Row, Run, round_trip};
use crate::board::shared_space;
use crate::clock::{ns_per_tick, ticks};
use crate::link::{Side, echo};
use crate::locks::{Corkboard, Flock, HandOver, Lock, Ofd, Open, Polling, RobustMutex};
use crate::measure::{Summary, batched};
use crate::process::{DEADLINE, FAR, NEAR, Peer, say_ready};
use crate::scratch::{Scratch, SharedPage};

pub const ALONE: &str = "lock and unlock, nobody else";
pub const BARE_READ: &str = "bare fcntl calls of a read lock";
pub const READ: &str = "corkboard, read lock";
pub const HAND_OVER: &str = "two lock hand-overs, both sides asleep, on one core";
const HAND_OVER_APART: &str = "two lock hand-overs, both sides asleep, on two cores";
pub const NAMED: &str = "corkboard lock";
pub const POLLING: &str = "the original's polling lock";
pub const AMONG: &str = "a lock among eight that come without pause";
pub const WRITER_AMONG_READERS: &str = "corkboard, a writer among readers";
pub const LONGEST: &str = "longest, ms";
pub const SET: &str = "set an event, nobody waits";
pub const TIME_OUTS: &str = "how late a time-out is";
pub const TIME_OUT_ROWS: [&str; 2] = ["corkboard lock, 1 ms", "corkboard lock, 100 ms"];
pub const EARLY: &str = "early";

/// Whose lock a hand-over is of.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Named,
    At,
    Ofd,
    Flock,
    Mutex,
    Polling,
}

/// The far side of a hand-over.
#[derive(Args, Clone, Debug)]
pub struct Handing {
    kind: Kind,
    name: String,
}

impl Handing {
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        fn far<L: Lock>(path: &std::path::Path, open: Open<L>) -> Result<()> {
            let mut link = HandOver::open(path, Side::Far, open)?;
            say_ready()?;
            echo(&mut link)
        }
        let path = scratch.path().join(&self.name);
        match self.kind {
            Kind::Named => far(&path, Corkboard::named),
            Kind::At => far(&path, Corkboard::at),
            Kind::Ofd => far(&path, Ofd::open),
            Kind::Flock => far(&path, Flock::open),
            Kind::Mutex => far(&path, RobustMutex::open),
            Kind::Polling => far(&path, Polling::open),
        }
    }
}

/// One of many who take a lock again and again until they are killed.
#[derive(Args, Clone, Debug)]
pub struct Crowd {
    name: String,
    #[arg(action = clap::ArgAction::Set)]
    writes: bool,
    /// How long each stays in, in microseconds.
    stays: u64,
}

impl Crowd {
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        // On any core: a crowd is not a matter of where it stands.
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(NEAR);
        cores.set(FAR);
        rustix::thread::sched_setaffinity(None, &cores)?;
        let space = shared_space(scratch, &self.name)?;
        let mut lock = RwLock::open(&space, "lock")?;
        let page = SharedPage::open(&scratch.path().join(format!("{}-page", self.name)))?;
        say_ready()?;
        while page.word(0).load(Ordering::Relaxed) == 0 {
            let guard = match self.writes {
                true => lock.write()?,
                false => lock.read()?,
            };
            page.word(1).fetch_add(1, Ordering::Relaxed);
            if self.stays > 0 {
                std::thread::sleep(Duration::from_micros(self.stays));
            }
            drop(guard);
        }
        Ok(())
    }
}

pub fn groups() -> Vec<Group> {
    vec![
        alone(),
        hand_over(HAND_OVER, NEAR),
        hand_over(HAND_OVER_APART, FAR),
        Group {
            title: AMONG,
            references: vec![],
            floor: None,
            rows: vec![
                Row::new(WRITER_AMONG_READERS, |run| among(run, Others::Read)),
                Row::new("corkboard, a reader among writers", |run| {
                    among(run, Others::Write { stays: 0 })
                }),
                Row::new("corkboard, a reader among writers that stay 1 ms", |run| {
                    among(run, Others::Write { stays: 1_000 })
                }),
            ],
        },
        Group {
            title: SET,
            references: vec![],
            floor: None,
            rows: vec![Row::new("corkboard event", |run| {
                let space = shared_space(run.scratch, &fresh(run, "events"))?;
                let event = Event::create(&space, "event", Reset::Auto)?;
                Ok(batched(run.effort, || event.set().expect("it is set")).into())
            })],
        },
        Group {
            title: TIME_OUTS,
            references: vec![],
            floor: None,
            rows: vec![
                Row::new(TIME_OUT_ROWS[0], |run| late(run, Duration::from_millis(1))),
                Row::new(TIME_OUT_ROWS[1], |run| {
                    late(run, Duration::from_millis(100))
                }),
            ],
        },
    ]
}

fn fresh(run: Run, name: &str) -> String {
    let path = run.scratch.fresh(name);
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn alone() -> Group {
    fn row<L: Lock + 'static>(label: &'static str, open: Open<L>) -> Row {
        Row::new(label, move |run| {
            let mut lock = open(&run.scratch.fresh("alone"))?;
            let both = || {
                assert!(lock.acquire().expect("it can be had"));
                lock.release().expect("it can be given back");
            };
            Ok(batched(run.effort, both).into())
        })
    }
    let reading = |label: &'static str, open: fn(Run) -> Result<RwLock>| {
        Row::new(label, move |run| {
            let mut lock = open(run)?;
            let both = || drop(lock.read().expect("it can be had"));
            Ok(batched(run.effort, both).into())
        })
    };
    Group {
        title: ALONE,
        references: vec![("bare", BARE_READ)],
        floor: None,
        rows: vec![
            Row::new(BARE_READ, |run| {
                let lock = Ofd::open(&run.scratch.fresh("alone"))?;
                let both = || lock.read_and_release().expect("it can be had");
                Ok(batched(run.effort, both).into())
            }),
            reading(READ, |run| {
                let space = shared_space(run.scratch, &fresh(run, "alone"))?;
                Ok(RwLock::open(&space, "lock")?)
            }),
            reading("corkboard, read lock at a path", |run| {
                Ok(RwLock::at(run.scratch.fresh("alone"))?)
            }),
            row("corkboard, write lock", Corkboard::named),
            row("corkboard, write lock at a path", Corkboard::at),
            row("bare OFD lock", Ofd::open),
            row("flock", Flock::open),
            row("robust pthread mutex", RobustMutex::open),
            row(POLLING, Polling::open),
        ],
    }
}

fn hand_over(title: &'static str, core: usize) -> Group {
    fn row<L: Lock + 'static>(
        label: &'static str,
        core: usize,
        kind: &'static str,
        open: Open<L>,
    ) -> Row {
        Row::new(label, move |run| {
            let name = fresh(run, "hand-over");
            let role = ["hand", kind, &name];
            let mut peer = Peer::spawn(run.scratch, core, &role, Stdio::piped())?;
            let mut near = HandOver::open(&run.scratch.path().join(&name), Side::Near, open)?;
            peer.await_ready()?;
            // A round of the one that polls takes some 15 ms.
            let rounds = if label == POLLING { 200 } else { 1_000 };
            round_trip::slept_rounds(run, &mut near, peer, rounds)
        })
    }
    Group {
        title,
        references: vec![("futex", round_trip::FUTEX)],
        floor: None,
        rows: vec![
            round_trip::futexes(core),
            row(NAMED, core, "named", Corkboard::named),
            row("corkboard lock at a path", core, "at", Corkboard::at),
            row(
                "bare OFD lock, waiting in the kernel",
                core,
                "ofd",
                Ofd::open,
            ),
            row("flock, waiting in the kernel", core, "flock", Flock::open),
            row("robust pthread mutex", core, "mutex", RobustMutex::open),
            row(POLLING, core, "polling", Polling::open),
        ],
    }
}

/// What eight others do with a lock without pause.
#[derive(Clone, Copy)]
enum Others {
    Read,
    /// And stay in for so many microseconds.
    Write {
        stays: u64,
    },
}

/// How long one has to wait who comes for the lock while others take it: to write among readers,
/// to read among writers.
fn among(run: Run, others: Others) -> Result<Outcome> {
    let (others_write, stays) = match others {
        Others::Read => (false, 0),
        Others::Write { stays } => (true, stays),
    };
    const OTHERS: usize = 8;
    let name = fresh(run, "among");
    let page = SharedPage::open(&run.scratch.path().join(format!("{name}-page")))?;
    let space = shared_space(run.scratch, &name)?;
    let mut lock = RwLock::open(&space, "lock")?;
    let writes = others_write.to_string();
    let role = ["crowd", &name, &writes, &stays.to_string()];
    let mut crowd = (0..OTHERS)
        .map(|_| Peer::spawn(run.scratch, FAR, &role, Stdio::piped()))
        .collect::<Result<Vec<_>>>()?;
    crowd.iter_mut().try_for_each(Peer::await_ready)?;
    let count = run.effort.samples(1_000);
    let mut samples = Vec::with_capacity(count);
    let before = page.word(1).load(Ordering::Relaxed);
    for _ in 0..count {
        let start = ticks();
        let guard = match others_write {
            true => lock.read_timeout(DEADLINE)?,
            false => lock.write_timeout(DEADLINE)?,
        };
        samples.push(ticks() - start);
        ensure!(guard.is_some(), "never let in");
        drop(guard);
        // The others go on meanwhile.
        std::thread::sleep(Duration::from_micros(200));
    }
    let between = page.word(1).load(Ordering::Relaxed) - before;
    page.word(0).store(1, Ordering::Relaxed);
    crowd.into_iter().try_for_each(Peer::finish)?;
    let longest = samples.iter().max().copied().unwrap_or(0);
    Ok(Outcome {
        summary: Summary::of_ticks(samples, 1),
        facts: vec![
            (LONGEST, longest as f64 * ns_per_tick() / 1e6),
            ("others' turns in between", between as f64 / count as f64),
        ],
    })
}

/// How late a time-out is while somebody holds the lock.
fn late(run: Run, timeout: Duration) -> Result<Outcome> {
    let space = shared_space(run.scratch, &fresh(run, "late"))?;
    let mut holder = RwLock::open(&space, "lock")?;
    let _held = holder.write()?;
    let mut lock = RwLock::open(&space, "lock")?;
    let count = run
        .effort
        .samples(200)
        .min((2.0 / timeout.as_secs_f64()) as usize);
    let mut early = 0;
    let mut samples = Vec::with_capacity(count);
    for index in 0..count {
        let start = Instant::now();
        let got = match index % 2 {
            0 => lock.read_timeout(timeout)?.is_some(),
            _ => lock.write_timeout(timeout)?.is_some(),
        };
        let took = start.elapsed();
        ensure!(!got, "it is held");
        early += u64::from(took < timeout);
        samples.push(took.saturating_sub(timeout).as_nanos() as u64);
    }
    let longest = samples.iter().max().copied().unwrap_or(0);
    Ok(Outcome {
        summary: Summary::of_ns(samples),
        facts: vec![(LONGEST, longest as f64 / 1e6), (EARLY, early as f64)],
    })
}
