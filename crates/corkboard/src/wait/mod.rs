//! Waiting for several objects at once, from one thread, a future or an event loop.
//!
//! - [`any`] blocks until one of several handles has something new.
//! - [`Notifier`] is a file descriptor that an event loop (epoll, poll, tokio, libuv) can watch.
//! - With the feature `async`, `Reader::changed`, `Event::signalled`, `Subscriber::arrived`,
//!   `Server::asked` and `Pending::answered` are futures that need no particular runtime.
//!
//! The last two are served by one thread of this process, started on first use.

#[cfg(feature = "async")]
mod changed;
mod hub;
mod notifier;

use std::time::Duration;

#[cfg(feature = "async")]
pub use changed::Changed;
pub use notifier::Notifier;

use crate::clock::{Deadline, Looks};
use crate::error::Result;
use crate::sys::barrier;
use crate::sys::wait::{self, Target};
use sealed::Sleeper;

/// How long at most to sleep when somebody else's fence failed, or the kernel cannot wait for so
/// many.
const SHORT: Duration = Duration::from_millis(2);
/// How often to look whether the objects are still there.
const LOOK: Duration = Duration::from_millis(50);

/// Something that can be waited for together with others: see [`any`].
pub trait Waitable: sealed::Waitable {}

pub(crate) mod sealed {
    use std::time::Duration;

    use crate::error::Result;
    use crate::sys::wait::Target;

    /// What [`any`](super::any) needs of a handle.
    pub trait Waitable {
        /// A wait begins.
        fn begin(&mut self) {}

        /// Whether there is something new. What lets only one through has been taken then.
        fn is_ready(&mut self) -> Result<bool>;

        /// The part that can sleep without the handle.
        fn sleeper(&self) -> Box<dyn Sleeper>;

        /// Whether the object is still there; asked after a sleep that ended by itself.
        fn check_in_place(&self) -> Result<()>;

        /// The wait ended with something else: a wake that was for somebody goes on.
        fn pass_on(&self) {}
    }

    /// What there is to sleep on: not the handle, which others may use meanwhile.
    pub trait Sleeper: Send + Sync {
        /// Whether there is something new, or an error to be had.
        fn is_ready(&self) -> bool;

        /// Says that somebody may sleep: on what, and for how long at most before looking again.
        /// `None` when there is something new. A heavy fence must follow, and another look: at the
        /// target, and by [`came_meanwhile`](Self::came_meanwhile).
        fn announce(&self) -> Option<(Target<'_>, Duration)>;

        /// Whether there is something new after all, of which the target says nothing: it changes
        /// only for those whom somebody saw waiting.
        fn came_meanwhile(&self) -> bool {
            false
        }

        /// What is new now counts as seen.
        fn acknowledge(&self);

        /// Somebody was told, who takes nothing away yet: others who sleep for the same, and whose
        /// wake came here, may.
        fn pass_on(&self) {}

        /// Whether the object was removed, so that there is nothing to sleep for any more.
        fn is_gone(&self) -> bool;

        /// Whether the object's files are still there; asked now and then.
        fn is_in_place(&self) -> bool;
    }
}

/// Waits until one of `items` has something new and returns its index; the lowest, if several
/// have. `None` on time-out. What is new is then read from that item, without waiting. For an
/// event this *is* the wait: the signal of an auto-reset event is consumed.
///
/// # Errors
/// Those of the item's own wait.
///
/// # Blocking
/// For at most `timeout`, for ever without one.
///
/// # If a process dies
/// *Recovers*: what a writer published and did not announce is found within 50 ms.
///
/// # Platforms
/// Linux before 5.16, more than 128 items, and on Windows more than 63 events: looks every two
/// milliseconds.
///
/// # Examples
/// ```
/// # let dir = format!("/dev/shm/corkboard-doc-any-{}", std::process::id());
/// # let space = corkboard::Space::at(&dir)?;
/// use corkboard::board::{Options, Reader};
/// let mut writers = [Options::new().writer(&space, "a")?, Options::new().writer(&space, "b")?];
/// let (mut a, mut b) = (Reader::open(&space, "a")?, Reader::open(&space, "b")?);
/// writers[1].publish(b"news")?;
/// let ready = corkboard::wait::any(&mut [&mut a, &mut b], None)?;
/// assert_eq!(ready, Some(1));
/// assert_eq!(b.read()?.as_deref(), Some(&b"news"[..]));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn any(items: &mut [&mut dyn Waitable], timeout: Option<Duration>) -> Result<Option<usize>> {
    for item in items.iter_mut() {
        item.begin();
    }
    let outcome = wait_for_any(items, Deadline::within(timeout));
    for (index, item) in items.iter().enumerate() {
        if !matches!(outcome, Ok(Some(ready)) if ready == index) {
            item.pass_on();
        }
    }
    outcome
}

fn wait_for_any(items: &mut [&mut dyn Waitable], deadline: Deadline) -> Result<Option<usize>> {
    let mut looks = Looks::every(LOOK);
    loop {
        if let Some(ready) = first_ready(items)? {
            return Ok(Some(ready));
        }
        let left = deadline.left();
        if left.is_zero() {
            return Ok(None);
        }
        let sleepers: Vec<_> = items.iter().map(|item| item.sleeper()).collect();
        let timed_out = sleep(sleepers.iter().map(|sleeper| &**sleeper), None, left);
        if timed_out || looks.is_due() {
            if let Some(ready) = first_ready(items)? {
                return Ok(Some(ready));
            }
            for item in items.iter() {
                item.check_in_place()?;
            }
        }
    }
}

/// Sleeps until one of the sleepers, or the word, changes. Returns whether it ended by itself.
fn sleep<'a>(
    sleepers: impl Iterator<Item = &'a dyn Sleeper> + Clone,
    also: Option<Target<'a>>,
    longest: Duration,
) -> bool {
    let mut slice = longest;
    let mut targets: Vec<Target<'a>> = also.into_iter().collect();
    for sleeper in sleepers.clone() {
        let Some((target, longest)) = sleeper.announce() else {
            return false;
        };
        slice = slice.min(longest);
        targets.push(target);
    }
    if !barrier::heavy() {
        slice = slice.min(SHORT);
    }
    let is_quiet =
        targets.iter().all(Target::is_unchanged) && !sleepers.clone().any(Sleeper::came_meanwhile);
    is_quiet && wait::wait_any(&targets, slice, SHORT)
}

fn first_ready(items: &mut [&mut dyn Waitable]) -> Result<Option<usize>> {
    for (index, item) in items.iter_mut().enumerate() {
        if item.is_ready()? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::sealed::Sleeper;
    use super::*;
    use crate::sync::AtomicU64;

    /// Of which something came between its look and its announcement.
    struct Late(AtomicU64);

    impl Sleeper for Late {
        fn is_ready(&self) -> bool {
            true
        }

        fn announce(&self) -> Option<(Target<'_>, Duration)> {
            Some((Target::new(&self.0, 0), Duration::MAX))
        }

        fn came_meanwhile(&self) -> bool {
            true
        }

        fn acknowledge(&self) {}

        fn is_gone(&self) -> bool {
            false
        }

        fn is_in_place(&self) -> bool {
            true
        }
    }

    #[test]
    fn nobody_sleeps_on_what_came_before_the_announcement() {
        let late = Late(AtomicU64::new(0));
        let sleepers = [&late as &dyn Sleeper];
        assert!(!sleep(
            sleepers.into_iter(),
            None,
            Duration::from_secs(3600)
        ));
    }
}
