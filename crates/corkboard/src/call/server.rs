//! Answering requests.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::desk::{Desk, Payload};
use super::layout::*;
use super::options::Options;
use super::protocol::{self, Answered, Phase, State};
use super::watching::SLICE;
use crate::attachment::Shaped as _;
use crate::clock::{Deadline, Looks};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::object;
use crate::participants::Table;
use crate::space::{Kind, Space};
use crate::spins;
use crate::sync::Ordering;
use crate::sys::wait;

/// How often one that stands by looks whether the other server is gone.
const STANDBY: Duration = Duration::from_millis(5);
pub(super) const SERVE: &str = "serve";
const REPLY: &str = "reply to";
/// The code of an error that stands for an answer that could not be handed over.
const NO_ANSWER: i32 = -1;

/// A handle that answers the requests made to a name. Threads may share it.
///
/// # If a process dies
/// *Reports*: those whose requests a dead server had taken get `PeerGone`, at the latest 50 ms after
/// the kernel has released its lock. Requests that wait go to the next server.
pub struct Server {
    shared: Arc<Shared>,
    spins: AtomicU32,
}

/// What a server's requests share with it: they keep its entry.
pub(super) struct Shared {
    pub(super) desk: Arc<Desk>,
    table: Table,
    epoch: u32,
    /// The slot behind the one that was taken last: where the next look begins.
    position: AtomicUsize,
}

/// A request, from [`Server::next`]. Answer it from any thread; dropped without an answer, it ends
/// as `PeerGone` for its client. It must not be used in a fork's child.
///
/// The reply takes the request's place, so it cannot be made of the request's own bytes:
/// ```compile_fail,E0505
/// fn echo(request: corkboard::call::Request) -> corkboard::Result<()> {
///     let bytes: &[u8] = &request;
///     request.reply(bytes)
/// }
/// ```
#[must_use = "the client waits for an answer"]
pub struct Request {
    shared: Arc<Shared>,
    slot: usize,
    taken: State,
    payload: Payload,
    is_answered: bool,
    /// When the client was last seen to be alive, if somebody asked.
    seen: Mutex<Option<Instant>>,
}

impl Server {
    /// Creates a call, or opens one that nobody serves.
    ///
    /// # Errors
    /// `InvalidName`; `Incompatible` when an existing call differs from a set option;
    /// `WriterExists` when another server is alive after the time-out; `Unsupported` when the space
    /// is not on tmpfs or no call can have this shape; `Damaged`, `NoSpace`, `PermissionDenied`,
    /// `Io`.
    ///
    /// # Blocking
    /// While another server is alive, for at most [`server_timeout`](Options::server_timeout).
    ///
    /// # If a process dies
    /// *Recovers*: a creator killed half-way leaves a hidden file that nobody opens; a dead
    /// server's place is taken within 5 ms of its release by the kernel.
    pub fn create(space: &Space, name: &str, options: Options) -> Result<Self> {
        let deadline = Deadline::after(options.timeout);
        object::create_or_open(
            &object::label(Kind::Call, name),
            || Self::open(space, name, &options, deadline),
            || {
                let geometry = options.geometry(name)?;
                let (file, own) = (geometry.file(), geometry.encode());
                file.create(space, name, &own, options.access)
            },
            || super::remove(space, name, object::Removal::Finish),
        )
    }

    fn open(space: &Space, name: &str, options: &Options, deadline: Deadline) -> Result<Self> {
        let desk = Desk::open(space, name)?;
        options.check(&desk.geometry, name)?;
        let label = options.label_or_program();
        let table = loop {
            if let Some((table, _)) = desk.claim(SERVER..SERVER + 1, &label)? {
                break table;
            }
            let left = deadline.left();
            if left.is_zero() {
                return Err(exists(&desk));
            }
            std::thread::sleep(left.min(STANDBY));
        };
        hook::point("serve.claimed");
        let epoch = desk.epoch().load(Ordering::Relaxed).wrapping_add(1) as u32;
        // Release: what the last server had taken is its own no more. I3.
        desk.epoch().store(u64::from(epoch), Ordering::Release);
        let shared = Shared {
            desk: Arc::new(desk),
            table,
            epoch,
            position: AtomicUsize::new(0),
        };
        shared.look_at_all();
        hook::point("serve.begun");
        Ok(Self {
            shared: Arc::new(shared),
            spins: AtomicU32::new(spins::FIRST),
        })
    }

    /// The next request, waiting for it; `None` on time-out. Several threads may wait.
    ///
    /// # Errors
    /// `Corrupt` when a request does not match its checksum; its client is told, and the next ones
    /// may be whole. `Removed`, `Forked`; `Damaged`; `NoSpace` when there is no memory for a copy.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one. Looks for some microseconds, then sleeps.
    ///
    /// # If a process dies
    /// *Recovers*: what a client asked that died before waking the server is seen within 50 ms.
    #[inline]
    pub fn next(&self, timeout: Option<Duration>) -> Result<Option<Request>> {
        self.shared.desk.attachment.check_usable(SERVE)?;
        if let Some(request) = self.take()? {
            return Ok(Some(request));
        }
        if timeout == Some(Duration::ZERO) {
            return Ok(None);
        }
        self.wait(Deadline::within(timeout))
    }

    /// The longest request and the longest reply, in bytes.
    pub fn capacity(&self) -> usize {
        self.shared.desk.geometry.capacity
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn take(&self) -> Result<Option<Request>> {
        let Some((slot, taken)) = self.shared.take() else {
            return Ok(None);
        };
        hook::point("serve.taken");
        let shared = self.shared.clone();
        match shared.desk.get(SERVE, slot, taken) {
            Ok(payload) => Ok(Some(Request {
                shared,
                slot,
                taken,
                payload,
                is_answered: false,
                seen: Mutex::new(None),
            })),
            Err(error) => {
                shared.answer(slot, taken, Phase::Dropped);
                Err(error)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, deadline: Deadline) -> Result<Option<Request>> {
        let mut looks = None;
        for _ in 0..self.spins.load(Ordering::Relaxed) {
            if self.shared.desk.is_asked() {
                break;
            }
            std::hint::spin_loop();
        }
        loop {
            self.shared.desk.attachment.check_usable(SERVE)?;
            if let Some(request) = self.take()? {
                return Ok(Some(request));
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(None);
            }
            self.sleep(left, looks.get_or_insert_with(|| Looks::every(SLICE)))?;
        }
    }

    /// `looks` says when to look whether the call is still there, if no sleep runs to its end.
    fn sleep(&self, left: Duration, looks: &mut Looks) -> Result<()> {
        let desk = &self.shared.desk;
        let ticket = protocol::listen(desk.bell());
        if !desk.attachment.is_usable() || desk.is_asked() {
            return Ok(());
        }
        hook::point("serve.listening");
        let start = Instant::now();
        let timed_out = wait::wait_low(desk.bell(), ticket, left.min(SLICE));
        let spins = self.spins.load(Ordering::Relaxed);
        let spins = spins::after_sleep(spins, start.elapsed());
        self.spins.store(spins, Ordering::Relaxed);
        if timed_out || looks.is_due() {
            desk.attachment.check_in_place(SERVE)?;
        }
        Ok(())
    }
}

/// Another server is alive.
#[cold]
fn exists(desk: &Desk) -> Error {
    let attachment = &desk.attachment;
    let record = attachment
        .reopen("open", crate::sys::map::Protection::ReadWrite)
        .and_then(|file| {
            let (shape, generation) = (desk.geometry.table(), attachment.generation);
            let writable = crate::sys::map::Protection::ReadWrite;
            Table::map(&file, shape, writable, generation)
                .map_err(|errno| attachment.failed("open", errno))
        })
        .map(|table| table.record(SERVER));
    let who = match record {
        Ok(record) => format!("process {} ({})", record.pid, record.label),
        Err(_) => "another process".to_owned(),
    };
    let cause = format!("{who} is alive and serves it; end that one, or wait longer");
    attachment.error(ErrorKind::WriterExists, "open", cause)
}

impl Shared {
    /// Sets the bits of requests that wait, for the last server may have died on its way to them,
    /// frees what it had taken and nobody wants, and wakes those who want it.
    fn look_at_all(&self) {
        let per_bit = self.desk.slots_in_bit();
        for client in 0..self.desk.clients() {
            for (index, slot) in self.desk.slots_of(client).enumerate() {
                let state = self.desk.state(slot);
                match State::load(state).phase() {
                    Some(Phase::Pending) => {
                        let bit = 1 << (index / per_bit);
                        self.desk.pending(client).fetch_or(bit, Ordering::Relaxed);
                    }
                    Some(Phase::Cancelled) => protocol::free_if_cancelled(state),
                    // They see by the epoch that its server is dead.
                    Some(Phase::Taken) => wait::wake_low(state),
                    _ => {}
                }
            }
        }
    }

    /// Takes a request. Clients have turns, and so have a client's slots: also those behind one
    /// bit, or one whose client asks again at once would keep the others waiting.
    #[inline]
    fn take(&self) -> Option<(usize, State)> {
        let clients = self.desk.clients();
        let (calls, per_bit) = (self.desk.slots_of(0).len(), self.desk.slots_in_bit());
        let position = self.position.load(Ordering::Relaxed);
        let (first, index) = match position / calls {
            first if first < clients => (first, position % calls),
            _ => (0, 0),
        };
        let (first_bit, skipped) = (index / per_bit, index % per_bit);
        let before = (1_u64 << first_bit) - 1;
        // The first client comes twice: from the position on, and at the end up to it.
        for step in 0..=clients {
            let client = (first + step) % clients.max(1);
            let mask = match step {
                _ if clients == 0 => break,
                0 => !before,
                _ if step == clients => before << 1 | 1,
                _ => u64::MAX,
            };
            let pending = self.desk.pending(client);
            let mut bits = pending.load(Ordering::Relaxed) & mask;
            while bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if per_bit == 1 {
                    // On its way while the bit is taken down.
                    self.desk
                        .prefetch_cell(self.desk.slots_of(client).start + bit);
                }
                let skipped = match step == 0 && bit == first_bit {
                    true => skipped,
                    false => 0,
                };
                if protocol::take_bit(pending, 1 << bit)
                    && let Some(found) = self.take_of(client, bit, skipped)
                {
                    self.position.store(found.0 + 1, Ordering::Relaxed);
                    return Some(found);
                }
            }
        }
        None
    }

    /// Takes a request from one of a bit's slots, but for the first ones.
    #[inline]
    fn take_of(&self, client: usize, bit: usize, skipped: usize) -> Option<(usize, State)> {
        hook::point("serve.found");
        let per_bit = self.desk.slots_in_bit();
        let first = self.desk.slots_of(client).start + bit * per_bit;
        let (mut found, mut is_more) = (None, false);
        for slot in first..first + per_bit {
            let state = self.desk.state(slot);
            if found.is_none() && slot - first >= skipped {
                found = protocol::take(state, self.epoch).map(|taken| (slot, taken));
            } else if State::load(state).phase() == Some(Phase::Pending) {
                is_more = true;
                if found.is_some() {
                    break;
                }
            }
        }
        let pending = self.desk.pending(client);
        if is_more && protocol::remind(pending, 1 << bit, self.desk.bell()) {
            self.desk.wake_server();
        }
        found
    }

    /// Hands a slot back with an answer in it.
    fn answer(&self, slot: usize, taken: State, phase: Phase) {
        let state = self.desk.state(slot);
        hook::point("serve.answering");
        let answered = protocol::answer(state, taken, phase);
        self.desk.answered().fetch_add(1, Ordering::Relaxed);
        hook::point("serve.answered");
        if answered == (Answered::Delivered { asleep: true }) {
            wait::wake_low(state);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.desk.attachment.generation.is_current() {
            self.table.wipe(SERVER);
        }
    }
}

impl Request {
    /// Answers with a reply, and wakes the client. Never waits for it.
    ///
    /// # Errors
    /// `TooLarge` when the reply is longer than the capacity, `NoSpace` when there is no memory for
    /// it: the client is answered with an error that says so, its code -1. `Removed`, `Forked`.
    /// Nothing when the client is gone or has given up.
    ///
    /// # If a process dies
    /// *Reports*: killed before this returns, the client gets the whole reply, or `PeerGone`.
    pub fn reply(mut self, reply: &[u8]) -> Result<()> {
        self.answer(Phase::Replied, 0, reply)
    }

    /// Answers with an error: the client gets `Failed`, with this code and message
    /// ([`Error::failure`]).
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    ///
    /// # If a process dies
    /// *Reports*, as [`reply`](Self::reply).
    pub fn fail(mut self, code: i32, message: &str) -> Result<()> {
        self.answer(Phase::Failed, code, message.as_bytes())
    }

    /// Whether the client wants no answer any more: its deadline passed, it gave up, or it is dead,
    /// of which the kernel is asked every 50 ms at most.
    ///
    /// # If a process dies
    /// *Reports* that it is the client, once the kernel has released its lock.
    pub fn is_cancelled(&self) -> bool {
        protocol::is_cancelled(self.shared.desk.state(self.slot)) || self.is_abandoned()
    }

    fn is_abandoned(&self) -> bool {
        let desk = &self.shared.desk;
        if !desk.attachment.generation.is_current() {
            return false;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|seen| seen.elapsed() < SLICE) {
            return false;
        }
        let client = CLIENTS + self.slot / desk.geometry.calls as usize;
        // One that cannot be asked about is taken to be alive.
        let is_dead = desk.is_attached(REPLY, client).is_ok_and(|alive| !alive);
        *seen = (!is_dead).then(Instant::now);
        is_dead
    }

    fn answer(&mut self, phase: Phase, code: i32, payload: &[u8]) -> Result<()> {
        let desk = &self.shared.desk;
        desk.attachment.check_usable(REPLY)?;
        let number = self.taken.number();
        let put = desk.put(REPLY, self.slot, number, payload);
        let (phase, code) = match &put {
            Ok(()) => (phase, code),
            Err(error) => {
                // Short enough to need no memory.
                let cause: &[u8] = match error.kind() {
                    ErrorKind::TooLarge => b"the answer is longer than the capacity",
                    _ => b"no memory for the answer",
                };
                let cause = &cause[..cause.len().min(desk.geometry.capacity)];
                match desk.put(REPLY, self.slot, number, cause) {
                    Ok(()) => (Phase::Failed, NO_ANSWER),
                    Err(_) => (Phase::Dropped, 0),
                }
            }
        };
        desk.cell(self.slot)[CODE].store(i64::from(code) as u64, Ordering::Relaxed);
        self.is_answered = true;
        self.shared.answer(self.slot, self.taken, phase);
        put
    }
}

impl Deref for Request {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: D1 and I1: the slot is the server's until it is answered, and then this is gone.
        unsafe { self.payload.bytes() }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.is_answered && self.shared.desk.attachment.generation.is_current() {
            self.shared.answer(self.slot, self.taken, Phase::Dropped);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.shared.desk.attachment.name)
            .finish_non_exhaustive()
    }
}
