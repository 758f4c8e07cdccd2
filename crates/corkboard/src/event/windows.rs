//! An event here is the system's own, so that any program can open it: see
//! [`Event::system_name`](super::Event::system_name). A word beside it counts how often it was set
//! through this library.

use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, OpenEventW, ResetEvent, SYNCHRONIZATION_SYNCHRONIZE,
    SetEvent, WaitForSingleObject,
};

use super::layout::{FILE, WORD};
use super::{Reset, SLICE, WAIT, os};
use crate::access::Access;
use crate::clock::{Deadline, Looks};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{STATE, STATE_LIVE};
use crate::hook;
use crate::integrity::crc64;
use crate::object::{self, Identity, Opened};
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::File;
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::security::Descriptor;
use crate::sys::wait::{self, EventSleep, Resets, Target};
use crate::sys::{Errno, owned, wide};
use crate::wait::sealed::Sleeper;

/// What is needed of the system's event: to wait, to set and reset it, and to ask.
const RIGHTS: u32 = SYNCHRONIZATION_SYNCHRONIZE | EVENT_MODIFY_STATE | QUERY_STATE;
const QUERY_STATE: u32 = 1;
/// How often a signal was consumed: beside the word.
const TAKES: usize = WORD + 8;

/// The event, which those who sleep for others keep, too.
pub(super) struct Shared {
    pub(super) space: Space,
    pub(super) name: String,
    pub(super) reset: Reset,
    pub(super) mapping: Mapping,
    pub(super) identity: Identity,
    /// Whether the last look at the event's path found the file gone.
    pub(super) is_deleted: AtomicBool,
    pub(super) system_name: String,
    event: OwnedHandle,
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
        let mapping = FILE.map(&file, Generation).map_err(failed)?;
        let access = Access::of_mode(facts.mode, 0o2);
        let system_name = system_name(space, name, file.is_global());
        let event = open_event(&system_name, reset, access).map_err(failed)?;
        let is_manual = query(&event).map_err(failed)?.kind == Basic::MANUAL;
        if is_manual != (reset == Reset::Manual) {
            let cause = format!(
                "another program has made the system's event {system_name} of the other kind; end that program"
            );
            let object = object::label(Kind::Event, name);
            return Err(Error::new(ErrorKind::Incompatible, "open", object, cause));
        }
        Ok(Self {
            space: space.clone(),
            name: name.to_owned(),
            reset,
            mapping,
            identity: facts.identity,
            is_deleted: AtomicBool::new(false),
            system_name,
            event,
        })
    }

    /// How often it was set, through this library.
    pub(super) fn sets(&self) -> u64 {
        self.word().load(Ordering::Acquire)
    }

    pub(super) fn set(&self) {
        self.word().fetch_add(1, Ordering::AcqRel);
        hook::point("event.set");
        // SAFETY: the handle is an event's, and open.
        unsafe { SetEvent(self.event.as_raw_handle()) };
        // Those who wait for the next set of an event that is signalled, and those whom a reset
        // that follows at once would miss.
        wait::wake_low(self.word());
    }

    pub(super) fn unset(&self) {
        // SAFETY: as above.
        unsafe { ResetEvent(self.event.as_raw_handle()) };
    }

    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let began = self.sets();
        self.check_live(WAIT)?;
        if self.passes(began) {
            return Ok(true);
        }
        let deadline = Deadline::within(timeout);
        let mut looks = Looks::every(SLICE);
        loop {
            let left = deadline.left();
            if left.is_zero() {
                return Ok(false);
            }
            let now = self.sets();
            if self.reset == Reset::Manual && now != began {
                return Ok(true);
            }
            hook::point("event.announced");
            let slept = wait::wait_event(self.word(), now as u32, &self.event, left.min(SLICE));
            hook::point("event.woken");
            if slept == EventSleep::Signalled {
                // Of an auto-reset event, the signal is consumed by this.
                self.count_take();
                return Ok(true);
            }
            self.check_live(WAIT)?;
            if slept == EventSleep::TimedOut || looks.is_due() {
                self.check_in_place()?;
            }
            if self.passes(began) {
                return Ok(true);
            }
        }
    }

    /// Ends a wait that began after so many sets, if there is a signal for it.
    pub(super) fn passes(&self, began: u64) -> bool {
        // SAFETY: the handle is an event's, and open.
        let is_signalled =
            || unsafe { WaitForSingleObject(self.event.as_raw_handle(), 0) == WAIT_OBJECT_0 };
        if is_signalled() {
            self.count_take();
            return true;
        }
        self.reset == Reset::Manual && self.sets() != began
    }

    /// Says that a signal was consumed, so that the next one is news also when another program
    /// sets it, which counts nothing.
    fn count_take(&self) {
        if self.reset == Reset::Auto {
            self.mapping.word(TAKES).fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Changes with every signal that this library sets or consumes.
    fn epoch(&self) -> u64 {
        let takes = self.mapping.word(TAKES).load(Ordering::Acquire);
        self.sets().wrapping_add(takes)
    }

    pub(super) fn is_live(&self) -> bool {
        self.mapping.word(STATE).load(Ordering::Relaxed) == STATE_LIVE
    }

    fn is_signalled(&self) -> bool {
        query(&self.event).is_ok_and(|basic| basic.state != 0)
    }

    fn word(&self) -> &AtomicU64 {
        self.mapping.word(WORD)
    }

    /// The system itself wakes somebody else.
    pub(super) fn pass_on(&self) {}

    /// What sleeps for a wait that began after so many sets.
    pub(super) fn watching(self: &Arc<Self>, began: u64) -> Box<dyn Sleeper> {
        Box::new(Watching {
            shared: self.clone(),
            began,
            told: AtomicU64::new(NEVER),
        })
    }
}

/// What the one who sleeps for an event knows of it.
struct Watching {
    shared: Arc<Shared>,
    /// How often the event had been set when the wait began.
    began: u64,
    /// The epoch in which somebody was told of the present signal.
    told: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Sleeper for Watching {
    fn is_ready(&self) -> bool {
        let shared = &*self.shared;
        if !shared.is_live() {
            return true;
        }
        let sets = shared.sets();
        let is_signalled = shared.is_signalled();
        let is_passed = shared.reset == Reset::Manual && sets != self.began;
        if !is_signalled && !is_passed {
            // The next signal is news, also when it comes from another program.
            self.told.store(NEVER, Ordering::Relaxed);
            return false;
        }
        self.told.load(Ordering::Relaxed) != shared.epoch()
    }

    fn announce(&self) -> Option<(Target<'_>, Duration)> {
        if self.is_ready() {
            return None;
        }
        let shared = &*self.shared;
        let target = if self.told.load(Ordering::Relaxed) == NEVER {
            let resets = match shared.reset {
                Reset::Auto => Resets::Itself,
                Reset::Manual => Resets::ByHand,
            };
            Target::event(&shared.event, resets)
        } else {
            // Its signal is told, and would end every sleep.
            Target::new(shared.word(), shared.sets() as u32)
        };
        Some((target, SLICE))
    }

    fn acknowledge(&self) {
        self.told.store(self.shared.epoch(), Ordering::Relaxed);
    }

    fn is_gone(&self) -> bool {
        !self.shared.is_live()
    }

    fn is_in_place(&self) -> bool {
        self.shared.check_in_place().is_ok()
    }
}

/// Whether an event is signalled, for those who only look.
pub(super) fn is_signalled(space: &Space, name: &str, file: &File, _: u64) -> bool {
    let name = wide(system_name(space, name, file.is_global()));
    // SAFETY: the name lives until the call returns; the handle is ours.
    let event = unsafe { owned(OpenEventW(QUERY_STATE, 0, name.as_ptr())) };
    let basic = event.and_then(|event| query(&event));
    basic.is_ok_and(|basic| basic.state != 0)
}

/// How often an event was set, through this library.
pub(super) fn sets(word: u64) -> u64 {
    word
}

/// What the system calls an event. Spaces with different directories have different events,
/// whichever way their paths are written.
fn system_name(space: &Space, name: &str, is_global: bool) -> String {
    let path = std::fs::canonicalize(space.path());
    let path = path.unwrap_or_else(|_| space.path().to_owned());
    let directory = path.to_string_lossy().to_lowercase();
    let sessions = if is_global { "Global" } else { "Local" };
    let space = crc64(directory.as_bytes(), 0);
    format!("{sessions}\\corkboard-event-{space:016x}-{name}")
}

fn open_event(name: &str, reset: Reset, access: Access) -> std::result::Result<OwnedHandle, Errno> {
    let (name, who) = (wide(name), Descriptor::new(&[(access, RIGHTS)])?);
    let is_manual = i32::from(reset == Reset::Manual);
    // SAFETY: name and descriptor live until the calls return; the handles are ours.
    unsafe {
        match owned(CreateEventW(&who.attributes(), is_manual, 0, name.as_ptr())) {
            // Another user's, who lets us do what is needed and no more.
            Err(Errno::ACCESS) => owned(OpenEventW(RIGHTS, 0, name.as_ptr())),
            event => event,
        }
    }
}

/// What the system says of an event without changing it.
#[repr(C)]
#[derive(Default)]
struct Basic {
    kind: i32,
    state: i32,
}

impl Basic {
    const MANUAL: i32 = 0;
}

fn query(event: &OwnedHandle) -> std::result::Result<Basic, Errno> {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtQueryEvent(
            event: *mut std::ffi::c_void,
            class: i32,
            information: *mut Basic,
            len: u32,
            written: *mut u32,
        ) -> i32;
    }
    let mut basic = Basic::default();
    let len = size_of::<Basic>() as u32;
    // SAFETY: the handle is an event's, and open; the call fills in the structure, of this length.
    let status = unsafe {
        NtQueryEvent(
            event.as_raw_handle(),
            0,
            &raw mut basic,
            len,
            std::ptr::null_mut(),
        )
    };
    match status {
        0 => Ok(basic),
        _ => Err(Errno::ACCESS),
    }
}
