use corkboard::board::{self, Stat};
use corkboard::{ErrorKind, Kind, Result, Space};
use serde::Serialize;

use crate::exit::Outcome;
use crate::output::{Align, Table, or_dash, print_json, print_styled, rfc3339, size, time};

/// List the objects of the space: what they hold, and how many processes are attached.
///
/// A damaged object is listed with what is wrong with it. WRITERS is a dash where looking is not
/// permitted.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard ls
  corkboard ls --json | jq -r '.[] | select(.writers == 0) | .name'
  CORKBOARD_DIR=/dev/shm/robots corkboard ls")]
pub struct Arguments {
    /// Print one JSON array of objects.
    #[arg(long)]
    json: bool,
}

/// The JSON form of a row.
#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    kind: String,
    size: Option<usize>,
    capacity: Option<usize>,
    sequence: Option<u64>,
    published_at: Option<String>,
    age_seconds: Option<f64>,
    writers: Option<usize>,
    readers: Option<usize>,
    error: Option<String>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let entries = space.entries()?;
    let objects: Vec<(&str, Kind, Result<Stat>)> = entries
        .iter()
        .map(|entry| {
            let stat = board::stat(&space, entry.name());
            (entry.name(), entry.kind(), stat)
        })
        // Removed since it was listed.
        .filter(|(_, _, stat)| {
            let kind = stat.as_ref().map_err(corkboard::Error::kind);
            kind.err() != Some(ErrorKind::NotFound)
        })
        .collect();
    if arguments.json {
        let rows = objects
            .iter()
            .map(|(name, kind, stat)| row(name, *kind, stat));
        return print_json(&rows.collect::<Vec<_>>());
    }
    if objects.is_empty() {
        let path = space.path().display();
        crate::exit::complain(&format!("there are no objects in {path}"));
        return Ok(());
    }
    print_styled(&table(&objects).render())
}

fn row<'a>(name: &'a str, kind: Kind, stat: &Result<Stat>) -> Json<'a> {
    let known = stat.as_ref().ok();
    Json {
        name,
        kind: kind.to_string(),
        size: known.and_then(|stat| stat.len),
        capacity: known.map(|stat| stat.capacity),
        sequence: known.map(|stat| stat.sequence),
        published_at: known.and_then(|stat| stat.published_at).and_then(rfc3339),
        age_seconds: known.and_then(|stat| stat.age).map(|age| age.as_secs_f64()),
        writers: known.and_then(live_writers),
        readers: known.and_then(live_readers),
        error: stat.as_ref().err().map(ToString::to_string),
    }
}

fn table(objects: &[(&str, Kind, Result<Stat>)]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("KIND", Align::Left),
        ("SIZE", Align::Right),
        ("CAPACITY", Align::Right),
        ("SEQUENCE", Align::Right),
        ("AGE", Align::Right),
        ("WRITERS", Align::Right),
        ("READERS", Align::Right),
    ]);
    for (name, kind, stat) in objects {
        let mut cells = vec![(*name).to_owned(), kind.to_string()];
        match stat {
            Ok(stat) => {
                cells.extend([
                    or_dash(stat.len.map(|len| size(len as u64))),
                    size(stat.capacity as u64),
                    stat.sequence.to_string(),
                    or_dash(stat.age.map(time)),
                    or_dash(live_writers(stat).map(|number| number.to_string())),
                    or_dash(live_readers(stat).map(|number| number.to_string())),
                ]);
                table.row(cells);
            }
            Err(error) => table.remark(cells, &error.to_string()),
        }
    }
    table
}

fn live_writers(stat: &Stat) -> Option<usize> {
    let writers = stat.writers.as_ref()?;
    Some(writers.iter().filter(|writer| writer.is_alive).count())
}

fn live_readers(stat: &Stat) -> Option<usize> {
    let readers = stat.readers.as_ref()?;
    Some(readers.iter().filter(|reader| reader.is_alive).count())
}
