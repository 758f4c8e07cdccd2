//! The processes that read, and verify every byte they see.

use std::time::{Duration, Instant};

use corkboard::board::{Options, Reader, Snapshot};
use corkboard::{Error, ErrorKind, Result, Space};

use super::content::{Defect, Head, Verifier};
use super::protocol::{Arguments, Counts, Event, Order, Orders, Role, monotonic_ns, tell};

const TICK: Duration = Duration::from_millis(100);
/// How long a slow reader keeps a snapshot.
const HOLD: Duration = Duration::from_millis(200);
/// How long anyone goes without looking for orders.
const SLICE: Duration = Duration::from_millis(100);
/// A spinning reader lets others run now and then: there may be fewer processors than spinners.
const SPINS: u32 = 256;

/// Reads until told otherwise.
pub fn run(arguments: &Arguments, space: &Space, orders: &Orders) -> Result<()> {
    let label = format!("demo: {} reader", arguments.role.as_str());
    let options = Options::new().label(&label);
    // A writer was ready before any reader was started.
    let open = || options.reader(space, arguments.board.name());
    let reader = open()?;
    let witness = Witness::new(Verifier::new(arguments.board));
    let mut witness = match arguments.role {
        Role::Sleeping => sleeping(reader, witness, orders)?,
        Role::Spinning => spinning(reader, witness, orders)?,
        _ => slow(reader, witness, orders, open)?,
    };
    witness.report();
    tell(&Event::Done);
    Ok(())
}

fn sleeping(mut reader: Reader, mut witness: Witness, orders: &Orders) -> Result<Witness> {
    while orders.poll() != Some(Order::Stop) {
        match reader.wait(Some(SLICE)) {
            Ok(Some(snapshot)) => {
                let awake_ns = monotonic_ns();
                // The first value was there before this reader was.
                let is_new = witness.last > 0;
                if let Some(head) = witness.see(&snapshot)
                    && is_new
                {
                    let wake_up_ns = awake_ns.saturating_sub(head.monotonic_ns);
                    witness.counts.wake_ups_ns.push(wake_up_ns);
                }
            }
            Ok(None) => {}
            Err(error) => witness.survive(error)?,
        }
        witness.tick();
    }
    Ok(witness)
}

fn spinning(mut reader: Reader, mut witness: Witness, orders: &Orders) -> Result<Witness> {
    while orders.poll() != Some(Order::Stop) {
        for _ in 0..SPINS {
            match reader.read() {
                Ok(Some(snapshot)) if snapshot.sequence() == witness.last => {
                    witness.counts.reads += 1;
                }
                Ok(Some(snapshot)) => {
                    witness.see(&snapshot);
                }
                Ok(None) => {}
                Err(error) => witness.survive(error)?,
            }
        }
        witness.tick();
        std::thread::yield_now();
    }
    Ok(witness)
}

fn slow(
    mut reader: Reader,
    mut witness: Witness,
    orders: &Orders,
    open: impl Fn() -> Result<Reader>,
) -> Result<Witness> {
    let mut order = None;
    while order != Some(Order::Stop) {
        match reader.wait(Some(SLICE)) {
            Ok(Some(snapshot)) => {
                witness.see(&snapshot);
            }
            Ok(None) => {
                order = order.or_else(|| orders.poll());
                witness.tick();
                continue;
            }
            Err(error) => {
                witness.survive(error)?;
                continue;
            }
        }
        // The newest value, perhaps newer than the one just seen.
        let snapshot = match reader.into_snapshot() {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => unreachable!("a value was read above, and values do not go away"),
            Err(error) => {
                witness.survive(error)?;
                reader = open()?;
                continue;
            }
        };
        let sequence = snapshot.sequence();
        if sequence != witness.last {
            witness.check(&snapshot, sequence);
        }
        witness.tick();
        order = order.or_else(|| orders.wait(HOLD));
        if order == Some(Order::Hold) {
            tell(&Event::Holding { sequence });
            while order != Some(Order::Stop) {
                order = orders.wait(SLICE);
            }
        }
        witness.counts.held += 1;
        if let Err(Defect::Torn(what) | Defect::Corrupt(what)) =
            witness.verifier.verify(&snapshot, sequence)
        {
            witness.counts.changed += 1;
            witness.note(format!("while it was held: {what}"));
        }
        reader = snapshot.into_reader();
    }
    Ok(witness)
}

/// Verifies, counts, and tells the parent now and then.
struct Witness {
    verifier: Verifier,
    counts: Counts,
    last: u64,
    told: Instant,
    is_ready: bool,
}

impl Witness {
    fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            counts: Counts::default(),
            last: 0,
            told: Instant::now(),
            is_ready: false,
        }
    }

    fn see(&mut self, snapshot: &Snapshot<'_>) -> Option<Head> {
        self.check(snapshot, snapshot.sequence())
    }

    fn check(&mut self, value: &[u8], sequence: u64) -> Option<Head> {
        self.counts.reads += 1;
        if sequence < self.last {
            self.counts.backwards += 1;
            self.note(format!("value {sequence} came after value {}", self.last));
        }
        self.last = sequence;
        match self.verifier.verify(value, sequence) {
            Ok(head) => {
                self.counts.values += 1;
                if !self.is_ready {
                    tell(&Event::Ready);
                    self.is_ready = true;
                }
                return Some(head);
            }
            Err(Defect::Torn(what)) => {
                self.counts.torn += 1;
                self.note(what);
            }
            Err(Defect::Corrupt(what)) => {
                self.counts.corrupt += 1;
                self.note(what);
            }
        }
        None
    }

    /// A value that fails the library's check is counted; any other error ends the process.
    fn survive(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        self.counts.corrupt += 1;
        self.note(error.to_string());
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.counts.problem.get_or_insert(what);
    }

    fn tick(&mut self) {
        if self.told.elapsed() > TICK {
            self.report();
        }
    }

    fn report(&mut self) {
        self.told = Instant::now();
        tell(&Event::Seen(std::mem::take(&mut self.counts)));
    }
}
