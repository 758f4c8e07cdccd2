//! One file per kind of object.

mod board;
mod call;
mod event;
mod lock;
mod stream;

use std::time::{Duration, Instant, SystemTime};

use corkboard::board::Integrity;
use corkboard::{ErrorKind, Space};

use super::{RATE, parse_duration};
use crate::exit::Outcome;
use crate::object::{Count, Object, ObjectKind, Rate, absent, kind_of};
use crate::output::{Align, Table, harmless, print_json, print_styled, rate, size, time};

/// Tell everything about an object: its state, its files, and who is attached.
///
/// Of a board: its shape and its newest value. Of a lock: who holds it and who waits. Of an event:
/// whether it is set. Of a stream: its newest and oldest record, how far each subscriber has come, and
/// how many records a second were sent since it was created, or just now with --rate. Of a call: who
/// serves it, how many requests were answered, and of each client how many of its requests wait for
/// the server (pending), and how many the server has (taken).
///
/// Participants that are dead and whose place nobody has taken yet are shown, too. A board's
/// writers are unknown where looking is not permitted.
///
/// Exit status 1 when the object is absent, 2 when several have its name and --kind is missing.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard stat weather
  corkboard stat weather --json | jq '.readers[].pid'
  corkboard stat backup --kind lock --json | jq '.holders[].pid'
  corkboard stat log --rate                   how fast records come just now
  corkboard stat log --json | jq '.subscribers[].lag'")]
pub struct Arguments {
    /// The object's name.
    name: String,
    /// The object's kind, where several have the same name.
    #[arg(long, value_enum)]
    kind: Option<ObjectKind>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Look twice, so long apart, and tell a stream's or a call's rate in between; 1s if no time is given.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          default_missing_value = RATE, value_parser = parse_duration)]
    rate: Option<Duration>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let name = &arguments.name;
    let kind = kind_of(&space, arguments.kind, name)?;
    let look = || match Object::look(&space, kind, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(absent(&space, kind, name)),
        object => Ok(object?),
    };
    let start = Instant::now();
    let mut object = look()?;
    let mut earlier = None;
    if let Some(apart) = arguments.rate
        && matches!(object, Object::Stream(_) | Object::Call(_))
    {
        let count = Count::of(&object);
        std::thread::sleep(apart);
        object = look()?;
        earlier = count.map(|count| (count, start.elapsed()));
    }
    let rate = Count::of(&object).and_then(|count| Rate::of(count, earlier));
    if arguments.json {
        return match &object {
            Object::Board(stat) => print_json(&board::json(name, stat)),
            Object::Lock(stat) => print_json(&lock::json(name, stat)),
            Object::Event(stat) => print_json(&event::json(name, stat)),
            Object::Stream(stat) => print_json(&stream::json(name, stat, rate)),
            Object::Call(stat) => print_json(&call::json(name, stat, rate)),
        };
    }
    print_styled(&render(name, &object, rate))
}

/// Everything about an object, as lines and tables that may contain colours.
pub fn render(name: &str, object: &Object, rate: Option<Rate>) -> String {
    match object {
        Object::Board(stat) => board::render(name, stat),
        Object::Lock(stat) => lock::render(name, stat),
        Object::Event(stat) => event::render(name, stat),
        Object::Stream(stat) => stream::render(name, stat, rate),
        Object::Call(stat) => call::render(name, stat, rate),
    }
}

/// The object's name and what is known about it, a line each.
fn facts(kind: &str, name: &str, facts: &[(&str, String)]) -> String {
    let mut text = format!("{kind} {name:?}\n");
    for (what, fact) in facts {
        text += &format!("  {what:<12} {}\n", harmless(fact));
    }
    text
}

/// Whose an object is, and its mode, by what the file with that mode is called: of any kind's `Stat`.
macro_rules! owner {
    ($stat:expr, $mode:expr, $file:literal) => {{
        let mode = format!("{} {}", $file, octal($mode));
        #[cfg(unix)]
        let mode = format!("uid {}, gid {}, {mode}", $stat.owner_uid, $stat.owner_gid);
        mode
    }};
}
use owner;

/// Those who are attached, a line each.
fn table(
    what: &str,
    columns: &[(&'static str, Align)],
    rows: impl ExactSizeIterator<Item = Vec<String>>,
) -> String {
    if rows.len() == 0 {
        return format!("\n{what}: none\n");
    }
    let mut table = Table::new(columns);
    for row in rows {
        table.row(row);
    }
    format!("\n{what}:\n{}", table.render())
}

fn state(is_alive: bool) -> &'static str {
    match is_alive {
        true => "alive",
        false => "dead",
    }
}

fn counted_rate(Rate { per_second, over }: Rate) -> String {
    format!("{} over {}", rate(per_second), time(over))
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

/// As text: not every reader of JSON keeps 64 bits.
fn instance(number: u64) -> String {
    format!("{number:016x}")
}

fn ago(moment: SystemTime) -> Option<String> {
    let age = SystemTime::now().duration_since(moment).ok()?;
    Some(format!("{} ago", time(age)))
}

/// A number of bytes for people, and exactly.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => size(bytes),
        _ => format!("{} ({bytes} bytes)", size(bytes)),
    }
}

fn integrity(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::Crc64 => "crc-64",
        Integrity::None => "none",
    }
}
