//! Where this library does not run, it still compiles, so that programs for several systems can
//! depend on it: opening a space or a lock file says `Unsupported`, and nothing else can be reached.
//!
//! What cannot be had there has no values, so most of this is never called. It has the shape of the
//! other platforms' files: see `sys` and the modules that it names.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// What opening, and whatever else needs no open handle, comes to.
pub(crate) fn unsupported<T>(operation: &'static str, path: &Path) -> Result<T> {
    let object = path.display().to_string();
    let cause = "corkboard supports Linux and Windows";
    Err(Error::new(ErrorKind::Unsupported, operation, object, cause))
}

pub(crate) mod space {
    use std::path::{Path, PathBuf};

    use super::unsupported;
    use crate::error::Result;
    use crate::space::{Access, Entry, Space};

    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Trust {
        /// Made for none: `create` comes before, and refuses.
        Named,
    }

    pub(crate) fn own_directory() -> Result<(PathBuf, Trust)> {
        unsupported("open space", Path::new("the user's own"))
    }

    pub(crate) fn create(path: &Path, _: Access) -> Result<()> {
        unsupported("open space", path)
    }

    pub(crate) fn is_set_uid() -> bool {
        false
    }

    impl Space {
        pub(crate) fn check(&self) -> Result<()> {
            unsupported("open space", self.path())
        }

        pub(crate) fn list(&self) -> Result<Vec<Entry>> {
            unsupported("list space", self.path())
        }
    }
}

pub(crate) mod object {
    use super::unsupported;
    use crate::error::Result;
    use crate::header::HEADER_LEN;
    use crate::object::{Identity, NewFile, Removal, Single};
    use crate::space::{Kind, Space};
    use crate::sys::file::{Facts, File};
    use crate::sys::map::{Mapping, Protection};

    pub(crate) enum Place {}
    pub(crate) enum Created {}
    pub(crate) enum Kept {}

    impl Place {
        pub(crate) fn open(space: &Space, _: Kind, _: &str) -> Result<Self> {
            unsupported("open", space.path())
        }

        pub(crate) fn file(
            &self,
            _: &str,
            _: Protection,
        ) -> Result<(File, Facts, [u8; HEADER_LEN])> {
            match *self {}
        }

        pub(crate) fn main_file(&self, _: Protection) -> Result<(File, Facts, [u8; HEADER_LEN])> {
            match *self {}
        }

        pub(crate) fn into_keepers(self) -> Kept {
            match self {}
        }

        pub(crate) fn restrict(&self, _: &str, _: u64, _: u32) -> Result<()> {
            match *self {}
        }
    }

    impl Single {
        pub(crate) fn remove(
            self,
            space: &Space,
            _: &str,
            _: Removal,
            _: impl FnOnce(&File) -> Result<()>,
            _: impl FnOnce(&Mapping),
        ) -> Result<()> {
            unsupported("remove", space.path())
        }
    }

    pub(crate) fn object_name(stem: &str) -> Option<&str> {
        Some(stem)
    }

    pub(crate) fn require_memory(file: &File, _: &str) -> Result<()> {
        match *file {}
    }

    pub(crate) fn is_in_place(_: &Space, _: Kind, _: &str, _: Identity) -> bool {
        false
    }

    pub(crate) fn create_single(
        space: &Space,
        _: Kind,
        _: &str,
        _: NewFile,
    ) -> Result<Option<Created>> {
        unsupported("create", space.path())
    }

    pub(crate) fn sweep(space: &Space, _: &str) -> Result<()> {
        unsupported("fix", space.path())
    }
}

pub(crate) mod files {
    use super::unsupported;
    use crate::board::Options;
    use crate::board::layout::Geometry;
    use crate::error::Result;
    use crate::object::{Created, Removal};
    use crate::space::Space;

    pub(crate) fn create(
        space: &Space,
        _: &str,
        _: &Geometry,
        _: &Options,
    ) -> Result<Option<Created>> {
        unsupported("create", space.path())
    }

    pub(crate) fn remove(space: &Space, _: &str, _: Removal) -> Result<()> {
        unsupported("remove", space.path())
    }
}

mod doctor {
    use super::unsupported;
    use crate::doctor::Finding;
    use crate::error::Result;
    use crate::space::Space;

    impl Space {
        pub(crate) fn examine_names(&self, _: &mut Vec<Finding>) -> Result<()> {
            unsupported("look at", self.path())
        }

        pub(crate) fn examine_modes(&self, _: &str, _: u64, _: u32, _: &mut Vec<Finding>) {}

        pub(crate) fn examine_surroundings(&self, _: &mut Vec<Finding>) -> Result<()> {
            Ok(())
        }
    }
}
