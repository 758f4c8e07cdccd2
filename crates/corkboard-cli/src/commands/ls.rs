use corkboard::Space;
use corkboard::board::Reader;

use crate::exit::Failure;
use crate::output::print;

/// One line an object: name, kind, capacity, sequence and size of its newest value.
pub fn run() -> Result<(), Failure> {
    let space = Space::user()?;
    let mut table = format!(
        "{:<24} {:<6} {:>12} {:>12} {:>12}\n",
        "NAME", "KIND", "CAPACITY", "SEQUENCE", "SIZE"
    );
    for entry in space.entries()? {
        let (name, kind) = (entry.name(), entry.kind().to_string());
        let row = Reader::open(&space, name).and_then(|mut reader| {
            let capacity = reader.capacity();
            let (sequence, size) = match reader.read()? {
                Some(snapshot) => (snapshot.sequence(), snapshot.len().to_string()),
                None => (0, "-".to_owned()),
            };
            Ok(format!(
                "{name:<24} {kind:<6} {capacity:>12} {sequence:>12} {size:>12}\n"
            ))
        });
        table += &row.unwrap_or_else(|error| format!("{name:<24} {kind:<6} {}\n", error.kind()));
    }
    print(table.as_bytes())
}
