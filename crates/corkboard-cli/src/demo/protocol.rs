//! What the demonstration's parent and its processes say to each other.
//!
//! Orders travel down a process's standard input, one word a line; its end means that the parent
//! is gone, however it died, and the process ends at once. Events travel up standard output, one
//! JSON object a line.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One process of the demonstration.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    pub role: Role,
    #[arg(long, value_enum, default_value = "machine")]
    pub board: Board,
    /// Tells the writers of one board apart.
    #[arg(long, default_value_t = 0)]
    pub number: u64,
    #[arg(long)]
    pub space: PathBuf,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publishes, or stands by until it may.
    Writer,
    /// Sleeps until a value comes.
    Sleeping,
    /// Reads without pause.
    Spinning,
    /// Holds each value for a while and looks whether it changed.
    Slow,
    /// Removes the space when everyone is gone.
    Sweeper,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Sleeping => "sleeping",
            Self::Spinning => "spinning",
            Self::Slow => "slow",
            Self::Sweeper => "sweeper",
        }
    }
}

/// The two boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Samples of this machine as JSON, a hundred times a second.
    Machine,
    /// Frames of 6 MiB, sixty times a second.
    Frames,
}

impl Board {
    pub const ALL: [Self; 2] = [Self::Machine, Self::Frames];

    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Frames => "frames",
        }
    }

    /// How often a writer publishes, if the machine keeps up.
    pub fn period(self) -> Duration {
        match self {
            Self::Machine => Duration::from_millis(10),
            Self::Frames => Duration::from_nanos(1_000_000_000 / 60),
        }
    }
}

/// From the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A writer fills half of its next value, says so, and never gets further.
    StopHalfWay,
    /// A slow reader keeps its snapshot for good.
    Hold,
    /// Finish, and say what is left to say.
    Stop,
}

impl Order {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StopHalfWay => "stop-half-way",
            Self::Hold => "hold",
            Self::Stop => "stop",
        }
    }
}

/// From a process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A writer is about to ask for the board.
    StandingBy,
    /// A writer has the board, or a reader has verified its first value.
    Ready,
    /// How many values this writer has published so far.
    Published { total: u64 },
    /// Half of the next value is in the loan.
    HalfWay { sequence: u64 },
    /// A snapshot is held and will not be let go.
    Holding { sequence: u64 },
    /// What a reader saw since it last said so.
    Seen(Counts),
    /// It cannot go on.
    Failed { message: String },
    /// It has obeyed `Order::Stop`.
    Done,
}

/// What a reader saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Successful calls.
    pub reads: u64,
    /// Values of different sequences, every byte of each verified.
    pub values: u64,
    pub torn: u64,
    pub corrupt: u64,
    /// Values with a lower sequence than the one before.
    pub backwards: u64,
    /// Snapshots kept for a while and verified again.
    pub held: u64,
    /// Those of them that had changed.
    pub changed: u64,
    /// From the writer's look at the clock, just before it published, to the checked value in the
    /// hand of a sleeping reader.
    pub wake_ups_ns: Vec<u64>,
    /// The first thing that was wrong.
    pub problem: Option<String>,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.values += other.values;
        self.torn += other.torn;
        self.corrupt += other.corrupt;
        self.backwards += other.backwards;
        self.held += other.held;
        self.changed += other.changed;
        self.wake_ups_ns.extend(other.wake_ups_ns);
        self.problem = self.problem.take().or(other.problem);
    }
}

/// A process's end of the line to the parent.
pub struct Orders(Receiver<Order>);

impl Orders {
    /// Listens to standard input. Its end ends this process, wherever it is.
    pub fn listen() -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let orders = [Order::StopHalfWay, Order::Hold, Order::Stop];
                if let Some(order) = orders.into_iter().find(|order| order.as_str() == line) {
                    let _ = sender.send(order);
                }
            }
            std::process::exit(0);
        });
        Self(receiver)
    }

    /// The next order, if there is one.
    pub fn poll(&self) -> Option<Order> {
        self.0.try_recv().ok()
    }

    /// Waits for an order.
    pub fn wait(&self, timeout: Duration) -> Option<Order> {
        self.0.recv_timeout(timeout).ok()
    }
}

/// Tells the parent. A parent that is gone needs no answer.
pub fn tell(event: &Event) {
    let mut line = serde_json::to_vec(event).expect("events have a JSON form");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The clock that all processes share, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
