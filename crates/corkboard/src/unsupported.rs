//! Where this library does not run, it still compiles, so that programs for several systems can
//! depend on it: opening a space or a lock file says `Unsupported`, and nothing else can be reached.
//!
//! What cannot be had there has no values, so most of it is never called. It is in files of this
//! name beside the other platforms': see `sys` and the modules that it names.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// What opening, and whatever else needs no open handle, comes to.
pub(crate) fn unsupported<T>(operation: &'static str, path: &Path) -> Result<T> {
    let object = path.display().to_string();
    let cause = "corkboard supports Linux and Windows";
    Err(Error::new(ErrorKind::Unsupported, operation, object, cause))
}
