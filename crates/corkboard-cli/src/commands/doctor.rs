use corkboard::{Problem, Space};
use serde::Serialize;

use crate::exit::{Failure, Outcome, complain};
use crate::output::{harmless, print, print_json};

/// Look for what is wrong in the space, and say what helps.
///
/// Every board's newest value is read and checked, too. What this user may not look into gets a
/// note.
///
/// With --fix, what can be repaired safely is: leftovers of dead processes are removed; nothing
/// that a live process uses is touched.
///
/// A note is what costs nothing and takes care of itself: a process that was ended without letting
/// go, like a watch by Ctrl-C, leaves an entry that the next one reuses.
///
/// Exit status 0 when healthy but for notes, or everything was fixed; 1 when findings remain.
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
    /// It is only a note.
    harmless: bool,
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
            harmless: finding.is_harmless(),
        });
    }
    if arguments.json {
        print_json(&rows)?;
    } else {
        print(render(&space, &rows).as_bytes())?;
    }
    let remain: Vec<&Json> = rows.iter().filter(|row| row.remains()).collect();
    let findings = match remain.len() {
        0 => return Ok(()),
        1 => "finding remains",
        _ => "findings remain",
    };
    let fixable = remain.iter().filter(|row| row.fixable).count();
    let hint = match (arguments.fix, fixable) {
        (_, 0) => "; what helps has to be done by hand",
        (false, 1..) if fixable == remain.len() => "; repair with --fix",
        (false, 1..) => "; some can be repaired with --fix",
        // Why it could not be fixed was said, or there is nothing to fix.
        _ => "",
    };
    let number = remain.len();
    Err(Failure::Negative(format!("{number} {findings}{hint}")))
}

impl Json {
    fn remains(&self) -> bool {
        !self.fixed && !self.harmless
    }
}

fn render(space: &Space, rows: &[Json]) -> String {
    let line = |row: &Json| {
        let state = match (row.fixed, row.fixable) {
            (true, _) => " (fixed)",
            (false, true) => " (fixable)",
            (false, false) => " (by hand)",
        };
        let note = if row.harmless { "note: " } else { "" };
        let message = harmless(&row.message);
        format!("{note}{}: {message}{state}\n", row.problem)
    };
    let mut text: String = rows.iter().map(line).collect();
    if rows.iter().all(|row| row.harmless) {
        text += &format!("{}: healthy\n", space.path().display());
    }
    text
}
