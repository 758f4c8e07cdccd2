use std::collections::HashMap;
use std::time::{Duration, Instant};

use corkboard::{Entry, ErrorKind, Kind, Result, Space, board, event, lock, stream};
use serde::Serialize;

use super::{RATE, parse_duration};
use crate::exit::Outcome;
use crate::object::{Object, ObjectKind, Rate, alive, event_reset, event_state, lag, lock_state};
use crate::output::{Align, Table, or_dash, print_json, print_styled, rate, rfc3339, size, time};

/// List the objects of the space: what they hold, and how many processes are attached.
///
/// Of a lock: whether it is free, read or written, and how many handles are open on it. Of an
/// event: whether it is set, and of which kind it is.
///
/// Of a stream: the newest record's size and sequence, producers as writers and subscribers as
/// readers; LAG is how many records the slowest of them is behind, RATE how many a second were sent
/// since the stream was created, or just now with --rate.
///
/// A damaged object is listed with what is wrong with it. WRITERS is a dash where looking is not
/// permitted.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard ls
  corkboard ls --json | jq -r '.[] | select(.writers == 0) | .name'
  corkboard ls --json | jq -r '.[] | select(.state == \"written\") | .name'
  corkboard ls --rate=5s
  CORKBOARD_DIR=/dev/shm/robots corkboard ls")]
pub struct Arguments {
    /// Print one JSON array of objects. What does not apply to an object's kind is null.
    #[arg(long)]
    json: bool,
    /// Look twice, so long apart, and tell streams' rates in between; 1s if no time is given.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          default_missing_value = RATE, value_parser = parse_duration)]
    rate: Option<Duration>,
}

/// The JSON form of a row.
#[derive(Serialize, Default)]
struct Json<'a> {
    name: &'a str,
    kind: String,
    // Of boards and streams.
    size: Option<usize>,
    capacity: Option<usize>,
    sequence: Option<u64>,
    published_at: Option<String>,
    age_seconds: Option<f64>,
    writers: Option<usize>,
    readers: Option<usize>,
    // Of streams.
    lag: Option<u64>,
    rate: Option<f64>,
    rate_seconds: Option<f64>,
    /// Of locks and events.
    state: Option<&'static str>,
    // Of locks.
    writer_waits: Option<bool>,
    holders: Option<usize>,
    handles: Option<usize>,
    // Of events.
    reset: Option<&'static str>,
    sets: Option<u64>,
    error: Option<String>,
}

/// An object as far as it can be looked at.
type Looked<'a> = (&'a str, Kind, Result<Object>, Option<Rate>);

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let entries = space.entries()?;
    let mut earlier = HashMap::new();
    let start = Instant::now();
    if let Some(apart) = arguments.rate {
        let streams = entries.iter().filter(|entry| entry.kind() == Kind::Stream);
        let look = |entry: &Entry| {
            Some((
                entry.name().to_owned(),
                stream::stat(&space, entry.name()).ok()?,
            ))
        };
        earlier = streams.filter_map(look).collect();
        std::thread::sleep(apart);
    }
    let objects: Vec<Looked<'_>> = entries
        .iter()
        .filter_map(|entry| {
            let kind = ObjectKind::of(entry.kind())?;
            let object = Object::look(&space, kind, entry.name());
            let rate = match &object {
                Ok(Object::Stream(stat)) => {
                    let earlier = earlier.get(entry.name());
                    Rate::of(stat, earlier.map(|stat| (stat, start.elapsed())))
                }
                _ => None,
            };
            Some((entry.name(), entry.kind(), object, rate))
        })
        // Removed since it was listed.
        .filter(|(_, _, object, _)| {
            let kind = object.as_ref().map_err(corkboard::Error::kind);
            kind.err() != Some(ErrorKind::NotFound)
        })
        .collect();
    if arguments.json {
        return print_json(&objects.iter().map(row).collect::<Vec<_>>());
    }
    if objects.is_empty() {
        let path = space.path().display();
        crate::exit::complain(&format!("there are no objects in {path}"));
        return Ok(());
    }
    print_styled(&table(&objects).render())
}

fn row<'a>((name, kind, object, rate): &Looked<'a>) -> Json<'a> {
    let row = Json {
        name,
        kind: kind.to_string(),
        ..Json::default()
    };
    match object {
        Ok(Object::Board(stat)) => Json {
            size: stat.len,
            capacity: Some(stat.capacity),
            sequence: Some(stat.sequence),
            published_at: stat.published_at.and_then(rfc3339),
            age_seconds: stat.age.map(|age| age.as_secs_f64()),
            writers: live_writers(stat),
            readers: live_readers(stat),
            ..row
        },
        Ok(Object::Lock(stat)) => Json {
            state: Some(lock_state(stat.state)),
            writer_waits: Some(stat.writer_waits),
            holders: Some(holders(stat)),
            handles: Some(live_handles(stat)),
            ..row
        },
        Ok(Object::Event(stat)) => Json {
            state: Some(event_state(stat)),
            reset: Some(event_reset(stat.reset)),
            sets: Some(stat.sets),
            ..row
        },
        Ok(Object::Stream(stat)) => Json {
            size: stat.len,
            capacity: Some(stat.capacity),
            sequence: Some(stat.sequence),
            writers: Some(alive(&stat.producers)),
            readers: Some(alive(&stat.subscribers)),
            lag: lag(stat),
            rate: rate.map(|rate| rate.per_second),
            rate_seconds: rate.map(|rate| rate.over.as_secs_f64()),
            ..row
        },
        Err(error) => Json {
            error: Some(error.to_string()),
            ..row
        },
    }
}

/// Boards and streams have columns; what else there is is told in words over them.
fn table(objects: &[Looked<'_>]) -> Table {
    let mut columns = vec![("NAME", Align::Left), ("KIND", Align::Left)];
    let has = |wanted| objects.iter().any(|(_, kind, ..)| *kind == wanted);
    let has_streams = has(Kind::Stream);
    if has_streams || has(Kind::Board) {
        columns.extend([
            ("SIZE", Align::Right),
            ("CAPACITY", Align::Right),
            ("SEQUENCE", Align::Right),
            ("AGE", Align::Right),
            ("WRITERS", Align::Right),
            ("READERS", Align::Right),
        ]);
        if has_streams {
            columns.extend([("LAG", Align::Right), ("RATE", Align::Right)]);
        }
    } else {
        columns.push(("STATE", Align::Left));
    }
    let mut table = Table::new(&columns);
    for (name, kind, object, counted) in objects {
        let mut cells = vec![(*name).to_owned(), kind.to_string()];
        match object {
            Ok(Object::Board(stat)) => {
                cells.extend([
                    or_dash(stat.len.map(|len| size(len as u64))),
                    size(stat.capacity as u64),
                    stat.sequence.to_string(),
                    or_dash(stat.age.map(time)),
                    or_dash(live_writers(stat).map(|number| number.to_string())),
                    or_dash(live_readers(stat).map(|number| number.to_string())),
                ]);
                if has_streams {
                    cells.extend([or_dash(None), or_dash(None)]);
                }
                table.row(cells);
            }
            Ok(Object::Stream(stat)) => {
                cells.extend([
                    or_dash(stat.len.map(|len| size(len as u64))),
                    size(stat.capacity as u64),
                    stat.sequence.to_string(),
                    // Records carry no time.
                    or_dash(None),
                    alive(&stat.producers).to_string(),
                    alive(&stat.subscribers).to_string(),
                    or_dash(lag(stat).map(|lag| lag.to_string())),
                    or_dash(counted.map(|counted| rate(counted.per_second))),
                ]);
                table.row(cells);
            }
            Ok(Object::Lock(stat)) => table.remark(cells, &lock_in_words(stat)),
            Ok(Object::Event(stat)) => table.remark(cells, &event_in_words(stat)),
            Err(error) => table.remark(cells, &error.to_string()),
        }
    }
    table
}

fn lock_in_words(stat: &lock::Stat) -> String {
    let mut words = lock_state(stat.state).to_owned();
    if stat.state == lock::State::Read {
        words += &match holders(stat) {
            // Who holds it is not in the table, or has not said so yet.
            0 => String::new(),
            number => format!(" by {number}"),
        };
    }
    if stat.writer_waits {
        words += ", a writer waits";
    }
    match live_handles(stat) {
        0 => words + ", no handles",
        1 => words + ", 1 handle",
        number => words + &format!(", {number} handles"),
    }
}

fn event_in_words(stat: &event::Stat) -> String {
    format!("{}, {}", event_state(stat), stat.reset)
}

fn live_writers(stat: &board::Stat) -> Option<usize> {
    let writers = stat.writers.as_ref()?;
    Some(writers.iter().filter(|writer| writer.is_alive).count())
}

fn live_readers(stat: &board::Stat) -> Option<usize> {
    let readers = stat.readers.as_ref()?;
    Some(readers.iter().filter(|reader| reader.is_alive).count())
}

fn live_handles(stat: &lock::Stat) -> usize {
    stat.handles.iter().filter(|handle| handle.is_alive).count()
}

fn holders(stat: &lock::Stat) -> usize {
    stat.handles
        .iter()
        .filter(|handle| handle.is_holder())
        .count()
}
