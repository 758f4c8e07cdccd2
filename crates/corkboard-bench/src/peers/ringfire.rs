//! ringfire: a seqlock per key (blackboard), and a ring of fixed-size records.
//!
//! Its values are `Copy` types, so the value is copied in, and copied out whole by every read.

use std::time::Instant;

use anyhow::{Result, bail};
use ringfire::{BlackboardConsumer, BlackboardProducer, RingConsumer, RingProducer};

use crate::link::{Link, Side};
use crate::payload::{Proof, SHORT, consume};
use crate::process::DEADLINE;
use crate::scratch::Scratch;

const KEYS: usize = 1;
const RING: u64 = 1024;

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

/// One ring in each direction; sent from and received into a record, as its interface has it.
pub struct Rings {
    out: RingProducer<[u8; SHORT]>,
    back: RingConsumer<[u8; SHORT]>,
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
