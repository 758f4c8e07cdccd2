use std::time::{Duration, Instant};

use corkboard::{Entry, ErrorKind, Kind, Result, Space};
use serde::Serialize;

use super::{RATE, parse_duration};
use crate::exit::Outcome;
use crate::object::{
    Count, Object, ObjectKind, Rate, Summary, alive, attached, event_reset, event_state, holders,
    is_served, lag, live_clients, live_handles, lock_state, pending,
};
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
/// Of a call: how many requests were answered, as its sequence; its server as a writer and clients
/// as readers; LAG is how many requests wait for a server, RATE how many a second were answered.
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
    /// Look twice, so long apart, and tell streams' and calls' rates in between; 1s if no time is given.
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
    sequence: Option<u64>,
    published_at: Option<String>,
    age_seconds: Option<f64>,
    // Of boards, streams and calls.
    capacity: Option<usize>,
    writers: Option<usize>,
    readers: Option<usize>,
    // Of streams.
    lag: Option<u64>,
    // Of streams and calls.
    rate: Option<f64>,
    rate_seconds: Option<f64>,
    // Of calls.
    answered: Option<u64>,
    pending: Option<usize>,
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
    let mut earlier: Vec<(&Entry, Count)> = Vec::new();
    let start = Instant::now();
    let look = |entry: &Entry| {
        let kind = ObjectKind::of(entry.kind())?;
        Some(Object::look(&space, kind, entry.name()))
    };
    if let Some(apart) = arguments.rate {
        earlier = entries
            .iter()
            .filter(|entry| has_rate(entry.kind()))
            .filter_map(|entry| Some((entry, Count::of(&look(entry)?.ok()?)?)))
            .collect();
        std::thread::sleep(apart);
    }
    let objects: Vec<Looked<'_>> = entries
        .iter()
        .filter_map(|entry| {
            let object = look(entry)?;
            let count = object.as_ref().ok().and_then(Count::of);
            let count = count.filter(|_| has_rate(entry.kind()));
            let rate = count.and_then(|count| {
                let earlier = earlier.iter().find(|(of, _)| *of == entry);
                Rate::of(
                    count,
                    earlier.map(|(_, earlier)| (*earlier, start.elapsed())),
                )
            });
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

/// Whether values carry no time that would tell how fresh they are.
fn has_rate(kind: Kind) -> bool {
    matches!(kind, Kind::Stream | Kind::Call)
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
            writers: attached(stat.writers.as_deref()),
            readers: attached(stat.readers.as_deref()),
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
        Ok(Object::Call(stat)) => Json {
            capacity: Some(stat.capacity),
            answered: Some(stat.answered),
            pending: Some(pending(stat)),
            writers: Some(usize::from(is_served(stat))),
            readers: Some(live_clients(stat)),
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

/// Boards, streams and calls have columns; what else there is is told in words over them.
fn table(objects: &[Looked<'_>]) -> Table {
    let mut columns = vec![("NAME", Align::Left), ("KIND", Align::Left)];
    let has = |wanted| objects.iter().any(|(_, kind, ..)| *kind == wanted);
    let has_rates = has(Kind::Stream) || has(Kind::Call);
    if has_rates || has(Kind::Board) {
        columns.extend([
            ("SIZE", Align::Right),
            ("CAPACITY", Align::Right),
            ("SEQUENCE", Align::Right),
            ("AGE", Align::Right),
            ("WRITERS", Align::Right),
            ("READERS", Align::Right),
        ]);
        if has_rates {
            columns.extend([("LAG", Align::Right), ("RATE", Align::Right)]);
        }
    } else {
        columns.push(("STATE", Align::Left));
    }
    let mut table = Table::new(&columns);
    for (name, kind, object, counted) in objects {
        let mut cells = vec![(*name).to_owned(), kind.to_string()];
        let summary = match object {
            Ok(object) => Summary::of(object),
            Err(error) => Summary::Words(error.to_string()),
        };
        match summary {
            Summary::Columns(known) => {
                cells.extend([
                    or_dash(known.size.map(|len| size(len as u64))),
                    size(known.capacity as u64),
                    known.sequence.to_string(),
                    or_dash(known.age.map(time)),
                    or_dash(known.writers.map(|number| number.to_string())),
                    or_dash(known.readers.map(|number| number.to_string())),
                ]);
                if has_rates {
                    cells.extend([
                        or_dash(known.lag.map(|lag| lag.to_string())),
                        or_dash(counted.map(|counted| rate(counted.per_second))),
                    ]);
                }
                table.row(cells);
            }
            Summary::Words(words) => table.remark(cells, &words),
        }
    }
    table
}
