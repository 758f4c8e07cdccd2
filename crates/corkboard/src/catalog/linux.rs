//! A space's objects, as the directory lists them.

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::{Entry, named};
use crate::error::{Error, Result};
use crate::space::Space;

impl Space {
    /// Its objects, in no order.
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        let directory = self.directory()?;
        let failed = |errno| Error::os("list space", self.path().display().to_string(), errno);
        let mut entries = Vec::new();
        for item in fs::Dir::read_from(&directory).map_err(failed)? {
            let item = item.map_err(failed)?;
            let Ok(file_name) = item.file_name().to_str() else {
                continue;
            };
            let Some((kind, object)) = named(file_name) else {
                continue;
            };
            match fs::statat(&directory, file_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == kind.file_type() => entries
                    .push(Entry {
                        kind,
                        name: object.to_owned(),
                    }),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(entries)
    }
}
