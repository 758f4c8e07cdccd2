//! The block as a file of the space, with the original's names; the original's lock as one of our
//! own lock files, which has the same two gates.
//!
//! The file is read and written by system calls and never touched as memory: it may come from
//! anywhere, and be cut short at any moment. Its first page is mapped all the same, as a place for
//! the kernel to let waiters sleep.
//!
//! If a process dies: the kernel releases the lock. What it was writing does not match its
//! checksum, until somebody writes again.

use std::time::Duration;

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::format::{CRC, HEADER_LEN};
use super::handle::{Mode, Pause, Target};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{self, Reset};
use crate::lock::{Guard, RwLock};
use crate::object::{FOUND_FILE, NEW_FILE, check_file_limit, require_memory};
use crate::space::Space;
use crate::sys::file::File;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::wait::{self, Sleep};

/// Who waits looks this often at what nobody wakes it for: bytes that were put there by other
/// means, and deletion.
const SLICE: Duration = Duration::from_millis(20);
/// The part of the file that is mapped.
const PAGE: usize = 4096;

/// An open block.
pub(super) struct Block {
    file: File,
    lock: RwLock,
    page: Option<Mapping>,
    object: String,
}

/// The block with its lock held, until this is dropped.
pub(super) struct Inside<'a> {
    file: &'a File,
    page: Option<&'a Mapping>,
    object: &'a str,
    _guard: Guard<'a>,
}

impl Block {
    pub(super) fn open(space: &Space, target: &Target, object: &str, mode: Mode) -> Result<Self> {
        let file = open_file(space, target, object, mode, Absent::Refuse)?;
        Self::of(space, target, object, file)
    }

    /// `len` is for new memory, and made by [`Inside::make_room`].
    pub(super) fn open_or_create(
        space: &Space,
        target: &Target,
        object: &str,
        _len: usize,
    ) -> Result<Self> {
        let file = open_file(space, target, object, Mode::Write, Absent::Create)?;
        Self::of(space, target, object, file)
    }

    fn of(space: &Space, target: &Target, object: &str, file: File) -> Result<Self> {
        let failed = |errno| Error::os("open", object, errno);
        let lock = RwLock::at(space.path().join(target.lock_name()));
        let generation = Generation::current().map_err(failed)?;
        let (protection, inherit) = (Protection::ReadOnly, Inheritance::Child);
        // Without it, looking again and again is all there is.
        let page = Mapping::new(&file, PAGE, protection, inherit, generation).ok();
        Ok(Self {
            file,
            lock: lock.map_err(|error| error.on(object))?,
            page,
            object: object.to_owned(),
        })
    }

    /// Takes the lock; `None` on time-out.
    pub(super) fn enter(&mut self, mode: Mode, deadline: Deadline) -> Result<Option<Inside<'_>>> {
        let left = deadline.left();
        let guard = match mode {
            Mode::Read => self.lock.read_timeout(left),
            Mode::Write => self.lock.write_timeout(left),
        };
        let guard = match guard {
            Ok(Some(guard)) => guard,
            Ok(None) => return Ok(None),
            Err(error) => {
                // That the block is gone with its lock says more than that the lock is.
                check_in_place(&self.file, &self.object)?;
                return Err(error.on(&self.object));
            }
        };
        check_in_place(&self.file, &self.object)?;
        Ok(Some(Inside {
            file: &self.file,
            page: self.page.as_ref(),
            object: &self.object,
            _guard: guard,
        }))
    }

    /// The block's real length.
    pub(super) fn len(&self) -> Result<usize> {
        len(&self.file, &self.object)
    }

    /// The header as it is at this moment, without the lock; zeros where there is none.
    pub(super) fn peek(&self, header: &mut [u8; HEADER_LEN]) -> Result<()> {
        if self.len()? < HEADER_LEN {
            return Ok(());
        }
        read_at(&self.file, 0, header, &self.object)
    }

    /// Sleeps until the checksum may be another one, `left` at most. `pause` is how long where
    /// nobody can wake us.
    pub(super) fn sleep(&self, crc: u64, left: Duration, pause: &mut Pause) -> Result<()> {
        // Beyond the end of a file that was cut short, memory has zeros or what was there: not the
        // checksum that was looked at, which would end each sleep at once.
        let is_whole = self.len()? >= HEADER_LEN;
        let slept = match self.page.as_ref().filter(|_| is_whole) {
            Some(page) => wait::wait_untouched(place(page), crc as u32, left.min(SLICE)),
            None => Sleep::Impossible,
        };
        match slept {
            Sleep::Ended => return Ok(()),
            Sleep::TimedOut => {}
            Sleep::Impossible => pause.sleep(left),
        }
        check_in_place(&self.file, &self.object)
    }
}

impl Inside<'_> {
    /// The block's real length.
    pub(super) fn len(&self) -> Result<usize> {
        len(self.file, self.object)
    }

    /// Gives a new file the length that a block needs.
    pub(super) fn make_room(&self, len: usize) -> Result<()> {
        let failed = |errno| Error::os("create", self.object, errno);
        require_memory(self.file, self.object)?;
        check_file_limit(len, "create", self.object)?;
        if self.len()? < len {
            fs::ftruncate(self.file, len as u64).map_err(failed)?;
        }
        allocate(self.file, FallocateFlags::empty(), 0, HEADER_LEN).map_err(failed)
    }

    /// Makes sure that writing there, and before it, cannot fail half-way for want of memory, nor end
    /// the process at its limit.
    pub(super) fn reserve(&self, at: usize, len: usize) -> Result<()> {
        check_file_limit(at + len, "write to", self.object)?;
        if len == 0 {
            return Ok(());
        }
        allocate(self.file, FallocateFlags::KEEP_SIZE, at, len)
            .map_err(|errno| Error::os("write to", self.object, errno))
    }

    pub(super) fn read_at(&self, at: usize, buffer: &mut [u8]) -> Result<()> {
        read_at(self.file, at, buffer, self.object)
    }

    pub(super) fn write_at(&self, at: usize, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(self.file, &bytes[done..], (at + done) as u64) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("write to", self.object, errno)),
            }
        }
        Ok(())
    }

    /// Wakes whoever waits for a new value.
    pub(super) fn wake(&self) {
        if let Some(page) = self.page {
            wait::wake_untouched(place(page));
        }
    }
}

/// Signals interrupt it when there is much to do.
fn allocate(file: &File, flags: FallocateFlags, at: usize, len: usize) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| fs::fallocate(file, flags, at as u64, len as u64))
}

/// Where waiters sleep: on the lower half of the checksum, which is little-endian.
fn place(page: &Mapping) -> *const u32 {
    page.bytes(CRC, 4).cast_const().cast()
}

/// What to do about a file that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Refuse,
    Create,
}

fn open_file(
    space: &Space,
    target: &Target,
    object: &str,
    mode: Mode,
    absent: Absent,
) -> Result<File> {
    let directory = space.directory()?;
    let name = target.memory_name();
    let access = match mode {
        Mode::Read => OFlags::RDONLY,
        Mode::Write => OFlags::RDWR,
    };
    let damaged = |what: &str| {
        let cause = format!("it {what}; remove it");
        Error::new(ErrorKind::Damaged, "open", object, cause)
    };
    let file = loop {
        match fs::openat(&directory, &name, access | FOUND_FILE, Bits::empty()) {
            Err(Errno::NOENT) if absent == Absent::Create => {}
            result => break result,
        }
        require_memory(&directory, object)?;
        match fs::openat(&directory, &name, NEW_FILE, Bits::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {}
            result => break result,
        }
    };
    let file = file.map_err(|errno| match errno {
        Errno::LOOP => damaged("is a symbolic link"),
        Errno::ISDIR | Errno::NXIO => damaged("is not a regular file"),
        errno => Error::os("open", object, errno),
    })?;
    let stat = fs::fstat(&file).map_err(|errno| Error::os("open", object, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(damaged("is not a regular file")),
    }
}

fn len(file: &File, object: &str) -> Result<usize> {
    let stat = fs::fstat(file).map_err(|errno| Error::os("look at", object, errno))?;
    Ok(usize::try_from(stat.st_size).unwrap_or(0))
}

fn read_at(file: &File, at: usize, buffer: &mut [u8], object: &str) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], (at + done) as u64) {
            Ok(0) => {
                let cause = "its file was cut short; remove it and write to it anew";
                return Err(Error::new(ErrorKind::Damaged, "read", object, cause));
            }
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("read", object, errno)),
        }
    }
    Ok(())
}

fn check_in_place(file: &File, object: &str) -> Result<()> {
    let stat = fs::fstat(file).map_err(|errno| Error::os("look at", object, errno))?;
    if stat.st_nlink > 0 {
        return Ok(());
    }
    let cause = "it was removed; open it anew";
    Err(Error::new(ErrorKind::Removed, "use", object, cause))
}

/// Deletes the block's files while nobody uses them.
pub(super) fn remove(space: &Space, target: &Target) -> Result<()> {
    let object = target.object();
    let failed = |errno| Error::os("remove", &object, errno);
    let directory = space.directory()?;
    let name = target.memory_name();
    fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let mut lock = RwLock::at(space.path().join(target.lock_name()))
        .map_err(|error| error.on(&object).during("remove"))?;
    let _guard = lock
        .write()
        .map_err(|error| error.on(&object).during("remove"))?;
    fs::unlinkat(&directory, &name, AtFlags::empty()).map_err(failed)?;
    // Who waits for the lock finds that its file is gone, and makes another one.
    match fs::unlinkat(&directory, target.lock_name(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// Which names of memory there are.
pub(super) fn exists(space: &Space, target: &Target) -> Result<bool> {
    let directory = space.directory()?;
    match fs::statat(&directory, target.memory_name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::os("look for", target.object(), errno)),
    }
}

/// An event of the space.
pub(super) struct RawEvent(event::Event);

impl RawEvent {
    pub(super) fn create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        event::Event::create(space, name, reset).map(Self)
    }

    pub(super) fn open(space: &Space, name: &str) -> Result<Self> {
        event::Event::open(space, name).map(Self)
    }

    pub(super) fn open_or_create(space: &Space, name: &str, reset: Reset) -> Result<Self> {
        event::Event::open_or_create(space, name, reset).map(Self)
    }

    pub(super) fn set(&self) -> Result<()> {
        self.0.set()
    }

    pub(super) fn reset(&self) -> Result<()> {
        self.0.reset()
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.0.wait(timeout)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::classic::Dialect;

    #[test]
    fn who_waits_at_a_file_without_a_whole_header_sleeps_and_notices_its_removal() {
        let path = format!("/dev/shm/corkboard-classic-cut-{}", std::process::id());
        let space = Space::at(&path).unwrap();
        let target = Target {
            name: "x".to_owned(),
            dialect: Dialect::Seed,
            boot_time: None,
        };
        let mut block = Block::open_or_create(&space, &target, "x", 64).unwrap();
        let inside = block.enter(Mode::Write, Deadline::Never).unwrap().unwrap();
        inside.make_room(64).unwrap();
        inside.write_at(CRC, &[0xFF; 8]).unwrap();
        drop(inside);
        // The checksum stays in the memory, and is none for who looks at the file.
        for len in [20, 24, 31] {
            fs::ftruncate(&block.file, len).unwrap();
            let mut header = [0; HEADER_LEN];
            block.peek(&mut header).unwrap();
            assert_eq!(header, [0; HEADER_LEN]);
            let mut pause = Pause::new();
            block
                .sleep(0, Duration::from_millis(1), &mut pause)
                .unwrap();
            assert!(pause.has_slept(), "{len}");
        }
        std::fs::remove_file(space.path().join(target.memory_name())).unwrap();
        let removed = block.sleep(0, Duration::from_millis(1), &mut Pause::new());
        assert_eq!(removed.unwrap_err().kind(), ErrorKind::Removed);
        std::fs::remove_dir_all(path).unwrap();
    }
}
