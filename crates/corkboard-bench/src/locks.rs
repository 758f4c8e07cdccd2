//! Locks between processes, ours and others', as one shape: taken alone, and given back.

use std::cell::UnsafeCell;
use std::fs::{File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};
use corkboard::lock::{Guard, RwLock};
use memmap2::MmapMut;
use rustix::fs::{FlockOperation, flock};

use crate::link::SLICE;
use crate::process::Patience;

/// A lock that is held alone.
pub trait Lock {
    /// Waits for it; `false` when it has not come for long.
    fn acquire(&mut self) -> Result<bool>;

    /// Gives it back.
    fn release(&mut self) -> Result<()>;
}

/// How to open one: at a path that both sides know.
pub type Open<L> = fn(&Path) -> Result<L>;

/// Our own, held for writing.
pub struct Corkboard {
    guard: Option<Guard<'static>>,
    lock: Box<UnsafeCell<RwLock>>,
}

impl Corkboard {
    /// A named lock, in a space beside the path.
    pub fn named(path: &Path) -> Result<Self> {
        let space = corkboard::Space::at(path.with_file_name("locks"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self::new(RwLock::open(&space, &name)?))
    }

    /// The lock in the file itself.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(Self::new(RwLock::at(path)?))
    }

    fn new(lock: RwLock) -> Self {
        Self {
            guard: None,
            lock: Box::new(UnsafeCell::new(lock)),
        }
    }
}

impl Lock for Corkboard {
    fn acquire(&mut self) -> Result<bool> {
        ensure!(self.guard.is_none(), "it is held already");
        // SAFETY: the only reference to the lock: there is no guard; it lives in a box that is
        // dropped after the guard.
        let lock: &'static mut RwLock = unsafe { &mut *self.lock.get() };
        self.guard = lock.write_timeout(SLICE)?;
        Ok(self.guard.is_some())
    }

    fn release(&mut self) -> Result<()> {
        self.guard = None;
        Ok(())
    }
}

/// The bytes that bare `fcntl` calls lock.
const GATE: i64 = 0;
const BODY: i64 = 1;

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Ok(options.open(path)?)
}

/// Open-file-description locks and nothing around them.
pub struct Ofd {
    file: File,
}

impl Ofd {
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        Ok(Self { file })
    }

    fn call(&self, command: libc::c_int, kind: libc::c_int, byte: i64) -> Result<()> {
        let mut lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: `lock` is valid and outlives the call.
        let status = unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut lock) };
        ensure!(status == 0, std::io::Error::last_os_error());
        Ok(())
    }

    /// What a read lock of two gates needs of the kernel: look at the gate, share the body, and
    /// give it back.
    pub fn read_and_release(&self) -> Result<()> {
        self.call(libc::F_OFD_GETLK, libc::F_RDLCK, GATE)?;
        self.call(libc::F_OFD_SETLK, libc::F_RDLCK, BODY)?;
        self.call(libc::F_OFD_SETLK, libc::F_UNLCK, BODY)
    }
}

impl Lock for Ofd {
    fn acquire(&mut self) -> Result<bool> {
        self.call(libc::F_OFD_SETLKW, libc::F_WRLCK, BODY)?;
        Ok(true)
    }

    fn release(&mut self) -> Result<()> {
        self.call(libc::F_OFD_SETLK, libc::F_UNLCK, BODY)
    }
}

/// `flock(2)`, what the command of that name does.
pub struct Flock {
    file: File,
}

impl Flock {
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        Ok(Self { file })
    }
}

impl Lock for Flock {
    fn acquire(&mut self) -> Result<bool> {
        flock(&self.file, FlockOperation::LockExclusive)?;
        Ok(true)
    }

    fn release(&mut self) -> Result<()> {
        Ok(flock(&self.file, FlockOperation::Unlock)?)
    }
}

/// The original's: a file that is opened and locked, or looked at again after 15 ms; closing it
/// gives the lock back.
pub struct Polling {
    path: PathBuf,
    held: Option<File>,
}

impl Polling {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            held: None,
        })
    }
}

impl Lock for Polling {
    fn acquire(&mut self) -> Result<bool> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        self.held = Some(crate::peers::original::lock(&self.path, operation)?);
        Ok(true)
    }

    fn release(&mut self) -> Result<()> {
        self.held = None;
        Ok(())
    }
}

/// A robust mutex of the C library in shared memory: it survives its owner, and has no readers.
pub struct RobustMutex {
    map: MmapMut,
    is_held: bool,
}

impl RobustMutex {
    const READY: u32 = 2;

    /// The first to come makes it, the other waits for that.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.set_len(4096)?;
        // SAFETY: nobody truncates the file; the mutex is used through the C library only.
        let map = unsafe { MmapMut::map_mut(&file)? };
        let made = Self {
            map,
            is_held: false,
        };
        let state = made.state();
        match state.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                made.make()?;
                // Release pairs with the Acquire of who waits.
                state.store(Self::READY, Ordering::Release);
            }
            Err(_) => {
                let mut patience = Patience::new();
                while state.load(Ordering::Acquire) != Self::READY {
                    patience.spin()?;
                }
            }
        }
        Ok(made)
    }

    fn state(&self) -> &AtomicU32 {
        let word = self.map.as_ptr().wrapping_add(2048).cast::<u32>();
        // SAFETY: inside the mapping, aligned, used as an atomic only.
        unsafe { AtomicU32::from_ptr(word.cast_mut()) }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.map.as_ptr().cast_mut().cast()
    }

    fn make(&self) -> Result<()> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised before they are used; the mutex is inside the
        // mapping, at its beginning, and nobody uses it yet.
        let status = unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr())
                | libc::pthread_mutexattr_setpshared(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_PROCESS_SHARED,
                )
                | libc::pthread_mutexattr_setrobust(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_MUTEX_ROBUST,
                )
                | libc::pthread_mutex_init(self.mutex(), attributes.as_ptr())
        };
        ensure!(status == 0, "the mutex cannot be made");
        Ok(())
    }
}

impl Lock for RobustMutex {
    fn acquire(&mut self) -> Result<bool> {
        // SAFETY: made in `open`.
        match unsafe { libc::pthread_mutex_lock(self.mutex()) } {
            0 => {
                self.is_held = true;
                Ok(true)
            }
            code => bail!("pthread_mutex_lock: {code}"),
        }
    }

    fn release(&mut self) -> Result<()> {
        // SAFETY: made in `open`, and locked by this thread.
        match unsafe { libc::pthread_mutex_unlock(self.mutex()) } {
            0 => {
                self.is_held = false;
                Ok(())
            }
            code => bail!("pthread_mutex_unlock: {code}"),
        }
    }
}

impl Drop for RobustMutex {
    /// The thread's list of what it holds must not name memory that is gone.
    fn drop(&mut self) {
        if self.is_held {
            let _ = self.release();
        }
    }
}

/// Four locks, of which each side holds two, as a link.
///
/// To send is to give back one, to receive is to take the one that the other side gives back. Whom
/// one waits for is sure to hold the lock, so nobody slips in. The number travels in a shared page.
pub struct HandOver<L> {
    locks: [L; 4],
    page: crate::scratch::SharedPage,
    ours: [usize; 4],
    theirs: [usize; 4],
    sent: usize,
    received: usize,
    lines: (usize, usize),
}

impl<L: Lock> HandOver<L> {
    pub fn open(path: &Path, side: crate::link::Side, open: Open<L>) -> Result<Self> {
        let lock = |number: usize| open(&path.with_extension(format!("lock-{number}")));
        let mut locks = [lock(0)?, lock(1)?, lock(2)?, lock(3)?];
        let (ours, theirs) = side.choose([0, 2, 1, 3], [1, 3, 0, 2]);
        for held in &ours[..2] {
            ensure!(locks[*held].acquire()?, "nobody has it yet");
        }
        Ok(Self {
            locks,
            page: crate::scratch::SharedPage::open(&path.with_extension("page"))?,
            ours,
            theirs,
            sent: 0,
            received: 0,
            lines: side.choose(0, 1),
        })
    }
}

impl<L: Lock> crate::link::Link for HandOver<L> {
    const SLEEPS: bool = true;

    fn send(&mut self, value: &crate::payload::Proof) -> Result<()> {
        let (out, _) = self.lines;
        // Relaxed: the lock orders it.
        self.page.word(out).store(value.number(), Ordering::Relaxed);
        self.locks[self.ours[self.sent % 4]].release()?;
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self, value: &mut crate::payload::Proof) -> Result<bool> {
        if !self.locks[self.theirs[self.received % 4]].acquire()? {
            return Ok(false);
        }
        self.received += 1;
        let (_, back) = self.lines;
        let number = self.page.word(back).load(Ordering::Relaxed);
        *value = crate::payload::Proof::new(number);
        Ok(true)
    }
}
