//! Noticing that this process is the child of a fork.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use super::Errno;
use super::file::File;

/// Words that the kernel sets to zero in a fork's child.
type WipedPage = [AtomicU64; 4096 / size_of::<AtomicU64>()];

/// The page of this process, whose first word is not zero. A fork's child finds that of its parent
/// wiped, and makes one of its own.
fn own_page() -> Result<&'static WipedPage, Errno> {
    // Nothing that one thread holds while others wait: a fork's child would wait for ever.
    static PAGE: AtomicPtr<WipedPage> = AtomicPtr::new(std::ptr::null_mut());
    let found = PAGE.load(Ordering::Acquire);
    // SAFETY: null, or from `wiped_page`, which lives as long as the process.
    if let Some(page) = unsafe { found.as_ref() }
        && page[0].load(Ordering::Relaxed) != 0
    {
        return Ok(page);
    }
    let fresh = wiped_page()?;
    fresh[0].store(1, Ordering::Relaxed);
    let ours = std::ptr::from_ref(fresh).cast_mut();
    // Release pairs with the Acquire above; who comes second leaves its page unused.
    match PAGE.compare_exchange(found, ours, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(fresh),
        // SAFETY: as above, and of another thread of this process, or ours would have been stored.
        Err(first) => Ok(unsafe { &*first }),
    }
}

/// Names the process that made a handle.
#[derive(Clone, Copy)]
pub(crate) struct Generation(&'static AtomicU64);

impl Generation {
    /// The generation of this process.
    pub(crate) fn current() -> Result<Self, Errno> {
        own_page().map(|page| Self(&page[0]))
    }

    /// Whether this is still the process that made the handle.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// A value of which each process has its own: a fork's child begins with a new one. What another
/// thread was doing to its parent's at the fork, such as holding a lock, does not last there.
pub(crate) struct OfProcess<T: 'static>(AtomicPtr<(Generation, T)>);

impl<T: Default + Send + Sync> OfProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// This process's.
    pub(crate) fn get(&self) -> Result<&'static T, Errno> {
        // Acquire pairs with the Release below: whoever finds the value finds it made.
        let mut found = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or leaked below and changed by nobody since.
            if let Some((of, value)) = unsafe { found.as_ref() }
                && of.is_current()
            {
                return Ok(value);
            }
            let ours = Box::into_raw(Box::new((Generation::current()?, T::default())));
            match self
                .0
                .compare_exchange(found, ours, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: made above, and never freed from now on.
                Ok(_) => return Ok(unsafe { &(*ours).1 }),
                Err(now) => {
                    // SAFETY: made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(ours) });
                    found = now;
                }
            }
        }
    }
}

/// A word of its holder's own that a fork's child finds zero.
pub(crate) struct WipedWord(&'static AtomicU64);

/// Words that nobody holds. Each is alone on its cache line, so that handles of different threads
/// do not slow each other down.
#[derive(Default)]
struct FreeWords {
    words: Vec<&'static AtomicU64>,
    /// Whether those of the process's own page were given out.
    has_begun: bool,
}

static FREE: OfProcess<Mutex<FreeWords>> = OfProcess::new();

impl WipedWord {
    /// A word that is zero.
    pub(crate) fn new() -> Result<Self, Errno> {
        let mut free = FREE.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        if free.words.is_empty() {
            // On the page of the word that handles look at together with theirs.
            let page = match std::mem::replace(&mut free.has_begun, true) {
                false => own_page()?,
                true => wiped_page()?,
            };
            let lines = page.iter().step_by(64 / size_of::<AtomicU64>());
            free.words.extend(lines.skip(1));
        }
        let word = free.words.pop().ok_or(Errno::NOMEM)?;
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
        // Without memory for a list, the word is lost.
        if let Ok(free) = FREE.get() {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            free.words.push(self.0);
        }
    }
}

/// A new page of such words, all zero, which lives until the process ends.
fn wiped_page() -> Result<&'static WipedPage, Errno> {
    let len = size_of::<WipedPage>();
    // SAFETY: the kernel chooses an address that nothing else uses; the page is zeroed and never
    // unmapped, so references to its words live as long as the process.
    unsafe {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        let page = mm::mmap_anonymous(std::ptr::null_mut(), len, flags, MapFlags::PRIVATE)?;
        mm::madvise(page, len, Advice::LinuxWipeOnFork)?;
        Ok(&*page.cast())
    }
}

/// An open file whose description, and with it its locks, does not live on in a fork's child.
///
/// The child closes it before `fork` returns there. A child that was made by the bare system call
/// keeps it until it executes another program.
pub(crate) struct ParentsFile {
    file: ManuallyDrop<File>,
    listed: ListedFile,
    generation: Generation,
}

impl ParentsFile {
    /// Runs `open`, which opens it and perhaps more; no fork comes in between.
    pub(crate) fn open<T, E>(
        generation: Generation,
        open: impl FnOnce() -> Result<(File, T), E>,
    ) -> Result<(Self, T), E> {
        let mut open_files = no_fork();
        let (file, more) = open()?;
        let listed = ListedFile::of(file.as_fd().as_raw_fd());
        // Who had this number before no longer does.
        open_files.retain(|other| other.fd != listed.fd);
        open_files.push(listed);
        let file = Self {
            file: ManuallyDrop::new(file),
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

impl Deref for ParentsFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
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
            // Before a fork can come in between.
            self.listed.close();
        }
    }
}

/// A descriptor, and the file that it was opened on: another part of the program may have closed
/// it, and the number be another file's by now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedFile {
    fd: RawFd,
    device: u64,
    inode: u64,
    /// Tells it from another one on the same file, under the same number.
    serial: u64,
}

impl ListedFile {
    fn of(fd: RawFd) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let (device, inode) = identity_of(fd).unwrap_or_default();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self {
            fd,
            device,
            inode,
            serial,
        }
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

/// While this is held, `fork` waits in every thread.
pub(crate) type NoFork = MutexGuard<'static, Vec<ListedFile>>;

/// The files that a fork's child closes.
static OPEN_FILES: Mutex<Vec<ListedFile>> = Mutex::new(Vec::new());

/// While this is held, `fork` waits in every thread. Who opens a file and closes it again within
/// leaves no copy of it in a child.
pub(crate) fn no_fork() -> NoFork {
    OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the functions below run around every fork, from the time when the program, or a module that
/// this is in, is loaded. At the first use it would be too late: a fork that another thread has
/// begun by then runs without them, and its child would keep files, and the lock that this thread
/// holds.
#[used]
#[unsafe(link_section = ".init_array")]
static SEE_TO_FORKS: extern "C" fn() = {
    extern "C" fn see_to_forks() {
        // Allocators that have such functions register them at their first use. What is registered
        // last runs first, and ours must come before theirs: it waits for threads that allocate.
        drop(std::hint::black_box(Box::new(0)));
        // SAFETY: the three functions meet the rules for what runs around a fork, see there. It
        // fails only without memory; then children keep the files.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    }
    see_to_forks
};

/// The lock on the list during a fork.
struct DuringFork(UnsafeCell<Option<NoFork>>);

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

#[cfg(test)]
#[cfg(not(loom))]
pub(crate) mod tests {
    use super::*;

    /// Runs `work` in a fork's child and returns whether it said yes there. A child that hangs is
    /// ended.
    pub(crate) fn forked(work: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls `work` and ends without running anything of its parent's; what
        // it uses of the C library (memory, threads) works in a fork's child.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::alarm(30);
                libc::_exit(i32::from(!work()));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status == 0
        }
    }

    #[test]
    fn a_word_can_be_dropped_and_made_in_a_child_whatever_was_locked_at_the_fork() {
        let mut word = Some(WipedWord::new().unwrap());
        let list = FREE.get().unwrap().lock().unwrap();
        let is_well = forked(|| {
            drop(word.take());
            WipedWord::new().is_ok()
        });
        drop(list);
        assert!(is_well);
    }
}
