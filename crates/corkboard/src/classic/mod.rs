//! The block of the Windows C++ ShareMemory library: so that its programs and new ones share one
//! memory, in both directions, and can be replaced one at a time.
//!
//! On Windows a block is the original's memory under the original's name, and the lock is the
//! original's two files in the temporary path, opened with its sharing modes. Elsewhere it is a
//! file of the space with the same bytes, so that captures can be read and everything be tested;
//! its lock is one of our own, which has the same two gates.
//!
//! | [`Dialect`] | since | memory | lock files |
//! |---|---|---|---|
//! | `Seed` | June 2022 | `ShareMemoryMap-NAME` | `ShareMemoryLockedFile-NAME.mdb.rlc`, `.wlc` |
//! | `Untailed` | April 2023 | the same | the same |
//! | `Current` | June 2025 | `SMM-NAME` | `TIME_SMLF-NAME.mdb.rlc`, `.wlc` |
//!
//! Which one it is must be said, or be [recognised](stat): a block of another dialect is
//! `Incompatible`.
//!
//! What the original does not do: every size is checked against the memory that is really there,
//! and every value against its checksum; content that is too long is refused, not cut short; a
//! second writer leaves what is there; waiting costs next to no processor time. What it does, and
//! others may rely on, stays: the sharing modes with the starvation that they allow, the reserved
//! field, the zero byte after the content in `Seed`.
//!
//! A program of the original that *starts* to write sets the header anew, without the lock. It
//! then holds no value, or the old one does not match its checksum. What looks wrong is therefore
//! looked at again under the lock, for some 20 ms, before it is reported.
//!
//! # Examples
//! ```
//! # let dir = format!("{}/corkboard-doc-classic-{}", if cfg!(windows) { "." } else { "/dev/shm" }, std::process::id());
//! # let space = corkboard::Space::at(&dir)?;
//! use corkboard::classic::{Dialect, Options, Reader};
//! // let space = corkboard::Space::user()?;
//! let mut writer = Options::new(Dialect::Seed).capacity(1024).writer(&space, "doc-weather")?;
//! writer.write(b"sunny")?;
//! // In another process, old or new:
//! let mut reader = Reader::open(&space, "doc-weather", Dialect::Seed)?;
//! assert_eq!(reader.read()?, b"sunny");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod format;
mod handle;
mod stat;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as platform;

use std::fmt;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::space::Space;
use handle::{Handle, Mode, Pause, Target, ZEROS};

pub use crate::event::Reset;
pub use event::Event;
pub use format::Dialect;
pub use stat::{Stat, recognise, stat};

/// How long a block's content may be unless something else is said.
const CAPACITY: usize = 1 << 20;

/// How to open or create a block.
#[derive(Clone, Debug)]
pub struct Options {
    dialect: Dialect,
    capacity: Option<usize>,
    boot_time: Option<u64>,
    timeout: Option<Duration>,
}

impl Options {
    /// A block of that dialect. A new one holds 1 MiB, unless something else is said.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            capacity: None,
            boot_time: None,
            timeout: None,
        }
    }

    /// The longest content in bytes that there must be room for. An existing block may have more.
    pub fn capacity(mut self, len_bytes: usize) -> Self {
        self.capacity = Some(len_bytes);
        self
    }

    /// When the system was started, as the other programs put it before the names of their lock
    /// files; only [`Dialect::Current`] does so. It is in seconds since 1970, of the *local* time:
    /// they ask Windows Management Instrumentation for `LastBootUpTime` and count its local time
    /// as if it were UTC. They put 0 when they get no answer, which is also what counts here
    /// unless something else is said.
    ///
    /// Programs that do not agree do not lock each other out. Unless something is said, opening on
    /// Windows is `Incompatible` when there are lock files of another time for that name; a program
    /// of the original that starts after that is not noticed.
    pub fn boot_time(mut self, seconds: u64) -> Self {
        self.boot_time = Some(seconds);
        self
    }

    /// How long [`writer`](Self::writer) waits at most for others to give the block's lock back;
    /// for ever, unless something is said. After that it is `Conflict`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Opens the block for reading.
    ///
    /// # Errors
    /// As [`Reader::open`].
    ///
    /// # If a process dies
    /// *Recovers*: readers leave nothing behind.
    pub fn reader(&self, space: &Space, name: &str) -> Result<Reader> {
        let handle = Handle::open(space, self.target(name)?, Mode::Read)?;
        Ok(Reader { handle })
    }

    /// As [`reader`](Self::reader), and waits until there is such a block; `None` on time-out.
    ///
    /// # Errors
    /// As [`Reader::open`], except `NotFound`.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one.
    ///
    /// # If a process dies
    /// *Recovers*: readers leave nothing behind.
    pub fn reader_timeout(
        &self,
        space: &Space,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Reader>> {
        let deadline = Deadline::within(timeout);
        let mut pause = Pause::new();
        loop {
            match self.reader(space, name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                reader => return reader.map(Some),
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(None);
            }
            pause.sleep(left);
        }
    }

    /// Opens the block for writing, or creates it when absent. Content that is there stays.
    ///
    /// # Errors
    /// `Incompatible` when the block is of another dialect or has less room than was asked for;
    /// `TooLarge` when no block can have as much; `Damaged` when its header is not what any
    /// version could have written; `Conflict` when others hold the lock for longer than the
    /// [`timeout`](Self::timeout); `InvalidName`, `PermissionDenied`, `NoSpace`, `Io`. Elsewhere
    /// than on Windows `Unsupported` when the space is not on tmpfs.
    ///
    /// # Blocking
    /// While others hold the block's lock, and the block must be made or its header cannot be used
    /// as it is; for at most the [`timeout`](Self::timeout).
    ///
    /// # If a process dies
    /// *Recovers*: a block without a header is absent for readers, and made whole by the next
    /// writer.
    pub fn writer(&self, space: &Space, name: &str) -> Result<Writer> {
        let target = self.target(name)?;
        let deadline = Deadline::within(self.timeout);
        loop {
            match self.create(space, target.clone(), deadline) {
                // It was removed between our finding it and our looking into it: that is how it is
                // before it is made.
                Err(error) if error.kind() == ErrorKind::Removed => {}
                handle => return Ok(Writer { handle: handle? }),
            }
        }
    }

    fn create(&self, space: &Space, target: Target, deadline: Deadline) -> Result<Handle> {
        match self.capacity {
            Some(capacity) => Handle::create(space, target, capacity, deadline),
            None => match Handle::open(space, target.clone(), Mode::Write) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Handle::create(space, target, CAPACITY, deadline)
                }
                handle => handle,
            },
        }
    }

    /// Deletes a block as [`remove`] does, by the lock whose name has the
    /// [`boot_time`](Self::boot_time).
    ///
    /// # Errors
    /// As [`remove`].
    ///
    /// # Blocking
    /// While others hold the lock.
    ///
    /// # If a process dies
    /// As [`remove`].
    pub fn remove(&self, space: &Space, name: &str) -> Result<()> {
        platform::remove(space, &self.target(name)?)
    }

    fn target(&self, name: &str) -> Result<Target> {
        name::check("open", name)?;
        Ok(Target {
            name: name.to_owned(),
            dialect: self.dialect,
            boot_time: self.boot_time,
        })
    }
}

/// Reads a block.
///
/// # If a process dies
/// *Recovers*: a reader that dies gives its lock back. A writer that is killed while it writes
/// leaves a value that does not match its checksum; that is `Corrupt` until somebody writes again.
pub struct Reader {
    handle: Handle,
}

impl Reader {
    /// Opens an existing block.
    ///
    /// # Errors
    /// `NotFound` when absent, or when nobody has written a header yet; `Incompatible` when it is
    /// of another dialect; `Damaged` when its header is not what any version could have written;
    /// `InvalidName`, `PermissionDenied`, `Io`.
    ///
    /// # If a process dies
    /// *Recovers*: readers leave nothing behind.
    pub fn open(space: &Space, name: &str, dialect: Dialect) -> Result<Self> {
        Options::new(dialect).reader(space, name)
    }

    /// The content.
    ///
    /// # Errors
    /// `Corrupt` when it does not match its checksum, also when looked at again; `Damaged` when a
    /// size in the header is impossible, or more than the memory that is there; `Incompatible`
    /// when a program of another dialect has taken over; `NotFound` when there is no header;
    /// `Removed` when the block's file was deleted; `NoSpace`, `Io`.
    ///
    /// # Blocking
    /// While a writer holds the lock.
    ///
    /// # If a process dies
    /// *Recovers*, but for a value half written, which is `Corrupt`.
    pub fn read(&mut self) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.read_into(&mut buffer)?;
        Ok(buffer)
    }

    /// As [`read`](Self::read), into memory that is there already.
    ///
    /// Two zero bytes follow the content in the buffer's memory, beyond its length: who hands its
    /// address to code that expects a string, of one- or two-byte characters, may do so.
    ///
    /// # Errors
    /// As [`read`](Self::read); then the buffer is empty.
    ///
    /// # Blocking
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// As [`read`](Self::read).
    pub fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        self.handle.read_now(buffer)
    }

    /// As [`read_into`](Self::read_into), for at most `timeout`; `false` on time-out, and then the
    /// buffer is empty.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Blocking
    /// For at most `timeout`.
    ///
    /// # If a process dies
    /// As [`read`](Self::read).
    pub fn read_timeout(&mut self, buffer: &mut Vec<u8>, timeout: Duration) -> Result<bool> {
        self.handle.read(buffer, Deadline::after(timeout))
    }

    /// As [`read`](Self::read), into memory that the caller provides once its size is known.
    ///
    /// `allocate` is told how many bytes are needed: the content's and two more, which become
    /// zero. It may say `None`, or give more. Returns the content's length, or `None` when
    /// `allocate` did. The lock is not held meanwhile, and nothing is handed out that was not
    /// checked before.
    ///
    /// # Errors
    /// As [`read`](Self::read); `TooLarge` when the memory given is too short.
    ///
    /// # Blocking
    /// As [`read`](Self::read).
    ///
    /// # If a process dies
    /// As [`read`](Self::read).
    pub fn read_with<'a>(
        &mut self,
        allocate: impl FnOnce(usize) -> Option<&'a mut [u8]>,
    ) -> Result<Option<usize>> {
        let content = self.read()?;
        let Some(memory) = allocate(content.len() + ZEROS) else {
            return Ok(None);
        };
        let given = memory.len();
        let Some((to, zeros)) = memory.split_at_mut_checked(content.len()) else {
            return Err(self.too_short(given, content.len()));
        };
        let Some(zeros) = zeros.first_chunk_mut::<ZEROS>() else {
            return Err(self.too_short(given, content.len()));
        };
        to.copy_from_slice(&content);
        *zeros = [0; ZEROS];
        Ok(Some(content.len()))
    }

    fn too_short(&self, given: usize, len: usize) -> Error {
        let needed = len + ZEROS;
        let cause = format!("{needed} bytes of memory are needed, {given} were given; give more");
        let (kind, object) = (ErrorKind::TooLarge, self.handle.target.object());
        Error::new(kind, "read", object, cause)
    }

    /// Waits for content that differs from what this handle returned last, and reads it as
    /// [`read_into`](Self::read_into) does; `false` on time-out, and then the buffer is empty. A
    /// fresh handle has returned nothing, and gets what is there.
    ///
    /// A block does not count its values: the same content written again is no change, and of
    /// several changes in a row only the last may be seen.
    ///
    /// # Errors
    /// As [`read`](Self::read), once for each change. Content that heals while the header stays,
    /// because somebody wrote the same value again, is noticed within 20 ms, or some more where
    /// it is long.
    ///
    /// # Blocking
    /// For at most `timeout`, for ever without one.
    ///
    /// # If a process dies
    /// As [`read`](Self::read).
    ///
    /// # Platforms
    /// On Windows nothing tells of changes: it looks again after a millisecond at most.
    pub fn wait(&mut self, buffer: &mut Vec<u8>, timeout: Option<Duration>) -> Result<bool> {
        self.handle.wait(buffer, Deadline::within(timeout))
    }

    /// The longest content that the block has room for, as its header says now.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # If a process dies
    /// *Recovers*: it only looks.
    pub fn capacity(&mut self) -> Result<usize> {
        Ok(self.handle.shape("look at")?.capacity)
    }

    /// The block's dialect.
    pub fn dialect(&self) -> Dialect {
        self.handle.target.dialect
    }
}

/// Writes to a block, and can read it as well. Any number of writers can be at work.
///
/// # If a process dies
/// *Recovers*: the lock of a writer that dies is free. What it was writing is `Corrupt` for
/// readers, until somebody writes again. On Windows the block goes with the last program that has
/// it open.
pub struct Writer {
    handle: Handle,
}

impl Writer {
    /// Opens an existing block.
    ///
    /// # Errors
    /// As [`Reader::open`].
    ///
    /// # If a process dies
    /// *Recovers*: opening changes nothing.
    pub fn open(space: &Space, name: &str, dialect: Dialect) -> Result<Self> {
        let target = Options::new(dialect).target(name)?;
        let handle = Handle::open(space, target, Mode::Write)?;
        Ok(Self { handle })
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// `TooLarge` when it is longer than the block has room for; otherwise as [`Reader::read`].
    /// Nothing was written then.
    ///
    /// # Blocking
    /// While others hold the lock. Readers that come without pause keep writers out, as the
    /// original's do.
    ///
    /// # If a process dies
    /// *Reports*: a value half written is `Corrupt` for readers. The next one heals that.
    pub fn write(&mut self, content: &[u8]) -> Result<()> {
        while !self.handle.write(content, Deadline::Never)? {}
        Ok(())
    }

    /// As [`write`](Self::write), for at most `timeout`; `false` on time-out.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Blocking
    /// For at most `timeout`.
    ///
    /// # If a process dies
    /// As [`write`](Self::write).
    pub fn write_timeout(&mut self, content: &[u8], timeout: Duration) -> Result<bool> {
        self.handle.write(content, Deadline::after(timeout))
    }

    /// The content, as [`Reader::read`] gets it.
    ///
    /// # Errors
    /// As [`Reader::read`].
    ///
    /// # Blocking
    /// While another writer holds the lock.
    ///
    /// # If a process dies
    /// As [`Reader::read`].
    pub fn read(&mut self) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.read_into(&mut buffer)?;
        Ok(buffer)
    }

    /// As [`read`](Self::read), into memory that is there already; see [`Reader::read_into`].
    ///
    /// # Errors
    /// As [`Reader::read`].
    ///
    /// # Blocking
    /// While another writer holds the lock.
    ///
    /// # If a process dies
    /// As [`Reader::read`].
    pub fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        self.handle.read_now(buffer)
    }

    /// The longest content that the block has room for, as its header says now.
    ///
    /// # Errors
    /// As [`Reader::open`].
    ///
    /// # If a process dies
    /// *Recovers*: it only looks.
    pub fn capacity(&mut self) -> Result<usize> {
        Ok(self.handle.shape("look at")?.capacity)
    }

    /// The block's dialect.
    pub fn dialect(&self) -> Dialect {
        self.handle.target.dialect
    }
}

/// Deletes a block, while nobody holds its lock. Handles on it say `Removed`. For a block of
/// [`Dialect::Current`] whose programs know when the system was started, see [`Options::remove`].
///
/// # Errors
/// `NotFound`, `InvalidName`, `PermissionDenied`, `Io`. `Unsupported` on Windows, where a block
/// lives until the last program that has it open ends.
///
/// # Blocking
/// While others hold the lock.
///
/// # If a process dies
/// *Recovers*: the block is there or not; an empty lock file may be left.
pub fn remove(space: &Space, name: &str, dialect: Dialect) -> Result<()> {
    Options::new(dialect).remove(space, name)
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.handle.target).finish()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.handle.target).finish()
    }
}
