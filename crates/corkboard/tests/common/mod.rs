//! What several test files need.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use corkboard::Space;

/// A directory, on Linux on tmpfs, that goes away with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent().join(format!("corkboard-test-{process}-{number}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by tests that were killed, of a process with our number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    #[allow(dead_code, reason = "not every test file needs a space")]
    pub fn space(&self) -> Space {
        Space::at(&self.0).unwrap()
    }
}

fn parent() -> PathBuf {
    match cfg!(unix) {
        true => PathBuf::from("/dev/shm"),
        false => std::env::temp_dir(),
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes the only file with this suffix out of a space, as somebody may who knows nothing of
/// objects.
#[allow(dead_code, reason = "not every test file does harm")]
pub fn move_away(space: &Space, suffix: &str) {
    let files = std::fs::read_dir(space.path()).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    let is_it = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(suffix));
    let path = paths.find(is_it).unwrap();
    std::fs::rename(&path, space.path().join("moved away")).unwrap();
}

/// Reads and writes at places in a file.
#[allow(dead_code, reason = "not every test file has files")]
pub trait At {
    fn read_exactly_at(&self, buffer: &mut [u8], offset: u64);
    fn write_all_to(&self, bytes: &[u8], offset: u64);
}

impl At for std::fs::File {
    #[cfg(unix)]
    fn read_exactly_at(&self, buffer: &mut [u8], offset: u64) {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset).unwrap();
    }

    #[cfg(windows)]
    fn read_exactly_at(&self, buffer: &mut [u8], offset: u64) {
        let count = std::os::windows::fs::FileExt::seek_read(self, buffer, offset).unwrap();
        assert_eq!(count, buffer.len());
    }

    #[cfg(unix)]
    fn write_all_to(&self, bytes: &[u8], offset: u64) {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset).unwrap();
    }

    #[cfg(windows)]
    fn write_all_to(&self, bytes: &[u8], offset: u64) {
        let count = std::os::windows::fs::FileExt::seek_write(self, bytes, offset).unwrap();
        assert_eq!(count, bytes.len());
    }
}

/// Starts this test program again. On another processor's emulator that takes the emulator, which
/// `CORKBOARD_TEST_RUNNER` names.
#[allow(dead_code, reason = "not every test file starts processes")]
pub fn this_program() -> std::process::Command {
    let program = std::env::current_exe().unwrap();
    #[allow(unused_mut, reason = "only Unix has two ways to start a process")]
    let mut command = match std::env::var_os("CORKBOARD_TEST_RUNNER") {
        Some(runner) => {
            let mut command = std::process::Command::new(runner);
            command.arg(program);
            command
        }
        None => std::process::Command::new(program),
    };
    // SAFETY: the closure does nothing. With it the process is started by `fork`, which the library
    // notices; a child started otherwise keeps what another test's thread is just claiming until it
    // becomes another program, and that test finds its dropped handle alive for so long.
    #[cfg(unix)]
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(()));
    }
    command
}

/// What is wrong with a space's objects, whatever the machine's state and settings.
#[allow(dead_code, reason = "not every test file asks for it")]
pub fn findings(space: &Space) -> Vec<corkboard::Finding> {
    use corkboard::Problem::{NotInMemory, RemoveIpc, SpaceNearlyFull};
    let is_about_objects = |finding: &corkboard::Finding| {
        let problem = finding.problem();
        !matches!(problem, SpaceNearlyFull | RemoveIpc | NotInMemory)
    };
    let findings = space.diagnose().unwrap();
    findings.into_iter().filter(is_about_objects).collect()
}

/// Everything that dead processes left in a space has a name, and goes away.
#[allow(dead_code, reason = "not every test file kills at named points")]
pub fn mend(space: &Space) {
    use corkboard::Problem::{DeadParticipant, StaleFile};
    for finding in findings(space) {
        let is_known = matches!(finding.problem(), DeadParticipant | StaleFile);
        assert!(is_known, "{finding}");
        finding.fix().unwrap();
    }
    let left = findings(space);
    assert!(left.is_empty(), "{left:?}");
    let hidden = std::fs::read_dir(space.path())
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'));
    assert_eq!(hidden.collect::<Vec<_>>(), [""; 0]);
}

/// Makes a named pipe, without a process that does it.
#[cfg(unix)]
#[allow(dead_code, reason = "not every test file has pipes")]
pub fn make_fifo(path: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path lives until the call returns.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Whether a process ended because it was killed, and not by itself.
#[allow(dead_code, reason = "not every test file kills processes")]
pub fn is_killed(status: std::process::ExitStatus) -> bool {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    // What `Child::kill` says; a failed test says 101.
    #[cfg(windows)]
    return status.code() == Some(1);
}

/// Whether what an event loop would watch is ready, or gets so.
#[allow(dead_code, reason = "not every test file has notifiers")]
pub fn is_ready(notifier: &corkboard::wait::Notifier, patience: std::time::Duration) -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(notifier, PollFlags::IN)];
        let time = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        poll(&mut fds, Some(&time)).unwrap() > 0
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsRawHandle;
        use windows_sys::Win32::System::Threading::WaitForSingleObject;
        let milliseconds = patience.as_millis() as u32;
        // SAFETY: the handle is open as long as the notifier is.
        unsafe { WaitForSingleObject(notifier.as_raw_handle(), milliseconds) == 0 }
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

#[cfg(unix)]
/// Runs `work` in a fork's child and returns whether it said yes there. A child that hangs is ended.
#[allow(dead_code, reason = "not every test file forks")]
pub fn forked(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls `work` and ends without running anything of its parent's; what it
    // uses of the C library (memory) works in a fork's child.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(300);
            let is_well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            libc::_exit(i32::from(!is_well.unwrap_or(false)));
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status == 0
    }
}

#[cfg(unix)]
/// Interrupts the system calls of the thread that made it, again and again, until it is dropped.
#[allow(dead_code, reason = "not every test file needs them")]
pub struct Interruptions {
    is_over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(unix)]
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

#[cfg(unix)]
impl Drop for Interruptions {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[cfg(unix)]
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

/// Locks bytes of a file as handles do, for as long as it is open: `F_RDLCK` or `F_WRLCK`. A length
/// of 0 is all that come after.
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every test file locks bytes")]
pub fn lock_bytes(file: &std::fs::File, how: i32, start: i64, len: i64) {
    use std::os::fd::AsRawFd;
    // SAFETY: plain numbers, all zeros; the call only reads them.
    let status = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = how as libc::c_short;
        lock.l_start = start;
        lock.l_len = len;
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock)
    };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}
