//! ringfire: a seqlock per key (blackboard), and a ring of fixed-size records.
//!
//! Its values are `Copy` types, so the value is copied in, and copied out whole by every read.

use std::time::Instant;

use anyhow::{Result, bail};
use ringfire::{
    BlackboardConsumer, BlackboardProducer, FlowControl, RingConsumer, RingProducer,
    RingProducerBuilder,
};

use crate::flow::{Inlet, Outlet};
use crate::link::{Link, Side};
use crate::payload::{Proof, SHORT, consume};
use crate::process::DEADLINE;
use crate::scratch::Scratch;

const KEYS: usize = 1;
/// Records in a ring.
pub const RING: u64 = 1024;

/// Writes of one key of a blackboard.
pub fn publisher<const N: usize>(scratch: &Scratch) -> Result<impl FnMut(&[u8]) + use<N>> {
    let path = scratch.fresh("ringfire-blackboard");
    let mut producer = BlackboardProducer::<[u8; N]>::create(path, KEYS)?;
    Ok(move |value: &[u8]| {
        let value: &[u8; N] = value.try_into().expect("a value of N bytes");
        producer.write(0, value).expect("ringfire writes");
    })
}

/// Pushes into a ring that nobody reads: the oldest records are overwritten.
pub fn ring_publisher<const N: usize>(scratch: &Scratch) -> Result<impl FnMut(&[u8]) + use<N>> {
    let path = scratch.fresh("ringfire-ring");
    let mut producer = RingProducer::<[u8; N]>::create(path, RING)?;
    Ok(move |value: &[u8]| {
        let value: &[u8; N] = value.try_into().expect("a value of N bytes");
        producer.push(value);
    })
}

/// Reads of one key of a blackboard.
pub fn reader<const N: usize>(scratch: &Scratch, value: &[u8]) -> Result<impl FnMut() + use<N>> {
    let path = scratch.fresh("ringfire-blackboard");
    let mut producer = BlackboardProducer::<[u8; N]>::create(&path, KEYS)?;
    producer.write(0, value.try_into()?)?;
    let consumer = BlackboardConsumer::<[u8; N]>::attach(&path)?;
    Ok(move || {
        // The producer stays alive as long as the consumer reads.
        let _ = &producer;
        let value = consumer.read(0).expect("ringfire reads");
        consume::<N>(&value.expect("it was written"));
    })
}

type Short = [u8; SHORT];

/// One ring in each direction; sent from and received into a record, as its interface has it.
pub struct Rings {
    out: RingProducer<Short>,
    back: RingConsumer<Short>,
}

impl Rings {
    pub fn open(scratch: &Scratch, name: &str, side: Side) -> Result<Self> {
        let (out, back) = side.choose("there", "back");
        let path = |direction| scratch.path().join(format!("{name}-{direction}"));
        let out = RingProducer::create(path(out), RING)?;
        let start = Instant::now();
        loop {
            match RingConsumer::attach(path(back)) {
                Ok(back) => return Ok(Self { out, back }),
                Err(error) if start.elapsed() > DEADLINE => bail!("ringfire attaches: {error}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

impl Link for Rings {
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        self.out.push(&value.0);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let record = self.back.try_recv();
        if let Some(record) = record {
            value.0 = record;
        }
        Ok(record.is_some())
    }
}

/// A ring that overwrites the oldest record, which is its default, or waits for the reader.
pub fn outlet(scratch: &Scratch, name: &str, flow: FlowControl) -> Result<RingProducer<Short>> {
    let builder = RingProducerBuilder::new(RING).flow_control(flow);
    Ok(builder.build(scratch.path().join(name))?)
}

pub fn inlet(scratch: &Scratch, name: &str) -> Result<RingConsumer<Short>> {
    Ok(RingConsumer::attach(scratch.path().join(name))?)
}

impl Outlet for RingProducer<Short> {
    #[inline(always)]
    fn push(&mut self, record: &[u8]) -> Result<()> {
        RingProducer::push(self, record.try_into()?);
        Ok(())
    }
}

impl Inlet for RingConsumer<Short> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnOnce(&[u8])) -> Result<bool> {
        let record = self.try_recv();
        if let Some(record) = &record {
            each(record);
        }
        Ok(record.is_some())
    }
}
