//! Objects of any kind: which one a name means, and what there is to know about it.

use std::time::{Duration, SystemTime};

use clap::ValueEnum as _;
use corkboard::{Entry, Error, ErrorKind, Kind, Space, board, call, event, lock, stream};

use crate::exit::Failure;

/// What an object is, as `--kind` names it.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectKind {
    /// A named latest value.
    Board,
    /// A named readers-writer lock.
    Lock,
    /// A named event.
    Event,
    /// A named log of records.
    Stream,
    /// Named requests and replies.
    Call,
}

impl ObjectKind {
    /// `None` for kinds that only a later library knows.
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Board => Some(Self::Board),
            Kind::Lock => Some(Self::Lock),
            Kind::Event => Some(Self::Event),
            Kind::Stream => Some(Self::Stream),
            Kind::Call => Some(Self::Call),
            _ => None,
        }
    }
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Board => Self::Board,
            ObjectKind::Lock => Self::Lock,
            ObjectKind::Event => Self::Event,
            ObjectKind::Stream => Self::Stream,
            ObjectKind::Call => Self::Call,
        }
    }
}

/// What there is to know about an object.
pub enum Object {
    Board(board::Stat),
    Lock(lock::Stat),
    Event(event::Stat),
    Stream(stream::Stat),
    Call(call::Stat),
}

impl Object {
    pub fn look(space: &Space, kind: ObjectKind, name: &str) -> corkboard::Result<Self> {
        Ok(match kind {
            ObjectKind::Board => Self::Board(board::stat(space, name)?),
            ObjectKind::Lock => Self::Lock(lock::stat(space, name)?),
            ObjectKind::Event => Self::Event(event::stat(space, name)?),
            ObjectKind::Stream => Self::Stream(stream::stat(space, name)?),
            ObjectKind::Call => Self::Call(call::stat(space, name)?),
        })
    }
}

/// The kind of the object that is meant by a name: the one asked for, or else the only one there
/// is.
pub fn kind_of(
    space: &Space,
    asked: Option<ObjectKind>,
    name: &str,
) -> Result<ObjectKind, Failure> {
    if let Some(kind) = asked {
        return Ok(kind);
    }
    let mut kinds = kinds(&space.entries()?, name);
    if kinds.is_empty() {
        kinds = foreign(space, name);
    }
    match kinds[..] {
        [kind] => Ok(kind),
        [] => match board::stat(space, name).map_err(|error| Error::kind(&error)) {
            Err(ErrorKind::NotFound) => Err(Failure::Negative(format!(
                "there is no object {name:?} in {}",
                space.path().display()
            ))),
            // Not a name, or created this moment: whoever goes on says so.
            _ => Ok(ObjectKind::Board),
        },
        _ => {
            let listed = |separator: &str, before: &str| {
                let words = kinds
                    .iter()
                    .map(|kind| format!("{before}{}", Kind::from(*kind)));
                words.collect::<Vec<_>>().join(separator)
            };
            Err(Failure::Refused(format!(
                "several objects are called {name:?}: {}; choose with {}",
                listed(" and ", "the "),
                listed(" or ", "--kind ")
            )))
        }
    }
}

/// What it comes to that there is no such object: a negative answer, unless there is not even a
/// space.
pub fn absent(space: &Space, kind: ObjectKind, name: &str) -> Failure {
    match absence(space, kind, name, "") {
        Ok(message) => Failure::Negative(message),
        Err(error) => error.into(),
    }
}

/// Says that there is no such object, and what else has the name, or else gives the hint.
pub fn absence(
    space: &Space,
    kind: ObjectKind,
    name: &str,
    hint: &str,
) -> corkboard::Result<String> {
    let others = kinds(&space.entries()?, name);
    let kind = Kind::from(kind);
    let others: Vec<String> = others
        .into_iter()
        .map(Kind::from)
        .filter(|other| *other != kind)
        .map(|other| with_article(other).to_owned())
        .collect();
    let hint = match others[..] {
        [] => hint.to_owned(),
        _ => format!(
            "; {name:?} is {}, not {}",
            others.join(" and "),
            with_article(kind)
        ),
    };
    let path = space.path().display();
    Ok(format!("there is no {kind} {name:?} in {path}{hint}"))
}

/// The kinds of the objects that have this name.
fn kinds(entries: &[Entry], name: &str) -> Vec<ObjectKind> {
    let named = entries.iter().filter(|entry| entry.name() == name);
    named
        .filter_map(|entry| ObjectKind::of(entry.kind()))
        .collect()
}

/// The kinds whose file name is taken, by something that is no object and is not listed.
fn foreign(space: &Space, name: &str) -> Vec<ObjectKind> {
    let is_taken = |kind: &ObjectKind| {
        let file_name = format!("{name}.{}", Kind::from(*kind));
        space.path().join(file_name).symlink_metadata().is_ok()
    };
    let all = ObjectKind::value_variants().iter().copied();
    // Whatever is no name is for the library to refuse.
    let is_name = !name.contains('/');
    all.filter(|kind| is_name && is_taken(kind)).collect()
}

fn with_article(kind: Kind) -> &'static str {
    match kind {
        Kind::Board => "a board",
        Kind::Lock => "a lock",
        Kind::Event => "an event",
        Kind::Stream => "a stream",
        Kind::Call => "a call",
        _ => "another object",
    }
}

pub fn lock_state(state: lock::State) -> &'static str {
    match state {
        lock::State::Free => "free",
        lock::State::Read => "read",
        lock::State::Written => "written",
    }
}

pub fn event_state(stat: &event::Stat) -> &'static str {
    match stat.is_signalled {
        true => "set",
        false => "unset",
    }
}

pub fn event_reset(reset: event::Reset) -> &'static str {
    match reset {
        event::Reset::Auto => "auto",
        event::Reset::Manual => "manual",
    }
}

/// How many of the participants are alive.
pub fn alive(participants: &[stream::Participant]) -> usize {
    participants.iter().filter(|one| one.is_alive).count()
}

/// How far the slowest subscriber that is alive is behind.
pub fn lag(stat: &stream::Stat) -> Option<u64> {
    let alive = stat.subscribers.iter().filter(|one| one.is_alive);
    alive.filter_map(|one| one.lag).max()
}

pub fn live_clients(stat: &call::Stat) -> usize {
    stat.clients.iter().filter(|one| one.is_alive).count()
}

pub fn is_served(stat: &call::Stat) -> bool {
    stat.server.as_ref().is_some_and(|server| server.is_alive)
}

/// How many requests wait for a server. Those of dead clients are answered to nobody.
pub fn pending(stat: &call::Stat) -> usize {
    let alive = stat.clients.iter().filter(|one| one.is_alive);
    alive.map(|one| one.pending).sum()
}

pub fn live_handles(stat: &lock::Stat) -> usize {
    stat.handles.iter().filter(|handle| handle.is_alive).count()
}

pub fn holders(stat: &lock::Stat) -> usize {
    stat.handles
        .iter()
        .filter(|handle| handle.is_holder())
        .count()
}

/// How many of the entries are alive; `None` where looking is not permitted.
pub fn attached(entries: Option<&[board::Participant]>) -> Option<usize> {
    Some(entries?.iter().filter(|one| one.is_alive).count())
}

/// What fits on a line: columns, or else words over them.
pub enum Summary {
    Columns(Columns),
    Words(String),
}

/// What boards, streams and calls have; `None` is what does not apply, or is not known.
pub struct Columns {
    /// The newest value or record, in bytes.
    pub size: Option<usize>,
    pub capacity: usize,
    /// How many values, records or answers there have been.
    pub sequence: u64,
    pub age: Option<Duration>,
    pub writers: Option<usize>,
    pub readers: Option<usize>,
    /// Records, or requests, that wait for somebody.
    pub lag: Option<u64>,
}

impl Summary {
    pub fn of(object: &Object) -> Self {
        Self::Columns(match object {
            Object::Lock(stat) => return Self::Words(lock_in_words(stat)),
            Object::Event(stat) => {
                return Self::Words(format!("{}, {}", event_state(stat), stat.reset));
            }
            Object::Board(stat) => Columns {
                size: stat.len,
                capacity: stat.capacity,
                sequence: stat.sequence,
                age: stat.age,
                writers: attached(stat.writers.as_deref()),
                readers: attached(stat.readers.as_deref()),
                lag: None,
            },
            Object::Stream(stat) => Columns {
                size: stat.len,
                capacity: stat.capacity,
                sequence: stat.sequence,
                // Records carry no time.
                age: None,
                writers: Some(alive(&stat.producers)),
                readers: Some(alive(&stat.subscribers)),
                lag: lag(stat),
            },
            Object::Call(stat) => Columns {
                size: None,
                capacity: stat.capacity,
                sequence: stat.answered,
                age: None,
                writers: Some(usize::from(is_served(stat))),
                readers: Some(live_clients(stat)),
                lag: Some(pending(stat) as u64),
            },
        })
    }
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

/// How often something has happened to an object since it was created.
#[derive(Clone, Copy)]
pub struct Count {
    pub instance: u64,
    pub number: u64,
    pub since: SystemTime,
}

impl Count {
    /// Values published, records sent, or requests answered.
    pub fn of(object: &Object) -> Option<Self> {
        let (instance, number, since) = match object {
            Object::Board(stat) => (stat.instance, stat.sequence, stat.created_at),
            Object::Stream(stat) => (stat.instance, stat.sequence, stat.created_at),
            Object::Call(stat) => (stat.instance, stat.answered, stat.created_at),
            Object::Lock(_) | Object::Event(_) => return None,
        };
        Some(Self {
            instance,
            number,
            since,
        })
    }
}

/// How often that was in a second.
#[derive(Clone, Copy)]
pub struct Rate {
    pub per_second: f64,
    /// Over how long that was counted.
    pub over: Duration,
}

impl Rate {
    /// Since an earlier look at the same object, so long before this one; without one, since the
    /// object's creation.
    pub fn of(count: Count, earlier: Option<(Count, Duration)>) -> Option<Self> {
        let since = earlier.and_then(|(earlier, over)| Self::since(count, earlier, over));
        since.or_else(|| {
            let age = SystemTime::now().duration_since(count.since).ok()?;
            Self::over(count.number, age)
        })
    }

    /// Since an earlier look, unless that was at another object of the same name.
    pub fn since(count: Count, earlier: Count, over: Duration) -> Option<Self> {
        let number = count.number.saturating_sub(earlier.number);
        let is_same = earlier.instance == count.instance;
        is_same.then(|| Self::over(number, over)).flatten()
    }

    fn over(number: u64, over: Duration) -> Option<Self> {
        let per_second = number as f64 / over.as_secs_f64();
        per_second.is_finite().then_some(Self { per_second, over })
    }
}
