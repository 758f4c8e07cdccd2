//! Making requests.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64 as Counter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::desk::{Desk, Payload};
use super::layout::*;
use super::protocol::{self, GivenUp, Phase, State};
use super::watching::SLICE;
use crate::clock::{Deadline, Looks};
use crate::error::{Error, ErrorKind, Result};
use crate::hook;
use crate::object;
use crate::participants::{Table, program_name};
use crate::prefetch;
use crate::space::Space;
use crate::spins;
use crate::sync::Ordering;
use crate::sys::wait;

/// How often who waits for a slot looks for one whose server is done with a call that was given up.
const ROOM_SLICE: Duration = Duration::from_millis(5);
/// How long a look that found nothing is before the next one.
const PAUSES: u32 = 4;
pub(super) const CALL: &str = "make";

/// A handle that makes requests to a name. Cloning it is cheap; threads may share it, and have
/// calls on their way at the same time.
///
/// # If a process dies
/// *Recovers*: what a dead client had asked is answered to nobody, and its entry is free once the
/// kernel has released its lock.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What a client's calls share with it.
pub(super) struct Shared {
    pub(super) desk: Desk,
    table: Table,
    /// Which client this is: its entry in the table, counted from the first client's.
    client: usize,
    pool: Mutex<Pool>,
    has_room: Condvar,
    spins: AtomicU32,
    /// The last server known to be dead: its epoch, plus one.
    dead: Counter,
    /// When the kernel was last asked whether there is a server.
    asked: Mutex<Instant>,
}

/// The client's slots that are in no call's hands.
struct Pool {
    free: Vec<usize>,
    /// Those whose calls were given up while a server had them.
    given_up: Vec<usize>,
    /// How many threads wait for a free one. Telling them is a system call, whether there are any
    /// or not.
    waiting: usize,
}

/// A call on its way, from [`Client::start`]. Dropping it gives the call up: the server's answer is
/// discarded.
#[must_use = "dropping it gives the call up"]
pub struct Pending {
    shared: Arc<Shared>,
    slot: usize,
    asked: State,
    deadline: Deadline,
    is_over: bool,
}

/// A server's reply. It takes one of the places that its client has for calls, until it is dropped.
/// It must not be used in a fork's child.
pub struct Reply {
    payload: Payload,
    shared: Arc<Shared>,
    slot: usize,
}

impl Client {
    /// Opens an existing call. Whether there is a server is seen when one is made.
    ///
    /// # Errors
    /// `NotFound` when absent; `Full` when the table has no free entry; `PermissionDenied`,
    /// `InvalidName`, `Damaged`, `Incompatible`, `Unsupported`, `NoSpace`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: its entry is free as soon as the kernel has released its lock.
    pub fn open(space: &Space, name: &str) -> Result<Self> {
        let desk = Desk::open(space, name)?;
        let entries = CLIENTS..desk.geometry.table().entries;
        let Some((table, entry)) = desk.claim(entries, &program_name())? else {
            let cause = format!(
                "all {} clients' entries are in use; close one, or create the call with more",
                desk.geometry.max_clients
            );
            return Err(desk.attachment.error(ErrorKind::Full, "open", cause));
        };
        hook::point("call.claimed");
        let client = entry - CLIENTS;
        let pool = Pool::take_back(&desk, client);
        let shared = Shared {
            desk,
            table,
            client,
            pool: Mutex::new(pool),
            has_room: Condvar::new(),
            spins: AtomicU32::new(spins::FIRST),
            dead: Counter::new(0),
            asked: Mutex::new(Instant::now()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// As [`open`](Self::open), waiting for somebody to create it.
    ///
    /// # Errors
    /// As [`open`](Self::open); `NotFound` when it is not there after `timeout`.
    ///
    /// # Blocking
    /// For at most `timeout`.
    ///
    /// # If a process dies
    /// *Recovers*, as [`open`](Self::open).
    pub fn open_timeout(space: &Space, name: &str, timeout: Duration) -> Result<Self> {
        object::await_creation(space, timeout, || Self::open(space, name))
    }

    /// Makes a request and waits for the reply.
    ///
    /// # Errors
    /// `Failed` when the server answered with an error: [`Error::failure`] has it. `PeerGone` when
    /// the server died with the request or let go of it; whether it acted on it before is not
    /// known. `TimedOut` when there was no answer until `timeout`, or no server. `TooLarge` when
    /// the request is longer than the capacity; `NoSpace` when there is no memory for it; `Corrupt`
    /// when the reply does not match its checksum; `Removed`, `Forked`, `Damaged`.
    ///
    /// # Blocking
    /// For at most `timeout`. Looks for some microseconds, then sleeps.
    ///
    /// # If a process dies
    /// *Reports* `PeerGone` when it is the server, 50 ms after the kernel has released its lock at
    /// the latest, or after the wait began; if it had not taken the request, the next server gets
    /// it. A process that may not open the call any more is told when the next server begins.
    #[inline]
    pub fn call(&self, request: &[u8], timeout: Duration) -> Result<Reply> {
        self.start(request, timeout)?.wait()
    }

    /// Makes a request, to wait for its reply later. `timeout` begins now.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`, `Removed`, `Forked`; `TimedOut` when as many calls as can be stayed on
    /// their way until `timeout`.
    ///
    /// # Blocking
    /// For at most `timeout`, while as many calls as can be are on their way.
    ///
    /// # If a process dies
    /// *Recovers*: nothing is waited for here that a dead process would have to do.
    #[inline]
    pub fn start(&self, request: &[u8], timeout: Duration) -> Result<Pending> {
        let shared = &self.shared;
        let desk = &shared.desk;
        desk.attachment.check_usable(CALL)?;
        // The server had it last; on its way to us while we look at the clock.
        let pending = desk.pending(shared.client);
        prefetch::to_write(std::ptr::from_ref(pending).cast());
        let free = shared.pool().free.pop();
        if let Some(slot) = free {
            desk.prefetch_cell(slot);
        }
        let deadline = Deadline::after(timeout);
        let slot = match free {
            Some(slot) => slot,
            None => shared.wait_for_slot(deadline)?,
        };
        let state = desk.state(slot);
        let number = protocol::next_number(state);
        if let Err(error) = desk.put(CALL, slot, number, request) {
            shared.give_back(slot);
            return Err(error);
        }
        hook::point("call.put");
        let bit = (slot - desk.slots_of(shared.client).start) / desk.slots_in_bit();
        let (asked, is_awaited) = protocol::ask(state, pending, 1 << bit, desk.bell());
        hook::point("call.asked");
        if is_awaited {
            desk.wake_server();
        }
        Ok(Pending {
            shared: shared.clone(),
            slot,
            asked,
            deadline,
            is_over: false,
        })
    }

    /// The longest request and the longest reply, in bytes.
    pub fn capacity(&self) -> usize {
        self.shared.desk.geometry.capacity
    }

    /// Whether there is a server, according to the kernel.
    ///
    /// # Errors
    /// `Removed`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: says so once the kernel has released the server's lock.
    pub fn is_served(&self) -> Result<bool> {
        self.shared.desk.is_served(CALL)
    }
}

impl Pool {
    /// The slots of an entry that was just claimed: whoever had it before is dead.
    fn take_back(desk: &Desk, client: usize) -> Self {
        let mut pool = Self {
            free: Vec::new(),
            given_up: Vec::new(),
            waiting: 0,
        };
        // The first ones are taken first, so that few are in use and warm.
        for slot in desk.slots_of(client).rev() {
            pool.give_up(desk, slot);
        }
        pool
    }

    /// Gives a slot's call up, whether it was answered or not.
    fn give_up(&mut self, desk: &Desk, slot: usize) {
        let state = desk.state(slot);
        let given_up = protocol::give_up(state);
        hook::point("call.given-up");
        match given_up {
            GivenUp::Taken => return self.given_up.push(slot),
            GivenUp::Answered(_) => protocol::free(state),
            GivenUp::Free => {}
        }
        self.free.push(slot);
    }

    /// Looks for slots that the server is done with.
    fn collect(&mut self, shared: &Shared) {
        for slot in std::mem::take(&mut self.given_up) {
            let state = shared.desk.state(slot);
            if shared.is_dead(State::load(state)) {
                protocol::free_if_cancelled(state);
            }
            match State::load(state).phase() {
                Some(Phase::Free) => self.free.push(slot),
                _ => self.given_up.push(slot),
            }
        }
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot back whose call is over.
    fn give_back(&self, slot: usize) {
        let mut pool = self.pool();
        pool.free.push(slot);
        self.release(pool);
    }

    /// Lets others into the pool, and wakes one who waits for what was put there.
    fn release(&self, pool: MutexGuard<'_, Pool>) {
        let is_awaited = pool.waiting > 0;
        drop(pool);
        if is_awaited {
            self.has_room.notify_one();
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_slot(&self, deadline: Deadline) -> Result<usize> {
        loop {
            self.desk.attachment.check_usable(CALL)?;
            let given_up = self.pool().given_up.first().copied();
            if let Some(slot) = given_up {
                self.find_dead(State::load(self.desk.state(slot)))?;
            }
            let mut pool = self.pool();
            pool.collect(self);
            if let Some(slot) = pool.free.pop() {
                if !pool.free.is_empty() {
                    // There may have been more than one, and only we looked.
                    self.release(pool);
                }
                return Ok(slot);
            }
            let left = deadline.left();
            if left.is_zero() {
                let cause = format!(
                    "all {} calls that this client can have on their way are; wait longer, or create it with more calls_per_client",
                    self.desk.geometry.calls
                );
                return Err(self.desk.timed_out(CALL, &cause));
            }
            let slice = left.min(ROOM_SLICE);
            pool.waiting += 1;
            let waited = self.has_room.wait_timeout(pool, slice);
            let (mut pool, _) = waited.unwrap_or_else(PoisonError::into_inner);
            pool.waiting -= 1;
        }
    }

    /// Whether the server that has this request is known to be dead.
    pub(super) fn is_dead(&self, state: State) -> bool {
        if !matches!(state.phase(), Some(Phase::Taken | Phase::Cancelled)) {
            return false;
        }
        let epoch = u64::from(state.epoch());
        // Acquire: what it wrote comes before what we do with the slot. I3.
        epoch != self.desk.epoch().load(Ordering::Acquire)
            || epoch + 1 == self.dead.load(Ordering::Acquire)
    }

    /// Whether waiting for the call in a slot would end at once.
    pub(super) fn is_over(&self, slot: usize, asked: State, deadline: Deadline) -> bool {
        let state = State::load(self.desk.state(slot));
        !matches!(state.phase(), Some(Phase::Pending | Phase::Taken))
            || state.number() != asked.number()
            || deadline.left().is_zero()
            // Before anything is locked: a fork's child may find it locked for ever.
            || !self.desk.attachment.is_usable()
            || self.find_dead(state).is_err()
            || self.is_dead(state)
    }

    /// How long a wait for an answer may sleep before it must look again.
    pub(super) fn slice(&self, deadline: Deadline) -> Duration {
        let until_asked = SLICE.saturating_sub(self.asked().elapsed());
        let slice = match until_asked.is_zero() {
            true => SLICE,
            // All ask at the same time, and so one for all.
            false => until_asked,
        };
        slice.min(deadline.left())
    }

    /// Finds out whether the server that has this request is dead, for all calls, if nobody did so
    /// within a slice.
    ///
    /// # Errors
    /// `Removed`. A process that may not open the file any more, or cannot, does not find out.
    pub(super) fn find_dead(&self, state: State) -> Result<()> {
        if !matches!(state.phase(), Some(Phase::Taken | Phase::Cancelled)) {
            return Ok(());
        }
        let mut asked = self.asked();
        let now = Instant::now();
        if now.saturating_duration_since(*asked) < SLICE {
            return Ok(());
        }
        self.desk.attachment.check_in_place(CALL)?;
        let epoch = self.desk.epoch().load(Ordering::Acquire);
        match self.desk.is_served(CALL) {
            Ok(true) => {}
            Ok(false) => self.dead.store(epoch.wrapping_add(1), Ordering::Release),
            Err(error) if error.kind() == ErrorKind::Removed => return Err(error),
            Err(_) => {}
        }
        *asked = now;
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.desk.attachment.generation.is_current() {
            self.table.wipe(CLIENTS + self.client);
        }
    }
}

impl Pending {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// # Blocking
    /// Until the call's deadline.
    ///
    /// # If a process dies
    /// *Reports*, as [`Client::call`].
    #[inline]
    pub fn wait(mut self) -> Result<Reply> {
        for _ in 0..self.shared.spins.load(Ordering::Relaxed) / PAUSES {
            if let Some(answer) = self.answer() {
                return self.finish(answer);
            }
            // Each look takes the cell's line away from the server, which writes to it.
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        self.wait_asleep()
    }

    /// The reply, if there is one already.
    ///
    /// # Errors
    /// As [`Client::call`]; `TimedOut` also when the deadline passed before this was asked.
    ///
    /// # If a process dies
    /// *Reports*, as [`Client::call`].
    pub fn try_wait(mut self) -> std::result::Result<Result<Reply>, Self> {
        match self.answer() {
            Some(answer) => Ok(self.finish(answer)),
            None if self.is_over() => Ok(self.wait()),
            None => Err(self),
        }
    }

    /// The slot's state, if there is an answer in it.
    #[inline]
    fn answer(&self) -> Option<State> {
        let state = State::load(self.shared.desk.state(self.slot));
        let is_answer = !matches!(state.phase(), Some(Phase::Pending | Phase::Taken));
        is_answer.then_some(state)
    }

    /// Whether waiting would end at once.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over(self.slot, self.asked, self.deadline)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    pub(super) fn asked(&self) -> State {
        self.asked
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.deadline
    }

    #[cold]
    #[inline(never)]
    fn wait_asleep(mut self) -> Result<Reply> {
        let shared = self.shared.clone();
        let (desk, state) = (&shared.desk, shared.desk.state(self.slot));
        let mut looks = None;
        loop {
            if let Some(answer) = self.answer() {
                return self.finish(answer);
            }
            desk.attachment.check_usable(CALL)?;
            if shared.is_dead(State::load(state)) {
                // It may have answered in between; nothing more comes from it.
                return match self.answer() {
                    Some(answer) => self.finish(answer),
                    None => self.peer_gone(),
                };
            }
            if self.deadline.left().is_zero() {
                return self.time_out();
            }
            let looks = looks.get_or_insert_with(|| Looks::every(SLICE));
            let Some(asleep) = protocol::sleep(state) else {
                continue;
            };
            if !desk.attachment.is_usable() {
                continue;
            }
            hook::point("call.asleep");
            let start = Instant::now();
            let timed_out = wait::wait_low(state, asleep, shared.slice(self.deadline));
            let spins = shared.spins.load(Ordering::Relaxed);
            let spins = spins::after_sleep(spins, start.elapsed());
            shared.spins.store(spins, Ordering::Relaxed);
            if timed_out || looks.is_due() {
                desk.attachment.check_in_place(CALL)?;
                shared.find_dead(State::load(state))?;
            }
        }
    }

    /// The call was answered.
    #[inline]
    fn finish(&mut self, answer: State) -> Result<Reply> {
        let desk = &self.shared.desk;
        if !desk.attachment.generation.is_current() {
            // A fork's child: the answer is the parent's.
            desk.attachment.check_usable(CALL)?;
        }
        if answer.number() != self.asked.number() {
            return Err(self.contradictory());
        }
        let payload = match answer.phase() {
            Some(Phase::Replied | Phase::Failed) => desk.get(CALL, self.slot, answer)?,
            Some(Phase::Dropped) => return self.dropped(),
            _ => return Err(self.contradictory()),
        };
        if answer.phase() == Some(Phase::Failed) {
            return Err(self.failed(&payload));
        }
        hook::point("call.replied");
        self.is_over = true;
        Ok(Reply {
            payload,
            shared: self.shared.clone(),
            slot: self.slot,
        })
    }

    #[cold]
    fn failed(&self, message: &Payload) -> Error {
        let desk = &self.shared.desk;
        let code = desk.cell(self.slot)[CODE].load(Ordering::Relaxed) as i32;
        // SAFETY: D1 and I1: the slot is given back only when this call is dropped.
        let message = String::from_utf8_lossy(unsafe { message.bytes() });
        Error::failed(desk.attachment.object(), code, message.into_owned())
    }

    #[cold]
    fn dropped(&self) -> Result<Reply> {
        let cause = "the server let go of the request without an answer; see what it says";
        let attachment = &self.shared.desk.attachment;
        // A server that finds its call removed or deleted lets go of everything.
        attachment.check_usable(CALL)?;
        attachment.check_in_place(CALL)?;
        Err(attachment.error(ErrorKind::PeerGone, CALL, cause))
    }

    #[cold]
    fn peer_gone(&self) -> Result<Reply> {
        let cause = "the server died while it had the request; call again if that does no harm";
        let attachment = &self.shared.desk.attachment;
        Err(attachment.error(ErrorKind::PeerGone, CALL, cause))
    }

    #[cold]
    fn time_out(&mut self) -> Result<Reply> {
        let state = self.shared.desk.state(self.slot);
        let phase = State::load(state).phase();
        hook::point("call.giving-up");
        let given_up = protocol::give_up(state);
        hook::point("call.timed-out");
        if let GivenUp::Answered(answer) = given_up {
            return self.finish(answer);
        }
        let is_served = || self.shared.desk.is_served(CALL).unwrap_or(false);
        let cause = match phase {
            Some(Phase::Pending) if is_served() => {
                "the server was busy and did not take the request in time; wait longer"
            }
            Some(Phase::Pending) => "no server took the request in time; start one, or wait longer",
            _ => "the server had no answer in time; wait longer",
        };
        Err(self.shared.desk.timed_out(CALL, cause))
    }

    #[cold]
    fn contradictory(&self) -> Error {
        let cause = "its slots contradict each other; remove it and create it anew";
        let attachment = &self.shared.desk.attachment;
        attachment.error(ErrorKind::Damaged, CALL, cause)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let shared = &self.shared;
        if self.is_over || !shared.desk.attachment.generation.is_current() {
            return;
        }
        let state = shared.desk.state(self.slot);
        hook::point("call.dropped");
        let mut pool = shared.pool();
        pool.give_up(&shared.desk, self.slot);
        if shared.is_dead(State::load(state)) {
            pool.collect(shared);
        }
        shared.release(pool);
    }
}

impl Deref for Reply {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: D1 and I1: the slot is the client's until this is dropped.
        unsafe { self.payload.bytes() }
    }
}

impl Drop for Reply {
    #[inline]
    fn drop(&mut self) {
        if self.shared.desk.attachment.generation.is_current() {
            protocol::free(self.shared.desk.state(self.slot));
            self.shared.give_back(self.slot);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("name", &self.shared.desk.attachment.name)
            .field("number", &self.asked.number())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.shared.desk.attachment.name)
            .finish_non_exhaustive()
    }
}
