//! Noticing that this process is the child of a fork.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Names the process that made a handle: a fork's child finds its word wiped by the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Generation {
    word: &'static AtomicU64,
    value: u64,
}

impl Generation {
    /// The generation of this process.
    pub(crate) fn current() -> Result<Self, Errno> {
        static WORD: OnceLock<&'static AtomicU64> = OnceLock::new();
        static LAST: AtomicU64 = AtomicU64::new(0);
        let word = match WORD.get() {
            Some(word) => *word,
            None => {
                let fresh = &wiped_page()?[0];
                WORD.get_or_init(|| fresh)
            }
        };
        if word.load(Ordering::Relaxed) == 0 {
            let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(Self {
            word,
            value: word.load(Ordering::Relaxed),
        })
    }

    /// Whether this is still the process that made the handle.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.value
    }
}

/// A word of its holder's own that a fork's child finds zero.
pub(crate) struct WipedWord(&'static AtomicU64);

/// Words that nobody holds. Each is alone on its cache line, so that handles of different threads
/// do not slow each other down.
static FREE: Mutex<Vec<&'static AtomicU64>> = Mutex::new(Vec::new());

impl WipedWord {
    /// A word that is zero.
    pub(crate) fn new() -> Result<Self, Errno> {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            free.extend(wiped_page()?.iter().step_by(64 / size_of::<AtomicU64>()));
        }
        let word = free.pop().ok_or(Errno::NOMEM)?;
        word.store(0, Ordering::Relaxed);
        Ok(Self(word))
    }

    #[inline]
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn store(&mut self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Drop for WipedWord {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.0);
    }
}

/// Words that the kernel sets to zero in a fork's child; they live until the process ends.
fn wiped_page() -> Result<&'static [AtomicU64], Errno> {
    let len = 4096;
    // SAFETY: the kernel chooses an address that nothing else uses; the page is zeroed and never
    // unmapped, so references to its words live as long as the process.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let page = mm::mmap_anonymous(std::ptr::null_mut(), len, flags, MapFlags::PRIVATE)?;
        mm::madvise(page, len, Advice::LinuxWipeOnFork)?;
        Ok(std::slice::from_raw_parts(
            page.cast(),
            len / size_of::<AtomicU64>(),
        ))
    }
}

/// An open file whose description, and with it its locks, does not live on in a fork's child.
///
/// The child closes it before `fork` returns there. A child that was made by the bare system call
/// keeps it until it executes another program.
pub(crate) struct ParentsFile {
    fd: ManuallyDrop<OwnedFd>,
    listed: ListedFile,
    generation: Generation,
}

impl ParentsFile {
    /// Runs `open`, which opens it and perhaps more; no fork comes in between.
    pub(crate) fn open<T, E>(
        generation: Generation,
        open: impl FnOnce() -> Result<(OwnedFd, T), E>,
    ) -> Result<(Self, T), E> {
        let mut open_files = no_fork();
        let (fd, more) = open()?;
        let listed = ListedFile::of(fd.as_raw_fd());
        open_files.push(listed);
        let file = Self {
            fd: ManuallyDrop::new(fd),
            listed,
            generation,
        };
        Ok((file, more))
    }

    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation.is_current()
    }
}

impl AsFd for ParentsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ParentsFile {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Closed already; the number may be another file's by now.
            return;
        }
        let mut open_files = no_fork();
        if let Some(index) = open_files.iter().position(|file| *file == self.listed) {
            open_files.swap_remove(index);
        }
        // Before a fork can come in between.
        self.listed.close();
    }
}

/// A descriptor, and the file that it was opened on: another part of the program may have closed
/// it, and the number be another file's by now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedFile {
    fd: RawFd,
    device: u64,
    inode: u64,
}

impl ListedFile {
    fn of(fd: RawFd) -> Self {
        let (device, inode) = identity_of(fd).unwrap_or_default();
        Self { fd, device, inode }
    }

    /// Closes the descriptor, if it is still this file's. May run in a fork's child.
    fn close(self) {
        if identity_of(self.fd) == Some((self.device, self.inode)) {
            // SAFETY: the descriptor that was listed, as far as can be told, and whoever listed it
            // no longer uses it: `ParentsFile` is dropped, or finds out that it is in a child.
            unsafe { libc::close(self.fd) };
        }
    }
}

/// Which file a descriptor is of, if it is open. May run in a fork's child.
fn identity_of(fd: RawFd) -> Option<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills in `stat`, or fails.
    let stat = unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) };
    stat.map(|stat| (stat.st_dev, stat.st_ino))
}

/// The files that a fork's child closes.
static OPEN_FILES: Mutex<Vec<ListedFile>> = Mutex::new(Vec::new());

/// While this is held, `fork` waits in every thread. Who opens a file and closes it again within
/// leaves no copy of it in a child.
pub(crate) fn no_fork() -> MutexGuard<'static, Vec<ListedFile>> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the three functions meet the rules for what runs around a fork, see there. It
        // fails only without memory; then children keep the files.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    });
    OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock on the list during a fork.
struct DuringFork(UnsafeCell<Option<MutexGuard<'static, Vec<ListedFile>>>>);

// SAFETY: only the forking thread uses it, from `before_fork`, which takes the lock, until
// `in_parent` or `in_child` gives the lock back.
unsafe impl Sync for DuringFork {}

static DURING_FORK: DuringFork = DuringFork(UnsafeCell::new(None));

unsafe extern "C" fn before_fork() {
    let list = OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: we hold the lock, so nobody else is here.
    unsafe { *DURING_FORK.0.get() = Some(list) };
}

unsafe extern "C" fn in_parent() {
    // SAFETY: the thread of `before_fork`, which holds the lock.
    drop(unsafe { (*DURING_FORK.0.get()).take() });
}

unsafe extern "C" fn in_child() {
    // SAFETY: the child has only the thread of `before_fork`, which holds the lock.
    if let Some(mut list) = unsafe { (*DURING_FORK.0.get()).take() } {
        for file in list.drain(..) {
            file.close();
        }
    }
}
