//! What can be wrong where there is nothing: see `crate::unsupported`.

use super::Finding;
use crate::error::Result;
use crate::space::Space;
use crate::unsupported::unsupported;

impl Space {
    pub(super) fn examine_names(&self, _: &mut Vec<Finding>) -> Result<()> {
        unsupported("look at", self.path())
    }

    pub(super) fn examine_modes(&self, _: &str, _: u64, _: u32, _: &mut Vec<Finding>) {}

    pub(super) fn examine_surroundings(&self, _: &mut Vec<Finding>) -> Result<()> {
        Ok(())
    }
}
