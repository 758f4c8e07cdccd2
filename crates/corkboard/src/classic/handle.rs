//! What readers and writers have in common: an open block, its lock, and what was read last.

use std::time::{Duration, Instant};

use super::format::{self, Checked, Dialect, Flaw, HEADER_LEN, Header, Mark, Shape};
use super::platform::{Block, Inside};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::crc64;
use crate::space::Space;

/// How long to sleep where nobody can wake us, first and at most.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(1);

/// Sleeps that grow, for looking again and again without burning the processor.
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Self {
        Self(SHORTEST)
    }

    /// Sleeps, `left` at most.
    pub(super) fn sleep(&mut self, left: Duration) {
        std::thread::sleep(self.0.min(left));
        self.0 = (self.0 * 2).min(LONGEST);
    }

    #[cfg(all(test, not(loom), target_os = "linux"))]
    pub(super) fn has_slept(&self) -> bool {
        self.0 > SHORTEST
    }
}

/// How to hold the lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Together with other readers.
    Read,
    /// Alone.
    Write,
}

/// Which block, and how to reach it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) dialect: Dialect,
    pub(super) boot_time: Option<u64>,
}

impl Target {
    /// How errors name it.
    pub(super) fn object(&self) -> String {
        format!("classic block {:?}", self.name)
    }

    pub(super) fn memory_name(&self) -> String {
        self.dialect.memory_name(&self.name)
    }

    pub(super) fn lock_name(&self) -> String {
        let boot_time = self.boot_time.unwrap_or(0);
        self.dialect.lock_name(&self.name, boot_time)
    }
}

/// Looks at a block that seems to be flawed, again and again for some 20 ms, before that is
/// reported: a program may be rewriting the header at this moment without the lock, and be
/// interrupted half-way. Between two looks the lock is free, so that a writer can heal the block.
struct Rechecks(usize);

impl Rechecks {
    const PAUSES_US: [u64; 8] = [50, 100, 200, 500, 1_000, 3_000, 5_000, 10_000];
    /// How often to pause even for who does not wait any longer: one look is not enough to call
    /// anything flawed.
    const LEAST: usize = 3;

    /// Whether the next look is the last one. Ask before it, so that it can be a thorough one.
    fn is_last(&self, deadline: Deadline) -> bool {
        self.0 >= Self::PAUSES_US.len() || (self.0 >= Self::LEAST && deadline.left().is_zero())
    }

    /// Sleeps before the next look.
    fn pause(&mut self, deadline: Deadline) {
        let micros = Self::PAUSES_US.get(self.0).copied().unwrap_or(0);
        let pause = Duration::from_micros(micros);
        let is_owed = self.0 < Self::LEAST;
        self.0 += 1;
        std::thread::sleep(if is_owed {
            pause
        } else {
            pause.min(deadline.left())
        });
    }
}

/// When to look at a flawed block again while its header stays as it is. Content can heal without
/// a change of the header: who writes the value that was there before writes the same header.
#[derive(Clone, Copy)]
struct Doubt(Instant);

impl Doubt {
    /// How long to leave it alone at least.
    const PAUSE: Duration = Duration::from_millis(20);
    /// Of all time, this part at most is for looking again.
    const SHARE: u32 = 10;

    /// After a look that took so long.
    fn after(took: Duration) -> Self {
        let pause = took.saturating_mul(Self::SHARE).max(Self::PAUSE);
        Self(Instant::now() + pause)
    }

    fn is_due(self) -> bool {
        Instant::now() >= self.0
    }
}

/// What to do so that a block is no more.
const UNMAKE: &str = if cfg!(windows) {
    "end the programs that use it"
} else {
    "remove it"
};

/// An open block.
pub(super) struct Handle {
    pub(super) target: Target,
    object: String,
    block: Block,
    /// The header as it was when it was looked at last for a value.
    seen: Option<Mark>,
    /// Size and checksum of the value that was returned last.
    told: Option<(i32, u64)>,
    /// While what was seen last was flawed.
    doubt: Option<Doubt>,
}

impl Handle {
    /// Opens an existing block.
    pub(super) fn open(space: &Space, target: Target, mode: Mode) -> Result<Self> {
        let mut handle = Self::attach(space, target, mode)?;
        handle.shape("open")?;
        Ok(handle)
    }

    /// As [`open`](Self::open), whatever is in it.
    pub(super) fn attach(space: &Space, target: Target, mode: Mode) -> Result<Self> {
        let object = target.object();
        let block = Block::open(space, &target, &object, mode)?;
        Ok(Self::of(target, object, block))
    }

    /// Opens the block, or creates it when absent, with room for `capacity` bytes.
    pub(super) fn create(
        space: &Space,
        target: Target,
        capacity: usize,
        deadline: Deadline,
    ) -> Result<Self> {
        let object = target.object();
        let dialect = target.dialect;
        let Some(header) = format::new_header(dialect, capacity) else {
            let most = dialect.max_capacity();
            let cause = format!("a block holds {most} bytes at most; ask for a smaller capacity");
            return Err(Error::new(ErrorKind::TooLarge, "create", object, cause));
        };
        let len = capacity + dialect.overhead();
        let block = Block::open_or_create(space, &target, &object, len)?;
        let mut handle = Self::of(target, object, block);
        // What is good already needs no lock, which others may hold for long.
        let found = handle.header()?.check(dialect, handle.block.len()?);
        if found.is_ok_and(|shape| shape.capacity >= capacity) {
            return Ok(handle);
        }
        let mut rechecks = Rechecks(0);
        let shape = loop {
            let is_last = rechecks.is_last(deadline);
            let inside = handle.block.enter(Mode::Write, deadline)?;
            let Some(inside) = inside else {
                if deadline.left().is_zero() {
                    let cause = "another program holds its lock; wait until that program is done, or end it";
                    let (kind, object) = (ErrorKind::Conflict, handle.object);
                    return Err(Error::new(kind, "create", object, cause));
                }
                continue;
            };
            let found = look(&inside, dialect)?;
            match found {
                (_, Ok(shape)) => break shape,
                (_, Err(Flaw::Blank)) => {
                    inside.make_room(len)?;
                    let view = inside.len()?;
                    if view < len {
                        let cause = format!(
                            "there are {view} bytes of memory under its name, and {len} are needed; ask for a smaller capacity"
                        );
                        let kind = ErrorKind::Incompatible;
                        drop(inside);
                        return Err(Error::new(kind, "create", handle.object, cause));
                    }
                    for (at, part) in header {
                        inside.write_at(at, &part)?;
                    }
                }
                (_, Err(flaw)) => {
                    drop(inside);
                    if is_last {
                        return Err(flaw.into_error("open", &handle.object));
                    }
                    rechecks.pause(deadline);
                }
            }
        };
        if shape.capacity < capacity {
            let found = shape.capacity;
            let cause = format!(
                "it has room for {found} bytes, and {capacity} were asked for; ask for no more, or {UNMAKE}"
            );
            return Err(Error::new(
                ErrorKind::Incompatible,
                "open",
                handle.object,
                cause,
            ));
        }
        Ok(handle)
    }

    fn of(target: Target, object: String, block: Block) -> Self {
        Self {
            target,
            object,
            block,
            seen: None,
            told: None,
            doubt: None,
        }
    }

    /// What the header says now. Takes no lock: nobody is kept out by who only looks.
    pub(super) fn shape(&mut self, operation: &'static str) -> Result<Shape> {
        let mut rechecks = Rechecks(0);
        loop {
            let is_last = rechecks.is_last(Deadline::Never);
            let (header, view) = (self.header()?, self.block.len()?);
            match header.check(self.target.dialect, view) {
                Ok(shape) => return Ok(shape),
                Err(flaw) if is_last => return Err(flaw.into_error(operation, &self.object)),
                Err(_) => rechecks.pause(Deadline::Never),
            }
        }
    }

    pub(super) fn header(&self) -> Result<Header> {
        let mut bytes = [0; HEADER_LEN];
        self.block.peek(&mut bytes)?;
        Ok(Header::decode(&bytes))
    }

    pub(super) fn view_len(&self) -> Result<usize> {
        self.block.len()
    }

    /// Reads the content, followed by two zero bytes that are not counted; `false` on time-out.
    /// Unless it is `true`, the buffer is empty then.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        let outcome = self.read_checked(buffer, deadline);
        if !matches!(outcome, Ok(true)) {
            buffer.clear();
        }
        outcome
    }

    /// As [`read`](Self::read), and leaves anything in the buffer unless it is `true`.
    fn read_checked(&mut self, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        let mut rechecks = Rechecks(0);
        let mut before = None;
        loop {
            let is_last = rechecks.is_last(deadline);
            let Some(inside) = self.block.enter(Mode::Read, deadline)? else {
                return Ok(false);
            };
            let start = Instant::now();
            // Long content is not walked again while its header stays, but for the last look: a
            // writer may have put there what the header says.
            let known = before.filter(|_| !is_last);
            let (header, content) = read_content(&inside, self.target.dialect, buffer, known)?;
            drop(inside);
            let Err(flaw) = content else {
                self.seen = Some(header.mark());
                self.told = Some((header.content_size, header.crc));
                self.doubt = None;
                return Ok(true);
            };
            before = Some((header, flaw));
            if is_last {
                // It counts as seen: who waits is told once.
                self.seen = Some(header.mark());
                self.told = None;
                self.doubt = Some(Doubt::after(start.elapsed()));
                return Err(flaw.into_error("read", &self.object));
            }
            rechecks.pause(deadline);
        }
    }

    /// Whether the block is whole again, with the header that was flawed; then its content is
    /// read. Does not wait for who holds the lock.
    fn is_healed(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        let start = Instant::now();
        let Some(inside) = self.block.enter(Mode::Read, Deadline::Now)? else {
            self.doubt = Some(Doubt::after(Duration::ZERO));
            return Ok(false);
        };
        let (header, content) = read_content(&inside, self.target.dialect, buffer, None)?;
        drop(inside);
        if content.is_err() {
            // If the header is another one now, that is a change, and found as such.
            self.doubt = Some(Doubt::after(start.elapsed()));
            return Ok(false);
        }
        self.seen = Some(header.mark());
        self.told = Some((header.content_size, header.crc));
        self.doubt = None;
        Ok(true)
    }

    /// As [`read`](Self::read), without a time limit.
    pub(super) fn read_now(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        while !self.read(buffer, Deadline::Never)? {}
        Ok(())
    }

    /// Waits for a value that differs from the one returned last, and reads it. Unless it is
    /// `true`, the buffer is empty then.
    pub(super) fn wait(&mut self, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        let outcome = self.wait_checked(buffer, deadline);
        if !matches!(outcome, Ok(true)) {
            buffer.clear();
        }
        outcome
    }

    fn wait_checked(&mut self, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        let mut pause = Pause::new();
        loop {
            let header = self.header()?;
            if self.seen != Some(header.mark()) {
                let told = self.told;
                if !self.read(buffer, deadline)? {
                    return Ok(false);
                }
                if told.is_none() || told != self.told {
                    return Ok(true);
                }
                // The header was rewritten, and the value is the same.
                if deadline.left().is_zero() {
                    return Ok(false);
                }
                continue;
            }
            if self.doubt.is_some_and(Doubt::is_due) && self.is_healed(buffer)? {
                return Ok(true);
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(false);
            }
            self.block.sleep(header.crc, left, &mut pause)?;
        }
    }

    /// Replaces the content; `false` on time-out.
    pub(super) fn write(&mut self, content: &[u8], deadline: Deadline) -> Result<bool> {
        let dialect = self.target.dialect;
        let crc = crc64(content, 0);
        let mut rechecks = Rechecks(0);
        loop {
            let is_last = rechecks.is_last(deadline);
            let Some(inside) = self.block.enter(Mode::Write, deadline)? else {
                return Ok(false);
            };
            let flaw = match look(&inside, dialect)? {
                (_, Ok(Shape { capacity, .. })) => {
                    let value = format::value_header(content, crc);
                    let Some(value) = value.filter(|_| content.len() <= capacity) else {
                        let cause = format!(
                            "the content has {} bytes, the capacity is {capacity}; shorten it, or {UNMAKE} and create it anew",
                            content.len()
                        );
                        let (kind, object) = (ErrorKind::TooLarge, &self.object);
                        return Err(Error::new(kind, "write to", object, cause));
                    };
                    put(&inside, dialect, content, value)?;
                    inside.wake();
                    return Ok(true);
                }
                (_, Err(flaw)) => flaw,
            };
            drop(inside);
            if is_last {
                return Err(flaw.into_error("write to", &self.object));
            }
            rechecks.pause(deadline);
        }
    }

    /// Whether the content is what its checksum says; `None` when that cannot be told in time.
    pub(super) fn verify(&mut self, deadline: Deadline) -> Result<Option<bool>> {
        let mut content = Vec::new();
        match self.read(&mut content, deadline) {
            Ok(true) => Ok(Some(true)),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }
}

/// The header, and what it comes to.
fn look(inside: &Inside<'_>, dialect: Dialect) -> Result<(Header, Checked<Shape>)> {
    let view = inside.len()?;
    let mut bytes = [0; HEADER_LEN];
    // What is too short for a header has none yet.
    if view >= HEADER_LEN {
        inside.read_at(0, &mut bytes)?;
    }
    let header = Header::decode(&bytes);
    Ok((header, header.check(dialect, view)))
}

/// Reads and checks the content, unless the header is the one that is `known` to be flawed.
fn read_content(
    inside: &Inside<'_>,
    dialect: Dialect,
    buffer: &mut Vec<u8>,
    known: Option<(Header, Flaw)>,
) -> Result<(Header, Checked<()>)> {
    let (header, shape) = look(inside, dialect)?;
    let shape = match shape {
        Ok(shape) => shape,
        Err(flaw) => return Ok((header, Err(flaw))),
    };
    if let Some((same, flaw)) = known
        && same == header
    {
        return Ok((header, Err(flaw)));
    }
    fill(buffer, shape.len, |content| {
        inside.read_at(HEADER_LEN, content)
    })?;
    Ok((header, header.verify(buffer)))
}

/// Makes the buffer `len` bytes long and fills it. Two zero bytes follow that are not counted, for
/// who takes the bytes for a string of one- or two-byte characters.
fn fill(
    buffer: &mut Vec<u8>,
    len: usize,
    read: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    buffer.clear();
    if buffer.try_reserve(len + ZEROS).is_err() {
        let cause = format!("there is no memory for {len} bytes; free some");
        return Err(Error::new(ErrorKind::NoSpace, "read", "content", cause));
    }
    buffer.resize(len + ZEROS, 0);
    let outcome = read(&mut buffer[..len]);
    // Leaves the zeros where they are, beyond the end.
    buffer.truncate(if outcome.is_ok() { len } else { 0 });
    outcome
}

/// How many zero bytes follow the content in what readers get.
pub(super) const ZEROS: usize = 2;

/// How often to say what the header is, when others overwrite it meanwhile without the lock.
const INSISTENCE: u32 = 16;

/// Writes content and header. Who dies half-way leaves content that does not match its checksum.
fn put(
    inside: &Inside<'_>,
    dialect: Dialect,
    content: &[u8],
    (size, crc): (format::Patch<4>, format::Patch<8>),
) -> Result<()> {
    inside.reserve(HEADER_LEN, content.len() + dialect.tail())?;
    inside.write_at(HEADER_LEN, content)?;
    if dialect.tail() > 0 {
        inside.write_at(HEADER_LEN + content.len(), &[0])?;
    }
    for _ in 0..INSISTENCE {
        inside.write_at(size.0, &size.1)?;
        inside.write_at(crc.0, &crc.1)?;
        // A program that starts just now may have overwritten half of it.
        let (mut found_size, mut found_crc) = ([0; 4], [0; 8]);
        inside.read_at(size.0, &mut found_size)?;
        inside.read_at(crc.0, &mut found_crc)?;
        if (found_size, found_crc) == (size.1, crc.1) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_called_flawed_after_one_look_whatever_the_deadline() {
        for (deadline, expected) in [
            (Deadline::Now, Rechecks::LEAST),
            (Deadline::after(Duration::from_nanos(1)), Rechecks::LEAST),
            (Deadline::Never, Rechecks::PAUSES_US.len()),
        ] {
            let (mut rechecks, mut pauses) = (Rechecks(0), 0);
            while !rechecks.is_last(deadline) {
                rechecks.pause(deadline);
                pauses += 1;
            }
            assert_eq!(pauses, expected);
            assert!(pauses >= 2);
        }
    }
}
