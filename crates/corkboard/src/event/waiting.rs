//! Waiting for an event together with others, or as a future.

use super::{Event, WAIT};
use crate::error::Result;
use crate::wait::sealed::{self, Sleeper};
use crate::wait::{Notifier, Waitable};

impl Waitable for Event {}

impl sealed::Waitable for Event {
    fn begin(&mut self) {
        self.began = self.shared.sets();
    }

    fn is_ready(&mut self) -> Result<bool> {
        self.shared.check_live(WAIT)?;
        Ok(self.shared.passes(self.began))
    }

    fn sleeper(&self) -> Box<dyn Sleeper> {
        self.shared.watching(self.began)
    }

    fn check_in_place(&self) -> Result<()> {
        self.shared.check_in_place()
    }

    fn pass_on(&self) {
        self.shared.pass_on();
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
