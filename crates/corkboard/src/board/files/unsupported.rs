//! A board's files where there are none: see `crate::unsupported`.

use super::super::Options;
use super::super::layout::Geometry;
use crate::error::Result;
use crate::object::{Created, Removal};
use crate::space::Space;
use crate::unsupported::unsupported;

pub(crate) fn create(space: &Space, _: &str, _: &Geometry, _: &Options) -> Result<Option<Created>> {
    unsupported("create", space.path())
}

pub(crate) fn remove(space: &Space, _: &str, _: Removal) -> Result<()> {
    unsupported("remove", space.path())
}
