//! What several test files need.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use corkboard::Space;

/// A directory on tmpfs that goes away with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let path = PathBuf::from(format!("/dev/shm/corkboard-test-{process}-{number}"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    #[allow(dead_code, reason = "not every test file needs a space")]
    pub fn space(&self) -> Space {
        Space::at(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Looks until it is so; fails when it does not come to pass.
#[allow(dead_code, reason = "not every test file waits for something")]
pub fn until(mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        let patience = std::time::Duration::from_secs(60);
        assert!(start.elapsed() < patience, "it does not come to pass");
        std::thread::yield_now();
    }
}

/// Runs `work` in a fork's child and returns whether it said yes there. A child that hangs is ended.
#[allow(dead_code, reason = "not every test file forks")]
pub fn forked(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls `work` and ends without running anything of its parent's; what it
    // uses of the C library (memory) works in a fork's child.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(30);
            let is_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            libc::_exit(i32::from(!is_well.unwrap_or(false)));
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status == 0
    }
}

/// Interrupts the system calls of the thread that made it, again and again, until it is dropped.
#[allow(dead_code, reason = "not every test file needs them")]
pub struct Interruptions {
    is_over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[allow(dead_code, reason = "not every test file needs them")]
impl Interruptions {
    pub fn begin() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a handler that does nothing, for a signal that nobody else here uses; without
        // SA_RESTART, so that calls do end.
        let us = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            assert_eq!(
                libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()),
                0
            );
            libc::pthread_self()
        };
        let is_over = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let seen = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                // SAFETY: that thread lives: it waits for this one before it ends.
                unsafe { libc::pthread_kill(us, libc::SIGUSR1) };
                // More often than anything here looks at anything; nothing depends on it.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Interruptions {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Waits until a child has stopped itself.
#[allow(dead_code, reason = "not every test file stops a process")]
pub fn await_stop(child: &std::process::Child) {
    // SAFETY: only looks at a child of ours, and leaves its status to be waited for.
    let stopped = unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child.id(), &raw mut info, flags) == 0
            && info.si_code == libc::CLD_STOPPED
    };
    assert!(stopped, "it ended before it came to where it stops");
}
