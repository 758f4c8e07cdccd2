//! Calls over D-Bus: a bus of the run's own, and zbus on both sides.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use zbus::blocking::{Connection, MessageIterator, connection::Builder};
use zbus::message::{Message, Type};

use crate::link::Link;
use crate::payload::{Proof, SHORT};
use crate::process::DEADLINE;
use crate::scratch::Scratch;

const SERVICE: &str = "org.corkboard.Bench";
const METHOD: &str = "Echo";

/// The daemon that carries the messages. Dropping it ends it.
pub struct Bus {
    daemon: Child,
    pub address: String,
}

impl Bus {
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let [socket, config, log] = ["bus", "bus.conf", "bus.log"].map(|name| scratch.fresh(name));
        std::fs::write(&config, configuration(&socket))?;
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It warns of limits that it may not raise.
            .stderr(File::create(&log)?)
            .spawn()
            .context("start dbus-daemon, which the rows for D-Bus need")?;
        let stdout = daemon.stdout.take().context("its output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let bus = Self {
            daemon,
            address: address.trim().to_owned(),
        };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(
            !bus.address.is_empty(),
            "dbus-daemon ended at once: {}",
            said()
        );
        Ok(bus)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A bus on which everybody may do everything.
fn configuration(socket: &Path) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
        socket.display()
    )
}

fn connect(address: &str) -> Result<Connection> {
    let builder = Builder::address(address)?.method_timeout(DEADLINE);
    Ok(builder.build()?)
}

/// The side that calls.
pub struct Caller {
    connection: Connection,
    reply: Option<Message>,
}

impl Caller {
    pub fn open(address: &str) -> Result<Self> {
        Ok(Self {
            connection: connect(address)?,
            reply: None,
        })
    }
}

impl Link for Caller {
    const SLEEPS: bool = true;

    /// The whole call: the reply is copied out by `receive`.
    fn send(&mut self, value: &Proof) -> Result<()> {
        let (service, method) = (Some(SERVICE), METHOD);
        let body = &(&value.0[..],);
        let reply = (self.connection).call_method(service, "/", Some(SERVICE), method, body)?;
        self.reply = Some(reply);
        Ok(())
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let Some(reply) = self.reply.take() else {
            return Ok(false);
        };
        copy(&reply, value)?;
        Ok(true)
    }
}

/// The side that answers.
pub struct Answerer {
    connection: Connection,
    calls: MessageIterator,
    call: Option<Message>,
}

impl Answerer {
    pub fn open(address: &str) -> Result<Self> {
        let connection = connect(address)?;
        let calls = MessageIterator::from(&connection);
        connection.request_name(SERVICE)?;
        Ok(Self {
            connection,
            calls,
            call: None,
        })
    }
}

impl Link for Answerer {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &Proof) -> Result<()> {
        let call = self.call.take().context("something to reply to")?;
        self.connection
            .reply(&call.header(), &(&value.0[..],))
            .map_err(Into::into)
    }

    fn receive(&mut self, value: &mut Proof) -> Result<bool> {
        let message = self.calls.next().context("the bus ended")??;
        if message.message_type() != Type::MethodCall {
            return Ok(false);
        }
        copy(&message, value)?;
        self.call = Some(message);
        Ok(true)
    }
}

fn copy(message: &Message, value: &mut Proof) -> Result<()> {
    let body = message.body();
    let (bytes,): (&[u8],) = body.deserialize()?;
    let bytes: &[u8; SHORT] = bytes.try_into()?;
    value.0 = *bytes;
    Ok(())
}
