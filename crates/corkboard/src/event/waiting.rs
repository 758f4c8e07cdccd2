//! Waiting for an event together with others, or as a future.

use std::sync::Arc;
use std::time::Duration;

use super::protocol::{self, State};
use super::{Event, Reset, SLICE, Shared, WAIT};
use crate::error::Result;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::wait::{self, Target};
use crate::wait::sealed::{self, Sleeper};
use crate::wait::{Notifier, Waitable};

/// What the one who sleeps for an event knows of it.
struct Watching {
    shared: Arc<Shared>,
    /// How often the event had been set when the wait began.
    began: u64,
    /// How often it had been set when somebody was told last; `u64::MAX` for never.
    told: AtomicU64,
}

impl Watching {
    fn is_ready_at(&self, now: State) -> bool {
        now.sets() != self.told.load(Ordering::Relaxed) && self.shared.would_pass(now, self.began)
    }
}

impl Sleeper for Watching {
    fn is_ready(&self) -> bool {
        !self.shared.is_live() || self.is_ready_at(State::load(self.shared.word()))
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        if !self.shared.is_live() {
            return None;
        }
        let word = self.shared.word();
        let now = protocol::announce(word, |now| !self.is_ready_at(now))?;
        Some((Target::new(word, now.low_half()), SLICE))
    }

    fn acknowledge(&self) {
        let now = State::load(self.shared.word());
        self.told.store(now.sets(), Ordering::Relaxed);
    }

    fn pass_on(&self) {
        let now = State::load(self.shared.word());
        if self.shared.reset == Reset::Auto && now.is_signalled() && now.is_awaited() {
            // One of them takes it. To wake one might be to wake another that takes nothing.
            wait::wake_low(self.shared.word());
        }
    }

    fn is_gone(&self) -> bool {
        !self.shared.is_live()
    }

    fn is_in_place(&self) -> bool {
        self.shared.check_in_place().is_ok()
    }
}

impl Waitable for Event {}

impl sealed::Waitable for Event {
    fn begin(&mut self) {
        self.began = State::load(self.shared.word()).sets();
    }

    fn is_ready(&mut self) -> Result<bool> {
        self.shared.check_live(WAIT)?;
        Ok(self.shared.passes(self.began))
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        Box::new(Watching {
            shared: self.shared.clone(),
            began: self.began,
            told: AtomicU64::new(u64::MAX),
        })
    }

    fn check_in_place(&self) -> Result<()> {
        self.shared.check_in_place()
    }

    fn pass_on(&self) {
        let found = State::load(self.shared.word());
        if self.shared.reset == Reset::Auto && found.is_signalled() && found.is_awaited() {
            self.shared.wake();
        }
    }
}

impl Event {
    /// A file descriptor that becomes readable when the event is signalled, and at each signal
    /// after that, and when the event is removed. It consumes nothing: [`wait`](Self::wait) with a
    /// time-out of zero does.
    ///
    /// # Errors
    /// `Io` when the process has no descriptors or threads left.
    ///
    /// # If a process dies
    /// *Recovers*, as [`wait`](Self::wait).
    pub fn notifier(&self) -> Result<Notifier> {
        let mut fresh = Self {
            shared: self.shared.clone(),
            began: 0,
        };
        sealed::Waitable::begin(&mut fresh);
        Notifier::new(&fresh)
    }

    /// Is ready when the event is signalled; consumes the signal of an auto-reset event. Needs no
    /// particular runtime, and can be dropped at any time.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # If a process dies
    /// *Recovers*, as [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub fn signalled(&mut self) -> crate::wait::Changed<'_> {
        sealed::Waitable::begin(self);
        crate::wait::Changed::new(self)
    }
}
