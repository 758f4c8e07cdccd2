//! Lock files on Windows' file systems, also those of other computers.

use std::path::Path;
use std::time::Duration;

use super::super::Access;
use super::super::bells::{Bell, bell_words, ring_words};
use super::super::protocol;
use super::{AtPath, object};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::{File, FileKind, hints};
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, ParentsFile};
use crate::sys::security::Descriptor;
use crate::sys::{Errno, wait};

/// Memory beside a lock file, where this session's processes wake each other.
pub(crate) struct Page(Mapping);

impl Page {
    /// Says that somebody may sleep until the bell is rung, and returns what it shows now.
    pub(crate) fn announce(&self, _: &File, bell: Bell) -> std::result::Result<u32, Errno> {
        let [rung, listening] = bell_words(&self.0, bell);
        let ticket = protocol::ticket(rung);
        protocol::announce(listening);
        Ok(ticket)
    }

    /// Whoever rings takes the announcement down.
    pub(crate) fn retract(&self, _: &File, _: Bell) {}

    /// Sleeps until the bell is rung, `slice` at most.
    pub(crate) fn sleep(&self, bell: Bell, rung: u32, slice: Duration) -> bool {
        let [word, _] = bell_words(&self.0, bell);
        wait::wait_low(word, rung, slice);
        true
    }

    /// Wakes whoever sleeps.
    pub(crate) fn ring(&self, _: &File, bell: Bell) {
        ring_words(&self.0, bell);
    }
}

/// How many bytes of hints there are.
const PAGE_LEN: usize = 4096;

/// Opens the file at the path, creating it when absent.
pub(crate) fn open(path: &Path, access: Access) -> Result<AtPath> {
    let failed = |errno| Error::os("open", object(path), errno);
    let generation = Generation::current().map_err(failed)?;
    let (file, (facts, is_writable, page)) = ParentsFile::open(generation, || {
        let (file, is_writable) = open_or_create(path, access)?;
        let facts = file.facts().map_err(failed)?;
        // Without hints one looks again after a while.
        let page = hints(&file, PAGE_LEN, access).and_then(|hints| {
            let (writable, never) = (Protection::ReadWrite, Inheritance::Never);
            Mapping::new(&hints, PAGE_LEN, writable, never, generation)
        });
        Ok((file, (facts, is_writable, page.ok().map(Page))))
    })?;
    Ok(AtPath {
        file,
        page,
        identity: facts.identity,
        is_writable,
    })
}

fn open_or_create(path: &Path, access: Access) -> Result<(File, bool)> {
    let failed = |errno| match errno {
        Errno::NOENT => {
            let cause = "its directory does not exist; create it";
            Error::new(ErrorKind::NotFound, "open", object(path), cause)
        }
        errno => Error::os("open", object(path), errno),
    };
    for _ in 0..1000 {
        let opened = match File::open(path, Protection::ReadWrite) {
            Ok(file) => Ok((file, true)),
            Err(Errno::ACCESS | Errno::ROFS) => {
                File::open(path, Protection::ReadOnly).map(|file| (file, false))
            }
            Err(errno) => Err(errno),
        };
        match opened {
            Ok((file, is_writable)) => {
                check_regular(path, file.kind().map_err(failed)?)?;
                return Ok((file, is_writable));
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let write = windows_sys::Win32::Storage::FileSystem::FILE_GENERIC_READ
            | windows_sys::Win32::Storage::FileSystem::FILE_GENERIC_WRITE;
        let who = Descriptor::new(&[(access, write)]).map_err(failed)?;
        match File::create(path, &who) {
            Ok(file) => return Ok((file, true)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    let cause = "it is deleted as fast as it is created; find out by whom";
    Err(Error::new(ErrorKind::Conflict, "open", object(path), cause))
}

fn check_regular(path: &Path, kind: FileKind) -> Result<()> {
    let (kind, cause) = match kind {
        FileKind::Regular => return Ok(()),
        FileKind::Link => (
            ErrorKind::Untrusted,
            "it is a symbolic link; name the file itself",
        ),
        FileKind::Directory => (
            ErrorKind::Unsupported,
            "it is a directory; name a file in it",
        ),
    };
    Err(Error::new(kind, "open", object(path), cause))
}

/// Whether the file at the path is the one with this identity. Where nobody lets us look, it is
/// taken to be.
pub(crate) fn is_at(path: &Path, expected: crate::object::Identity) -> bool {
    match File::open(path, Protection::ReadOnly).and_then(|file| file.facts()) {
        Ok(facts) => facts.identity == expected,
        Err(errno) => errno != Errno::NOENT,
    }
}
