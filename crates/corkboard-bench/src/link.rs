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
/// Everybody copies what was received out whole, by `receive`, and sends from private memory. The
/// far side sends back the copy it made, and the near side compares all of what came back with
/// what it sent: so every byte was read on both sides.
pub trait Link {
    /// Whether `receive` sleeps for at most [`SLICE`] instead of returning at once.
    const SLEEPS: bool = false;

    /// Publishes a value.
    fn send(&mut self, value: &Proof) -> Result<()>;

    /// Copies out a value not received before; `false` when there is none yet.
    fn receive(&mut self, value: &mut Proof) -> Result<bool>;
}

/// How long a sleeping side waits before it looks whether it should give up.
pub const SLICE: Duration = Duration::from_secs(1);

/// The number that tells the far side to end. It fits into 32 bits, for the floors count so.
pub const END: u64 = u32::MAX as u64;

/// Values prepared by the near side, so that making them is not in anybody's time.
const PREPARED: u64 = 64;

/// The number sent in a round: never the one of the round before.
pub fn number_of(round: u64) -> u64 {
    round % PREPARED + 1
}

/// The far side: sends back whatever comes, until the end.
pub fn echo(link: &mut impl Link) -> Result<()> {
    let mut value = Proof::new(0);
    loop {
        wait(link, &mut value)?;
        link.send(&value)?;
        if value.number() == END {
            return Ok(());
        }
    }
}

/// The near side: rounds as fast as they go. Each is timed, by one stamp a round.
pub fn spin(link: &mut impl Link, rounds: usize) -> Result<Summary> {
    let warm_up = rounds / 10;
    let mut near = Rounds::new(link);
    let mut stamps = Vec::with_capacity(rounds + 1);
    for round in 0..warm_up + rounds {
        if round >= warm_up {
            stamps.push(ticks());
        }
        near.next()?;
    }
    stamps.push(ticks());
    near.end()?;
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

/// The near side: before each round it does something else for a time, so that the far side is
/// truly asleep. It spends that time awake, like a program that works between publications.
pub fn sleep(link: &mut impl Link, rounds: usize, idle: Duration, far: &Peer) -> Result<Slept> {
    // Long enough for the far side to be asleep, so that it is counted.
    const SETTLE: Duration = Duration::from_millis(2);
    let own_id = std::process::id();
    let warm_up = rounds / 10;
    let mut near = Rounds::new(link);
    let mut samples = Vec::with_capacity(rounds);
    let mut before = (0, 0);
    for round in 0..warm_up + rounds {
        if round == warm_up {
            std::thread::sleep(SETTLE);
            before = (voluntary_switches(far.id())?, voluntary_switches(own_id)?);
        }
        let begin = Instant::now();
        while begin.elapsed() < idle {
            std::hint::spin_loop();
        }
        let start = ticks();
        near.next()?;
        samples.push(ticks() - start);
    }
    std::thread::sleep(SETTLE);
    let own_sleep = 1;
    let after = (voluntary_switches(far.id())?, voluntary_switches(own_id)?);
    near.end()?;
    Ok(Slept {
        summary: Summary::of_ticks(samples.split_off(warm_up), 1),
        far_sleeps: (after.0 - before.0) as f64 / rounds as f64,
        near_sleeps: (after.1 - before.1).saturating_sub(own_sleep) as f64 / rounds as f64,
    })
}

/// The near side's rounds.
struct Rounds<'a, L> {
    link: &'a mut L,
    prepared: Vec<Proof>,
    round: u64,
}

impl<'a, L: Link> Rounds<'a, L> {
    fn new(link: &'a mut L) -> Self {
        Self {
            link,
            prepared: (0..PREPARED)
                .map(|round| Proof::new(number_of(round)))
                .collect(),
            round: 0,
        }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        let value = self.prepared[(self.round % PREPARED) as usize];
        self.round += 1;
        self.exchange(&value)
    }

    fn end(&mut self) -> Result<()> {
        self.exchange(&Proof::new(END))
    }

    #[inline(always)]
    fn exchange(&mut self, sent: &Proof) -> Result<()> {
        self.link.send(sent)?;
        let mut back = Proof::new(0);
        wait(self.link, &mut back)?;
        ensure!(back == *sent, "sent {sent:?}, got back {back:?}");
        Ok(())
    }
}

#[inline(always)]
fn wait<L: Link>(link: &mut L, value: &mut Proof) -> Result<()> {
    let mut patience = Patience::new();
    while !link.receive(value)? {
        if L::SLEEPS {
            patience.look()?;
        } else {
            patience.spin()?;
        }
    }
    Ok(())
}
