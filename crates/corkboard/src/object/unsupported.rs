//! Objects where there are none: see `crate::unsupported`.

use super::{Identity, NewFile, Removal, Single};
use crate::error::Result;
use crate::header::HEADER_LEN;
use crate::space::{Kind, Space};
use crate::sys::file::{Facts, File};
use crate::sys::map::{Mapping, Protection};
use crate::unsupported::unsupported;

pub(crate) enum Place {}
pub(crate) enum Created {}
pub(crate) enum Kept {}

impl Place {
    pub(crate) fn open(space: &Space, _: Kind, _: &str) -> Result<Self> {
        unsupported("open", space.path())
    }

    pub(crate) fn file(&self, _: &str, _: Protection) -> Result<(File, Facts, [u8; HEADER_LEN])> {
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
