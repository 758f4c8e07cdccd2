//! 64 bytes to another process on another core, and back.
//!
//! Fair, because both sides are real processes pinned to one core each, the value differs in every
//! round, is read and checked in full on both sides, and is sent back by the same loop. Spinning
//! rounds follow one another at once; sleeping rounds begin when the far side is asleep, after a pause.
//!
//! Sleeping is measured twice. Between two cores of a virtual machine most of the time goes into
//! interrupting or un-halting the other processor, whatever the transport; on one core that both
//! sides share, only transports and the kernel's scheduler are left.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use super::{Group, Outcome, Row, Run};
use crate::board::{Boards, LARGE, SMALL, Shape};
use crate::event;
use crate::floors::{CacheLines, Futexes};
use crate::link::{Link, Side, echo, sleep, spin};
use crate::peers::iceoryx2::{Events, Services};
use crate::peers::ringfire::Rings;
use crate::peers::socket::Socket;
use crate::process::{FAR, NEAR, Peer, say_ready};
use crate::scratch::Scratch;
use crate::stream::{self, Streams, UNVERIFIED, VERIFIED};

pub const SPINNING: &str = "round trip 64 B, spinning";
/// How long a pause before each sleeping round, and how many rounds.
const IDLE: Duration = Duration::from_millis(2);
const SLEEPING_ROUNDS: usize = 1_000;

pub const SLEEPING: &str = "round trip 64 B, sleeping, on one core";
const SLEEPING_APART: &str = "round trip 64 B, sleeping, on two cores";
pub const RING: &str = "ringfire ring";
pub const PUB_SUB: &str = "iceoryx2 pub/sub";
pub const OUR_EVENT: &str = "corkboard event (no value)";
pub const EVENT: &str = "iceoryx2 event (no value)";
const LINES: &str = "two bare cache lines";
pub const FUTEX: &str = "two bare futexes";

/// What the far side of a round trip is to open. Every variant names the link's files.
#[derive(Subcommand, Clone, Debug)]
pub enum Far {
    Boards {
        name: String,
        capacity: usize,
        #[arg(action = clap::ArgAction::Set)]
        verified: bool,
        #[arg(action = clap::ArgAction::Set)]
        sleeps: bool,
    },
    Streams {
        name: String,
        #[arg(action = clap::ArgAction::Set)]
        verified: bool,
        #[arg(action = clap::ArgAction::Set)]
        sleeps: bool,
    },
    Rings {
        name: String,
    },
    Services {
        name: String,
    },
    Events {
        name: String,
    },
    OurEvents {
        name: String,
    },
    CacheLines {
        name: String,
    },
    Futexes {
        name: String,
    },
    Socket {
        name: String,
    },
}

impl Far {
    /// Plays the far side until the near side ends it.
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        fn play(mut link: impl Link) -> Result<()> {
            say_ready()?;
            echo(&mut link)
        }
        let far = Side::Far;
        match self {
            Self::Boards {
                name,
                capacity,
                verified,
                sleeps,
            } => {
                let shape = Shape::from_arguments(*capacity, *verified);
                if *sleeps {
                    play(Boards::<true>::open(scratch, name, far, shape)?)
                } else {
                    play(Boards::<false>::open(scratch, name, far, shape)?)
                }
            }
            Self::Streams {
                name,
                verified,
                sleeps,
            } => {
                let shape = if *verified { VERIFIED } else { UNVERIFIED };
                if *sleeps {
                    play(Streams::<true>::open(scratch, name, far, shape)?)
                } else {
                    play(Streams::<false>::open(scratch, name, far, shape)?)
                }
            }
            Self::Rings { name } => play(Rings::open(scratch, name, far)?),
            Self::Services { name } => play(Services::open(scratch, name, far)?),
            Self::Events { name } => play(Events::open(scratch, name, far)?),
            Self::OurEvents { name } => play(event::Events::open(scratch, name, far)?),
            Self::CacheLines { name } => play(CacheLines::open(scratch, name, far)?),
            Self::Futexes { name } => play(Futexes::open(scratch, name, far)?),
            Self::Socket { .. } => play(Socket::inherited()?),
        }
    }
}

pub fn groups() -> Vec<Group> {
    vec![
        Group {
            title: SPINNING,
            references: vec![("lines", LINES), ("ringfire", RING), ("iceoryx2", PUB_SUB)],
            floor: None,
            rows: vec![
                spinning(LINES, &["cache-lines"], CacheLines::open),
                spinning_boards(Shape::unverified(SMALL)),
                spinning_boards(Shape::verified(SMALL)),
                spinning_boards(Shape::unverified(LARGE)),
                spinning_boards(Shape::verified(LARGE)),
                spinning_streams(UNVERIFIED),
                spinning_streams(VERIFIED),
                spinning(RING, &["rings"], Rings::open),
                spinning(PUB_SUB, &["services"], Services::open),
            ],
        },
        sleeping_group(SLEEPING, NEAR),
        sleeping_group(SLEEPING_APART, FAR),
    ]
}

fn sleeping_group(title: &'static str, core: usize) -> Group {
    Group {
        title,
        references: vec![("futex", FUTEX), ("iceoryx2", EVENT)],
        floor: None,
        rows: vec![
            futexes(core),
            sleeping_boards(Shape::verified(SMALL), core),
            sleeping_boards(Shape::verified(LARGE), core),
            sleeping_streams(VERIFIED, core),
            sleeping(OUR_EVENT, core, &["our-events"], event::Events::open),
            sleeping(EVENT, core, &["events"], Events::open),
            Row::new("Unix stream socket", move |run| {
                let (mut near, far) = Socket::pair()?;
                let peer = Peer::spawn(run.scratch, core, &["socket", "socket"], Stdio::from(far))?;
                slept(run, &mut near, peer)
            }),
        ],
    }
}

/// The price of sleeping and being woken, whatever for.
pub fn futexes(core: usize) -> Row {
    sleeping(FUTEX, core, &["futexes"], Futexes::open)
}

type Open<L> = fn(&Scratch, &str, Side) -> Result<L>;

fn spinning<L: Link + 'static>(label: &str, role: &'static [&str], open: Open<L>) -> Row {
    Row::new(label, move |run| {
        let (mut near, peer) = connect(run.scratch, FAR, role, |name| {
            open(run.scratch, name, Side::Near)
        })?;
        spun(run, &mut near, peer)
    })
}

fn sleeping<L: Link + 'static>(
    label: &str,
    core: usize,
    role: &'static [&str],
    open: Open<L>,
) -> Row {
    Row::new(label, move |run| {
        let (mut near, peer) = connect(run.scratch, core, role, |name| {
            open(run.scratch, name, Side::Near)
        })?;
        slept(run, &mut near, peer)
    })
}

fn spinning_boards(shape: Shape) -> Row {
    Row::new(shape.label(), move |run| {
        let (mut near, peer) = connect_boards::<false>(run.scratch, FAR, shape)?;
        spun(run, &mut near, peer)
    })
}

fn sleeping_boards(shape: Shape, core: usize) -> Row {
    Row::new(shape.label(), move |run| {
        let (mut near, peer) = connect_boards::<true>(run.scratch, core, shape)?;
        slept(run, &mut near, peer)
    })
}

fn spinning_streams(shape: stream::Shape) -> Row {
    Row::new(shape.label(), move |run| {
        let (mut near, peer) = connect_streams::<false>(run.scratch, FAR, shape)?;
        spun(run, &mut near, peer)
    })
}

fn sleeping_streams(shape: stream::Shape, core: usize) -> Row {
    Row::new(shape.label(), move |run| {
        let (mut near, peer) = connect_streams::<true>(run.scratch, core, shape)?;
        slept(run, &mut near, peer)
    })
}

fn spun(run: Run, near: &mut impl Link, peer: Peer) -> Result<Outcome> {
    let summary = spin(near, run.effort.samples(1_000_000))?;
    peer.finish()?;
    Ok(summary.into())
}

pub fn slept(run: Run, near: &mut impl Link, peer: Peer) -> Result<Outcome> {
    slept_rounds(run, near, peer, SLEEPING_ROUNDS)
}

/// As [`slept`], with so many rounds at usual effort.
pub fn slept_rounds(
    run: Run,
    near: &mut impl Link,
    mut peer: Peer,
    rounds: usize,
) -> Result<Outcome> {
    peer.await_ready()?;
    let slept = sleep(near, run.effort.samples(rounds), IDLE, &peer)?;
    peer.finish()?;
    Ok(Outcome {
        summary: slept.summary,
        facts: vec![
            (FAR_SLEEPS, slept.far_sleeps),
            (NEAR_SLEEPS, slept.near_sleeps),
        ],
    })
}

/// How often the far side went to sleep in a round.
pub const FAR_SLEEPS: &str = "sleeps a round, far side";
const NEAR_SLEEPS: &str = "near side";

/// Starts the far side and opens the near one meanwhile, for each waits for what the other
/// creates.
pub fn connect<L>(
    scratch: &Scratch,
    core: usize,
    role: &[&str],
    open: impl FnOnce(&str) -> Result<L>,
) -> Result<(L, Peer)> {
    let path = scratch.fresh("link");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (kind, options) = role.split_at(1);
    let role = [kind, &[&*name], options].concat();
    let mut peer = Peer::spawn(scratch, core, &role, Stdio::piped())?;
    let near = open(&name)?;
    peer.await_ready()?;
    Ok((near, peer))
}

fn connect_boards<const SLEEPS: bool>(
    scratch: &Scratch,
    core: usize,
    shape: Shape,
) -> Result<(Boards<SLEEPS>, Peer)> {
    let [capacity, verified] = shape.arguments();
    let sleeps = SLEEPS.to_string();
    let role = ["boards", &capacity, &verified, &sleeps];
    connect(scratch, core, &role, |name| {
        Boards::open(scratch, name, Side::Near, shape)
    })
}

fn connect_streams<const SLEEPS: bool>(
    scratch: &Scratch,
    core: usize,
    shape: stream::Shape,
) -> Result<(Streams<SLEEPS>, Peer)> {
    let [verified, sleeps] = [shape == VERIFIED, SLEEPS].map(|flag| flag.to_string());
    let role = ["streams", &verified, &sleeps];
    connect(scratch, core, &role, |name| {
        Streams::open(scratch, name, Side::Near, shape)
    })
}
