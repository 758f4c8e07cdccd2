//! Objects as files on disk that say where the memory is.
//!
//! The file has the object's name in the space, and the lock bytes; the memory is in sections that
//! live until the last handle on them is closed (see `sys::windows`). A file whose sections are gone
//! is what is left of an object: nobody opens it, and whoever creates the object anew deletes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{BUILDING, Identity, NewFile, REMOVING, Removal, Single, damaged, label};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{HEADER_LEN, STATE, STATE_LIVE, STATE_REMOVED};
use crate::hook;
use crate::integrity::crc64;
use crate::name;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::file::{Facts, File, FileKind, Keepers, PartRecord, RECORD_LEN, Record, rename};
use crate::sys::map::{Mapping, Protection};
use crate::sys::process::Generation;
use crate::sys::security::Descriptor;
use crate::sys::{Errno, lock, random};

/// Beyond all lock bytes of an object's parts: whoever builds the object, and whose turn it is to
/// remove it.
const BUILDER: u64 = 1 << 60;
const TURN: u64 = BUILDER + 1;
/// Shared by all who keep the object: processes of other sessions do not see its memory, and must
/// not take it for what is left of one that is gone.
const ALIVE: u64 = BUILDER + 2;
/// For so long the lock may outlast the memory, while a process ends.
const ENDING: Duration = Duration::from_millis(200);

/// How long a remover waits for its turn. Nobody needs as long, but one may be stopped.
const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// The name of an object in the space's directory. File systems here take `a` and `A` for the same;
/// a checksum of the name tells them apart.
pub(crate) fn file_name(kind: Kind, name: &str) -> String {
    format!("{name}~{:016x}{}", crc64(name.as_bytes(), 0), kind.suffix())
}

/// The object that a file name with this suffix taken off belongs to.
pub(crate) fn object_name(stem: &str) -> Option<&str> {
    let (name, checksum) = stem.rsplit_once('~')?;
    (format!("{:016x}", crc64(name.as_bytes(), 0)) == checksum).then_some(name)
}

/// Where an object is.
pub(crate) struct Place {
    object: String,
    path: PathBuf,
    record: Record,
    keepers: Arc<Keepers>,
}

impl Place {
    pub(crate) fn open(space: &Space, kind: Kind, name: &str) -> Result<Self> {
        let object = label(kind, name);
        space.check()?;
        let path = path(space, kind, name);
        let disk = open_disk(&path, Protection::ReadOnly, &object)?;
        let record = read_record(&disk, &object)?;
        let keepers = Arc::new(keep(&record, disk, &object)?);
        Ok(Self {
            object,
            path,
            record,
            keepers,
        })
    }

    /// Opens one of its files and reads the header, which is not checked yet.
    pub(crate) fn file(
        &self,
        name: &str,
        protection: Protection,
    ) -> Result<(File, Facts, [u8; HEADER_LEN])> {
        let failed = |errno| Error::os("open", &self.object, errno);
        // To take locks, reading is enough.
        let disk = open_disk(&self.path, Protection::ReadOnly, &self.object)?;
        if read_record(&disk, &self.object)? != self.record {
            return Err(failed(Errno::NOENT));
        }
        let is_wanted = |part: &PartRecord| part.name == part_name(name);
        let index = self
            .record
            .parts
            .iter()
            .position(is_wanted)
            .ok_or_else(|| damaged(&self.object, &format!("has a {name} file that is missing")))?;
        let part = self
            .record
            .open_part(index, protection, self.keepers.clone());
        let file = disk.with_part(part.map_err(failed)?);
        let mut header = [0; HEADER_LEN];
        // Maps it.
        let facts = file.facts().map_err(|errno| match errno {
            Errno::FAULT => damaged(&self.object, "has less memory than its file says"),
            errno => failed(errno),
        })?;
        super::read_at(&file, &mut header, 0, &self.object)?;
        Ok((file, facts, header))
    }

    pub(crate) fn into_keepers(self) -> Kept {
        Kept(self.keepers)
    }

    /// As [`file`](Self::file), the one that has the object's state.
    pub(crate) fn main_file(
        &self,
        protection: Protection,
    ) -> Result<(File, Facts, [u8; HEADER_LEN])> {
        self.file(super::MAIN_FILE, protection)
    }

    /// Permissions are made with an object and stay as they are.
    pub(crate) fn restrict(&self, _: &str, _: u64, _: u32) -> Result<()> {
        let cause = "permissions cannot be changed here; remove it and create it anew";
        Err(Error::new(
            ErrorKind::Unsupported,
            "fix",
            &self.object,
            cause,
        ))
    }
}

/// Keeps an object's memory, and says that it lives. `NotFound` when it is gone.
fn keep(record: &Record, disk: File, object: &str) -> Result<Keepers> {
    let failed = |errno| Error::os("open", object, errno);
    let deadline = Deadline::after(ENDING);
    loop {
        match record.keep() {
            Ok(keepers) => {
                // Somebody may just be asking.
                while !lock::try_share(&disk, ALIVE).map_err(failed)? && !deadline.left().is_zero()
                {
                    std::thread::yield_now();
                }
                return Ok(keepers.with_lock(disk));
            }
            Err(Errno::NOENT) if lock::is_locked_or_shared(&disk, ALIVE).map_err(failed)? => {}
            Err(errno) => return Err(failed(errno)),
        }
        if deadline.left().is_zero() {
            let cause = "it lives in another session, or on another computer; remove it there, and create it by SpaceOptions::all_sessions";
            return Err(Error::new(ErrorKind::Unsupported, "open", object, cause));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the object that a file is of lives no more.
fn is_dead(record: &Record, disk: &File) -> bool {
    matches!(record.keep(), Err(Errno::NOENT))
        && lock::is_locked_or_shared(disk, ALIVE) == Ok(false)
}

/// Keeps a new object's memory until it is open.
pub(crate) struct Created {
    _keepers: Keepers,
}

/// What keeps an object's memory.
pub(crate) struct Kept(#[expect(dead_code, reason = "to have it is all")] Arc<Keepers>);

fn part_name(name: &str) -> [u8; 8] {
    let mut padded = [0; 8];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

fn path(space: &Space, kind: Kind, name: &str) -> PathBuf {
    space.path().join(file_name(kind, name))
}

fn open_disk(path: &std::path::Path, protection: Protection, object: &str) -> Result<File> {
    let failed = |errno| Error::os("open", object, errno);
    let disk = File::open(path, protection).map_err(failed)?;
    match disk.kind().map_err(failed)? {
        FileKind::Regular => Ok(disk),
        FileKind::Link => Err(damaged(object, "has a file that is a symbolic link")),
        FileKind::Directory => Err(damaged(object, "has a file that is not a regular file")),
    }
}

fn read_record(disk: &File, object: &str) -> Result<Record> {
    let mut bytes = [0; RECORD_LEN];
    let count = disk.read_disk_at(&mut bytes, 0);
    let count = count.map_err(|errno| Error::os("open", object, errno))?;
    (count == RECORD_LEN)
        .then(|| Record::decode(&bytes))
        .flatten()
        .ok_or_else(|| damaged(object, "has a file that does not say where its memory is"))
}

/// Content is in memory wherever the space is.
pub(crate) fn require_memory(_: &File, _: &str) -> Result<()> {
    Ok(())
}

/// Whether the object's file is still the one with this identity. Where nobody lets us look, or not
/// now, it is taken to be.
pub(crate) fn is_in_place(space: &Space, kind: Kind, name: &str, expected: Identity) -> bool {
    let (object, path) = (label(kind, name), path(space, kind, name));
    let found = open_disk(&path, Protection::ReadOnly, &object)
        .and_then(|disk| read_record(&disk, &object));
    match found {
        Ok(record) => record.identity == expected,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged),
    }
}

/// Makes an object of one file.
pub(super) fn create_single(
    space: &Space,
    kind: Kind,
    name: &str,
    new: NewFile,
) -> Result<Option<Created>> {
    create(space, kind, name, &[new])
}

/// Makes the memory, and then the file under a temporary name, which it moves into place. `Ok(None)`
/// when another process was first. A lock on the file says that its builder is alive.
pub(crate) fn create(
    space: &Space,
    kind: Kind,
    name: &str,
    files: &[NewFile],
) -> Result<Option<Created>> {
    let object = label(kind, name);
    let failed = |errno| match errno {
        Errno::PERM | Errno::ACCESS if space.is_global() => {
            let cause = "memory for all sessions needs the privilege SeCreateGlobalPrivilege, which services and administrators have; get it, or do without SpaceOptions::all_sessions";
            Error::new(ErrorKind::PermissionDenied, "create", &object, cause)
        }
        errno => Error::os("create", &object, errno),
    };
    space.check()?;
    let part = |file: &NewFile| PartRecord {
        name: part_name(file.name),
        len: file.len,
        writers: file.writers,
        readers: file.readers,
    };
    let record = Record {
        identity: (random().map_err(failed)?, random().map_err(failed)?),
        is_global: space.is_global(),
        parts: files.iter().map(part).collect(),
    };
    let mut created: Option<Keepers> = None;
    for (file, part) in files.iter().zip(&record.parts) {
        let content: [(usize, &[u8]); 2] = [(0, &file.header), (STATE, &STATE_LIVE.to_ne_bytes())];
        let keepers = record.create_part(part, file.allocated, &content);
        let keepers = keepers.map_err(failed)?;
        created = Some(match created {
            Some(others) => others.and(keepers),
            None => keepers,
        });
    }
    hook::point("create.directory");
    let Some(keepers) = created else {
        return Err(failed(Errno::INVAL));
    };
    let temporary = space
        .path()
        .join(format!("{BUILDING}{:016x}", random().map_err(failed)?));
    let everybody = files.iter().map(|file| file.writers.max(file.readers));
    let readable = windows_sys::Win32::Storage::FileSystem::FILE_GENERIC_READ;
    let who = Descriptor::new(&[(everybody.max().unwrap_or_default(), readable)]);
    let disk = File::create(&temporary, &who.map_err(failed)?).map_err(failed)?;
    hook::point("create.begun");
    let result = (|| {
        // A sweep that comes before the lock deletes the file; then there is nothing to rename.
        if !lock::try_lock(&disk, BUILDER)? || !lock::try_share(&disk, ALIVE)? {
            return Ok(false);
        }
        disk.write_disk(&record.encode())?;
        hook::point("create.file");
        match rename_soon(&temporary, &path(space, kind, name)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOENT) => Ok(false),
            // A directory has the name, or somebody else's file that is just being deleted.
            Err(Errno::ACCESS) if path(space, kind, name).exists() => Ok(false),
            Err(errno) => Err(errno),
        }
    })();
    hook::point("create.renamed");
    if !result
        .map_err(failed)
        .inspect_err(|_| discard(&temporary))?
    {
        discard(&temporary);
        return Ok(None);
    }
    let _keepers = keepers.with_lock(disk);
    Ok(Some(Created { _keepers }))
}

fn discard(temporary: &std::path::Path) {
    let _ = std::fs::remove_file(temporary);
}

/// Moves a new file into place. Programs that look at every new file may have it open for a moment.
fn rename_soon(from: &std::path::Path, to: &std::path::Path) -> std::result::Result<(), Errno> {
    let deadline = Deadline::after(Duration::from_millis(50));
    loop {
        match rename(from, to) {
            Err(Errno::ACCESS | Errno::SHARED) if !to.exists() && !deadline.left().is_zero() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// Removes an object. `close` makes sure of the open file that nobody uses it in a way that forbids
/// that; `mark` is told of the main file's memory after that is marked as removed, `wake` when the
/// name is free.
pub(crate) fn remove(
    space: &Space,
    kind: Kind,
    name: &str,
    removal: Removal,
    close: impl FnOnce(&File) -> Result<()>,
    mark: impl FnOnce(&Mapping),
    wake: impl FnOnce(&Mapping),
) -> Result<()> {
    name::check("remove", name)?;
    let object = label(kind, name);
    let failed = |errno| Error::os("remove", &object, errno);
    space.check()?;
    let path = path(space, kind, name);
    let found = File::open(&path, Protection::ReadOnly).map_err(failed)?;
    match found.kind().map_err(failed)? {
        FileKind::Regular => {}
        // No object, but it has an object's name.
        _ if removal == Removal::Finish => return Ok(()),
        FileKind::Directory => {
            return std::fs::remove_dir_all(&path)
                .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        }
        FileKind::Link => {}
    }
    drop(found);
    let disk = open_in_turn(&path, &object)?;
    let opened = Place::open(space, kind, name)
        .and_then(|place| place.main_file(Protection::ReadWrite))
        .and_then(|(file, facts, _)| {
            let (writable, generation) = (Protection::ReadWrite, Generation::current());
            let generation = generation.map_err(failed)?;
            let len = usize::try_from(facts.len).unwrap_or(0);
            let inheritance = crate::sys::map::Inheritance::Child;
            let mapping = Mapping::new(&file, len, writable, inheritance, generation);
            Ok((file, mapping.map_err(failed)?))
        });
    let opened = match opened {
        Ok(opened) => Some(opened),
        // What it was made of is gone, or it is damaged.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => None,
        Err(error) => return Err(error.during("remove")),
    };
    let is_gone =
        opened.is_none() && read_record(&disk, &object).is_ok_and(|record| is_dead(&record, &disk));
    let state = opened.as_ref().map(|(_, mapping)| mapping.word(STATE));
    let was = state.map(|state| state.load(Ordering::Relaxed));
    if removal == Removal::Finish && was != Some(STATE_REMOVED) && !is_gone {
        return Ok(());
    }
    if let Some((file, mapping)) = &opened {
        close(file).map_err(|error| error.on(&object))?;
        mapping.word(STATE).store(STATE_REMOVED, Ordering::Release);
        mark(mapping);
    }
    hook::point("remove.marked");
    // As long as somebody has the deleted file open, its name is taken: so it gets another one.
    let hidden = space
        .path()
        .join(format!("{REMOVING}{:016x}", random().map_err(failed)?));
    rename(&path, &hidden).map_err(failed)?;
    hook::point("remove.renamed");
    let _ = std::fs::remove_file(&hidden);
    hook::point("remove.deleted");
    if let Some((_, mapping)) = &opened {
        wake(mapping);
    }
    match removal {
        Removal::Start if is_gone => Err(failed(Errno::NOENT)),
        _ => Ok(()),
    }
}

impl Single {
    /// Removes the object. `close` makes sure of the open file that nobody uses it in a way that
    /// forbids that; `wake` wakes those who wait in it.
    pub(crate) fn remove(
        self,
        space: &Space,
        name: &str,
        removal: Removal,
        close: impl FnOnce(&File) -> Result<()>,
        wake: impl FnOnce(&Mapping),
    ) -> Result<()> {
        remove(space, self.kind, name, removal, close, |_| {}, wake)
    }
}

/// Opens an object's file and waits for the turn among those who remove it, so that none removes a
/// successor of what it looked at. The turn ends when the file is closed.
fn open_in_turn(path: &std::path::Path, object: &str) -> Result<File> {
    let deadline = Deadline::after(TURN_PATIENCE);
    let failed = |errno| Error::os("remove", object, errno);
    loop {
        let disk = File::open_to_remove(path).map_err(failed)?;
        if lock::try_lock(&disk, TURN).map_err(failed)? {
            let ours = disk.facts().map_err(failed)?.identity;
            let now = File::open(path, Protection::ReadOnly).and_then(|now| now.facts());
            return match now.map_err(failed)?.identity {
                identity if identity == ours => Ok(disk),
                _ => Err(failed(Errno::NOENT)),
            };
        }
        drop(disk);
        if deadline.left().is_zero() {
            let cause = "another process is removing it and does not come to an end; continue or end that process";
            return Err(Error::new(ErrorKind::Conflict, "remove", object, cause));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Deletes what its builder or remover left behind, unless that process is alive.
pub(crate) fn sweep(space: &Space, temporary: &str) -> Result<()> {
    let failed = |errno| Error::os("fix", temporary, errno);
    let path = space.path().join(temporary);
    let file = match File::open(&path, Protection::ReadOnly) {
        Err(Errno::NOENT) => return Ok(()),
        file => file.map_err(failed)?,
    };
    if !lock::try_lock(&file, BUILDER).map_err(failed)? {
        return Ok(());
    }
    std::fs::remove_file(&path)
        .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// Whether the process that builds or removes this is gone.
pub(crate) fn is_stale(space: &Space, temporary: &str) -> bool {
    File::open(&space.path().join(temporary), Protection::ReadOnly)
        .and_then(|file| lock::is_locked_or_shared(&file, BUILDER))
        .is_ok_and(|is_alive| !is_alive)
}

/// Whether an object's file is all that is left of it.
pub(crate) fn is_gone(space: &Space, kind: Kind, name: &str) -> bool {
    let (object, path) = (label(kind, name), path(space, kind, name));
    open_disk(&path, Protection::ReadOnly, &object)
        .is_ok_and(|disk| read_record(&disk, &object).is_ok_and(|record| is_dead(&record, &disk)))
}
