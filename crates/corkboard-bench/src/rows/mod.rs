//! What is measured: groups of rows that can be compared with one another.

pub mod attached;
pub mod call;
pub mod lock;
pub mod publish;
pub mod read;
pub mod round_trip;
pub mod saturate;
pub mod stream;
pub mod take_over;

use anyhow::Result;

use crate::measure::{Effort, Summary};
use crate::process::involuntary_switches;
use crate::scratch::Scratch;

/// What every row is given.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub scratch: &'a Scratch,
    pub effort: Effort,
}

/// What a row finds out.
pub struct Outcome {
    pub summary: Summary,
    /// Counts and rates that are not times, by name.
    pub facts: Vec<(&'static str, f64)>,
}

impl From<Summary> for Outcome {
    fn from(summary: Summary) -> Self {
        let facts = Vec::new();
        Self { summary, facts }
    }
}

type Measure = Box<dyn Fn(Run) -> Result<Outcome>>;

/// One line of the table: somebody doing the group's operation.
pub struct Row {
    pub label: String,
    measure: Measure,
}

impl Row {
    fn new(label: impl Into<String>, measure: impl Fn(Run) -> Result<Outcome> + 'static) -> Self {
        Self {
            label: label.into(),
            measure: Box::new(measure),
        }
    }

    /// Sets up, warms up, measures and clears away, each time anew.
    pub fn measure(&self, run: Run) -> Result<Outcome> {
        (self.measure)(run)
    }
}

/// An operation, and everybody who does it.
pub struct Group {
    pub title: &'static str,
    /// The rows that the others are divided by: a short heading, and the row's label.
    pub references: Vec<(&'static str, &'static str)>,
    /// A row that all others contain: what they have beyond it is compared, too.
    pub floor: Option<&'static str>,
    pub rows: Vec<Row>,
}

impl Group {
    /// Whether its rounds begin with a pause, so that few of them take long, and the machine may
    /// be another one in the next row.
    pub fn pauses(&self) -> bool {
        [round_trip::SLEEPING, lock::HAND_OVER, call::SLEEPING].contains(&self.title)
    }

    /// How often others have made this process wait, except where its own far side does.
    pub fn disturbances_since(&self, before: u64) -> Result<u64> {
        let shares_its_core = self.pauses() || self.title == lock::AMONG;
        let now = involuntary_switches()?;
        Ok(if shares_its_core { 0 } else { now - before })
    }
}

/// Everything, in the order in which it is printed.
pub fn all() -> Vec<Group> {
    [
        publish::groups(),
        read::groups(),
        round_trip::groups(),
        stream::groups(),
        saturate::groups(),
        attached::groups(),
        take_over::groups(),
        lock::groups(),
        call::groups(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
