use corkboard::call::{Caller, Stat};
use serde::Serialize;

use super::{ago, bytes, counted_rate, facts, instance, integrity, octal, owner, state, table};
use crate::object::{Rate, pending};
use crate::output::{Align, or_dash, rfc3339};

/// The JSON form.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    kind: &'static str,
    capacity: usize,
    answered: u64,
    /// Answers a second, counted over so many seconds.
    rate: Option<f64>,
    rate_seconds: Option<f64>,
    pending: usize,
    servers: u64,
    max_clients: u32,
    calls_per_client: u32,
    integrity: &'static str,
    allocated_bytes: u64,
    #[cfg(unix)]
    owner_uid: u32,
    #[cfg(unix)]
    owner_gid: u32,
    mode: String,
    created_at: Option<String>,
    instance: String,
    server: Option<JsonServer<'a>>,
    clients: Vec<JsonClient<'a>>,
}

#[derive(Serialize)]
struct JsonServer<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    since: Option<String>,
    alive: bool,
    taken: usize,
}

#[derive(Serialize)]
struct JsonClient<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    since: Option<String>,
    alive: bool,
    pending: usize,
    taken: usize,
}

pub fn json<'a>(name: &'a str, stat: &'a Stat, rate: Option<Rate>) -> Json<'a> {
    let server = |server: &'a Caller| JsonServer {
        entry: server.entry,
        pid: server.pid,
        label: &server.label,
        since: server.since.and_then(rfc3339),
        alive: server.is_alive,
        taken: server.taken,
    };
    let client = |client: &'a Caller| JsonClient {
        entry: client.entry,
        pid: client.pid,
        label: &client.label,
        since: client.since.and_then(rfc3339),
        alive: client.is_alive,
        pending: client.pending,
        taken: client.taken,
    };
    Json {
        name,
        kind: "call",
        capacity: stat.capacity,
        answered: stat.answered,
        rate: rate.map(|rate| rate.per_second),
        rate_seconds: rate.map(|rate| rate.over.as_secs_f64()),
        pending: pending(stat),
        servers: stat.servers,
        max_clients: stat.max_clients,
        calls_per_client: stat.calls_per_client,
        integrity: integrity(stat.integrity),
        allocated_bytes: stat.allocated_bytes,
        #[cfg(unix)]
        owner_uid: stat.owner_uid,
        #[cfg(unix)]
        owner_gid: stat.owner_gid,
        mode: octal(stat.mode),
        created_at: rfc3339(stat.created_at),
        instance: instance(stat.instance),
        server: stat.server.as_ref().map(server),
        clients: stat.clients.iter().map(client).collect(),
    }
}

pub fn render(name: &str, stat: &Stat, counted: Option<Rate>) -> String {
    let most = format!(
        "{} at most, {} calls each",
        stat.max_clients, stat.calls_per_client
    );
    let known = [
        ("answered", stat.answered.to_string()),
        ("rate", or_dash(counted.map(counted_rate))),
        ("pending", pending(stat).to_string()),
        ("capacity", bytes(stat.capacity as u64)),
        ("servers", format!("{} so far", stat.servers)),
        ("clients", most),
        ("integrity", integrity(stat.integrity).into()),
        ("memory", bytes(stat.allocated_bytes)),
        ("owner", owner!(stat, stat.mode, "mode")),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    facts("call", name, &known) + &server(stat.server.as_ref()) + &clients(&stat.clients)
}

fn server(server: Option<&Caller>) -> String {
    let columns = [
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("TAKEN", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |server: &Caller| {
        vec![
            server.pid.to_string(),
            state(server.is_alive).into(),
            server.taken.to_string(),
            or_dash(server.since.and_then(ago)),
            server.label.clone(),
        ]
    };
    table("server", &columns, server.into_iter().map(row))
}

fn clients(all: &[Caller]) -> String {
    let columns = [
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("PENDING", Align::Right),
        ("TAKEN", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |client: &Caller| {
        vec![
            client.entry.to_string(),
            client.pid.to_string(),
            state(client.is_alive).into(),
            client.pending.to_string(),
            client.taken.to_string(),
            or_dash(client.since.and_then(ago)),
            client.label.clone(),
        ]
    };
    table("clients", &columns, all.iter().map(row))
}
