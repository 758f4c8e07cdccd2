//! The table, and the same as JSON.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use crate::measure::{Effort, stamp_cost};
use crate::rows::{Group, Outcome};

/// One measured row.
pub struct Line {
    pub label: String,
    pub outcome: Outcome,
}

/// A group's rows that were measured, with everything to be divided by.
pub struct Section {
    pub title: &'static str,
    pub references: Vec<(&'static str, f64)>,
    /// The median of the row that all others contain.
    pub floor: Option<f64>,
    pub lines: Vec<Line>,
}

impl Section {
    /// The median of each reference row that was measured.
    pub fn new(group: &Group, lines: Vec<Line>) -> Self {
        let median = |label: &str| {
            let line = lines.iter().find(|line| line.label == label)?;
            Some(line.outcome.summary.p50)
        };
        let references = group.references.iter();
        Self {
            title: group.title,
            references: references
                .filter_map(|(heading, label)| Some((*heading, median(label)?)))
                .collect(),
            floor: group.floor.and_then(median),
            lines,
        }
    }

    pub fn print(&self, to: &mut impl Write) -> Result<()> {
        writeln!(to)?;
        write!(
            to,
            "{:<62}{:>10}{:>10}{:>10}",
            self.title, "p50", "p99", "p99.9"
        )?;
        for (heading, _) in &self.references {
            write!(to, "{:>12}", format!("/ {heading}"))?;
        }
        for (heading, _) in self.beyond() {
            write!(to, "{:>20}", format!("beyond / {heading}"))?;
        }
        writeln!(to)?;
        for line in &self.lines {
            let summary = &line.outcome.summary;
            let quantiles = [summary.p50, summary.p99, summary.p999].map(significant);
            let [p50, p99, p999] = quantiles;
            let kind = if summary.batch > 1 { "~" } else { " " };
            write!(to, "  {:<58}{p50:>12}{kind}{p99:>9}{p999:>10}", line.label)?;
            for (_, reference) in &self.references {
                write!(to, "{:>12}", significant(summary.p50 / reference))?;
            }
            for (_, ratio) in self.beyond() {
                write!(to, "{:>20}", significant(ratio(summary.p50)))?;
            }
            writeln!(to)?;
            if !line.outcome.facts.is_empty() {
                let facts = line.outcome.facts.iter();
                let facts: Vec<_> = facts
                    .map(|(name, value)| format!("{name} {}", significant(*value)))
                    .collect();
                writeln!(to, "      {}", facts.join(", "))?;
            }
        }
        Ok(to.flush()?)
    }

    /// The references again, of which, and of what is compared with them, the floor is left out.
    fn beyond(&self) -> impl Iterator<Item = (&'static str, impl Fn(f64) -> f64)> {
        let floor = self.floor.into_iter();
        floor.flat_map(|floor| {
            let references = self
                .references
                .iter()
                .filter(move |(_, reference)| *reference > floor);
            references.map(move |(heading, reference)| {
                (*heading, move |median: f64| {
                    (median - floor) / (reference - floor)
                })
            })
        })
    }

    pub fn json(&self) -> Value {
        let line = |line: &Line| {
            let summary = &line.outcome.summary;
            let ratios = self.references.iter();
            let ratios = ratios.map(|(name, value)| ((*name).into(), json!(summary.p50 / value)));
            let beyond = self.beyond();
            let beyond = beyond.map(|(name, ratio)| (name.into(), json!(ratio(summary.p50))));
            let facts = line.outcome.facts.iter();
            let facts = facts.map(|(name, value)| ((*name).into(), json!(value)));
            json!({
                "label": line.label,
                "p50_ns": summary.p50,
                "p99_ns": summary.p99,
                "p999_ns": summary.p999,
                "samples": summary.samples,
                "operations_per_sample": summary.batch,
                "ratios": Value::Object(ratios.collect()),
                "ratios_beyond_floor": Value::Object(beyond.collect()),
                "facts": Value::Object(facts.collect()),
            })
        };
        json!({
            "group": self.title,
            "rows": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }
}

/// What a reader must know before the first number.
pub fn print_preface(to: &mut impl Write, effort: Effort) -> Result<()> {
    let stamp = stamp_cost(effort);
    writeln!(
        to,
        "Times in nanoseconds for one operation. `~`: too short to time alone, so each sample is the\n\
         mean of a batch and the quantiles are over batches. A time stamp costs {} ns, which is in\n\
         every time without `~` and subtracted from none.",
        significant(stamp.p50),
    )?;
    Ok(())
}

/// How quiet the machine was, which only the user can judge.
pub fn print_disturbances(to: &mut impl Write, switches: u64) -> Result<()> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    writeln!(
        to,
        "\nOther programs interrupted the measuring side {switches} times; the load is {load} now."
    )?;
    Ok(())
}

/// Three digits that mean something, at most two of them behind the point.
pub fn significant(value: f64) -> String {
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    match value.abs() {
        _ if whole => format!("{value:.0}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::significant;

    #[test]
    fn numbers_are_short() {
        let printed = [0.123, 1.0, 9.876, 12.34, 123.4, 20_312.7].map(significant);
        assert_eq!(printed, ["0.12", "1", "9.88", "12.3", "123", "20313"]);
    }
}
