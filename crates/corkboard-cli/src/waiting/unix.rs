//! Requests to end are signals.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corkboard::wait::{Notifier, Waitable};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::{emulate_default_handler, pipe};

use super::Woken;
use crate::child::ignored_signals;
use crate::exit::{Failure, Outcome};

/// What asks a process to end.
const REQUESTS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Requests to end. While this process waits they are held back, so that it can let go of what it
/// has: a reader that was ended would leave its entry, and may keep a slot from being used. At any
/// other time they end the process at once, unless they are held back always.
pub struct Requests {
    pipe: UnixStream,
    signal: Arc<AtomicUsize>,
    end_at_once: Arc<AtomicBool>,
    are_held_back: bool,
}

impl Requests {
    pub fn new() -> Result<Self, Failure> {
        Self::listen(false)
    }

    /// Holds them back also while this process does not wait; it looks for them itself.
    pub fn held_back() -> Result<Self, Failure> {
        Self::listen(true)
    }

    fn listen(are_held_back: bool) -> Result<Self, Failure> {
        let failed = |source| Failure::Io("cannot listen to signals".into(), source);
        let (pipe, sender) = UnixStream::pair().map_err(failed)?;
        let requests = Self {
            pipe,
            signal: Arc::default(),
            end_at_once: Arc::new((!are_held_back).into()),
            are_held_back,
        };
        let ignored = ignored_signals();
        for signal in REQUESTS.into_iter().filter(|signal| !ignored(*signal)) {
            let number = signal.unsigned_abs() as usize;
            let sender = sender.try_clone().map_err(failed)?;
            // In this order.
            flag::register_conditional_default(signal, requests.end_at_once.clone())
                .and_then(|_| flag::register_usize(signal, requests.signal.clone(), number))
                .and_then(|_| pipe::register(signal, sender))
                .map_err(failed)?;
        }
        Ok(requests)
    }

    /// Waits for something new, for ever or so long; if this process `prints`, also for the end of
    /// whom it prints for.
    pub fn wait(
        &self,
        _: &mut dyn Waitable,
        news: &Notifier,
        prints: bool,
        timeout: Option<Duration>,
    ) -> Result<Woken, Failure> {
        self.end_at_once.store(false, Ordering::SeqCst);
        let woken = self.poll(news, prints, timeout);
        self.end_at_once
            .store(!self.are_held_back, Ordering::SeqCst);
        match self.is_asked() {
            false => woken,
            true => Ok(Woken::Request),
        }
    }

    /// Whether somebody has asked this process to end.
    pub fn is_asked(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    fn poll(
        &self,
        news: &Notifier,
        prints: bool,
        timeout: Option<Duration>,
    ) -> Result<Woken, Failure> {
        let start = Instant::now();
        let output = std::io::stdout();
        let output = output.as_fd();
        let mut fds = vec![
            PollFd::new(&self.pipe, PollFlags::IN),
            PollFd::new(news, PollFlags::IN),
        ];
        if prints {
            // Without asking for anything: what is told all the same is its end.
            fds.push(PollFd::new(&output, PollFlags::empty()));
        }
        loop {
            // More than the kernel can count is for ever.
            let left = timeout
                .map(|timeout| timeout.saturating_sub(start.elapsed()))
                .and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, left.as_ref()) {
                Err(Errno::INTR) => continue,
                Ok(0) => return Ok(Woken::TimeOut),
                result => result.map_err(cannot_wait)?,
            };
            let [request, news, ..] = &fds[..] else {
                unreachable!("there are at least two");
            };
            return Ok(if !request.revents().is_empty() {
                Woken::Request
            } else if !news.revents().is_empty() {
                Woken::News
            } else {
                Woken::OutputGone
            });
        }
    }

    /// Ends as the request asks for, for whoever started this process to see.
    pub fn obey(self) -> Outcome {
        let signal = i32::try_from(self.signal.load(Ordering::SeqCst)).unwrap_or(SIGTERM);
        emulate_default_handler(signal)
            .map_err(|source| Failure::Io("cannot end as asked".into(), source))
    }
}

/// Whether nobody reads standard output any more.
pub fn is_output_gone() -> Result<bool, Failure> {
    let output = std::io::stdout();
    let output = output.as_fd();
    let mut fds = [PollFd::new(&output, PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec::default())) {
        Err(Errno::INTR) => Ok(false),
        result => Ok(result.map_err(cannot_wait)? > 0),
    }
}

fn cannot_wait(errno: Errno) -> Failure {
    Failure::Io("cannot wait".into(), errno.into())
}
