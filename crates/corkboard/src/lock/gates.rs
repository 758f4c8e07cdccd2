//! The algorithm: a gate and a body, which the kernel locks, and a turn.
//!
//! - A *writer* holds the gate, so that one at a time waits for readers to leave, and then the
//!   body alone.
//! - A *reader* never holds the gate. It looks whether somebody does, waits while that is so, and
//!   then shares the body.
//! - A reader that had to wait claims a *turn*, together with others. A writer that finds it
//!   claimed lets the readers in first. So a reader waits for the writer that is in, and at most
//!   for those that looked for claims just before. A claimant may be stopped, so no writer honours
//!   claims for longer than [`COURTESY`].
//!
//! Who is in is decided by the body alone; gate and turn only keep the two kinds from starving
//! each other.
//!
//! If a process dies: the kernel releases its bytes, and rings no bell. Whoever waits looks again
//! after a [`SLICE`].

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Access;
use super::bells::{Bell, Bells};
use super::layout::{BODY, FILE, GATE, SHAPE, TURN};
use super::path::{self, AtPath};
use super::stat::remove;
use crate::clock::{Deadline, wall_ns};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{STATE, STATE_LIVE};
use crate::hook;
use crate::object::{self, Identity, Opened, Removal};
use crate::participants::Table;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::file::File;
use crate::sys::map::Protection;
use crate::sys::process::{Generation, ParentsFile};
use crate::sys::{Errno, lock};

/// Who waits looks this often whether the one it waits for has died.
pub(super) const SLICE: Duration = Duration::from_millis(5);
/// For how long a writer lets readers go first.
const COURTESY: Duration = Duration::from_millis(1);
/// A file's time of change may stand still for so long while it changes.
const CLOCK_TICK: Duration = Duration::from_millis(20);

const LOCK: &str = "lock";

/// How to hold the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Read,
    Write,
}

/// Whether an attempt is the last one before a time-out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// What an entry's word says of its handle, in the low bits; above them since when, in
/// microseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Idle = 0,
    Reads = 1,
    Writes = 2,
    AwaitsRead = 3,
    AwaitsWrite = 4,
}
pub(super) const NOTE_BITS: u32 = 3;

/// One handle's open file, and what it holds.
pub(super) struct Gates {
    origin: Origin,
    file: ParentsFile,
    identity: Identity,
    /// Whether the file is open for writing, which writers need.
    is_writable: bool,
    /// The time of change of a space's file when it was last seen at its path; `None` when it has
    /// to be looked for each time.
    changed_ns: Option<u64>,
    holds: Option<Mode>,
}

/// Where the file came from, and the hints in it.
enum Origin {
    Named {
        space: Space,
        name: String,
        table: Table,
        /// Absent when the table is full.
        entry: Option<usize>,
    },
    Path {
        path: PathBuf,
        access: Access,
        page: Option<path::Page>,
    },
}

impl Gates {
    pub(super) fn named(space: &Space, name: &str, access: Access, label: String) -> Result<Self> {
        object::create_or_open(
            &object::label(Kind::Lock, name),
            || Self::open_named(space, name, &label),
            || FILE.create(space, name, &[], access),
            || remove(space, name, Removal::Finish),
        )
    }

    fn open_named(space: &Space, name: &str, label: &str) -> Result<Self> {
        let failed = |errno| Error::os("open", object::label(Kind::Lock, name), errno);
        let generation = Generation::current().map_err(failed)?;
        let open = || FILE.open(space, name, Protection::ReadWrite);
        let (file, (table, entry, facts)) = ParentsFile::open(generation, || {
            let Opened { file, facts, .. } = open()?;
            let other = open()?;
            if other.facts.identity != facts.identity {
                return Err(failed(Errno::NOENT));
            }
            other.file.allocate(FILE.len).map_err(failed)?;
            let claimed = Table::claim(other.file, SHAPE, generation, label).map_err(failed)?;
            let (table, entry) = match claimed {
                Some((table, entry)) => (table, Some(entry)),
                None => {
                    let writable = Protection::ReadWrite;
                    let table = Table::map(&open()?.file, SHAPE, writable, generation);
                    (table.map_err(failed)?, None)
                }
            };
            Ok((file, (table, entry, facts)))
        })?;
        Ok(Self {
            origin: Origin::Named {
                space: space.clone(),
                name: name.to_owned(),
                table,
                entry,
            },
            file,
            identity: facts.identity,
            is_writable: true,
            changed_ns: None,
            holds: None,
        })
    }

    pub(super) fn at(path: &std::path::Path, access: Access) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|source| {
            let errno = Errno::from_io_error(&source).unwrap_or(Errno::INVAL);
            Error::os("open", path::object(path), errno)
        })?;
        let AtPath {
            file,
            page,
            identity,
            is_writable,
        } = path::open(&path, access)?;
        Ok(Self {
            origin: Origin::Path { path, access, page },
            file,
            identity,
            is_writable,
            changed_ns: None,
            holds: None,
        })
    }

    /// How errors name the lock.
    pub(super) fn object(&self) -> String {
        match &self.origin {
            Origin::Named { name, .. } => object::label(Kind::Lock, name),
            Origin::Path { path, .. } => path::object(path),
        }
    }

    /// Takes the lock; `false` when the time has come before that.
    pub(super) fn enter(&mut self, mode: Mode, deadline: Deadline) -> Result<bool> {
        self.check_usable(mode)?;
        // A guard that was forgotten is no longer there to borrow the handle.
        self.leave();
        loop {
            let has_it = match mode {
                Mode::Read => self.enter_read(deadline),
                Mode::Write => self.enter_write(deadline),
            };
            if !has_it.inspect_err(|_| self.note(Note::Idle))? {
                self.note(Note::Idle);
                return Ok(false);
            }
            self.holds = Some(mode);
            match self.is_in_place() {
                Ok(true) => break,
                Ok(false) => {
                    self.leave();
                    self.reopen()?;
                    self.check_usable(mode)?;
                }
                Err(error) => {
                    self.leave();
                    return Err(error);
                }
            }
        }
        self.note(match mode {
            Mode::Read => Note::Reads,
            Mode::Write => Note::Writes,
        });
        hook::point("lock.held");
        Ok(true)
    }

    /// Gives back what is held, if anything.
    pub(super) fn leave(&mut self) {
        let Some(mode) = self.holds.take() else {
            return;
        };
        if !self.file.is_ours() {
            return;
        }
        self.note(Note::Idle);
        let (file, bells) = (&*self.file, self.bells());
        // What goes wrong here is that the descriptor is gone, and the lock with it.
        match mode {
            Mode::Read => {
                let _ = lock::unlock(file, BODY);
                hook::point("lock.unlocked");
                bells.ring(file, Bell::Body);
            }
            Mode::Write => {
                // While it is still ours, so that nobody's later word is overwritten.
                bells.set_gated(false);
                let _ = lock::unlock_range(file, GATE, 2);
                hook::point("lock.unlocked");
                bells.ring(file, Bell::Gate);
            }
        }
    }

    fn enter_read(&self, deadline: Deadline) -> Result<bool> {
        let (file, bells) = (&*self.file, self.bells());
        let attempt = || -> std::result::Result<bool, Errno> {
            let is_gated = bells.is_gated() && lock::is_locked(file, GATE, 1)?;
            Ok(!is_gated && lock::try_share(file, BODY)?)
        };
        let has_it = attempt().map_err(|errno| self.failed(errno))?;
        if has_it || matches!(deadline, Deadline::Now) {
            return Ok(has_it);
        }
        let has_turn = Cell::new(false);
        let has_it = self.wait(
            Bell::Gate,
            deadline,
            || SLICE,
            Note::AwaitsRead,
            |last| {
                if attempt()? {
                    return Ok(true);
                }
                if last == Last::Yes {
                    // Who does not wait any longer claims nothing.
                    return Ok(false);
                }
                if !has_turn.get() {
                    has_turn.set(lock::try_share(file, TURN)?);
                }
                // Said again each time: a writer that saw no claim a moment ago may have said so.
                if has_turn.get() {
                    bells.set_claimed(true);
                }
                Ok(false)
            },
        );
        let _ = lock::unlock(file, TURN);
        bells.ring(file, Bell::Gate);
        has_it
    }

    fn enter_write(&self, deadline: Deadline) -> Result<bool> {
        let (file, bells) = (&*self.file, self.bells());
        let courtesy = Cell::new(None);
        let is_claimed = || -> std::result::Result<bool, Errno> {
            if !bells.is_claimed() {
                return Ok(false);
            }
            if !lock::is_locked_or_shared(file, TURN)? {
                bells.set_claimed(false);
                return Ok(false);
            }
            if lock::is_locked(file, GATE, 1)? {
                // Another writer is in. Courtesy begins when it has left.
                courtesy.set(None);
                return Ok(true);
            }
            let since = courtesy.get().unwrap_or_else(Instant::now);
            courtesy.set(Some(since));
            Ok(since.elapsed() < COURTESY)
        };
        // Who does not wait any longer goes before others who do: a claimant may be stopped.
        let pass_gate =
            |last: Last| Ok((last == Last::Yes || !is_claimed()?) && lock::try_lock(file, GATE)?);
        // The end of courtesy rings no bell.
        let slice = || match courtesy.get().map(|since: Instant| since.elapsed()) {
            Some(since) if since < COURTESY => COURTESY - since,
            _ => SLICE,
        };
        let has_gate = match deadline {
            Deadline::Now => pass_gate(Last::Yes).map_err(|errno| self.failed(errno))?,
            _ => {
                pass_gate(Last::No).map_err(|errno| self.failed(errno))?
                    || self.wait(Bell::Gate, deadline, slice, Note::AwaitsWrite, pass_gate)?
            }
        };
        if !has_gate {
            return Ok(false);
        }
        bells.set_gated(true);
        hook::point("lock.gate");
        let attempt = || lock::try_lock(file, BODY);
        let has_body = match attempt() {
            Ok(true) => return Ok(true),
            Ok(false) => self.wait(
                Bell::Body,
                deadline,
                || SLICE,
                Note::AwaitsWrite,
                |_| attempt(),
            ),
            Err(errno) => Err(self.failed(errno)),
        };
        if !matches!(has_body, Ok(true)) {
            bells.set_gated(false);
            let _ = lock::unlock(file, GATE);
            bells.ring(file, Bell::Gate);
        }
        has_body
    }

    /// Tries again whenever the bell is rung, and after each slice.
    fn wait(
        &self,
        bell: Bell,
        deadline: Deadline,
        slice: impl Fn() -> Duration,
        note: Note,
        attempt: impl Fn(Last) -> std::result::Result<bool, Errno>,
    ) -> Result<bool> {
        let (file, bells) = (&*self.file, self.bells());
        let attempt = |last| attempt(last).map_err(|errno| self.failed(errno));
        let mut patience = Duration::ZERO;
        loop {
            let left = deadline.left();
            if left.is_zero() {
                return attempt(Last::Yes);
            }
            self.note(note);
            let ticket = bells
                .announce(file, bell)
                .map_err(|errno| self.failed(errno))?;
            let has_it = attempt(Last::No);
            if !matches!(has_it, Ok(false)) {
                bells.retract(file, bell);
                return has_it;
            }
            hook::point("lock.announced");
            bells.sleep(bell, ticket, left.min(slice()), &mut patience);
            bells.retract(file, bell);
            self.check_live()?;
            if attempt(Last::No)? {
                return Ok(true);
            }
        }
    }

    fn bells(&self) -> Bells<'_> {
        match &self.origin {
            Origin::Named { table, .. } => Bells::Words(table.mapping()),
            Origin::Path {
                page: Some(page), ..
            } => Bells::Page(page),
            Origin::Path { page: None, .. } => Bells::None,
        }
    }

    /// Writes down what this handle does, for people to read.
    fn note(&self, note: Note) {
        if let Origin::Named {
            table,
            entry: Some(entry),
            ..
        } = &self.origin
        {
            let word = match note {
                Note::Idle => 0,
                note => (wall_ns() / 1_000) << NOTE_BITS | note as u64,
            };
            table.pin(*entry).store(word, Ordering::Relaxed);
        }
    }

    fn check_usable(&self, mode: Mode) -> Result<()> {
        if !self.file.is_ours() {
            let cause = "this handle was made before a fork; open the lock anew in the child";
            return Err(self.error(ErrorKind::Forked, cause));
        }
        if mode == Mode::Write && !self.is_writable {
            let cause =
                "its file may only be read, which is enough for reading; ask its owner for access";
            return Err(self.error(ErrorKind::PermissionDenied, cause));
        }
        self.check_live()
    }

    fn check_live(&self) -> Result<()> {
        match &self.origin {
            Origin::Named { table, .. }
                if table.mapping().word(STATE).load(Ordering::Relaxed) != STATE_LIVE =>
            {
                Err(self.removed())
            }
            _ => Ok(()),
        }
    }

    /// Whether the file that is locked now is the one at its path; `false` when another one, or
    /// none, has taken its place and can be opened instead.
    fn is_in_place(&mut self) -> Result<bool> {
        let facts = self.file.facts().map_err(|errno| self.failed(errno))?;
        if facts.identity != self.identity {
            return Err(self.closed());
        }
        self.check_live()?;
        if facts.is_linked {
            if self.changed_ns == Some(facts.changed_ns) {
                return Ok(true);
            }
            if self.is_at_path() {
                // A file in a space moves only by itself, which changes its time. At another path,
                // a directory above it may have been replaced.
                if let Origin::Named { .. } = self.origin {
                    let age = Duration::from_nanos(wall_ns().saturating_sub(facts.changed_ns));
                    self.changed_ns = (age > CLOCK_TICK).then_some(facts.changed_ns);
                }
                return Ok(true);
            }
        }
        match &self.origin {
            Origin::Named { .. } => Err(self.removed()),
            Origin::Path { .. } => Ok(false),
        }
    }

    fn is_at_path(&self) -> bool {
        match &self.origin {
            Origin::Named { space, name, .. } => {
                object::is_in_place(space, Kind::Lock, name, self.identity)
            }
            Origin::Path { path, .. } => path::is_at(path, self.identity),
        }
    }

    /// Opens the file that is at the path now.
    fn reopen(&mut self) -> Result<()> {
        if let Origin::Path { path, access, .. } = &self.origin {
            *self = Self::at(path, *access)?;
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> Error {
        match errno {
            Errno::BADF => self.closed(),
            Errno::NOLCK => {
                let cause = "no locks are to be had: the system's table is full, or the file server is out of reach; try again later";
                self.error(ErrorKind::Io, cause)
            }
            Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS => {
                let cause =
                    "its file system has no locks on parts of files; put the file elsewhere";
                self.error(ErrorKind::Unsupported, cause)
            }
            errno => Error::os(LOCK, self.object(), errno),
        }
    }

    fn closed(&self) -> Error {
        let cause = "another part of this program closed its descriptor; open the lock anew";
        self.error(ErrorKind::Io, cause)
    }

    fn removed(&self) -> Error {
        self.error(ErrorKind::Removed, "it was removed; open it anew")
    }

    #[cold]
    fn error(&self, kind: ErrorKind, cause: &str) -> Error {
        Error::new(kind, LOCK, self.object(), cause)
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        self.leave();
        if let Origin::Named {
            table,
            entry: Some(entry),
            ..
        } = &self.origin
            && self.file.is_ours()
        {
            table.wipe(*entry);
        }
    }
}

/// Takes the lock for good, if it can be had at once.
pub(super) fn close_for_good(file: &File) -> std::result::Result<bool, Errno> {
    if !lock::try_lock(file, GATE)? {
        return Ok(false);
    }
    if lock::try_lock(file, BODY)? {
        return Ok(true);
    }
    lock::unlock(file, GATE)?;
    Ok(false)
}

/// What the kernel says of a lock.
pub(super) struct Kernel {
    pub(super) is_gate_held: bool,
    pub(super) is_written: bool,
    pub(super) is_read: bool,
}

impl Kernel {
    pub(super) fn of(file: &File) -> std::result::Result<Self, Errno> {
        let is_written = lock::is_locked(file, BODY, 1)?;
        Ok(Self {
            is_gate_held: lock::is_locked(file, GATE, 1)?,
            is_written,
            is_read: !is_written && lock::is_locked_or_shared(file, BODY)?,
        })
    }
}
