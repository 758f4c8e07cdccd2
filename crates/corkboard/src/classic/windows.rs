//! The block as the original has it: memory with a name, backed by the page file, and two lock
//! files whose sharing modes are the lock.
//!
//! Nothing tells that a file was closed, nor that memory has changed. So who waits looks again,
//! after sleeps that grow to a millisecond.
//!
//! If a process dies: the kernel closes its lock files, and its memory lives on as long as anybody
//! has it open. What it was writing does not match its checksum, until somebody writes again.

use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_PATH_NOT_FOUND, ERROR_SHARING_VIOLATION, GENERIC_READ,
    GENERIC_WRITE, GetLastError, HANDLE, INVALID_HANDLE_VALUE, MAX_PATH, WAIT_OBJECT_0,
    WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ, GetTempPathW,
    OPEN_ALWAYS,
};
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEM_COMMIT, MEMORY_BASIC_INFORMATION,
    MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, OpenFileMappingW, PAGE_READWRITE, UnmapViewOfFile,
    VirtualQuery,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, OpenEventW, ResetEvent, SYNCHRONIZATION_SYNCHRONIZE,
    SetEvent, WaitForSingleObject,
};

use super::format::{Dialect, HEADER_LEN, current_lock_suffix};
use super::handle::{Mode, Pause, Target};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Reset;
use crate::space::Space;
use crate::sys::{Errno, owned, wide};

/// What a call of the system comes to.
type Outcome<T> = std::result::Result<T, Errno>;

/// The folder of lock files, in the temporary path.
const LOCK_FOLDER: &str = "rwfilelock";

/// An open block.
pub(super) struct Block {
    view: View,
    lock: LockFiles,
}

/// The block with its lock held, until this is dropped.
pub(super) struct Inside<'a> {
    view: &'a View,
    /// The lock files that are open, the first one last.
    _held: Held,
}

struct Held {
    _readers: OwnedHandle,
    _writers: Option<OwnedHandle>,
}

impl Block {
    /// The names are those of the session, so the space plays no part.
    pub(super) fn open(_space: &Space, target: &Target, object: &str, mode: Mode) -> Result<Self> {
        let access = match mode {
            Mode::Read => FILE_MAP_READ,
            Mode::Write => FILE_MAP_READ | FILE_MAP_WRITE,
        };
        let name = wide(target.memory_name());
        // SAFETY: the name is terminated and outlives the call.
        let memory = unsafe { OpenFileMappingW(access, 0, name.as_ptr()) };
        // SAFETY: just opened, and nobody else's.
        let memory = unsafe { owned(memory) }.map_err(|errno| Error::os("open", object, errno))?;
        Self::of(target, object, memory, mode)
    }

    /// `len` is for new memory; what exists keeps its length.
    pub(super) fn open_or_create(
        _space: &Space,
        target: &Target,
        object: &str,
        len: usize,
    ) -> Result<Self> {
        let name = wide(target.memory_name());
        let (high, low) = ((len as u64 >> 32) as u32, len as u32);
        // SAFETY: the name is terminated and outlives the call; without a file, the page file is
        // behind the memory.
        let memory = unsafe {
            let (none, access) = (ptr::null(), PAGE_READWRITE);
            CreateFileMappingW(INVALID_HANDLE_VALUE, none, access, high, low, name.as_ptr())
        };
        // SAFETY: just opened, and nobody else's.
        let memory =
            unsafe { owned(memory) }.map_err(|errno| Error::os("create", object, errno))?;
        Self::of(target, object, memory, Mode::Write)
    }

    fn of(target: &Target, object: &str, memory: OwnedHandle, mode: Mode) -> Result<Self> {
        Ok(Self {
            view: View::new(memory, mode).map_err(|errno| Error::os("open", object, errno))?,
            lock: LockFiles::new(target, object)?,
        })
    }

    /// Takes the lock; `None` on time-out.
    pub(super) fn enter(&mut self, mode: Mode, deadline: Deadline) -> Result<Option<Inside<'_>>> {
        let held = match mode {
            Mode::Read => self.lock.read(deadline)?,
            Mode::Write => self.lock.write(deadline)?,
        };
        let view = &self.view;
        Ok(held.map(|held| Inside { view, _held: held }))
    }

    /// The block's real length.
    pub(super) fn len(&self) -> Result<usize> {
        Ok(self.view.len)
    }

    /// The header as it is at this moment, without the lock; zeros where there is none.
    pub(super) fn peek(&self, header: &mut [u8; HEADER_LEN]) -> Result<()> {
        if self.view.len >= HEADER_LEN {
            self.view.read_at(0, header);
        }
        Ok(())
    }

    /// Sleeps; the header may be another one then.
    pub(super) fn sleep(&self, _crc: u64, left: Duration, pause: &mut Pause) -> Result<()> {
        pause.sleep(left);
        Ok(())
    }
}

impl Inside<'_> {
    /// The block's real length.
    pub(super) fn len(&self) -> Result<usize> {
        Ok(self.view.len)
    }

    /// New memory has its length already.
    pub(super) fn make_room(&self, _len: usize) -> Result<()> {
        Ok(())
    }

    /// All of the memory is there.
    pub(super) fn reserve(&self, _at: usize, _len: usize) -> Result<()> {
        Ok(())
    }

    pub(super) fn read_at(&self, at: usize, buffer: &mut [u8]) -> Result<()> {
        self.view.read_at(at, buffer);
        Ok(())
    }

    pub(super) fn write_at(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.view.write_at(at, bytes);
        Ok(())
    }

    /// Nobody can be woken.
    pub(super) fn wake(&self) {}
}

/// The memory, as this process sees it.
struct View {
    base: NonNull<u8>,
    /// What can be touched, as the kernel says.
    len: usize,
    mode: Mode,
    /// Keeps the name alive.
    _memory: OwnedHandle,
}

// SAFETY: a view is memory at a fixed address, which this type touches through atomics only.
unsafe impl Send for View {}

impl View {
    fn new(memory: OwnedHandle, mode: Mode) -> Outcome<Self> {
        let access = match mode {
            Mode::Read => FILE_MAP_READ,
            Mode::Write => FILE_MAP_READ | FILE_MAP_WRITE,
        };
        // SAFETY: the kernel chooses an address that nothing else uses; all of the memory.
        let address = unsafe { MapViewOfFile(memory.as_raw_handle(), access, 0, 0, 0) };
        let base = NonNull::new(address.Value.cast::<u8>()).ok_or_else(Errno::last)?;
        let mut view = Self {
            base,
            len: 0,
            mode,
            _memory: memory,
        };
        // SAFETY: plain numbers, of which all zeros are valid.
        let mut region: MEMORY_BASIC_INFORMATION = unsafe { std::mem::zeroed() };
        // SAFETY: the address is that of the view, and the kernel fills in as much as there is.
        let filled = unsafe {
            let size = size_of::<MEMORY_BASIC_INFORMATION>();
            VirtualQuery(base.as_ptr().cast::<c_void>(), &raw mut region, size)
        };
        if filled == 0 {
            return Err(Errno::last());
        }
        // Memory that its creator reserved only must not be touched.
        if region.State == MEM_COMMIT {
            view.len = region.RegionSize;
        }
        Ok(view)
    }

    /// Word by word, as far as words are aligned; other processes may be writing there.
    fn read_at(&self, at: usize, buffer: &mut [u8]) {
        self.check(at, buffer.len());
        let (head, words, tail) = split(at, buffer);
        let mut at = at;
        for byte in head {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
        for bytes in words {
            *bytes = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            at += 8;
        }
        for byte in tail {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
    }

    /// As [`read_at`](Self::read_at), the other way.
    fn write_at(&self, at: usize, bytes: &[u8]) {
        assert!(self.mode == Mode::Write, "only writers write");
        self.check(at, bytes.len());
        let (head, rest) = bytes.split_at(before_word(at).min(bytes.len()));
        let (words, tail) = rest.as_chunks::<8>();
        let mut at = at;
        for byte in head {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
        for bytes in words {
            let word = u64::from_ne_bytes(*bytes);
            self.word(at).store(word, Ordering::Relaxed);
            at += 8;
        }
        for byte in tail {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
    }

    fn check(&self, at: usize, len: usize) {
        let is_inside = self.len.checked_sub(at).is_some_and(|left| len <= left);
        assert!(is_inside, "the bytes are inside the view");
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        debug_assert!(at < self.len);
        // SAFETY: inside the view, as the callers checked, and alive as long as `self`.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(at)) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && self.len - at >= 8);
        // SAFETY: inside the view, as the callers checked, and alive as long as `self`; aligned,
        // because views begin at whole pages.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let address = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.base.as_ptr().cast(),
        };
        // SAFETY: made by `MapViewOfFile`, and nothing borrows from a value being dropped.
        unsafe { UnmapViewOfFile(address) };
    }
}

/// How many bytes there are from here to the next whole word.
fn before_word(at: usize) -> usize {
    at.next_multiple_of(8) - at
}

type Split<'a> = (&'a mut [u8], &'a mut [[u8; 8]], &'a mut [u8]);

/// What comes before the first whole word of the memory, the words, and the rest.
fn split(at: usize, buffer: &mut [u8]) -> Split<'_> {
    let before = before_word(at).min(buffer.len());
    let (head, rest) = buffer.split_at_mut(before);
    let (words, tail) = rest.as_chunks_mut::<8>();
    (head, words, tail)
}

/// The original's lock: who may open which file, with which sharing mode.
struct LockFiles {
    folder: Vec<u16>,
    readers: String,
    writers: String,
    object: String,
}

/// How to open a lock file.
#[derive(Clone, Copy)]
enum Sharing {
    Readers,
    Nobody,
}

impl LockFiles {
    fn new(target: &Target, object: &str) -> Result<Self> {
        let temporary = temporary_path().map_err(|errno| {
            let source = std::io::Error::from(errno);
            let cause = format!(
                "the path for temporary files, where its lock files are, cannot be used ({source}); set TMP to a folder"
            );
            Error::new(ErrorKind::Io, "open", object, cause)
        })?;
        let folder = format!("{temporary}{LOCK_FOLDER}");
        if target.dialect == Dialect::Current && target.boot_time.is_none() {
            check_boot_time(&folder, target, object)?;
        }
        let name = target.lock_name();
        Ok(Self {
            readers: format!("{folder}\\{name}.rlc"),
            writers: format!("{folder}\\{name}.wlc"),
            folder: wide(&folder),
            object: object.to_owned(),
        })
    }

    /// Goes through the writers' file, and then keeps the readers' file open, as others may.
    fn read(&self, deadline: Deadline) -> Result<Option<Held>> {
        let share = Sharing::Readers;
        let Some(writers) = self.open(&self.writers, share, deadline)? else {
            return Ok(None);
        };
        drop(writers);
        let readers = self.open(&self.readers, share, deadline)?;
        Ok(readers.map(|readers| Held {
            _readers: readers,
            _writers: None,
        }))
    }

    /// Keeps both files open, and nobody else may.
    fn write(&self, deadline: Deadline) -> Result<Option<Held>> {
        let share = Sharing::Nobody;
        let Some(writers) = self.open(&self.writers, share, deadline)? else {
            return Ok(None);
        };
        let readers = self.open(&self.readers, share, deadline)?;
        Ok(readers.map(|readers| Held {
            _readers: readers,
            _writers: Some(writers),
        }))
    }

    /// Opens a lock file as soon as those who have it open let us.
    fn open(
        &self,
        name: &str,
        sharing: Sharing,
        deadline: Deadline,
    ) -> Result<Option<OwnedHandle>> {
        let path = wide(name);
        let (access, share) = match sharing {
            Sharing::Readers => (GENERIC_READ, FILE_SHARE_READ),
            Sharing::Nobody => (GENERIC_READ | GENERIC_WRITE, 0),
        };
        let mut pause = Pause::new();
        let mut has_made_folder = false;
        loop {
            // SAFETY: the path is terminated and outlives the call.
            let file = unsafe {
                let (none, kind) = (ptr::null(), FILE_ATTRIBUTE_NORMAL);
                let path = path.as_ptr();
                CreateFileW(
                    path,
                    access,
                    share,
                    none,
                    OPEN_ALWAYS,
                    kind,
                    ptr::null_mut(),
                )
            };
            if file != INVALID_HANDLE_VALUE {
                // SAFETY: just opened, and nobody else's.
                return Ok(Some(unsafe { OwnedHandle::from_raw_handle(file) }));
            }
            // SAFETY: reads this thread's last error.
            match unsafe { GetLastError() } {
                ERROR_SHARING_VIOLATION => {
                    let left = deadline.left();
                    if left.is_zero() {
                        return Ok(None);
                    }
                    pause.sleep(left);
                }
                ERROR_PATH_NOT_FOUND if !has_made_folder => {
                    has_made_folder = true;
                    // SAFETY: the path is terminated and outlives the call. When another process
                    // was first, that is fine, too; what goes wrong shows in the next try.
                    unsafe { CreateDirectoryW(self.folder.as_ptr(), ptr::null()) };
                }
                error => return Err(self.closed_to_us(name, Errno::of(error))),
            }
        }
    }

    /// Never `NotFound`: the block is there, and its lock is what is missing.
    #[cold]
    fn closed_to_us(&self, file: &str, errno: Errno) -> Error {
        let error = Error::os("lock", &self.object, errno);
        let source = std::io::Error::from(errno);
        let (kind, remedy) = match error.kind() {
            ErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "ask for access to it and its folder",
            ),
            _ => (
                ErrorKind::Io,
                "make sure that its folder is there and can be written to",
            ),
        };
        let cause = format!("its lock file {file} cannot be opened ({source}); {remedy}");
        Error::new(kind, "lock", &self.object, cause)
    }
}

/// The temporary path, with a backslash at its end.
fn temporary_path() -> Outcome<String> {
    let mut path = [0; 512];
    // SAFETY: the kernel writes as many units as there is room for.
    let len = unsafe { GetTempPathW(path.len() as u32, path.as_mut_ptr()) };
    match path.get(..len as usize) {
        Some([]) => Err(Errno::last()),
        None => Err(Errno::INVAL),
        Some(path) => String::from_utf16(path).map_err(|_| Errno::INVAL),
    }
}

/// When nobody said when the system started, refuses to use lock files that others do not use:
/// two locks would be none. Who starts later and knows better is not noticed.
fn check_boot_time(folder: &str, target: &Target, object: &str) -> Result<()> {
    // A folder that is not there has no files.
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let others: Vec<String> = names
        .filter_map(|file| other_start(&file, &target.name))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let cause = format!(
        "there are lock files of the system's start at {}, and it is not known which start is meant; give its time, or delete what is old",
        others.join(" and at ")
    );
    Err(Error::new(ErrorKind::Incompatible, "open", object, cause))
}

/// The time of the system's start in the name of a writers' lock file of that block, unless it is
/// the one that stands for an unknown start.
fn other_start(file: &str, name: &str) -> Option<String> {
    let lock = file.strip_suffix(".wlc")?;
    let time = lock.strip_suffix(&current_lock_suffix(name))?;
    // With anything but a number, it is the file of a block whose name ends in the same way.
    let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && time != "0").then(|| time.to_owned())
}

/// A block here has no files: its memory goes when nobody has it open.
pub(super) fn remove(_space: &Space, target: &Target) -> Result<()> {
    let cause =
        "on Windows a block lives until the last program that has it open ends; end those programs";
    let (kind, object) = (ErrorKind::Unsupported, target.object());
    Err(Error::new(kind, "remove", object, cause))
}

/// Which names of memory there are.
pub(super) fn exists(_space: &Space, target: &Target) -> Result<bool> {
    let name = wide(target.memory_name());
    // SAFETY: the name is terminated and outlives the call.
    let memory = unsafe { OpenFileMappingW(FILE_MAP_READ, 0, name.as_ptr()) };
    // SAFETY: just opened, and nobody else's.
    match unsafe { owned(memory) } {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::os("look for", target.object(), errno)),
    }
}

/// A named event of the system.
pub(super) struct RawEvent {
    handle: OwnedHandle,
    object: String,
}

impl RawEvent {
    pub(super) fn create(_space: &Space, name: &str, reset: Reset) -> Result<Self> {
        let (event, is_new) = Self::make(name, reset)?;
        if is_new {
            return Ok(event);
        }
        let cause = "it exists already; open it";
        let kind = ErrorKind::AlreadyExists;
        Err(Error::new(kind, "create", event.object, cause))
    }

    pub(super) fn open_or_create(_space: &Space, name: &str, reset: Reset) -> Result<Self> {
        Ok(Self::make(name, reset)?.0)
    }

    /// Also tells whether there was none before.
    fn make(name: &str, reset: Reset) -> Result<(Self, bool)> {
        let object = event_object(name);
        let name = event_name("create", name)?;
        let manual = i32::from(reset == Reset::Manual);
        // SAFETY: the name is terminated and outlives the call. The last error tells of an event
        // that was there before, and is asked for at once.
        let (handle, error) = unsafe {
            let handle = CreateEventW(ptr::null(), manual, 0, name.as_ptr());
            (handle, GetLastError())
        };
        let event = Self::of("create", handle, object)?;
        Ok((event, error != ERROR_ALREADY_EXISTS))
    }

    pub(super) fn open(_space: &Space, name: &str) -> Result<Self> {
        let object = event_object(name);
        let name = event_name("open", name)?;
        let access = EVENT_MODIFY_STATE | SYNCHRONIZATION_SYNCHRONIZE;
        // SAFETY: the name is terminated and outlives the call.
        let handle = unsafe { OpenEventW(access, 0, name.as_ptr()) };
        Self::of("open", handle, object)
    }

    /// Call it before anything else can change the last error.
    fn of(operation: &'static str, handle: HANDLE, object: String) -> Result<Self> {
        // SAFETY: just opened, and nobody else's.
        match unsafe { owned(handle) } {
            Ok(handle) => Ok(Self { handle, object }),
            Err(errno) => Err(Error::os(operation, object, errno)),
        }
    }

    pub(super) fn set(&self) -> Result<()> {
        // SAFETY: an event that is open.
        self.done("set", unsafe { SetEvent(self.handle.as_raw_handle()) })
    }

    pub(super) fn reset(&self) -> Result<()> {
        // SAFETY: an event that is open.
        self.done("reset", unsafe { ResetEvent(self.handle.as_raw_handle()) })
    }

    fn done(&self, operation: &'static str, status: i32) -> Result<()> {
        match status {
            0 => Err(Error::os(operation, &self.object, Errno::last())),
            _ => Ok(()),
        }
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        /// Some weeks; the number after the longest means for ever.
        const LONGEST: Duration = Duration::from_millis(u32::MAX as u64 - 1);
        let deadline = Deadline::within(timeout);
        loop {
            let left = deadline.left();
            // Never less than what is left.
            let millis = left.min(LONGEST).as_nanos().div_ceil(1_000_000) as u32;
            // SAFETY: an event that is open.
            match unsafe { WaitForSingleObject(self.handle.as_raw_handle(), millis) } {
                WAIT_OBJECT_0 => return Ok(true),
                WAIT_TIMEOUT if left <= LONGEST => return Ok(false),
                WAIT_TIMEOUT => {}
                _ => return Err(Error::os("wait for", &self.object, Errno::last())),
            }
        }
    }
}

fn event_object(name: &str) -> String {
    format!("event {name:?}")
}

/// Checks a name by the rules that the system has for names of objects.
fn event_name(operation: &'static str, name: &str) -> Result<Vec<u16>> {
    let own = name
        .strip_prefix("Global\\")
        .or(name.strip_prefix("Local\\"));
    let own = own.unwrap_or(name);
    let wide = wide(name);
    let cause = if own.is_empty() {
        "the name is empty"
    } else if name.contains('\0') {
        "the name has a zero character"
    } else if own.contains('\\') {
        "the name has a backslash, which is for Global\\ and Local\\ only"
    } else if wide.len() > MAX_PATH as usize {
        "the name is longer than 259 characters"
    } else {
        return Ok(wide);
    };
    let (kind, object) = (ErrorKind::InvalidName, event_object(name));
    let cause = format!("{cause}; choose another name");
    Err(Error::new(kind, operation, object, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_start_of_the_same_block_counts() {
        let other = |file| other_start(file, "x");
        assert_eq!(
            other("1750000000_SMLF-x.mdb.wlc").as_deref(),
            Some("1750000000")
        );
        for file in [
            "0_SMLF-x.mdb.wlc",
            "1750000000_SMLF-x.mdb.rlc",
            "1750000000_SMLF-y.mdb.wlc",
            // Of the block "y_SMLF-x".
            "1750000000_SMLF-y_SMLF-x.mdb.wlc",
            "_SMLF-x.mdb.wlc",
            "-1_SMLF-x.mdb.wlc",
            "copy of 1750000000_SMLF-x.mdb.wlc",
        ] {
            assert_eq!(other(file), None, "{file}");
        }
    }
}
