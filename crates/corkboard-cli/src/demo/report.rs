//! The table at the end, its JSON form, and the verdict.

use std::time::Duration;

use serde::Serialize;

use super::crew::{Crew, Process};
use super::protocol::{Board, Role};
use crate::output::{Align, Table, count, or_dash, size, time};

/// Everything that came out.
#[derive(Serialize)]
pub struct Report {
    pub passed: bool,
    pub seconds: f64,
    pub boards: Vec<BoardReport>,
    pub reader_killed: Option<ReaderKilled>,
    /// The most memory that the boards' files occupied.
    pub memory_bytes: u64,
    /// What did not hold.
    pub problems: Vec<String>,
}

/// What came out on one board.
#[derive(Serialize)]
pub struct BoardReport {
    pub board: Board,
    pub publications: u64,
    pub publications_per_second: Option<f64>,
    /// The rate that the writers aimed at.
    pub intended_per_second: f64,
    pub reads: u64,
    pub values_verified: u64,
    pub torn: u64,
    pub corrupt: u64,
    pub backwards: u64,
    pub snapshots_held: u64,
    pub changed_while_held: u64,
    pub wake_up: Option<WakeUp>,
    pub take_over: Option<TakeOver>,
    pub readers: Vec<ReaderReport>,
}

/// From just before the publication to the checked value in the hand of a sleeping reader.
#[derive(Serialize)]
pub struct WakeUp {
    pub samples: usize,
    pub p50_seconds: f64,
    pub p99_seconds: f64,
    pub p999_seconds: f64,
}

/// A writer was killed and another went on.
#[derive(Clone, Serialize)]
pub struct TakeOver {
    /// From just before the kill to the first new value in the parent's hand.
    pub seconds: f64,
    /// Whether the writer was in the middle of filling a value.
    pub in_the_middle_of_a_value: bool,
    pub last_sequence_before: u64,
    pub first_sequence_after: u64,
}

/// A reader was killed while it held a value.
#[derive(Clone, Serialize)]
pub struct ReaderKilled {
    pub publications_per_second_before: Option<f64>,
    pub publications_per_second_after: Option<f64>,
    pub publications_after: u64,
}

/// What one reader saw.
#[derive(Serialize)]
pub struct ReaderReport {
    pub kind: Role,
    pub reads: u64,
    pub values_verified: u64,
    pub killed: bool,
}

impl BoardReport {
    pub fn new(
        board: Board,
        crew: &Crew,
        publications: u64,
        publications_per_second: Option<f64>,
        take_over: Option<TakeOver>,
    ) -> Self {
        let readers: Vec<&Process> = crew
            .processes
            .iter()
            .filter(|process| process.board == board && process.role != Role::Writer)
            .collect();
        let sum = |field: fn(&Process) -> u64| readers.iter().map(|process| field(process)).sum();
        let wake_ups: Vec<u64> = readers
            .iter()
            .flat_map(|process| process.counts.wake_ups_ns.iter().copied())
            .collect();
        Self {
            board,
            publications,
            publications_per_second,
            intended_per_second: 1.0 / board.period().as_secs_f64(),
            reads: sum(|process| process.counts.reads),
            values_verified: sum(|process| process.counts.values),
            torn: sum(|process| process.counts.torn),
            corrupt: sum(|process| process.counts.corrupt),
            backwards: sum(|process| process.counts.backwards),
            snapshots_held: sum(|process| process.counts.held),
            changed_while_held: sum(|process| process.counts.changed),
            wake_up: WakeUp::new(wake_ups),
            take_over,
            readers: readers
                .iter()
                .map(|process| ReaderReport {
                    kind: process.role,
                    reads: process.counts.reads,
                    values_verified: process.counts.values,
                    killed: process.is_killed(),
                })
                .collect(),
        }
    }

    /// What did not hold on this board.
    pub fn problems(&self) -> Vec<String> {
        let name = self.board.name();
        let mut problems = Vec::new();
        let mut must = |holds: bool, problem: String| {
            if !holds {
                problems.push(format!("{name}: {problem}"));
            }
        };
        must(self.publications > 0, "nothing was published".into());
        for reader in &self.readers {
            let kind = reader.kind.as_str();
            must(
                reader.values_verified > 0,
                format!("a {kind} reader saw nothing"),
            );
        }
        for (number, what) in [
            (self.torn, "values were torn"),
            (self.corrupt, "values were corrupt"),
            (self.backwards, "values came out of order"),
            (self.changed_while_held, "snapshots changed while held"),
        ] {
            must(number == 0, format!("{number} {what}"));
        }
        must(self.snapshots_held > 0, "no snapshot was held".into());
        must(self.take_over.is_some(), "no standby took over".into());
        must(
            self.wake_up.is_some(),
            "no sleeping reader was woken".into(),
        );
        problems
    }
}

impl WakeUp {
    fn new(mut wake_ups_ns: Vec<u64>) -> Option<Self> {
        wake_ups_ns.sort_unstable();
        let last = wake_ups_ns.len().checked_sub(1)?;
        // The nearest rank: the least value that so many are not above.
        let quantile = |per_mille: usize| {
            let rank = (wake_ups_ns.len() * per_mille).div_ceil(1000);
            wake_ups_ns[rank.saturating_sub(1).min(last)] as f64 / 1e9
        };
        Some(Self {
            samples: wake_ups_ns.len(),
            p50_seconds: quantile(500),
            p99_seconds: quantile(990),
            p999_seconds: quantile(999),
        })
    }
}

impl Report {
    /// The tables and sentences for people.
    pub fn render(&self) -> String {
        let seconds = |seconds: f64| time(Duration::from_secs_f64(seconds));
        let mut content = Table::new(&[
            ("BOARD", Align::Left),
            ("PUBLISHED", Align::Right),
            ("PER SECOND", Align::Right),
            ("READS", Align::Right),
            ("VERIFIED", Align::Right),
            ("TORN", Align::Right),
            ("CORRUPT", Align::Right),
            ("BACKWARDS", Align::Right),
        ]);
        let mut times = Table::new(&[
            ("BOARD", Align::Left),
            ("WAKE-UP P50", Align::Right),
            ("P99", Align::Right),
            ("P99.9", Align::Right),
            ("TAKE-OVER", Align::Right),
            ("HELD", Align::Right),
            ("CHANGED", Align::Right),
        ]);
        for board in &self.boards {
            let name = board.board.name().to_owned();
            let rate = board.publications_per_second;
            content.row(vec![
                name.clone(),
                board.publications.to_string(),
                or_dash(rate.map(|rate| format!("{rate:.1}"))),
                count(board.reads),
                count(board.values_verified),
                board.torn.to_string(),
                board.corrupt.to_string(),
                board.backwards.to_string(),
            ]);
            let wake = |pick: fn(&WakeUp) -> f64| {
                or_dash(board.wake_up.as_ref().map(|w| seconds(pick(w))))
            };
            let taken = board.take_over.as_ref();
            times.row(vec![
                name,
                wake(|wake_up| wake_up.p50_seconds),
                wake(|wake_up| wake_up.p99_seconds),
                wake(|wake_up| wake_up.p999_seconds),
                or_dash(taken.map(|taken| seconds(taken.seconds))),
                board.snapshots_held.to_string(),
                board.changed_while_held.to_string(),
            ]);
        }
        let mut text = format!("{}\n{}\n", content.render(), times.render());
        if let Some(killed) = &self.reader_killed {
            let rate = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{rate:.1}")));
            text += &format!(
                "A reader killed while it held a frame: {} frames per second before, {} after.\n",
                rate(killed.publications_per_second_before),
                rate(killed.publications_per_second_after),
            );
        }
        text += &format!("The boards occupied at most {}.\n", size(self.memory_bytes));
        if self.passed {
            text += "Everything held.\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert!(WakeUp::new(Vec::new()).is_none());
        let one = WakeUp::new(vec![5]).unwrap();
        assert_eq!((one.p50_seconds, one.p999_seconds), (5e-9, 5e-9));
        let many = WakeUp::new((1..=1000).rev().collect()).unwrap();
        assert_eq!(
            [many.p50_seconds, many.p99_seconds, many.p999_seconds],
            [500e-9, 990e-9, 999e-9]
        );
    }
}
