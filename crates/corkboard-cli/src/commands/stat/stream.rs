use corkboard::stream::{Overflow, Participant, ProducerMode, Stat};
use serde::Serialize;

use super::{ago, bytes, counted_rate, facts, instance, integrity, octal, owner, state, table};
use crate::object::{Rate, lag};
use crate::output::{Align, or_dash, rfc3339};

/// The JSON form.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    kind: &'static str,
    size: Option<usize>,
    capacity: usize,
    max_size: usize,
    max_records: u64,
    sequence: u64,
    oldest: Option<u64>,
    ended: bool,
    lag: Option<u64>,
    /// Records a second, counted over so many seconds.
    rate: Option<f64>,
    rate_seconds: Option<f64>,
    overflow: &'static str,
    integrity: &'static str,
    producer_mode: &'static str,
    max_subscribers: u32,
    allocated_bytes: u64,
    #[cfg(unix)]
    owner_uid: u32,
    #[cfg(unix)]
    owner_gid: u32,
    mode: String,
    created_at: Option<String>,
    instance: String,
    producers: Vec<JsonProducer<'a>>,
    subscribers: Vec<JsonSubscriber<'a>>,
}

#[derive(Serialize)]
struct JsonProducer<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    since: Option<String>,
    alive: bool,
    producing: bool,
}

#[derive(Serialize)]
struct JsonSubscriber<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    since: Option<String>,
    alive: bool,
    position: Option<u64>,
    lag: Option<u64>,
}

pub fn json<'a>(name: &'a str, stat: &'a Stat, rate: Option<Rate>) -> Json<'a> {
    let producer = |producer: &'a Participant| JsonProducer {
        entry: producer.entry,
        pid: producer.pid,
        label: &producer.label,
        since: producer.since.and_then(rfc3339),
        alive: producer.is_alive,
        producing: producer.has_turn,
    };
    let subscriber = |subscriber: &'a Participant| JsonSubscriber {
        entry: subscriber.entry,
        pid: subscriber.pid,
        label: &subscriber.label,
        since: subscriber.since.and_then(rfc3339),
        alive: subscriber.is_alive,
        position: subscriber.position,
        lag: subscriber.lag,
    };
    Json {
        name,
        kind: "stream",
        size: stat.len,
        capacity: stat.capacity,
        max_size: stat.max_len,
        max_records: stat.max_records,
        sequence: stat.sequence,
        oldest: stat.oldest,
        ended: stat.is_ended,
        lag: lag(stat),
        rate: rate.map(|rate| rate.per_second),
        rate_seconds: rate.map(|rate| rate.over.as_secs_f64()),
        overflow: overflow(stat.overflow),
        integrity: integrity(stat.integrity),
        producer_mode: producer_mode(stat.producer_mode),
        max_subscribers: stat.max_subscribers,
        allocated_bytes: stat.allocated_bytes,
        #[cfg(unix)]
        owner_uid: stat.owner_uid,
        #[cfg(unix)]
        owner_gid: stat.owner_gid,
        mode: octal(stat.mode),
        created_at: rfc3339(stat.created_at),
        instance: instance(stat.instance),
        producers: stat.producers.iter().map(producer).collect(),
        subscribers: stat.subscribers.iter().map(subscriber).collect(),
    }
}

pub fn render(name: &str, stat: &Stat, counted: Option<Rate>) -> String {
    let newest = match stat.is_ended {
        true => format!("{}, an end mark", stat.sequence),
        false => stat.sequence.to_string(),
    };
    let records = format!(
        "{}, {} records",
        bytes(stat.capacity as u64),
        stat.max_records
    );
    let known = [
        ("sequence", newest),
        (
            "oldest",
            or_dash(stat.oldest.map(|oldest| oldest.to_string())),
        ),
        ("size", or_dash(stat.len.map(|len| bytes(len as u64)))),
        ("capacity", records),
        ("longest", bytes(stat.max_len as u64)),
        ("rate", or_dash(counted.map(counted_rate))),
        ("when full", overflow(stat.overflow).into()),
        ("integrity", integrity(stat.integrity).into()),
        ("producers", producer_mode(stat.producer_mode).into()),
        ("subscribers", format!("{} at most", stat.max_subscribers)),
        ("memory", bytes(stat.allocated_bytes)),
        ("owner", owner!(stat, stat.mode, "mode")),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    facts("stream", name, &known) + &producers(&stat.producers) + &subscribers(&stat.subscribers)
}

fn producers(all: &[Participant]) -> String {
    let columns = [
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |producer: &Participant| {
        let state = match producer.has_turn {
            true => "has the turn",
            false => state(producer.is_alive),
        };
        vec![
            producer.entry.to_string(),
            producer.pid.to_string(),
            state.into(),
            or_dash(producer.since.and_then(ago)),
            producer.label.clone(),
        ]
    };
    table("producers", &columns, all.iter().map(row))
}

fn subscribers(all: &[Participant]) -> String {
    let columns = [
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("POSITION", Align::Right),
        ("LAG", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |subscriber: &Participant| {
        let number = |number: Option<u64>| or_dash(number.map(|number| number.to_string()));
        vec![
            subscriber.entry.to_string(),
            subscriber.pid.to_string(),
            state(subscriber.is_alive).into(),
            number(subscriber.position),
            number(subscriber.lag),
            or_dash(subscriber.since.and_then(ago)),
            subscriber.label.clone(),
        ]
    };
    table("subscribers", &columns, all.iter().map(row))
}

fn overflow(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Block => "block",
        Overflow::Overwrite => "overwrite",
    }
}

fn producer_mode(mode: ProducerMode) -> &'static str {
    match mode {
        ProducerMode::Exclusive => "exclusive",
        ProducerMode::Shared => "shared",
    }
}
