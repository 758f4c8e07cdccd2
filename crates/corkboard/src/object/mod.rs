//! Objects as files: opened without following links, created by one rename, removed for good.
//!
//! A board has several files (see `board::files`); a lock or an event has one. What both need is
//! here, and what one file needs. What an object is made of is up to the platform:
//!
//! - Linux: a directory, or one file, in memory.
//! - Windows: one file on disk that says where the memory is.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod unsupported;
#[cfg(windows)]
mod windows;

use std::fmt::Debug;
use std::time::Duration;

use crate::access::Access;
use crate::clock::{Deadline, wall_ns};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{HEADER_LEN, Header, STATE, STATE_LIVE, STATE_REMOVED};
use crate::name;
use crate::space::{Kind, Space};
use crate::sys::file::{Facts, File};
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::watch::Watch;
use crate::sys::{Errno, random};

#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) use unsupported::*;
#[cfg(windows)]
pub(crate) use windows::*;

pub(crate) use crate::sys::file::Identity;

/// What is being built begins with this.
pub(crate) const BUILDING: &str = ".new-";
/// What is being taken apart begins with this.
pub(crate) const REMOVING: &str = ".old-";

/// How errors name an object.
pub(crate) fn label(kind: Kind, name: &str) -> String {
    format!("{kind} {name:?}")
}

/// So many bytes of memory at most are made up for that an object of one file had once and has no
/// more. Who opens a file that claims much more than it has must not be who pays for it.
const MAX_HOLES: u64 = 1 << 20;

/// Which object a removal is meant for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Whatever has the name.
    Start,
    /// Only one whose remover died before it had freed the name.
    Finish,
}

/// Fills `buffer` from the file, or says that the file is too short.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: usize, object: &str) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], (offset + done) as u64) {
            Ok(0) => return Err(damaged(object, "has a file that ends too early")),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("read", object, errno)),
        }
    }
    Ok(())
}

/// As [`read_at`], in words.
pub(crate) fn read_words_at(
    file: &File,
    words: &mut [u64],
    offset: usize,
    object: &str,
) -> Result<()> {
    let mut bytes = vec![0; words.len() * 8];
    read_at(file, &mut bytes, offset, object)?;
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(())
}

/// Refuses an object that somebody is removing.
pub(crate) fn check_live(main: &File, object: &str) -> Result<()> {
    let mut state = [0];
    read_words_at(main, &mut state, STATE, object)?;
    match state[0] {
        STATE_LIVE => Ok(()),
        STATE_REMOVED => Err(Error::new(
            ErrorKind::NotFound,
            "open",
            object,
            "it is being removed; remove it again if that does not end",
        )),
        _ => Err(damaged(object, "has an impossible state")),
    }
}

pub(crate) fn damaged(object: &str, what: &str) -> Error {
    let cause = format!("it {what}; remove it and create it anew");
    Error::new(ErrorKind::Damaged, "open", object, cause)
}

/// Whether a remover marked the object and did not free its name.
pub(crate) fn is_marked_removed(space: &Space, kind: Kind, name: &str) -> bool {
    let state = || -> Result<u64> {
        let object = label(kind, name);
        let (file, ..) = Place::open(space, kind, name)?.main_file(Protection::ReadOnly)?;
        let mut state = [0];
        read_words_at(&file, &mut state, STATE, &object)?;
        Ok(state[0])
    };
    state().is_ok_and(|state| state == STATE_REMOVED)
}

/// Compares what options set with what an existing object has.
pub(crate) struct Adoption {
    kind: Kind,
    /// The first that differs.
    difference: Option<String>,
}

impl Adoption {
    pub(crate) fn of(kind: Kind) -> Self {
        let difference = None;
        Self { kind, difference }
    }

    /// One option: what is left unset adopts what there is.
    pub(crate) fn compare<T: PartialEq + Debug>(
        mut self,
        what: &str,
        wanted: Option<T>,
        found: T,
    ) -> Self {
        let differs = wanted.filter(|wanted| *wanted != found);
        if let (None, Some(wanted)) = (&self.difference, differs) {
            self.difference = Some(format!(
                "it has {what} {found:?}, not {wanted:?}; leave that unset to adopt it, or remove the {}",
                self.kind
            ));
        }
        self
    }

    pub(crate) fn check(self, name: &str) -> Result<()> {
        let Some(cause) = self.difference else {
            return Ok(());
        };
        let object = label(self.kind, name);
        Err(Error::new(ErrorKind::Incompatible, "open", object, cause))
    }
}

/// Tries again while somebody else creates or removes the object at the same time.
///
/// `open` says `NotFound` when there is none, `create` returns `None` when another process was
/// first, `finish` removes one whose remover died.
pub(crate) fn create_or_open<T>(
    object: &str,
    open: impl Fn() -> Result<T>,
    create: impl Fn() -> Result<Option<Created>>,
    finish: impl Fn() -> Result<()>,
) -> Result<T> {
    let mut _created = None;
    for _ in 0..1000 {
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        _created = create()?;
        if _created.is_none() {
            // Taken: by another creator, or by an object whose remover died.
            match finish() {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    let cause = "it is removed as fast as it is created; find out by whom";
    Err(Error::new(ErrorKind::Conflict, "create", object, cause))
}

/// Opens an object, waiting for its creation: `NotFound` when it is still absent after `timeout`.
pub(crate) fn await_creation<T>(
    space: &Space,
    timeout: Duration,
    open: impl Fn() -> Result<T>,
) -> Result<T> {
    let deadline = Deadline::after(timeout);
    let mut watch = None;
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let left = deadline.left();
                if left.is_zero() {
                    return Err(error);
                }
                match &watch {
                    // Look once more after the watch began.
                    None => watch = Some(Watch::new(space.path())),
                    Some(watch) => watch.wait(left),
                }
            }
            result => return result,
        }
    }
}

/// An object that is one file.
#[derive(Clone, Copy)]
pub(crate) struct Single {
    pub(crate) kind: Kind,
    /// The role in its header.
    pub(crate) role: u64,
    /// The file's length in bytes.
    pub(crate) len: usize,
    /// The bytes at its beginning that have memory from the start.
    pub(crate) allocated: usize,
}

/// An object of one file, open.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) facts: Facts,
    pub(crate) header: Header,
}

/// A file to be made.
pub(crate) struct NewFile {
    /// What it is called beside an object's other files.
    pub(crate) name: &'static str,
    pub(crate) header: [u8; HEADER_LEN],
    pub(crate) len: usize,
    /// The bytes at its beginning that have memory from the start.
    pub(crate) allocated: usize,
    /// Who may read and write it.
    pub(crate) writers: Access,
    /// Who else may read it.
    pub(crate) readers: Access,
}

/// A header's first own word of an object that is one file: when it was created, in nanoseconds
/// since 1970.
pub(crate) const CREATED: usize = 0;

impl Single {
    /// One whose length nobody knows, because its header does not tell: it can only be removed.
    pub(crate) fn damaged(kind: Kind, role: u64) -> Self {
        Self {
            kind,
            role,
            len: 0,
            allocated: 0,
        }
    }

    /// Whether there is much less memory behind the file than when it was made.
    pub(crate) fn lacks_memory(self, facts: &Facts) -> bool {
        (self.allocated as u64).saturating_sub(facts.allocated) > MAX_HOLES
    }

    /// Opens an existing object.
    pub(crate) fn open(self, space: &Space, name: &str, protection: Protection) -> Result<Opened> {
        name::check("open", name)?;
        let object = label(self.kind, name);
        let place = Place::open(space, self.kind, name)?;
        let (file, facts, header) = place.main_file(protection)?;
        let header = Header::decode(&header, self.role, "file", &object)?;
        if facts.len != self.len as u64 {
            return Err(damaged(&object, "has a file of the wrong length"));
        }
        require_memory(&file, &object)?;
        check_live(&file, &object)?;
        if self.lacks_memory(&facts) {
            return Err(damaged(&object, "has a file that lacks memory"));
        }
        Ok(Opened {
            file,
            facts,
            header,
        })
    }

    /// Makes the object under a temporary name and moves it into place. `Ok(None)` when another
    /// process was first.
    pub(crate) fn create(
        self,
        space: &Space,
        name: &str,
        own: &[u64],
        access: Access,
    ) -> Result<Option<Created>> {
        name::check("create", name)?;
        let failed = |errno| Error::os("create", label(self.kind, name), errno);
        let mut header = Header {
            instance: random().map_err(failed)?,
            role: self.role,
            own: [0; _],
        };
        header.own[CREATED] = wall_ns();
        header.own[CREATED + 1..][..own.len()].copy_from_slice(own);
        let file = NewFile {
            name: MAIN_FILE,
            header: header.encode(),
            len: self.len,
            allocated: self.allocated,
            writers: access,
            readers: access,
        };
        create_single(space, self.kind, name, file)
    }

    /// Maps the file for writing, with memory behind what had some from the start: somebody may
    /// have made holes in it.
    pub(crate) fn map(
        self,
        file: &File,
        generation: Generation,
    ) -> std::result::Result<Mapping, Errno> {
        file.allocate(self.allocated)?;
        let (writable, inherit) = (Protection::ReadWrite, Inheritance::Child);
        Mapping::new(file, self.len, writable, inherit, generation)
    }
}

/// The file that has an object's state.
pub(crate) const MAIN_FILE: &str = "data";
