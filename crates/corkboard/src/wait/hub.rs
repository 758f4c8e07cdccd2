//! The thread that sleeps for those who cannot: futures and event loops.
//!
//! Wakers are foreign code: what they do, and what goes with the last reference to a task, may come
//! back here or panic. So they are woken and dropped while nothing is locked, and a panic ends
//! there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LOOK;
use super::sealed::Sleeper;
use crate::clock::Looks;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::Errno;
use crate::sys::process::{Generation, OfProcess};
use crate::sys::signal::Signal;
use crate::sys::wait::{self, Target};

/// What to do when there is something new.
pub(super) enum Action {
    /// Once.
    #[cfg(feature = "async")]
    Wake(std::task::Waker),
    /// Each time, until the object is gone.
    Signal(Arc<Signal>),
}

/// What the thread looks after, and how to tell it of changes.
pub(super) struct Hub {
    generation: Generation,
    items: Mutex<Vec<Item>>,
    /// Counts changes of the list; the thread sleeps on it, too.
    changes: AtomicU64,
}

struct Item {
    number: u64,
    sleeper: Arc<dyn Sleeper>,
    action: Action,
}

/// One item of the list, until this is dropped.
pub(super) struct Ticket {
    hub: Arc<Hub>,
    number: u64,
}

/// Has the process's thread look after a sleeper.
pub(super) fn register(sleeper: Box<dyn Sleeper>, action: Action) -> Result<Ticket> {
    let hub = current()?;
    let number = hub.changes.fetch_add(1, Ordering::AcqRel);
    hub.lock().push(Item {
        number,
        sleeper: sleeper.into(),
        action,
    });
    hub.tell();
    Ok(Ticket { hub, number })
}

/// This process's hub; a fork's child has no thread and gets its own.
fn current() -> Result<Arc<Hub>> {
    static CURRENT: OfProcess<Mutex<Option<Arc<Hub>>>> = OfProcess::new();
    let failed = |errno| Error::os("start", "the waiting thread", errno);
    let current = CURRENT.get().map_err(failed)?;
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hub) = &*current {
        return Ok(hub.clone());
    }
    let hub = Arc::new(Hub {
        generation: Generation::current().map_err(failed)?,
        items: Mutex::new(Vec::new()),
        changes: AtomicU64::new(0),
    });
    let served = hub.clone();
    std::thread::Builder::new()
        .name("corkboard-wait".to_owned())
        .spawn(move || served.serve())
        .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
    *current = Some(hub.clone());
    Ok(hub)
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Vec<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        wait::wake_low(&self.changes);
    }

    fn serve(&self) {
        let mut looks = Looks::every(LOOK);
        loop {
            let changes = self.changes.load(Ordering::Acquire) as u32;
            let is_time_to_look = looks.is_due();
            let mut sleepers = Vec::new();
            for (number, sleeper) in self.sleepers() {
                // Who is gone is ready, too: asked in this order, the end is told once.
                let is_ready = sleeper.is_ready();
                let is_gone = sleeper.is_gone() || (is_time_to_look && !sleeper.is_in_place());
                let is_over = (is_gone || is_ready) && {
                    sleeper.acknowledge();
                    let is_over = self.act(number, is_gone);
                    sleeper.pass_on();
                    is_over
                };
                if !is_over {
                    sleepers.push(sleeper);
                }
            }
            let list = Target::new(&self.changes, changes);
            let sleepers = sleepers.iter().map(|sleeper| &**sleeper);
            super::sleep(sleepers, Some(list), Duration::from_secs(3600));
        }
    }

    /// Whatever there is to look after now.
    fn sleepers(&self) -> Vec<(u64, Arc<dyn Sleeper>)> {
        let items = self.lock();
        let sleeper = |item: &Item| (item.number, item.sleeper.clone());
        items.iter().map(sleeper).collect()
    }

    /// Tells of something new, if somebody still wants to know. Returns whether that was all.
    fn act(&self, number: u64, is_gone: bool) -> bool {
        let mut items = self.lock();
        let Some(at) = items.iter().position(|item| item.number == number) else {
            return true;
        };
        let goes_on = match &items[at].action {
            #[cfg(feature = "async")]
            Action::Wake(_) => false,
            Action::Signal(signal) => {
                signal.set();
                !is_gone
            }
        };
        if goes_on {
            return false;
        }
        let item = items.swap_remove(at);
        drop(items);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| item.end())) {
            // What it carries may panic, too, when it is dropped.
            std::mem::forget(panic);
        }
        true
    }

    /// Takes an item off the list.
    fn take(&self, number: u64) -> Option<Item> {
        let mut items = self.lock();
        let at = items.iter().position(|item| item.number == number)?;
        Some(items.swap_remove(at))
    }
}

impl Item {
    /// Wakes a future. Nothing may be locked.
    fn end(self) {
        match self.action {
            #[cfg(feature = "async")]
            Action::Wake(waker) => waker.wake(),
            Action::Signal(_) => {}
        }
    }
}

impl Ticket {
    /// Whether this process has the thread that looks after the item: not in a fork's child.
    pub(super) fn is_served(&self) -> bool {
        self.hub.generation.is_current()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_served() {
            // A fork's child: nobody serves this hub here, and somebody may have been holding its
            // lock at the fork.
            return;
        }
        // Dropped after the lock is, see above.
        let item = self.hub.take(self.number);
        self.hub.tell();
        drop(item);
    }
}

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use super::*;
    use crate::sys::process::tests::forked;

    /// Something that never changes.
    struct Quiet(AtomicU64);

    impl Sleeper for Quiet {
        fn is_ready(&self) -> bool {
            false
        }

        fn announce(&self) -> Option<(Target<'_>, Duration)> {
            Some((Target::new(&self.0, 0), LOOK))
        }

        fn acknowledge(&self) {}

        fn is_gone(&self) -> bool {
            false
        }

        fn is_in_place(&self) -> bool {
            true
        }
    }

    fn quiet() -> Ticket {
        let signal = Signal::new().unwrap();
        let sleeper = Box::new(Quiet(AtomicU64::new(0)));
        register(sleeper, Action::Signal(Arc::new(signal))).unwrap()
    }

    #[test]
    fn a_child_has_its_own_thread_whatever_was_locked_at_the_fork() {
        let mut ticket = Some(quiet());
        let hub = quiet().hub.clone();
        let items = hub.lock();
        let is_well = forked(|| {
            drop(ticket.take());
            !Arc::ptr_eq(&quiet().hub, &hub)
        });
        drop(items);
        assert!(is_well);
    }
}
