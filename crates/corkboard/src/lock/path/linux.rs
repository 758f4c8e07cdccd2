//! Lock files on Linux's file systems.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::Access;
use super::super::bells::Bell;
use super::super::layout::LISTENERS;
use super::{AtPath, object};
use crate::error::{Error, ErrorKind, Result};
use crate::object::{FOUND_FILE, NEW_FILE, file_limit_below, identity};
use crate::sys::file::File;
use crate::sys::lock;
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::{Generation, ParentsFile};
use crate::sys::wait::{self, Sleep};

pub(crate) use crate::object::is_at;

/// The first page of a lock file, where this computer's processes wake each other. Anybody may cut
/// the file short, so only the kernel touches it.
pub(crate) struct Page(Mapping);

impl Page {
    fn place(&self, bell: Bell) -> *const u32 {
        let at = PAGE_BELLS + 4 * bell as usize;
        self.0.bytes(at, 4).cast_const().cast()
    }

    /// Says that somebody may sleep until the bell is rung, and returns what it shows now.
    pub(crate) fn announce(&self, file: &File, bell: Bell) -> std::result::Result<u32, Errno> {
        let mut rung = [0; 4];
        let at = PAGE_BELLS + 4 * bell as usize;
        let _ = file.read_at(&mut rung, at as u64)?;
        // The kernel's lock is a fence, and is gone when its holder is.
        lock::try_share(file, LISTENERS + bell as u64)?;
        Ok(u32::from_ne_bytes(rung))
    }

    /// Takes the announcement down.
    pub(crate) fn retract(&self, file: &File, bell: Bell) {
        let _ = lock::unlock(file, LISTENERS + bell as u64);
    }

    /// Sleeps until the bell is rung, `slice` at most; `false` when that is impossible.
    pub(crate) fn sleep(&self, bell: Bell, rung: u32, slice: Duration) -> bool {
        wait::wait_untouched(self.place(bell), rung, slice) != Sleep::Impossible
    }

    /// Wakes whoever sleeps.
    pub(crate) fn ring(&self, file: &File, bell: Bell) {
        if lock::is_locked_or_shared(file, LISTENERS + bell as u64) != Ok(true) {
            return;
        }
        // Somebody may have put other content there: then the bell stays as it is, and who is
        // about to sleep wakes after a slice.
        match begins_as_page(file) {
            Ok(true) => wait::bump_and_wake_untouched(self.place(bell)),
            _ => wait::wake_untouched(self.place(bell)),
        }
    }
}

/// Whether the file begins as a lock file's page does.
fn begins_as_page(file: &File) -> std::result::Result<bool, Errno> {
    let mut begin = [0; PAGE.len()];
    let count = file.read_at(&mut begin, 0)?;
    Ok(begin[..count] == PAGE[..])
}

/// In a page: where the bells are.
const PAGE_BELLS: usize = 64;
/// How a page begins.
const PAGE: &[u8; 64] = b"corkboard lock file, version 1. Its bytes say who waits.       \n";
const PAGE_LEN: usize = 4096;

const _: () = assert!(PAGE.len() == PAGE_BELLS);

/// Opens the file at the path, creating it when absent.
pub(crate) fn open(path: &Path, access: Access) -> Result<AtPath> {
    let failed = |errno| Error::os("open", object(path), errno);
    let generation = Generation::current().map_err(failed)?;
    let (file, (stat, is_writable, page)) = ParentsFile::open(generation, || {
        let (file, is_writable) = open_or_create(path, access)?;
        let stat = fs::fstat(&file).map_err(failed)?;
        check_regular(path, &stat)?;
        let kind = FileSystem::of(&file).map_err(failed)?;
        if let Some(option) = kind.keeps_locks_to_itself(&stat) {
            let cause = format!(
                "its mount has the option {option}, so other computers would not see the lock; mount it without"
            );
            return Err(Error::new(
                ErrorKind::Unsupported,
                "open",
                object(path),
                cause,
            ));
        }
        let is_page = kind == FileSystem::Local && is_page(&file).map_err(failed)?;
        let page = match is_page {
            true => map_page(path, &stat, is_writable, generation),
            false => None,
        };
        Ok((file, (stat, is_writable, page)))
    })?;
    Ok(AtPath {
        page,
        file,
        identity: identity(&stat),
        is_writable,
    })
}

/// Maps the page through a description of its own: a mapping keeps its description open, and with
/// it all locks, when the program closes the descriptor.
fn map_page(
    path: &Path,
    stat: &fs::Stat,
    is_writable: bool,
    generation: Generation,
) -> Option<Page> {
    let (access, protection) = match is_writable {
        true => (OFlags::RDWR, Protection::ReadWrite),
        false => (OFlags::RDONLY, Protection::ReadOnly),
    };
    let file = fs::openat(CWD, path, FOUND_FILE | access, Mode::empty()).ok()?;
    if identity(&fs::fstat(&file).ok()?) != identity(stat) {
        return None;
    }
    let never = Inheritance::Never;
    let mapping = Mapping::new(&file.into(), PAGE_LEN, protection, never, generation);
    mapping.ok().map(Page)
}

fn open_or_create(path: &Path, access: Access) -> Result<(File, bool)> {
    let failed = |errno| match errno {
        Errno::LOOP => {
            let cause = "it is a symbolic link; name the file itself";
            Error::new(ErrorKind::Untrusted, "open", object(path), cause)
        }
        Errno::NOENT => {
            let cause = "its directory does not exist; create it";
            Error::new(ErrorKind::NotFound, "open", object(path), cause)
        }
        errno => Error::os("open", object(path), errno),
    };
    for _ in 0..1000 {
        // Before it is opened, which does something to a device.
        match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => check_regular(path, &stat)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match fs::openat(CWD, path, FOUND_FILE | OFlags::RDWR, Mode::empty()) {
            Ok(file) => return Ok((file.into(), true)),
            Err(Errno::NOENT) => {}
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                let file = fs::openat(CWD, path, FOUND_FILE | OFlags::RDONLY, Mode::empty());
                return Ok((file.map_err(failed)?.into(), false));
            }
            Err(errno) => return Err(failed(errno)),
        }
        let created = match create_whole(path, access) {
            Ok(file) => Ok(file),
            Err(Errno::EXIST) => Err(Errno::EXIST),
            // Not every file system has files without names, or gives them one.
            Err(_) => create_empty(path, access),
        };
        match created {
            Ok(file) => return Ok((file.into(), true)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    let cause = "it is deleted as fast as it is created; find out by whom";
    Err(Error::new(ErrorKind::Conflict, "open", object(path), cause))
}

/// Makes a file with a page in it and gives it its name when it is whole, so that nobody ever
/// takes a file with something else in it for one that is to be filled.
fn create_whole(path: &Path, access: Access) -> std::result::Result<OwnedFd, Errno> {
    let directory = path.parent().ok_or(Errno::ISDIR)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = fs::openat(CWD, directory, flags, Mode::from_raw_mode(0o600))?;
    // What wakes those who wait is of use among processes of one computer only.
    if FileSystem::of(&file)? == FileSystem::Local {
        // Without a page it works as well.
        if file_limit_below(PAGE_LEN).is_some() {
            return Err(Errno::FBIG);
        }
        rustix::io::pwrite(&file, PAGE, 0)?;
        fs::ftruncate(&file, PAGE_LEN as u64)?;
    }
    fs::fchmod(&file, Mode::from_raw_mode(access.mode_bits(0o6)))?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// Makes an empty file, which has no page and never gets one.
fn create_empty(path: &Path, access: Access) -> std::result::Result<OwnedFd, Errno> {
    let file = fs::openat(CWD, path, NEW_FILE, Mode::from_raw_mode(0o600))?;
    if access != Access::Owner {
        fs::fchmod(&file, Mode::from_raw_mode(access.mode_bits(0o6)))?;
    }
    Ok(file)
}

fn check_regular(path: &Path, stat: &fs::Stat) -> Result<()> {
    let (kind, cause) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => (
            ErrorKind::Untrusted,
            "it is a symbolic link; name the file itself",
        ),
        FileType::Directory => (
            ErrorKind::Unsupported,
            "it is a directory; name a file in it",
        ),
        _ => (
            ErrorKind::Unsupported,
            "it is not a regular file; name another path",
        ),
    };
    Err(Error::new(kind, "open", object(path), cause))
}

fn is_page(file: &File) -> std::result::Result<bool, Errno> {
    Ok(fs::fstat(file)?.st_size >= PAGE_LEN as i64 && begins_as_page(file)?)
}

/// Who else may see a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FileSystem {
    /// Processes of this computer, through the same pages.
    Local,
    Nfs,
    Smb,
    /// Other computers, or nobody knows: no page is shared.
    Other,
}

impl FileSystem {
    fn of(file: impl AsFd) -> std::result::Result<Self, Errno> {
        Ok(Self::from_magic(
            fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF,
        ))
    }

    /// By the numbers of `statfs(2)`. Only those are local that are known to be.
    fn from_magic(magic: u64) -> Self {
        match magic {
            0x6969 => Self::Nfs,
            0xFE53_4D42 | 0xFF53_4D42 | 0x517B => Self::Smb,
            // tmpfs, ramfs, ext, XFS, Btrfs, F2FS, overlay, ZFS, bcachefs, hugetlbfs is none.
            0x0102_1994 | 0x8584_58F6 | 0xEF53 | 0x5846_5342 | 0x9123_683E | 0xF2F5_2010
            | 0x794C_7630 | 0x2FC1_2FC1 | 0xCA45_1A4E => Self::Local,
            _ => Self::Other,
        }
    }

    /// The mount option that keeps locks from the server, if the file's mount has one.
    fn keeps_locks_to_itself(self, stat: &fs::Stat) -> Option<&'static str> {
        let options: &[&str] = match self {
            Self::Nfs => &["nolock", "local_lock=all", "local_lock=posix"],
            Self::Smb => &["nobrl"],
            Self::Local | Self::Other => return None,
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let (major, minor) = (fs::major(stat.st_dev), fs::minor(stat.st_dev));
        mount_option(&mounts, &format!("{major}:{minor}"), options)
    }
}

/// The first of `wanted` among the options of the mount of this device, see
/// `proc_pid_mountinfo(5)`.
fn mount_option(mounts: &str, device: &str, wanted: &[&'static str]) -> Option<&'static str> {
    let of_device = |line: &&str| line.split(' ').nth(2) == Some(device);
    let line = mounts.lines().find(of_device)?;
    let (mount, file_system) = line.split_once(" - ")?;
    let options = [mount.split(' ').nth(5), file_system.split(' ').nth(2)];
    let has = |wanted: &&&str| {
        let mut all = options.iter().flatten().flat_map(|list| list.split(','));
        all.any(|option| option == **wanted)
    };
    wanted.iter().find(has).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_keep_locks_to_themselves_are_recognised() {
        let mounts = "\
22 1 0:20 / /proc rw,nosuid - proc proc rw
40 22 0:51 / /mnt/a rw,relatime shared:9 - nfs4 server:/a rw,vers=4.2,local_lock=none
41 22 0:52 / /mnt/b rw,relatime - nfs server:/b rw,vers=3,nolock,local_lock=all
";
        let options = ["nolock", "local_lock=all"];
        assert_eq!(mount_option(mounts, "0:51", &options), None);
        assert_eq!(mount_option(mounts, "0:52", &options), Some("nolock"));
        assert_eq!(mount_option(mounts, "0:53", &options), None);
    }

    #[test]
    fn file_systems_of_other_computers_are_not_local() {
        assert_eq!(FileSystem::from_magic(0x0102_1994), FileSystem::Local);
        assert_eq!(FileSystem::from_magic(0x6969), FileSystem::Nfs);
        assert_eq!(FileSystem::from_magic(0xFE53_4D42), FileSystem::Smb);
        // FUSE, 9P: nobody knows.
        assert_eq!(FileSystem::from_magic(0x6573_5546), FileSystem::Other);
        assert_eq!(FileSystem::from_magic(0x0102_1997), FileSystem::Other);
    }
}
