use corkboard::call::{Caller, Stat};
use serde::Serialize;

#[cfg(unix)]
use super::owner;
use super::{ago, bytes, facts, instance, integrity, octal};
use crate::object::{Rate, pending};
use crate::output::{Align, Table, or_dash, rate, rfc3339, time};

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
    let rate = counted
        .map(|Rate { per_second, over }| format!("{} over {}", rate(per_second), time(over)));
    let clients = format!(
        "{} at most, {} calls each",
        stat.max_clients, stat.calls_per_client
    );
    #[cfg(unix)]
    let owner = owner(stat.owner_uid, stat.owner_gid, stat.mode, "mode");
    #[cfg(windows)]
    let owner = format!("{} {}", "mode", octal(stat.mode));
    let known = [
        ("answered", stat.answered.to_string()),
        ("rate", or_dash(rate)),
        ("pending", pending(stat).to_string()),
        ("capacity", bytes(stat.capacity as u64)),
        ("servers", format!("{} so far", stat.servers)),
        ("clients", clients),
        ("integrity", integrity(stat.integrity).into()),
        ("memory", bytes(stat.allocated_bytes)),
        ("owner", owner),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    facts("call", name, &known) + &server(stat.server.as_ref()) + &clients_table(&stat.clients)
}

fn server(server: Option<&Caller>) -> String {
    let Some(server) = server else {
        return "\nserver: none\n".into();
    };
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("TAKEN", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ]);
    table.row(vec![
        server.pid.to_string(),
        state(server).into(),
        server.taken.to_string(),
        or_dash(server.since.and_then(ago)),
        server.label.clone(),
    ]);
    format!("\nserver:\n{}", table.render())
}

fn clients_table(all: &[Caller]) -> String {
    if all.is_empty() {
        return "\nclients: none\n".into();
    }
    let mut table = Table::new(&[
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("PENDING", Align::Right),
        ("TAKEN", Align::Right),
        ("SINCE", Align::Left),
        ("LABEL", Align::Left),
    ]);
    for client in all {
        table.row(vec![
            client.entry.to_string(),
            client.pid.to_string(),
            state(client).into(),
            client.pending.to_string(),
            client.taken.to_string(),
            or_dash(client.since.and_then(ago)),
            client.label.clone(),
        ]);
    }
    format!("\nclients:\n{}", table.render())
}

fn state(caller: &Caller) -> &'static str {
    match caller.is_alive {
        true => "alive",
        false => "dead",
    }
}
