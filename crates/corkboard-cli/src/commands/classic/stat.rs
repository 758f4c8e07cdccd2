use corkboard::classic::{self, Stat};
use corkboard::{ErrorKind, Space};
use serde::Serialize;

use super::Which;
use crate::exit::{Failure, Outcome};
use crate::output::{print_json, print_styled, size};

/// Tell everything about a block: its dialect, its sizes, and whether its content is whole.
///
/// Exit status 1 when it is absent.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard classic stat weather
  corkboard classic stat weather --json | jq .dialect")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    dialect: &'static str,
    size: usize,
    capacity: usize,
    memory_size: usize,
    view_bytes: usize,
    checksum: String,
    intact: Option<bool>,
    tail_size: i32,
    reserved: i32,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let which = &arguments.which;
    let Some(dialect) = which.dialect(&space)? else {
        return Err(Failure::Negative(which.absence(&space)));
    };
    let stat = match which.options(dialect).stat(&space, &which.name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::Negative(which.absence(&space)));
        }
        stat => stat?,
    };
    if arguments.json {
        return print_json(&json(&which.name, &stat));
    }
    print_styled(&render(&which.name, &stat))
}

fn json<'a>(name: &'a str, stat: &classic::Stat) -> Json<'a> {
    Json {
        name,
        dialect: stat.dialect.as_str(),
        size: stat.len,
        capacity: stat.capacity,
        memory_size: stat.memory_size,
        view_bytes: stat.view_len,
        // As text: not every reader of JSON keeps 64 bits.
        checksum: format!("{:016x}", stat.checksum),
        intact: stat.is_intact,
        tail_size: stat.tail_size,
        reserved: stat.reserved,
    }
}

fn render(name: &str, stat: &Stat) -> String {
    let content = match stat.is_intact {
        Some(true) => "matches",
        Some(false) => "does not match the content",
        None => "unknown: a program holds the lock",
    };
    let facts = [
        ("dialect", stat.dialect.to_string()),
        ("size", size(stat.len as u64)),
        ("capacity", size(stat.capacity as u64)),
        ("memory size", format!("{} bytes", stat.memory_size)),
        ("view", format!("{} bytes", stat.view_len)),
        ("checksum", format!("{:016x}, {content}", stat.checksum)),
        ("word at 12", stat.tail_size.to_string()),
        ("reserved", stat.reserved.to_string()),
    ];
    let mut text = format!("classic block {name:?}\n");
    for (what, fact) in facts {
        text += &format!("  {what:<12} {fact}\n");
    }
    text
}
