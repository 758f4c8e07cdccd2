//! Lock files where there are none: see `crate::unsupported`.

use std::path::Path;
use std::time::Duration;

use super::super::Access;
use super::super::bells::Bell;
use super::AtPath;
use crate::error::Result;
use crate::sys::Errno;
use crate::sys::file::{File, Identity};
use crate::unsupported::unsupported;

pub(crate) enum Page {}

impl Page {
    pub(crate) fn announce(&self, _: &File, _: Bell) -> std::result::Result<u32, Errno> {
        match *self {}
    }

    pub(crate) fn retract(&self, _: &File, _: Bell) {}

    pub(crate) fn sleep(&self, _: Bell, _: u32, _: Duration) -> bool {
        match *self {}
    }

    pub(crate) fn ring(&self, _: &File, _: Bell) {}
}

pub(crate) fn open(path: &Path, _: Access) -> Result<AtPath> {
    unsupported("open lock file", path)
}

pub(crate) fn is_at(_: &Path, _: Identity) -> bool {
    false
}
