//! A space's objects: those of the files in its directory that still have memory.

use super::{Entry, named};
use crate::error::{ErrorKind, Result};
use crate::object;
use crate::space::Space;

impl Space {
    /// Its objects, in no order.
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        self.check()?;
        let mut entries = Vec::new();
        for file_name in self.file_names()? {
            let Some((kind, name)) = named(&file_name) else {
                continue;
            };
            let is_object = match object::Place::open(self, kind, name) {
                Ok(_) => true,
                Err(error) => error.kind() != ErrorKind::NotFound,
            };
            if is_object && !self.path().join(&file_name).is_dir() {
                let name = name.to_owned();
                entries.push(Entry { kind, name });
            }
        }
        Ok(entries)
    }
}
