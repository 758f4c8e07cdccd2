//! An event here is a word, which the kernel knows as a futex.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::layout::{FILE, WORD};
use super::protocol::{self, Passing, State};
use super::{Reset, SLICE, WAIT, os};
use crate::clock::{Deadline, Looks};
use crate::error::Result;
use crate::header::{STATE, STATE_LIVE};
use crate::hook;
use crate::object::{Identity, Opened};
use crate::space::Space;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::File;
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::wait::{self, Target};
use crate::wait::sealed::Sleeper;

/// The mapped event, which those who sleep for others keep, too.
pub(super) struct Shared {
    pub(super) space: Space,
    pub(super) name: String,
    pub(super) reset: Reset,
    pub(super) mapping: Mapping,
    pub(super) identity: Identity,
    /// Whether the last look at the event's path found the file gone.
    pub(super) is_deleted: AtomicBool,
}

impl Shared {
    pub(super) fn open(space: &Space, name: &str) -> Result<Self> {
        let failed = |errno| os("open", name, errno);
        let Opened {
            file,
            facts,
            header,
        } = FILE.open(space, name, Protection::ReadWrite)?;
        let reset = Reset::from_header(&header, name)?;
        let generation = Generation::current().map_err(failed)?;
        Ok(Self {
            space: space.clone(),
            name: name.to_owned(),
            reset,
            mapping: FILE.map(&file, generation).map_err(failed)?,
            identity: facts.identity,
            is_deleted: AtomicBool::new(false),
        })
    }

    /// How often it was set.
    pub(super) fn sets(&self) -> u64 {
        State::load(self.word()).sets()
    }

    #[inline]
    pub(super) fn set(&self) {
        if protocol::set(self.word(), self.passing()) {
            hook::point("event.set");
            self.wake();
        }
    }

    pub(super) fn unset(&self) {
        protocol::reset(self.word());
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let shared = self;
        let word = shared.word();
        let began = State::load(word).sets();
        shared.check_live(WAIT)?;
        if shared.passes(began) {
            return Ok(true);
        }
        let deadline = Deadline::within(timeout);
        let mut looks = None;
        loop {
            let left = deadline.left();
            if left.is_zero() {
                return Ok(false);
            }
            let looks = looks.get_or_insert_with(|| Looks::every(SLICE));
            if let Some(found) = protocol::announce(word, |now| !shared.would_pass(now, began)) {
                hook::point("event.announced");
                let timed_out = wait::wait_low(word, found.low_half(), left.min(SLICE));
                hook::point("event.woken");
                shared.check_live(WAIT)?;
                if timed_out || looks.is_due() {
                    shared.check_in_place()?;
                }
            }
            if shared.passes(began) {
                return Ok(true);
            }
        }
    }

    /// The wait ended with something else: a wake that was for somebody goes on.
    pub(super) fn pass_on(&self) {
        let found = State::load(self.word());
        if self.reset == Reset::Auto && found.is_signalled() && found.is_awaited() {
            self.wake();
        }
    }

    /// What sleeps for a wait that began after so many sets.
    pub(super) fn watching(self: &Arc<Self>, began: u64) -> Box<dyn Sleeper> {
        Box::new(Watching {
            shared: self.clone(),
            began,
            told: AtomicU64::new(u64::MAX),
        })
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        self.mapping.word(WORD)
    }

    #[inline]
    fn passing(&self) -> Passing {
        match self.reset {
            Reset::Auto => Passing::One,
            Reset::Manual => Passing::All,
        }
    }

    /// Whether a wait that began after so many sets would end.
    fn would_pass(&self, now: State, began: u64) -> bool {
        now.is_signalled() || (self.reset == Reset::Manual && now.sets() != began)
    }

    /// Ends a wait that began after so many sets, if there is a signal for it.
    pub(super) fn passes(&self, began: u64) -> bool {
        match self.reset {
            Reset::Auto => protocol::consume(self.word()),
            Reset::Manual => self.would_pass(State::load(self.word()), began),
        }
    }

    /// Wakes as many as a signal lets through.
    #[cold]
    fn wake(&self) {
        let word = self.word();
        match self.passing() {
            Passing::All => wait::wake_low(word),
            Passing::One if wait::wake_low_some(word, 1) > 0 => {}
            Passing::One => {
                protocol::quieten(word);
                wait::wake_low(word);
            }
        }
    }

    #[inline]
    pub(super) fn is_live(&self) -> bool {
        self.mapping.word(STATE).load(Ordering::Relaxed) == STATE_LIVE
    }
}

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

/// Whether an event is signalled, for those who only look.
pub(super) fn is_signalled(_: &Space, _: &str, _: &File, word: u64) -> bool {
    State::of(word).is_signalled()
}

/// How often an event was set.
pub(super) fn sets(word: u64) -> u64 {
    State::of(word).sets()
}
