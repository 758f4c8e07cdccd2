//! Waiting for a request, or for a reply, together with other things.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::client::{self, CALL, Pending};
use super::desk::Desk;
use super::protocol::{self, State};
use super::server::{SERVE, Server};
use crate::clock::Deadline;
use crate::error::Result;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::clock;
use crate::sys::wait::Target;
use crate::wait::sealed::{self, Sleeper};
use crate::wait::{Notifier, Waitable};

/// Who sleeps looks this often whether the other side, and the call itself, is still there.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// Waits for requests, without the server: its entry is another one's as soon as it ends.
struct Listening {
    desk: Arc<Desk>,
    /// The bell's low half since which nothing is new, and [`HEARD`]; 0 when what is there counts
    /// as new.
    heard: AtomicU64,
    /// When that was, by the monotonic clock.
    since: AtomicU64,
}

const HEARD: u64 = 1 << 32;

impl Listening {
    /// From now on only what comes is new.
    fn listen(&self) -> u32 {
        let ticket = protocol::listen(self.desk.bell());
        self.heard
            .store(HEARD | u64::from(ticket), Ordering::Relaxed);
        self.since.store(clock::monotonic(), Ordering::Relaxed);
        ticket
    }

    /// Whether it is time to tell again of requests that still wait: the bell says nothing of one
    /// whose client died before it rang.
    fn is_time_to_look(&self) -> bool {
        let passed = clock::monotonic().saturating_sub(self.since.load(Ordering::Relaxed));
        Duration::from_nanos(passed) >= SLICE
    }
}

impl Sleeper for Listening {
    fn is_ready(&self) -> bool {
        let is_asked = || match self.heard.load(Ordering::Relaxed) {
            0 => self.desk.is_asked(),
            heard => {
                self.desk.bell().load(Ordering::Relaxed) as u32 != heard as u32
                    || self.is_time_to_look() && self.desk.is_asked()
            }
        };
        self.is_gone() || is_asked()
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        if self.is_ready() {
            return None;
        }
        let mut ticket = self.heard.load(Ordering::Relaxed) as u32;
        if ticket == 0 {
            ticket = self.listen();
            if self.desk.is_asked() {
                self.heard.store(0, Ordering::Relaxed);
                return None;
            }
        }
        Some((Target::new(self.desk.bell(), ticket), SLICE))
    }

    fn acknowledge(&self) {
        self.listen();
    }

    fn is_gone(&self) -> bool {
        !self.desk.attachment.is_usable()
    }

    fn is_in_place(&self) -> bool {
        self.desk.attachment.is_in_place()
    }
}

impl Waitable for Server {}

impl sealed::Waitable for Server {
    fn is_ready(&mut self) -> Result<bool> {
        self.shared().desk.attachment.check_usable(SERVE)?;
        Ok(self.shared().desk.is_asked())
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        Box::new(Listening {
            desk: self.shared().desk.clone(),
            heard: AtomicU64::new(0),
            since: AtomicU64::new(0),
        })
    }

    fn check_in_place(&self) -> Result<()> {
        self.shared().desk.attachment.check_in_place(SERVE)
    }
}

/// Waits for one call's end.
struct Awaiting {
    shared: Arc<client::Shared>,
    slot: usize,
    asked: State,
    deadline: Deadline,
    /// Whether it ended, and that is known.
    is_told: AtomicBool,
}

impl Awaiting {
    fn state(&self) -> &AtomicU64 {
        self.shared.desk.state(self.slot)
    }
}

impl Sleeper for Awaiting {
    fn is_ready(&self) -> bool {
        !self.is_told.load(Ordering::Relaxed)
            && self.shared.is_over(self.slot, self.asked, self.deadline)
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        let state = self.state();
        if self.is_told.load(Ordering::Relaxed) {
            let found = state.load(Ordering::Relaxed) as u32;
            return Some((Target::new(state, found), SLICE));
        }
        if self.is_ready() {
            return None;
        }
        let asleep = protocol::sleep(state)?;
        let slice = self.shared.slice(self.deadline);
        Some((Target::new(state, asleep), slice))
    }

    fn acknowledge(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }

    fn is_gone(&self) -> bool {
        !self.shared.desk.attachment.is_usable()
    }

    fn is_in_place(&self) -> bool {
        self.shared.desk.attachment.is_in_place()
    }
}

impl Waitable for Pending {}

impl sealed::Waitable for Pending {
    fn is_ready(&mut self) -> Result<bool> {
        Ok(self.is_over())
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        Box::new(Awaiting {
            shared: self.shared().clone(),
            slot: self.slot(),
            asked: self.asked(),
            deadline: self.deadline(),
            is_told: AtomicBool::new(false),
        })
    }

    fn check_in_place(&self) -> Result<()> {
        self.shared().desk.attachment.check_in_place(CALL)
    }
}

impl Server {
    /// A file descriptor that becomes readable when there is a request, at each request after that,
    /// and when the call is removed. Take all there are with a time-out of zero, until `None`; of
    /// those that you leave you are told again every 50 ms.
    ///
    /// # Errors
    /// `Forked`, `Removed`; `Io` when the process has no descriptors or threads left.
    ///
    /// # If a process dies
    /// *Recovers*, as [`next`](Self::next).
    pub fn notifier(&self) -> Result<Notifier> {
        self.shared().desk.attachment.check_usable(SERVE)?;
        Notifier::new(self)
    }

    /// Is ready when there is a request; then take it with a time-out of zero, if no other thread
    /// was first and its client did not give up. Needs no particular runtime, and can be dropped
    /// at any time.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # If a process dies
    /// *Recovers*, as [`next`](Self::next).
    #[cfg(feature = "async")]
    pub fn asked(&mut self) -> crate::wait::Changed<'_> {
        crate::wait::Changed::new(self)
    }
}

impl Pending {
    /// A file descriptor that becomes readable when waiting for the reply would end at once.
    ///
    /// # Errors
    /// `Forked`, `Removed`; `Io` when the process has no descriptors or threads left.
    ///
    /// # If a process dies
    /// *Reports*, as [`wait`](Self::wait): it becomes readable.
    pub fn notifier(&self) -> Result<Notifier> {
        self.shared().desk.attachment.check_usable(CALL)?;
        Notifier::new(self)
    }

    /// Is ready when waiting for the reply would end at once. Needs no particular runtime, and can
    /// be dropped at any time.
    ///
    /// # Errors
    /// `Removed`, `Forked`.
    ///
    /// # If a process dies
    /// *Reports*, as [`wait`](Self::wait): it is ready.
    #[cfg(feature = "async")]
    pub fn answered(&mut self) -> crate::wait::Changed<'_> {
        crate::wait::Changed::new(self)
    }
}
