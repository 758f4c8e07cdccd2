//! The other side: the same program in a second process, on the other core.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use rustix::thread::CpuSet;

use crate::scratch::Scratch;

/// The core of the measuring side.
pub const NEAR: usize = 0;
/// The core of the other side.
pub const FAR: usize = 1;
/// How long anything may take before the run gives up; nothing waits for ever.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Pins the calling thread. On a machine with one core this fails, and results mean little.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("pin to core {core}"))
}

/// How often a process's main thread has gone to sleep of its own accord: once per futex wait that
/// slept.
pub fn voluntary_switches(process: u32) -> Result<u64> {
    switches(process, "voluntary_ctxt_switches:")
}

/// How often this process's main thread has been made to wait for others: on a quiet machine
/// hardly ever.
pub fn involuntary_switches() -> Result<u64> {
    switches(std::process::id(), "nonvoluntary_ctxt_switches:")
}

fn switches(process: u32, kind: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(kind))
        .and_then(|count| count.trim().parse().ok())
        .with_context(|| format!("/proc/{process}/status has no {kind}"))
}

/// A process that plays a role on the other core. Dropping it kills it.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    role: String,
    ready: Option<Receiver<String>>,
}

impl Peer {
    /// Starts this program again in `role`, on a core.
    pub fn spawn(scratch: &Scratch, core: usize, role: &[&str], stdin: Stdio) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("peer")
            .arg("--scratch")
            .arg(scratch.path())
            .arg("--core")
            .arg(core.to_string())
            .args(role)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .spawn()
            .context("start the other process")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (sender, ready) = mpsc::channel();
        // A thread, because a pipe cannot be read with a deadline; it ends with the child.
        std::thread::spawn(move || {
            let mut line = String::new();
            if let Some(stdout) = stdout {
                let _ = BufReader::new(stdout).read_line(&mut line);
            }
            let _ = sender.send(line);
        });
        Ok(Self {
            child,
            stdin,
            role: role.join(" "),
            ready: Some(ready),
        })
    }

    /// Waits until it says that it is ready; at once when it has already.
    pub fn await_ready(&mut self) -> Result<()> {
        let Some(ready) = self.ready.take() else {
            return Ok(());
        };
        match ready.recv_timeout(DEADLINE) {
            Ok(line) if line.trim() == "ready" => Ok(()),
            Ok(_) => bail!("the peer `{}` ended before it was ready", self.role),
            Err(_) => bail!("the peer `{}` was not ready in {DEADLINE:?}", self.role),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes its standard input, which every peer takes for the end, and waits for it.
    pub fn finish(mut self) -> Result<()> {
        drop(self.stdin.take());
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the peer `{}` ended with {status}", self.role),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        bail!("the peer `{}` did not end in {DEADLINE:?}", self.role)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a peer does first: end with its parent, and take its core.
pub fn become_peer(core: usize) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(core)
}

/// What a peer says when it is set up.
pub fn say_ready() -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready")?;
    Ok(stdout.flush()?)
}

/// Gives up a spinning wait after [`DEADLINE`], looking at the clock only once in 65 536 turns.
pub struct Patience {
    turns: u32,
    since: Option<Instant>,
}

impl Patience {
    pub fn new() -> Self {
        Self {
            turns: 0,
            since: None,
        }
    }

    /// To be called in every turn without success.
    #[inline(always)]
    pub fn spin(&mut self) -> Result<()> {
        std::hint::spin_loop();
        self.turns = self.turns.wrapping_add(1);
        if self.turns & 0xffff == 0 {
            return self.look();
        }
        Ok(())
    }

    /// As [`spin`](Self::spin), after a turn that took long.
    #[cold]
    pub fn look(&mut self) -> Result<()> {
        if self.since.get_or_insert_with(Instant::now).elapsed() > DEADLINE {
            bail!("the other side has not answered for {DEADLINE:?}");
        }
        Ok(())
    }
}
