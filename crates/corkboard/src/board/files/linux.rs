//! A board in memory: a directory of three files.

use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use super::super::layout::{Geometry, Role, STATE, STATE_REMOVED};
use super::super::{Access, Options};
use super::{checked, map_bell, mark_gone, mark_latest_gone, new_files};
use crate::error::{Error, Result};
use crate::hook;
use crate::name;
use crate::object::{self, Created, NEW_FILE, REMOVING, Removal};
use crate::object::{check_file_limit, delete, identity, require_memory, write_new_file};
use crate::participants::BELL;
use crate::space::{Kind, Space};
use crate::sync::Ordering;
use crate::sys::file::DIRECTORY;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, no_fork};
use crate::sys::{self, random};

/// Makes the board under a temporary name and moves it into place. `Ok(None)` when another
/// process was first.
pub(crate) fn create(
    space: &Space,
    name: &str,
    geometry: &Geometry,
    options: &Options,
) -> Result<Option<Created>> {
    let object = object::label(Kind::Board, name);
    let failed = |errno| Error::os("create", &object, errno);
    let parent = space.directory()?;
    require_memory(&parent, &object)?;
    let files = new_files(geometry, options);
    let len = files.iter().map(|file| file.len).max().unwrap_or(0);
    check_file_limit(len, "create", &object)?;
    // A child would keep the lock that says that the builder is alive.
    let _no_fork = no_fork();
    let (temporary, directory) =
        object::build(&parent, &object, AtFlags::REMOVEDIR, |temporary| {
            fs::mkdirat(&parent, temporary, Mode::from_raw_mode(0o700))?;
            hook::point("create.begun");
            match fs::openat(&parent, temporary, DIRECTORY, Mode::empty()) {
                Ok(directory) => Ok(Some(directory)),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => {
                    let _ = fs::unlinkat(&parent, temporary, AtFlags::REMOVEDIR);
                    Err(errno)
                }
            }
        })?;
    hook::point("create.directory");
    let result = (|| {
        for new in &files {
            let private = Mode::from_raw_mode(0o600);
            let file = fs::openat(&directory, new.name, NEW_FILE, private).map_err(failed)?;
            write_new_file(&file, new).map_err(failed)?;
            hook::point("create.file");
        }
        let mode = directory_mode(options);
        fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(failed)?;
        match fs::renameat_with(
            &parent,
            &temporary,
            &parent,
            object::file_name(Kind::Board, name),
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => Ok(Some(Created)),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    })();
    hook::point("create.renamed");
    if !matches!(result, Ok(Some(_))) {
        let _ = delete(parent.as_fd(), &temporary);
    }
    result
}

/// Removes the board `name`: attached handles are told, later openers start afresh.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    name::check("remove board", name)?;
    let object = object::label(Kind::Board, name);
    let failed = |errno| Error::os("remove", &object, errno);
    let parent = space.directory()?;
    let visible = object::file_name(Kind::Board, name);
    // Removers take turns, so that none renames a successor of the board it looked at.
    let opened = object::open_in_turn(&object, || {
        match fs::openat(&parent, &visible, DIRECTORY, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) if removal == Removal::Start => Ok(None),
            directory => directory.map(Some),
        }
    });
    let Some((directory, _no_fork)) = opened? else {
        // Not a board, but it has a board's name.
        return fs::unlinkat(&parent, &visible, AtFlags::empty()).map_err(failed);
    };
    let ours = fs::fstat(&directory).map_err(failed)?;
    let now = fs::statat(&parent, &visible, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if identity(&ours) != identity(&now) {
        return Err(failed(Errno::NOENT));
    }
    let data = Role::Data.file_name();
    let mapped = object::open_file(&directory, data, Protection::ReadWrite, &object, data)
        .and_then(|opened| checked(opened, Role::Data, &object))
        .ok()
        .and_then(|(data, _, geometry)| {
            let generation = Generation::current().ok()?;
            let len = geometry.preallocated(Role::Data);
            let (writable, inherit) = (Protection::ReadWrite, Inheritance::Child);
            let whole = Mapping::new(&data, len, writable, inherit, generation)
                .and_then(|mapping| mapping.in_memory(len, writable));
            let mapped = object::whole_or_beginning(whole, &data, generation);
            let (mapping, is_whole) = mapped.ok()?;
            Some((mapping, is_whole, geometry))
        });
    let is_removed = mapped
        .as_ref()
        .is_some_and(|(mapping, ..)| mapping.word(STATE).load(Ordering::Relaxed) == STATE_REMOVED);
    if removal == Removal::Finish && !is_removed {
        return Ok(());
    }
    // Before everybody is told. What can go wrong at the rename is no more than this.
    object::check_removable(parent.as_fd(), &visible, Kind::Board).map_err(failed)?;
    let readers = Role::Readers.file_name();
    let opened = object::open_file(&directory, readers, Protection::ReadWrite, &object, readers);
    let bell = map_bell(opened, &object);
    if let Some((mapping, is_whole, geometry)) = &mapped {
        mapping.word(STATE).store(STATE_REMOVED, Ordering::Release);
        // Pairs with the writer's light fence: it sees the state after what it publishes from now
        // on, and what it published before is marked below.
        sys::barrier::heavy();
        if *is_whole {
            mark_gone(mapping, geometry);
        } else {
            mark_latest_gone(mapping);
        }
    }
    hook::point("remove.marked");
    let hidden = format!("{REMOVING}{:016x}", random().map_err(failed)?);
    fs::renameat_with(&parent, &visible, &parent, &hidden, RenameFlags::NOREPLACE)
        .map_err(failed)?;
    hook::point("remove.renamed");
    let result = delete(parent.as_fd(), &hidden).map_err(failed);
    hook::point("remove.deleted");
    if let Some(mapping) = &bell {
        // By the kernel: readers of the group may cut this file short at any moment.
        sys::wait::bump_and_wake_low_untouched(mapping.bytes(BELL, 8).cast());
    }
    result
}

fn directory_mode(options: &Options) -> u32 {
    let (readers, writers) = options.access();
    let group = |access: Access| access >= Access::Group;
    let everyone = |access: Access| access == Access::Everyone;
    let class = |writers: bool, readers: bool| if writers { 0o7 } else { u32::from(readers) };
    0o700 | class(group(writers), group(readers)) << 3 | class(everyone(writers), everyone(readers))
}
