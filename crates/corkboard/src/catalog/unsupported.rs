//! Lists of objects where there are none: see `crate::unsupported`.

use super::Entry;
use crate::error::Result;
use crate::space::Space;
use crate::unsupported::unsupported;

impl Space {
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        unsupported("list space", self.path())
    }
}
