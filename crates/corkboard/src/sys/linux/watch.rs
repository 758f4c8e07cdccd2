//! Sleeping until something is created in a directory, see `inotify(7)`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Without notifications, how long to sleep before looking again.
const SLICE: Duration = Duration::from_millis(2);
/// With them, how long at most.
const LONGEST: Duration = Duration::from_millis(500);

/// Tells when a name appears in a directory.
pub(crate) struct Watch(Option<OwnedFd>);

impl Watch {
    /// Watches from now on. Where the system refuses, [`wait`](Self::wait) sleeps for short.
    pub(crate) fn new(directory: &Path) -> Self {
        let open = || {
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            inotify::add_watch(&fd, directory, what)?;
            Ok::<_, rustix::io::Errno>(fd)
        };
        Self(open().ok())
    }

    /// Sleeps until a name appeared, `timeout` at most; may return early.
    pub(crate) fn wait(&self, timeout: Duration) {
        let Some(fd) = &self.0 else {
            std::thread::sleep(timeout.min(SLICE));
            return;
        };
        let timeout = timeout.min(LONGEST);
        let time = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        if poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&time)).is_ok_and(|ready| ready > 0) {
            let mut events = [0; 4096];
            // Which name it was does not matter: the caller looks for its own.
            let _ = rustix::io::read(fd, &mut events);
        }
    }
}
