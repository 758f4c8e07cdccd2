use corkboard::board::{Participant, Stat, Timestamp, WriterMode};
use serde::Serialize;

use super::{ago, bytes, facts, instance, integrity, octal, owner, table};
use crate::output::{Align, or_dash, rfc3339, time};

/// The JSON form.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    kind: &'static str,
    size: Option<usize>,
    capacity: usize,
    sequence: u64,
    published_at: Option<String>,
    age_seconds: Option<f64>,
    integrity: &'static str,
    timestamp: &'static str,
    writer_mode: &'static str,
    value_type: Option<JsonType<'a>>,
    max_readers: u32,
    slots: usize,
    allocated_bytes: u64,
    #[cfg(unix)]
    owner_uid: u32,
    #[cfg(unix)]
    owner_gid: u32,
    data_mode: String,
    created_at: Option<String>,
    instance: String,
    writer_alive: bool,
    writers: Option<Vec<JsonParticipant<'a>>>,
    readers: Option<Vec<JsonParticipant<'a>>>,
}

#[derive(Serialize)]
struct JsonType<'a> {
    name: &'a str,
    size: usize,
    align: usize,
}

#[derive(Serialize)]
struct JsonParticipant<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    since: Option<String>,
    alive: bool,
    pinned_slot: Option<usize>,
    publishing: bool,
}

pub fn json<'a>(name: &'a str, stat: &'a Stat) -> Json<'a> {
    let participants = |all: &'a [Participant]| all.iter().map(json_participant).collect();
    Json {
        name,
        kind: "board",
        size: stat.len,
        capacity: stat.capacity,
        sequence: stat.sequence,
        published_at: stat.published_at.and_then(rfc3339),
        age_seconds: stat.age.map(|age| age.as_secs_f64()),
        integrity: integrity(stat.integrity),
        timestamp: timestamp(stat.timestamp),
        writer_mode: writer_mode(stat.writer_mode),
        value_type: stat.value_type.as_ref().map(|value_type| JsonType {
            name: &value_type.name,
            size: value_type.size,
            align: value_type.align,
        }),
        max_readers: stat.max_readers,
        slots: stat.slots,
        allocated_bytes: stat.allocated_bytes,
        #[cfg(unix)]
        owner_uid: stat.owner_uid,
        #[cfg(unix)]
        owner_gid: stat.owner_gid,
        data_mode: octal(stat.data_mode),
        created_at: rfc3339(stat.created_at),
        instance: instance(stat.instance),
        writer_alive: stat.writer_alive,
        writers: stat.writers.as_deref().map(participants),
        readers: stat.readers.as_deref().map(participants),
    }
}

fn json_participant(participant: &Participant) -> JsonParticipant<'_> {
    JsonParticipant {
        entry: participant.entry,
        pid: participant.pid,
        label: &participant.label,
        since: participant.since.and_then(rfc3339),
        alive: participant.is_alive,
        pinned_slot: participant.pinned_slot,
        publishing: participant.is_publishing,
    }
}

pub fn render(name: &str, stat: &Stat) -> String {
    let newest = match (stat.published_at.and_then(rfc3339), stat.age) {
        (Some(moment), Some(age)) => format!("{moment}, {} ago", time(age)),
        (moment, _) => or_dash(moment),
    };
    let value_type = stat.value_type.as_ref().map(|of| {
        let (size, align) = (of.size, of.align);
        format!("{}, {size} bytes, aligned to {align}", of.name)
    });
    let slots = format!("{}, for {} readers", stat.slots, stat.max_readers);
    let known = [
        ("sequence", stat.sequence.to_string()),
        ("size", or_dash(stat.len.map(|len| bytes(len as u64)))),
        ("capacity", bytes(stat.capacity as u64)),
        ("published", newest),
        ("integrity", integrity(stat.integrity).into()),
        ("timestamp", timestamp(stat.timestamp).into()),
        ("writer mode", writer_mode(stat.writer_mode).into()),
        ("value type", or_dash(value_type)),
        ("slots", slots),
        ("memory", bytes(stat.allocated_bytes)),
        ("owner", owner!(stat, stat.data_mode, "data mode")),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    let mut text = facts("board", name, &known);
    text += &match &stat.writers {
        Some(writers) => participants("writers", writers),
        None => format!(
            "\nwriters: looking is not permitted; {}\n",
            if stat.writer_alive {
                "one is alive"
            } else {
                "none is alive"
            }
        ),
    };
    text + &match &stat.readers {
        Some(readers) => participants("readers", readers),
        None => "\nreaders: looking is not permitted\n".into(),
    }
}

fn participants(what: &str, all: &[Participant]) -> String {
    let columns = [
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("SLOT", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |participant: &Participant| {
        let state = match (participant.is_alive, participant.is_publishing) {
            (true, true) => "has the turn",
            (true, false) => "alive",
            (false, _) => "dead",
        };
        let since = participant.since.and_then(ago);
        vec![
            participant.entry.to_string(),
            participant.pid.to_string(),
            state.into(),
            or_dash(participant.pinned_slot.map(|slot| slot.to_string())),
            or_dash(since),
            participant.label.clone(),
        ]
    };
    table(what, &columns, all.iter().map(row))
}

fn timestamp(timestamp: Timestamp) -> &'static str {
    match timestamp {
        Timestamp::Coarse => "coarse",
        Timestamp::Precise => "precise",
        Timestamp::None => "none",
    }
}

fn writer_mode(mode: WriterMode) -> &'static str {
    match mode {
        WriterMode::Exclusive => "exclusive",
        WriterMode::Shared => "shared",
    }
}
