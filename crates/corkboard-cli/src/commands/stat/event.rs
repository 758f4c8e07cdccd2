use corkboard::event::Stat;
use serde::Serialize;

use super::{facts, instance, octal, owner};
use crate::object::{event_reset, event_state};
use crate::output::{or_dash, rfc3339};

/// The JSON form.
#[derive(Serialize)]
pub struct Json<'a> {
    name: &'a str,
    kind: &'static str,
    state: &'static str,
    signalled: bool,
    reset: &'static str,
    sets: u64,
    #[cfg(unix)]
    owner_uid: u32,
    #[cfg(unix)]
    owner_gid: u32,
    mode: String,
    created_at: Option<String>,
    instance: String,
}

pub fn json<'a>(name: &'a str, stat: &Stat) -> Json<'a> {
    Json {
        name,
        kind: "event",
        state: event_state(stat),
        signalled: stat.is_signalled,
        reset: event_reset(stat.reset),
        sets: stat.sets,
        #[cfg(unix)]
        owner_uid: stat.owner_uid,
        #[cfg(unix)]
        owner_gid: stat.owner_gid,
        mode: octal(stat.mode),
        created_at: rfc3339(stat.created_at),
        instance: instance(stat.instance),
    }
}

pub fn render(name: &str, stat: &Stat) -> String {
    let known = [
        ("state", event_state(stat).into()),
        ("reset", event_reset(stat.reset).into()),
        ("times set", stat.sets.to_string()),
        ("owner", owner!(stat, stat.mode, "mode")),
        ("created", or_dash(rfc3339(stat.created_at))),
        ("instance", instance(stat.instance)),
    ];
    facts("event", name, &known)
}
