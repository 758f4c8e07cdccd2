//! Measures corkboard side by side with its peers; `docs/benchmarks.md` explains every row.

mod board;
mod check;
mod clock;
mod event;
mod floors;
mod flow;
mod link;
mod locks;
mod measure;
mod payload;
mod peers;
mod process;
mod report;
mod rows;
mod scratch;
mod stream;

use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use measure::Effort;
use report::{Line, Section};
use rows::Run;
use scratch::Scratch;

/// Measure corkboard side by side with its peers.
///
/// Exit status: 0 success; 1 a threshold was missed (--check); 2 an error.
#[derive(Parser)]
#[command(name = "corkboard-bench", version)]
struct Arguments {
    /// Only rows whose group or label contains this, and the rows these are compared with
    #[arg(long, value_name = "SUBSTRING")]
    filter: Option<String>,
    /// A tenth of the samples
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Ten times the samples; 10^8 values from each saturating writer
    #[arg(long)]
    full: bool,
    /// Measure what has a threshold eleven times, compare medians, fail when one is missed
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    check: bool,
    /// Write the results as JSON, too; to standard output instead of the table for `-`
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// The other process of a row; started by this program, not by you
    #[command(hide = true)]
    Peer {
        #[arg(long)]
        scratch: PathBuf,
        #[arg(long)]
        core: usize,
        #[command(subcommand)]
        part: Part,
    },
}

#[derive(Subcommand)]
enum Part {
    #[command(flatten)]
    Far(rows::round_trip::Far),
    Publish(rows::saturate::Writing),
    StandBy(rows::take_over::Standing),
    Hand(rows::lock::Handing),
    Crowd(rows::lock::Crowd),
    Drain(rows::stream::Draining),
    #[command(flatten)]
    Answer(rows::call::Answering),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.role {
        Some(Role::Peer {
            scratch,
            core,
            part,
        }) => play(scratch, *core, part),
        None if arguments.check => check::run(&arguments),
        None => run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("corkboard-bench: {error:#}");
        ExitCode::from(2)
    })
}

fn play(scratch: &Path, core: usize, part: &Part) -> Result<ExitCode> {
    process::become_peer(core)?;
    let scratch = Scratch::borrow(scratch.to_owned());
    match part {
        Part::Far(far) => far.play(&scratch)?,
        Part::Publish(writing) => writing.play(&scratch)?,
        Part::StandBy(standing) => standing.play(&scratch)?,
        Part::Hand(handing) => handing.play(&scratch)?,
        Part::Crowd(crowd) => crowd.play(&scratch)?,
        Part::Answer(answering) => answering.play(&scratch)?,
        Part::Drain(draining) => draining.play(&scratch)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    process::pin(process::NEAR)?;
    let scratch = Scratch::create()?;
    let run = Run {
        scratch: &scratch,
        effort: match arguments {
            Arguments { quick: true, .. } => Effort::Quick,
            Arguments { full: true, .. } => Effort::Full,
            _ => Effort::Usual,
        },
    };
    let table: &mut dyn Write = match &arguments.json {
        Some(path) if path.as_os_str() == "-" => &mut std::io::sink(),
        _ => &mut stdout(),
    };
    let mut table = table;
    report::print_preface(&mut table, run.effort)?;
    let mut sections = Vec::new();
    let mut disturbances = 0;
    for group in rows::all() {
        let mut lines = Vec::new();
        for row in chosen(&group, arguments.filter.as_deref()) {
            let before = process::involuntary_switches()?;
            let outcome = row.measure(run);
            disturbances += group.disturbances_since(before)?;
            let outcome = outcome.with_context(|| format!("{}: {}", group.title, row.label))?;
            let label = row.label.clone();
            lines.push(Line { label, outcome });
        }
        if !lines.is_empty() {
            let section = Section::new(&group, lines);
            section.print(&mut table)?;
            sections.push(section.json());
        }
    }
    report::print_disturbances(&mut table, disturbances)?;
    write_json(arguments, serde_json::Value::Array(sections))?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of a group that the filter lets through, and those they are divided by.
fn chosen<'a>(group: &'a rows::Group, filter: Option<&str>) -> Vec<&'a rows::Row> {
    let named = |row: &rows::Row| {
        filter.is_none_or(|filter| group.title.contains(filter) || row.label.contains(filter))
    };
    if !group.rows.iter().any(named) {
        return Vec::new();
    }
    let divides = |row: &rows::Row| {
        group
            .references
            .iter()
            .any(|(_, label)| *label == row.label)
    };
    let rows = group.rows.iter();
    rows.filter(|row| named(row) || divides(row)).collect()
}

fn write_json(arguments: &Arguments, value: serde_json::Value) -> Result<()> {
    let Some(path) = &arguments.json else {
        return Ok(());
    };
    if path.as_os_str() == "-" {
        writeln!(stdout(), "{value:#}")?;
    } else {
        let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        writeln!(file, "{value:#}")?;
    }
    Ok(())
}
