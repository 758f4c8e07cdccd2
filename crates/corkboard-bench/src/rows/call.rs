//! Calls: 64 bytes to a server in another process, and a reply of 64 bytes.
//!
//! Fair, because each side does the same as in a round trip: the request is copied out whole, the
//! copy is sent back as the reply, and the caller compares all of it.

use std::process::Stdio;

use anyhow::Result;
use clap::Subcommand;
use corkboard::call::{Client, Integrity, Options, Reply, Request, Server};

use super::round_trip::{self, connect, slept_rounds};
use super::{Group, Outcome, Row, Run};
use crate::board::shared_space;
use crate::link::{Link, SLICE, echo, spin};
use crate::payload::{Proof, SHORT};
use crate::peers::dbus::{Answerer, Bus, Caller};
use crate::peers::iceoryx2;
use crate::peers::socket::Socket;
use crate::process::{DEADLINE, FAR, NEAR, Peer, say_ready};
use crate::scratch::Scratch;

pub const SPINNING: &str = "call 64 B, spinning";
pub const SLEEPING: &str = "call 64 B, sleeping, on one core";
const SLEEPING_APART: &str = "call 64 B, sleeping, on two cores";
pub const UNVERIFIED: &str = "corkboard, unverified";
pub const VERIFIED: &str = "corkboard, verified";
pub const ICEORYX2: &str = "iceoryx2 request/response";
pub const DBUS: &str = "D-Bus, zbus on both sides";
/// A call over D-Bus takes long.
const SLEEPING_ROUNDS: usize = 400;

/// What the far side of a call is to open.
#[derive(Subcommand, Clone, Debug)]
pub enum Answering {
    Calls {
        name: String,
        #[arg(action = clap::ArgAction::Set)]
        verified: bool,
        #[arg(action = clap::ArgAction::Set)]
        sleeps: bool,
    },
    Responses {
        name: String,
    },
    Dbus {
        name: String,
        address: String,
    },
}

impl Answering {
    /// Plays the far side until the near side ends it.
    pub fn play(&self, scratch: &Scratch) -> Result<()> {
        fn play(mut link: impl Link) -> Result<()> {
            say_ready()?;
            echo(&mut link)
        }
        match self {
            Self::Calls {
                name,
                verified,
                sleeps: true,
            } => play(Serving::<true>::open(scratch, name, *verified)?),
            Self::Calls { name, verified, .. } => {
                play(Serving::<false>::open(scratch, name, *verified)?)
            }
            Self::Responses { name } => play(iceoryx2::Responses::open(scratch, name)?),
            Self::Dbus { address, .. } => play(Answerer::open(address)?),
        }
    }
}

pub fn groups() -> Vec<Group> {
    vec![
        Group {
            title: SPINNING,
            references: vec![("iceoryx2", ICEORYX2)],
            floor: None,
            rows: vec![
                ours(UNVERIFIED, false),
                ours(VERIFIED, true),
                Row::new(ICEORYX2, |run| {
                    let (mut near, peer) = connect(run.scratch, FAR, &["responses"], |name| {
                        iceoryx2::Requests::open(run.scratch, name)
                    })?;
                    spun(run, &mut near, peer)
                }),
            ],
        },
        sleeping_group(SLEEPING, NEAR),
        sleeping_group(SLEEPING_APART, FAR),
    ]
}

fn sleeping_group(title: &'static str, core: usize) -> Group {
    Group {
        title,
        references: vec![("futex", round_trip::FUTEX), ("D-Bus", DBUS)],
        floor: None,
        rows: vec![
            round_trip::futexes(core),
            Row::new(VERIFIED, move |run| {
                let role = ["calls", "true", "true"];
                let (mut near, peer) = connect(run.scratch, core, &role, |name| {
                    Calling::open(run.scratch, name)
                })?;
                slept_rounds(run, &mut near, peer, SLEEPING_ROUNDS)
            }),
            Row::new("Unix stream socket", move |run| {
                let (mut near, far) = Socket::pair()?;
                let peer = Peer::spawn(run.scratch, core, &["socket", "socket"], Stdio::from(far))?;
                slept_rounds(run, &mut near, peer, SLEEPING_ROUNDS)
            }),
            Row::new(DBUS, move |run| {
                let bus = Bus::start(run.scratch)?;
                let role = ["dbus", &bus.address];
                let (mut near, peer) =
                    connect(run.scratch, core, &role, |_| Caller::open(&bus.address))?;
                slept_rounds(run, &mut near, peer, SLEEPING_ROUNDS)
            }),
        ],
    }
}

fn ours(label: &str, verified: bool) -> Row {
    Row::new(label, move |run| {
        let verified = verified.to_string();
        let (mut near, peer) = connect(run.scratch, FAR, &["calls", &verified, "false"], |name| {
            Calling::open(run.scratch, name)
        })?;
        spun(run, &mut near, peer)
    })
}

fn spun(run: Run, near: &mut impl Link, peer: Peer) -> Result<Outcome> {
    let summary = spin(near, run.effort.samples(200_000))?;
    peer.finish()?;
    Ok(summary.into())
}

/// The side that calls.
struct Calling {
    client: Client,
    reply: Option<Reply>,
}

impl Calling {
    fn open(scratch: &Scratch, name: &str) -> Result<Self> {
        let space = shared_space(scratch, name)?;
        Ok(Self {
            client: Client::open_timeout(&space, "call", DEADLINE)?,
            reply: None,
        })
    }
}

impl Link for Calling {
    const SLEEPS: bool = true;

    /// The whole call: the reply is copied out by `receive`.
    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        self.reply = Some(self.client.call(&value.0, DEADLINE)?);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let Some(reply) = self.reply.take() else {
            return Ok(false);
        };
        value.0.copy_from_slice(&reply);
        Ok(true)
    }
}

/// The side that answers; one that sleeps, or one that polls.
struct Serving<const SLEEPS: bool> {
    server: Server,
    request: Option<Request>,
}

impl<const SLEEPS: bool> Serving<SLEEPS> {
    fn open(scratch: &Scratch, name: &str, verified: bool) -> Result<Self> {
        let space = shared_space(scratch, name)?;
        let options = Options::new().capacity(SHORT).integrity(match verified {
            true => Integrity::Crc64,
            false => Integrity::None,
        });
        Ok(Self {
            server: Server::create(&space, "call", options)?,
            request: None,
        })
    }
}

impl<const SLEEPS: bool> Link for Serving<SLEEPS> {
    const SLEEPS: bool = SLEEPS;

    #[inline(always)]
    fn send(&mut self, value: &Proof) -> Result<()> {
        let request = self.request.take().expect("something to reply to");
        Ok(request.reply(&value.0)?)
    }

    #[inline(always)]
    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let timeout = if SLEEPS {
            SLICE
        } else {
            std::time::Duration::ZERO
        };
        self.request = self.server.next(Some(timeout))?;
        if let Some(request) = &self.request {
            value.0.copy_from_slice(request);
        }
        Ok(self.request.is_some())
    }
}
