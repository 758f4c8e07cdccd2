//! Spaces where there are none: see `crate::unsupported`.

use std::path::{Path, PathBuf};

use super::{Access, Space};
use crate::error::Result;
use crate::unsupported::unsupported;

#[derive(Clone, Copy, Debug)]
pub(super) enum Trust {
    /// Made for none: `create` comes before, and refuses.
    Named,
}

pub(super) fn own_directory() -> Result<(PathBuf, Trust)> {
    unsupported("open space", Path::new("the user's own"))
}

pub(super) fn create(path: &Path, _: Access) -> Result<()> {
    unsupported("open space", path)
}

pub(super) fn is_set_uid() -> bool {
    false
}

impl Space {
    pub(crate) fn check(&self) -> Result<()> {
        unsupported("open space", self.path())
    }
}
