//! A round trip: a value there, the same value back, checked in full on both sides.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::clock::ticks;
use crate::measure::Summary;
use crate::payload::Proof;
use crate::process::{Patience, Peer, voluntary_switches};

/// Which end of a two-way link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sends first, and measures.
    Near,
    /// Sends back what it receives.
    Far,
}

impl Side {
    /// What the near side sends on and receives from; the other way round for the far side.
    pub fn choose<T>(self, out: T, back: T) -> (T, T) {
        match self {
            Self::Near => (out, back),
            Self::Far => (back, out),
        }
    }
}

/// Both directions of a transport of 64-byte values.
///
/// Values are copied out and checked by `Proof::check`, by every implementation alike: none may
/// skip using the bytes, and each pays for the same copy into the next publication.
pub trait Link {
    /// Whether `receive` sleeps for at most [`SLICE`] instead of returning at once.
    const SLEEPS: bool = false;

    /// Publishes a value.
    fn send(&mut self, value: &Proof) -> Result<()>;

    /// A value not received before, `None` when there is none yet.
    fn receive(&mut self) -> Result<Option<Proof>>;
}

/// How long a sleeping side waits before it looks whether it should give up.
pub const SLICE: Duration = Duration::from_secs(1);

/// The number that tells the far side to end. It fits into 32 bits, for the floors count so.
pub const END: u64 = u32::MAX as u64;

/// The far side: sends back whatever comes, until the end.
pub fn echo(link: &mut impl Link) -> Result<()> {
    loop {
        let value = wait(link)?;
        link.send(&value)?;
        if value.number() == END {
            return Ok(());
        }
    }
}

/// The near side: rounds as fast as they go. Each is timed, by one stamp a round.
pub fn spin(link: &mut impl Link, rounds: usize) -> Result<Summary> {
    let warm_up = rounds / 10;
    let mut stamps = Vec::with_capacity(rounds + 1);
    for round in 0..warm_up + rounds {
        if round >= warm_up {
            stamps.push(ticks());
        }
        exchange(link, round as u64 + 1)?;
    }
    stamps.push(ticks());
    exchange(link, END)?;
    Ok(Summary::of_stamps(&stamps))
}

/// A round trip with both sides asleep in between.
pub struct Slept {
    pub summary: Summary,
    /// How often the far side went to sleep, per round.
    pub far_sleeps: f64,
    /// How often this side went to sleep, per round.
    pub near_sleeps: f64,
}

/// The near side: before each round it does something else for 2 ms, so that the far side is
/// truly asleep. It spends them awake, like a program that works between publications.
pub fn sleep(link: &mut impl Link, rounds: usize, far: &Peer) -> Result<Slept> {
    const IDLE: Duration = Duration::from_millis(2);
    let own_id = std::process::id();
    let warm_up = rounds / 10;
    let mut samples = Vec::with_capacity(rounds);
    let mut before = (0, 0);
    for round in 0..warm_up + rounds {
        if round == warm_up {
            // The far side sleeps, or is about to: its count is taken after the idle time below.
            std::thread::sleep(IDLE);
            before = (voluntary_switches(far.id())?, voluntary_switches(own_id)?);
        }
        let idle = Instant::now();
        while idle.elapsed() < IDLE {
            std::hint::spin_loop();
        }
        let start = ticks();
        exchange(link, round as u64 + 1)?;
        samples.push(ticks() - start);
    }
    std::thread::sleep(IDLE);
    let own_sleep = 1;
    let after = (voluntary_switches(far.id())?, voluntary_switches(own_id)?);
    exchange(link, END)?;
    Ok(Slept {
        summary: Summary::of_ticks(samples.split_off(warm_up), 1),
        far_sleeps: (after.0 - before.0) as f64 / rounds as f64,
        near_sleeps: (after.1 - before.1).saturating_sub(own_sleep) as f64 / rounds as f64,
    })
}

/// One round.
#[inline(always)]
fn exchange(link: &mut impl Link, number: u64) -> Result<()> {
    let sent = Proof::new(number);
    link.send(&sent)?;
    let back = wait(link)?;
    ensure!(back == sent, "sent {sent:?}, got back {back:?}");
    Ok(())
}

#[inline(always)]
fn wait<L: Link>(link: &mut L) -> Result<Proof> {
    let mut patience = Patience::new();
    loop {
        match link.receive()? {
            Some(value) => return Ok(value),
            None if L::SLEEPS => patience.look()?,
            None => patience.spin()?,
        }
    }
}
