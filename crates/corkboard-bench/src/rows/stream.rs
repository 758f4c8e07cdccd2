//! Records in one direction, to another process on another core.
//!
//! Fair, because each record is sent by itself, differs from all others, and is checked by the
//! other process in full and in order: none is lost. Everybody has room for 1024 records of
//! 64 bytes, or four of 1 MiB; sockets and pipes have what the kernel gives them.
//!
//! Producing is timed while the receiver waits, and the receiver drains what was sent before the
//! next batch: that is what a producer pays, with its memory in the other core's caches. In the
//! sustained rows both sides go as fast as they can, and whoever waits for room does so in its own
//! library's way.

use std::process::Stdio;

use ::ringfire::FlowControl;
use anyhow::Result;
use clap::{Args, ValueEnum};

use super::{Group, Outcome, Row, Run};
use crate::floors::{self, Places};
use crate::flow::{self, Inlet, Numbered, Outlet};
use crate::measure::Summary;
use crate::payload::{LONG, Proof, SHORT};
use crate::peers::iceoryx2::{SampleInlet, SampleOutlet};
use crate::peers::ringfire;
use crate::peers::socket::{Records, Written};
use crate::process::{FAR, Peer, say_ready};
use crate::scratch::{Scratch, SharedPage};
use crate::stream::{In, Out, Shape, UNVERIFIED, VERIFIED};

pub const PRODUCE: &str = "produce 64 B, drained by another process";
pub const SUSTAINED: &str = "a 64 B record, sustained, to another process";
pub const LONG_SUSTAINED: &str = "a 1 MiB record, sustained, to another process";

pub const RING: &str = "ringfire ring";
pub const PUB_SUB: &str = "iceoryx2 pub/sub";
pub const MEMCPY: &str = "memcpy alone, read by the other process";
const COPY: &str = "memcpy alone, in one process, not read";
const SOCKET: &str = "Unix stream socket";
const PIPE: &str = "pipe";

/// What the far side receives from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Stream,
    Ring,
    Samples,
    /// Standard input.
    Bytes,
    Places,
}

/// The far side's orders.
#[derive(Args, Clone, Debug)]
pub struct Draining {
    name: String,
    transport: Transport,
    len: usize,
}

impl Draining {
    /// Receives and checks until told to end.
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        let name = &self.name;
        match self.transport {
            Transport::Stream => self.drain(scratch, In::open(scratch, name)?),
            Transport::Ring => self.drain(scratch, ringfire::inlet(scratch, name)?),
            Transport::Samples if self.len == SHORT => {
                self.drain(scratch, SampleInlet::<SHORT>::open(scratch, name)?)
            }
            Transport::Samples => self.drain(scratch, SampleInlet::<LONG>::open(scratch, name)?),
            Transport::Bytes => self.drain(scratch, Records::inherited(self.len)?),
            Transport::Places => self.drain(scratch, Places::open(scratch, name)?),
        }
    }

    fn drain(&self, scratch: &Scratch, mut inlet: impl Inlet) -> Result<()> {
        let page = page(scratch, &self.name)?;
        say_ready()?;
        if self.len == SHORT {
            return flow::drain(&mut inlet, &page, Proof::check);
        }
        let records = Numbered::new();
        flow::drain(&mut inlet, &page, |record| records.check(record))
    }
}

fn page(scratch: &Scratch, name: &str) -> Result<SharedPage> {
    SharedPage::open(&scratch.path().join(format!("{name}-page")))
}

/// How a group measures.
#[derive(Clone, Copy)]
enum Flow {
    Produce,
    Sustain,
    SustainLong,
}

impl Flow {
    fn len(self) -> usize {
        match self {
            Self::Produce | Self::Sustain => SHORT,
            Self::SustainLong => LONG,
        }
    }

    fn measure(self, run: Run, outlet: &mut impl Outlet, page: &SharedPage) -> Result<Summary> {
        let samples = |usual| run.effort.samples(usual);
        match self {
            Self::Produce => flow::produce(outlet, page, samples(20_000)),
            Self::Sustain => flow::sustain(outlet, page, samples(100)),
            Self::SustainLong => flow::sustain_long(outlet, page, samples(50)),
        }
    }

    /// What the time of one record comes to.
    fn rate(self, summary: &Summary) -> Option<(&'static str, f64)> {
        match self {
            Self::Produce => None,
            Self::Sustain => Some(("million records a second", 1e3 / summary.p50)),
            Self::SustainLong => Some(("GB a second", LONG as f64 / summary.p50)),
        }
    }
}

pub fn groups() -> Vec<Group> {
    let group = |title, references: &[_], rows: Vec<Row>| Group {
        title,
        references: references.to_vec(),
        floor: None,
        rows,
    };
    let both = |flow| [UNVERIFIED, VERIFIED].map(|shape| ours(flow, shape));
    let overwriting = [UNVERIFIED, VERIFIED].map(|shape| ours(Flow::Produce, shape.overwriting()));
    let produce = both(Flow::Produce).into_iter().chain(overwriting);
    let to_peers = [("ringfire", RING), ("iceoryx2", PUB_SUB)];
    vec![
        group(
            PRODUCE,
            &to_peers,
            produce
                .chain([ring(Flow::Produce, FlowControl::LossyLatestWins)])
                .chain(peers::<SHORT>(Flow::Produce))
                .collect(),
        ),
        group(
            SUSTAINED,
            &to_peers,
            both(Flow::Sustain)
                .into_iter()
                .chain([ring(Flow::Sustain, FlowControl::LosslessBackpressure)])
                .chain(peers::<SHORT>(Flow::Sustain))
                .collect(),
        ),
        group(
            LONG_SUSTAINED,
            &[("memcpy", MEMCPY), ("iceoryx2", PUB_SUB)],
            [
                Row::new(COPY, |run| Ok(floors::copy(run.effort, LONG).into())),
                row(MEMCPY, Flow::SustainLong, Transport::Places, |run, name| {
                    Ok((Places::open(run.scratch, name)?, Stdio::piped()))
                }),
            ]
            .into_iter()
            .chain(both(Flow::SustainLong))
            .chain(peers::<LONG>(Flow::SustainLong))
            .collect(),
        ),
    ]
}

fn ours(flow: Flow, shape: Shape) -> Row {
    let label = match flow {
        Flow::SustainLong => lending(shape),
        _ => shape.label(),
    };
    row(label, flow, Transport::Stream, move |run, name| {
        let outlet = Out::create(run.scratch, name, flow.len(), shape)?;
        Ok((outlet, Stdio::piped()))
    })
}

/// How the rows of 1 MiB call it.
pub fn lending(shape: Shape) -> String {
    format!("{}, loan", shape.label())
}

fn ring(flow: Flow, control: FlowControl) -> Row {
    row(RING, flow, Transport::Ring, move |run, name| {
        let outlet = ringfire::outlet(run.scratch, name, control)?;
        Ok((outlet, Stdio::piped()))
    })
}

/// Those that take any number of bytes.
fn peers<const LEN: usize>(flow: Flow) -> [Row; 3] {
    [
        row(PUB_SUB, flow, Transport::Samples, |run, name| {
            let outlet = SampleOutlet::<LEN>::open(run.scratch, name)?;
            Ok((outlet, Stdio::piped()))
        }),
        row(SOCKET, flow, Transport::Bytes, |_, _| {
            let (outlet, far) = Written::socket()?;
            Ok((outlet, far.into()))
        }),
        row(PIPE, flow, Transport::Bytes, |_, _| {
            let (outlet, far) = Written::pipe()?;
            Ok((outlet, far.into()))
        }),
    ]
}

/// `open` creates what the far side opens after that, or what becomes its standard input.
fn row<O: Outlet>(
    label: impl Into<String>,
    flow: Flow,
    transport: Transport,
    open: impl Fn(Run, &str) -> Result<(O, Stdio)> + 'static,
) -> Row {
    Row::new(label, move |run| {
        let path = run.scratch.fresh("flow");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let page = page(run.scratch, &name)?;
        let (mut outlet, stdin) = open(run, &name)?;
        let transport = transport.to_possible_value().expect("none is skipped");
        let role = [
            "drain",
            &name,
            transport.get_name(),
            &flow.len().to_string(),
        ];
        let mut peer = Peer::spawn(run.scratch, FAR, &role, stdin)?;
        peer.await_ready()?;
        let summary = flow.measure(run, &mut outlet, &page)?;
        flow::end(&page);
        peer.finish()?;
        let facts = flow.rate(&summary).into_iter().collect();
        Ok(Outcome { summary, facts })
    })
}
