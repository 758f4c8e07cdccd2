//! Waiting as a future.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Waitable;
use super::hub::{self, Action, Ticket};
use crate::error::Result;

/// Is ready when the handle has something new, or an error to report. Needs no particular runtime.
///
/// # If a process dies
/// *Recovers*: a value that a writer published and did not announce is noticed within 50 ms.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Changed<'a> {
    handle: &'a mut (dyn Waitable + Send),
    ticket: Option<Ticket>,
}

impl<'a> Changed<'a> {
    pub(crate) fn new(handle: &'a mut (dyn Waitable + Send)) -> Self {
        Self {
            handle,
            ticket: None,
        }
    }
}

impl Future for Changed<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let is_woken = self.ticket.take().is_some();
        match self.handle.is_ready() {
            // For nothing, or because the object is not where it was.
            Ok(false) if is_woken => {
                if let Err(error) = self.handle.check_in_place() {
                    return Poll::Ready(Err(error));
                }
            }
            Ok(false) => {}
            Ok(true) => return Poll::Ready(Ok(())),
            Err(error) => return Poll::Ready(Err(error)),
        }
        // The thread looks before it sleeps, so nothing is missed in between.
        match hub::register(self.handle.sleeper(), Action::Wake(context.waker().clone())) {
            Ok(ticket) => self.ticket = Some(ticket),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Pending
    }
}

impl fmt::Debug for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").finish_non_exhaustive()
    }
}
