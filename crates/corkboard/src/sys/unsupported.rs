//! No system that this library knows: files and mappings have no values, and whatever asks for one is
//! refused. See `crate::unsupported`.

use std::io;

// Neither asks the system for anything.
#[path = "windows/barrier.rs"]
pub(crate) mod barrier;
#[path = "windows/process.rs"]
pub(crate) mod process;

/// What the system says when it refuses, by the names that the rest of the crate knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(io::ErrorKind);

impl Errno {
    pub(crate) const ACCESS: Self = Self(io::ErrorKind::PermissionDenied);
    pub(crate) const AGAIN: Self = Self(io::ErrorKind::WouldBlock);
    pub(crate) const BADF: Self = Self(io::ErrorKind::InvalidData);
    pub(crate) const DQUOT: Self = Self(io::ErrorKind::QuotaExceeded);
    pub(crate) const EXIST: Self = Self(io::ErrorKind::AlreadyExists);
    pub(crate) const FAULT: Self = Self(io::ErrorKind::UnexpectedEof);
    pub(crate) const FBIG: Self = Self(io::ErrorKind::FileTooLarge);
    pub(crate) const INTR: Self = Self(io::ErrorKind::Interrupted);
    pub(crate) const INVAL: Self = Self(io::ErrorKind::InvalidInput);
    pub(crate) const IO: Self = Self(io::ErrorKind::Other);
    pub(crate) const LOOP: Self = Self(io::ErrorKind::NotSeekable);
    pub(crate) const NOENT: Self = Self(io::ErrorKind::NotFound);
    pub(crate) const NOLCK: Self = Self(io::ErrorKind::ResourceBusy);
    pub(crate) const NOMEM: Self = Self(io::ErrorKind::OutOfMemory);
    pub(crate) const NOSPC: Self = Self(io::ErrorKind::StorageFull);
    pub(crate) const NOSYS: Self = Self(io::ErrorKind::Unsupported);
    pub(crate) const OPNOTSUPP: Self = Self::NOSYS;
    pub(crate) const PERM: Self = Self::ACCESS;
    pub(crate) const ROFS: Self = Self(io::ErrorKind::ReadOnlyFilesystem);

    pub(crate) fn from_io_error(error: &io::Error) -> Option<Self> {
        Some(Self(error.kind()))
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        errno.0.into()
    }
}

pub(crate) fn random() -> Result<u64, Errno> {
    Err(Errno::NOSYS)
}

pub(crate) mod file {
    use super::Errno;

    pub(crate) enum File {}

    pub(crate) type Identity = (u64, u64);

    #[derive(Clone, Copy)]
    pub(crate) struct Facts {
        pub(crate) identity: Identity,
        pub(crate) len: u64,
        pub(crate) allocated: u64,
        pub(crate) owner_uid: u32,
        pub(crate) owner_gid: u32,
        pub(crate) mode: u32,
        pub(crate) is_linked: bool,
        pub(crate) changed_ns: u64,
    }

    impl Facts {
        pub(crate) fn is_owner_trusted(&self) -> bool {
            false
        }
    }

    impl File {
        pub(crate) fn facts(&self) -> Result<Facts, Errno> {
            match *self {}
        }

        pub(crate) fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, Errno> {
            match *self {}
        }

        pub(crate) fn allocate(&self, _: usize) -> Result<(), Errno> {
            match *self {}
        }

        pub(crate) fn allocated_from(&self, _: usize) -> Result<u64, Errno> {
            match *self {}
        }
    }
}

pub(crate) mod region {
    use super::super::map::{Inheritance, Protection};
    use super::Errno;
    use super::file::File;
    use super::process::Generation;

    pub(crate) enum Region {}

    impl Region {
        pub(crate) fn shared(
            file: &File,
            _: usize,
            _: Protection,
            _: Inheritance,
            _: Generation,
        ) -> Result<Self, Errno> {
            match *file {}
        }

        pub(crate) fn private(_: usize, _: Generation) -> Result<Self, Errno> {
            Err(Errno::NOSYS)
        }

        pub(crate) fn base(&self) -> *mut u8 {
            match *self {}
        }

        pub(crate) fn len(&self) -> usize {
            match *self {}
        }

        /// # Safety
        /// There is no region.
        pub(crate) unsafe fn populate(
            &self,
            _: *mut u8,
            _: usize,
            _: Protection,
        ) -> Result<(), Errno> {
            match *self {}
        }

        /// # Safety
        /// There is no region.
        pub(crate) unsafe fn release(&self, _: *mut u8, _: usize) -> Result<(), Errno> {
            match *self {}
        }
    }
}

pub(crate) mod lock {
    use super::Errno;
    use super::file::File;

    pub(crate) fn try_lock(file: &File, _: u64) -> Result<bool, Errno> {
        match *file {}
    }

    pub(crate) fn try_share(file: &File, _: u64) -> Result<bool, Errno> {
        match *file {}
    }

    pub(crate) fn unlock(file: &File, _: u64) -> Result<(), Errno> {
        match *file {}
    }

    pub(crate) fn unlock_range(file: &File, _: u64, _: u64) -> Result<(), Errno> {
        match *file {}
    }

    pub(crate) fn is_locked(file: &File, _: u64, _: u64) -> Result<bool, Errno> {
        match *file {}
    }

    pub(crate) fn is_locked_or_shared(file: &File, _: u64) -> Result<bool, Errno> {
        match *file {}
    }
}

pub(crate) mod wait {
    use std::marker::PhantomData;
    use std::time::Duration;

    use crate::sync::{AtomicU32, AtomicU64};

    /// Without shared words nobody comes to sleep on one, and who does looks again.
    pub(crate) fn wait_low(_: &AtomicU64, _: u32, _: Duration) -> bool {
        false
    }

    pub(crate) fn wake_low(_: &AtomicU64) {}

    pub(crate) fn wait_half(_: &AtomicU32, _: u32, _: Duration) -> bool {
        false
    }

    pub(crate) fn wake_half_one(_: &AtomicU32) {}

    #[derive(Clone, Copy)]
    pub struct Target<'a>(PhantomData<&'a AtomicU64>);

    impl<'a> Target<'a> {
        pub(crate) fn new(_: &'a AtomicU64, _: u32) -> Self {
            Self(PhantomData)
        }

        pub(crate) fn is_unchanged(&self) -> bool {
            true
        }
    }

    /// With nothing to wait for, time passes.
    pub(crate) fn wait_any(_: &[Target<'_>], timeout: Duration, _: Duration) -> bool {
        std::thread::sleep(timeout);
        true
    }
}

pub(crate) mod watch {
    use std::path::Path;
    use std::time::Duration;

    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn new(_: &Path) -> Self {
            Self
        }

        pub(crate) fn wait(&self, timeout: Duration) {
            std::thread::sleep(timeout.min(Duration::from_millis(2)));
        }
    }
}

pub(crate) mod clock {
    use std::sync::OnceLock;
    use std::time::{Instant, UNIX_EPOCH};

    pub(crate) fn wall() -> u64 {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn wall_coarse() -> u64 {
        wall()
    }

    /// Of this process only: there is nobody to compare with.
    pub(crate) fn monotonic() -> u64 {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        let since = BEGINNING.get_or_init(Instant::now).elapsed();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn monotonic_coarse() -> u64 {
        monotonic()
    }
}

pub(crate) mod signal {
    use super::Errno;

    #[derive(Debug)]
    pub(crate) enum Signal {}

    impl Signal {
        pub(crate) fn new() -> Result<Self, Errno> {
            Err(Errno::NOSYS)
        }

        pub(crate) fn set(&self) {}

        pub(crate) fn clear(&self) -> Result<(), Errno> {
            match *self {}
        }
    }

    #[cfg(unix)]
    impl std::os::fd::AsFd for Signal {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            match *self {}
        }
    }
}
