use corkboard::{Problem, Space};
use serde::Serialize;

use crate::exit::{Failure, Outcome, complain};
use crate::output::{harmless, print, print_json};

/// Look for what is wrong in the space, and say what helps.
///
/// With --fix, what can be repaired safely is: leftovers of dead processes are removed; nothing
/// that a live process uses is touched.
///
/// Exit status 0 when healthy or everything was fixed, 1 when findings remain.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard doctor
  corkboard doctor --fix
  corkboard doctor --json | jq -r '.[].problem'")]
pub struct Arguments {
    /// Repair what can be repaired.
    #[arg(long)]
    fix: bool,
    /// Print one JSON array of findings.
    #[arg(long)]
    json: bool,
}

/// The JSON form of a finding.
#[derive(Serialize)]
struct Json {
    problem: &'static str,
    subject: String,
    message: String,
    fixable: bool,
    fixed: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let mut rows = Vec::new();
    for finding in space.diagnose()? {
        let problem: Problem = finding.problem();
        let mut fixed = false;
        if arguments.fix && finding.is_fixable() {
            match finding.fix() {
                Ok(()) => fixed = true,
                Err(error) => complain(&format!("cannot fix {}: {error}", finding.subject())),
            }
        }
        rows.push(Json {
            problem: problem.as_str(),
            subject: finding.subject().to_owned(),
            message: finding.to_string(),
            fixable: finding.is_fixable(),
            fixed,
        });
    }
    if arguments.json {
        print_json(&rows)?;
    } else {
        print(render(&space, &rows).as_bytes())?;
    }
    let remain = rows.iter().filter(|row| !row.fixed).count();
    if remain == 0 {
        return Ok(());
    }
    let could = rows.iter().any(|row| row.fixable && !row.fixed) && !arguments.fix;
    let findings = if remain == 1 {
        "finding remains"
    } else {
        "findings remain"
    };
    Err(Failure::Negative(format!(
        "{remain} {findings}{}",
        if could {
            "; some can be repaired with --fix"
        } else {
            ""
        }
    )))
}

fn render(space: &Space, rows: &[Json]) -> String {
    if rows.is_empty() {
        return format!("{}: healthy\n", space.path().display());
    }
    let line = |row: &Json| {
        let state = match (row.fixed, row.fixable) {
            (true, _) => " (fixed)",
            (false, true) => " (fixable)",
            (false, false) => "",
        };
        format!("{}: {}{state}\n", row.problem, harmless(&row.message))
    };
    rows.iter().map(line).collect()
}
