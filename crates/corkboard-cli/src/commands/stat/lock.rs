use corkboard::lock::{Handle, Hold, Stat};
use serde::Serialize;

use super::{ago, facts, instance, octal, owner, table};
use crate::object::lock_state;
use crate::output::{Align, or_dash, rfc3339};

/// The JSON form.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    kind: &'static str,
    state: &'static str,
    writer_waits: bool,
    #[cfg(unix)]
    owner_uid: u32,
    #[cfg(unix)]
    owner_gid: u32,
    mode: String,
    created_at: Option<String>,
    instance: String,
    /// Those of the handles that have the lock.
    holders: Vec<JsonHandle<'a>>,
    handles: Vec<JsonHandle<'a>>,
}

#[derive(Serialize)]
struct JsonHandle<'a> {
    entry: u32,
    pid: u32,
    label: &'a str,
    does: &'static str,
    since: Option<String>,
    opened_at: Option<String>,
    alive: bool,
}

pub fn json<'a>(name: &'a str, stat: &'a Stat) -> Json<'a> {
    let holders = stat.handles.iter().filter(|handle| handle.is_holder());
    Json {
        name,
        kind: "lock",
        state: lock_state(stat.state),
        writer_waits: stat.writer_waits,
        #[cfg(unix)]
        owner_uid: stat.owner_uid,
        #[cfg(unix)]
        owner_gid: stat.owner_gid,
        mode: octal(stat.mode),
        created_at: rfc3339(stat.created_at),
        instance: instance(stat.instance),
        holders: holders.map(json_handle).collect(),
        handles: stat.handles.iter().map(json_handle).collect(),
    }
}

fn json_handle(handle: &Handle) -> JsonHandle<'_> {
    JsonHandle {
        entry: handle.entry,
        pid: handle.pid,
        label: &handle.label,
        does: does(handle),
        since: handle.since.and_then(rfc3339),
        opened_at: handle.opened_at.and_then(rfc3339),
        alive: handle.is_alive,
    }
}

pub fn render(name: &str, stat: &Stat) -> String {
    let waits = match stat.writer_waits {
        true => ", a writer waits",
        false => "",
    };
    let known = [
        ("state", format!("{}{waits}", lock_state(stat.state))),
        ("owner", owner!(stat, stat.mode, "mode")),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    facts("lock", name, &known) + &handles(&stat.handles)
}

fn handles(all: &[Handle]) -> String {
    let columns = [
        ("ENTRY", Align::Right),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("SINCE", Align::Left),
        ("OPENED", Align::Left),
        ("LABEL", Align::Left),
    ];
    let row = |handle: &Handle| {
        vec![
            handle.entry.to_string(),
            handle.pid.to_string(),
            does(handle).into(),
            or_dash(handle.since.and_then(ago)),
            or_dash(handle.opened_at.and_then(ago)),
            handle.label.clone(),
        ]
    };
    table("handles", &columns, all.iter().map(row))
}

fn does(handle: &Handle) -> &'static str {
    match handle.hold {
        _ if !handle.is_alive => "dead",
        Hold::Idle => "idle",
        Hold::Reads => "reads",
        Hold::Writes => "writes",
        Hold::AwaitsRead => "waits to read",
        Hold::AwaitsWrite => "waits to write",
    }
}
