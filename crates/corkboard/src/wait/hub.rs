//! The thread that sleeps for those who cannot: futures and event loops.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sealed::Sleeper;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::process::Generation;
use crate::sys::wait::{self, Target};

/// What to do when there is something new.
pub(super) enum Action {
    /// Once.
    #[cfg(feature = "async")]
    Wake(std::task::Waker),
    /// Each time.
    Signal(Arc<OwnedFd>),
}

/// What the thread looks after, and how to tell it of changes.
pub(super) struct Hub {
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
    static CURRENT: Mutex<Option<(Generation, Arc<Hub>)>> = Mutex::new(None);
    let failed = |errno| Error::os("start", "the waiting thread", errno);
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((generation, hub)) = &*current
        && generation.is_current()
    {
        return Ok(hub.clone());
    }
    let hub = Arc::new(Hub {
        items: Mutex::new(Vec::new()),
        changes: AtomicU64::new(0),
    });
    let served = hub.clone();
    std::thread::Builder::new()
        .name("corkboard-wait".to_owned())
        .spawn(move || served.serve())
        .map_err(|error| {
            failed(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::AGAIN))
        })?;
    let generation = Generation::current().map_err(failed)?;
    *current = Some((generation, hub.clone()));
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
        loop {
            let changes = self.changes.load(Ordering::Acquire) as u32;
            let mut sleepers = Vec::new();
            self.lock().retain(|item| {
                let stays = !item.sleeper.is_ready() || item.act();
                if stays {
                    sleepers.push(item.sleeper.clone());
                }
                stays
            });
            let list = Target::new(&self.changes, changes);
            let sleepers = sleepers.iter().map(|sleeper| &**sleeper);
            super::sleep(sleepers, Some(list), Duration::from_secs(3600));
        }
    }
}

impl Item {
    /// Tells of something new. Returns whether to go on.
    fn act(&self) -> bool {
        match &self.action {
            #[cfg(feature = "async")]
            Action::Wake(waker) => {
                waker.wake_by_ref();
                false
            }
            Action::Signal(fd) => {
                self.sleeper.acknowledge();
                // A full counter is readable already.
                let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
                true
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.hub.lock().retain(|item| item.number != self.number);
        self.hub.tell();
    }
}
