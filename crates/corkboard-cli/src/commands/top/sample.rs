//! Looking at all objects, again and again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use corkboard::{ErrorKind, Kind, Space};

use crate::object::{Columns, Count, Object, ObjectKind, Rate, Summary};
use crate::output::{Align, Table, or_dash, rate, size, time};

/// What tells objects apart.
pub type Key = (String, Kind);

/// One object, as it was found.
pub struct Row {
    pub key: Key,
    /// Or what is wrong with it.
    pub object: Result<Object, String>,
    pub summary: Summary,
    pub rate: Option<Rate>,
}

/// Looks at the objects of a space, and remembers how far they had come.
pub struct Sampler {
    space: Space,
    earlier: BTreeMap<Key, Count>,
    looked_at: Option<Instant>,
}

impl Sampler {
    pub fn new(space: Space) -> Self {
        Self {
            space,
            earlier: BTreeMap::new(),
            looked_at: None,
        }
    }

    pub fn path(&self) -> &Path {
        self.space.path()
    }

    /// All objects there are now, by name. A rate is there from the second look at one on.
    pub fn look(&mut self) -> corkboard::Result<Vec<Row>> {
        let entries = self.space.entries()?;
        let now = Instant::now();
        let over = self.looked_at.map(|before| now.duration_since(before));
        let mut counts = BTreeMap::new();
        let mut rows = Vec::new();
        for entry in entries {
            let Some(kind) = ObjectKind::of(entry.kind()) else {
                continue;
            };
            let object = match Object::look(&self.space, kind, entry.name()) {
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                object => object.map_err(|error| error.to_string()),
            };
            let key = (entry.name().to_owned(), entry.kind());
            let count = object.as_ref().ok().and_then(Count::of);
            let rate = count
                .zip(self.earlier.get(&key))
                .zip(over)
                .and_then(|((count, earlier), over)| Rate::since(count, *earlier, over));
            if let Some(count) = count {
                counts.insert(key.clone(), count);
            }
            let summary = match &object {
                Ok(object) => Summary::of(object),
                Err(error) => Summary::Words(error.clone()),
            };
            rows.push(Row {
                key,
                object,
                summary,
                rate,
            });
        }
        self.earlier = counts;
        self.looked_at = Some(now);
        Ok(rows)
    }
}

/// What the rows can be sorted by: the columns, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
    Name,
    Kind,
    Size,
    Capacity,
    Sequence,
    Rate,
    Age,
    Writers,
    Readers,
    Lag,
}

impl Column {
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Kind,
        Self::Size,
        Self::Capacity,
        Self::Sequence,
        Self::Rate,
        Self::Age,
        Self::Writers,
        Self::Readers,
        Self::Lag,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Kind => "KIND",
            Self::Size => "SIZE",
            Self::Capacity => "CAPACITY",
            Self::Sequence => "SEQUENCE",
            Self::Rate => "RATE",
            Self::Age => "AGE",
            Self::Writers => "WRITERS",
            Self::Readers => "READERS",
            Self::Lag => "LAG",
        }
    }

    /// Whether it has numbers, of which the largest ones come first.
    pub fn is_number(self) -> bool {
        !matches!(self, Self::Name | Self::Kind)
    }

    /// A row's number in this column, if it has one.
    pub fn number(self, row: &Row) -> Option<f64> {
        if self == Self::Rate {
            return row.rate.map(|rate| rate.per_second);
        }
        let Summary::Columns(known) = &row.summary else {
            return None;
        };
        match self {
            Self::Name | Self::Kind | Self::Rate => None,
            Self::Size => known.size.map(|size| size as f64),
            Self::Capacity => Some(known.capacity as f64),
            Self::Sequence => Some(known.sequence as f64),
            Self::Age => known.age.map(|age| age.as_secs_f64()),
            Self::Writers => known.writers.map(|writers| writers as f64),
            Self::Readers => known.readers.map(|readers| readers as f64),
            Self::Lag => known.lag.map(|lag| lag as f64),
        }
    }
}

/// The rows under their titles, as text.
pub fn table<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Table {
    let columns = Column::ALL.map(|column| {
        let align = match column.is_number() {
            true => Align::Right,
            false => Align::Left,
        };
        (column.title(), align)
    });
    let mut table = Table::new(&columns);
    for row in rows {
        let (name, kind) = &row.key;
        let mut cells = vec![name.clone(), kind.to_string()];
        match &row.summary {
            Summary::Columns(known) => {
                cells.extend(numbers(known, row.rate));
                table.row(cells);
            }
            Summary::Words(words) => table.remark(cells, words),
        }
    }
    table
}

fn numbers(known: &Columns, counted: Option<Rate>) -> [String; 8] {
    [
        or_dash(known.size.map(|len| size(len as u64))),
        size(known.capacity as u64),
        known.sequence.to_string(),
        or_dash(counted.map(|counted| rate(counted.per_second))),
        or_dash(known.age.map(time)),
        or_dash(known.writers.map(|number| number.to_string())),
        or_dash(known.readers.map(|number| number.to_string())),
        or_dash(known.lag.map(|lag| lag.to_string())),
    ]
}
