//! What every handle on an object of one file holds: the mapped file, and the means to find it
//! again. No descriptor stays open.

use std::sync::atomic::AtomicBool;

use crate::error::{Error, ErrorKind, Result};
use crate::header::{Header, STATE, STATE_LIVE};
use crate::object::{self, Identity, Opened, Place, Single};
use crate::space::{Kind, Space};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::Errno;
use crate::sys::file::{Facts, File};
use crate::sys::map::{Inheritance, Mapping, Protection};
use crate::sys::process::Generation;

/// One object of one file, mapped.
pub(crate) struct Attachment {
    pub(crate) space: Space,
    pub(crate) name: String,
    pub(crate) mapping: Mapping,
    pub(crate) generation: Generation,
    pub(crate) protection: Protection,
    pub(crate) facts: Facts,
    single: Single,
    /// Whether the last look at the object's path found the file gone.
    is_deleted: AtomicBool,
}

/// The shape of an object of one file, as its header states it: how long the file is depends on it.
pub(crate) trait Shaped: Sized {
    const KIND: Kind;
    /// The role in the file's header.
    const ROLE: u64;

    /// The shape in a header, if it can exist.
    fn decode(header: &Header, object: &str) -> Result<Self>;

    /// The file of an object of this shape.
    fn file(&self) -> Single;
}

/// The shape that an object's file states.
pub(crate) fn shape<S: Shaped>(space: &Space, name: &str) -> Result<(S, Header)> {
    crate::name::check("open", name)?;
    let object = object::label(S::KIND, name);
    let (_, _, header) = Place::open(space, S::KIND, name)?.main_file(Protection::ReadOnly)?;
    let header = Header::decode(&header, S::ROLE, "file", &object)?;
    let shape = S::decode(&header, &object)?;
    Ok((shape, header))
}

/// What there is to remove: the object's file, and its shape unless that is damaged.
pub(crate) fn to_remove<S: Shaped>(space: &Space, name: &str) -> (Option<S>, Single) {
    match shape::<S>(space, name) {
        Ok((shape, _)) => {
            let single = shape.file();
            (Some(shape), single)
        }
        Err(_) => (None, Single::damaged(S::KIND, S::ROLE)),
    }
}

/// Opens the object, whose length and header were checked; `NotFound` when the header has changed
/// meanwhile.
pub(crate) fn open<S: Shaped>(
    space: &Space,
    name: &str,
    protection: Protection,
) -> Result<(S, Opened)> {
    let (shape, header) = shape::<S>(space, name)?;
    let opened = shape.file().open(space, name, protection)?;
    if opened.header != header {
        // Removed meanwhile, and made anew.
        let object = object::label(S::KIND, name);
        return Err(Error::os("open", object, Errno::NOENT));
    }
    Ok((shape, opened))
}

impl Attachment {
    /// As [`open`], and maps the object.
    pub(crate) fn open<S: Shaped>(
        space: &Space,
        name: &str,
        protection: Protection,
    ) -> Result<(S, Self)> {
        let failed = |errno| Error::os("open", object::label(S::KIND, name), errno);
        let (shape, Opened { file, facts, .. }) = open::<S>(space, name, protection)?;
        let single = shape.file();
        let generation = Generation::current().map_err(failed)?;
        let mapping = match protection {
            Protection::ReadWrite => single.map(&file, generation),
            Protection::ReadOnly => {
                let inherit = Inheritance::Child;
                Mapping::new(&file, single.len, protection, inherit, generation)
            }
        };
        let mapping = mapping
            .and_then(|mapping| mapping.in_memory(single.allocated, Protection::ReadOnly))
            .map_err(failed)?;
        let attachment = Self {
            space: space.clone(),
            name: name.to_owned(),
            mapping,
            generation,
            protection,
            facts,
            single,
            is_deleted: AtomicBool::new(false),
        };
        Ok((shape, attachment))
    }

    /// Opens the file again; `None` when the object's name no longer means it.
    fn find(&self, protection: Protection) -> Result<Option<File>> {
        match self.single.open(&self.space, &self.name, protection) {
            Ok(opened) if opened.facts.identity == self.identity() => Ok(Some(opened.file)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // What has the name now may have another length.
            Err(_) if !self.is_in_place() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn reopen(&self, operation: &'static str, protection: Protection) -> Result<File> {
        let found = self.find(protection)?;
        found.ok_or_else(|| self.removed(operation))
    }

    /// As [`reopen`](Self::reopen), while the object is being opened: then one that is gone is
    /// absent, and may be made anew.
    pub(crate) fn reopen_to_claim(&self) -> Result<File> {
        let found = self.find(Protection::ReadWrite)?;
        found.ok_or_else(|| self.failed("open", Errno::NOENT))
    }

    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.mapping.word(offset)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.facts.identity
    }

    /// Whether the object is still live and this process the one that attached.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.generation.is_current()
            && self.word(STATE).load(Ordering::Relaxed) == STATE_LIVE
            && !self.is_deleted.load(Ordering::Relaxed)
    }

    /// Why the object is not usable, if it is not.
    #[inline]
    pub(crate) fn check_usable(&self, operation: &'static str) -> Result<()> {
        if self.is_usable() {
            return Ok(());
        }
        Err(self.unusable(operation))
    }

    #[cold]
    fn unusable(&self, operation: &'static str) -> Error {
        if self.generation.is_current() {
            return self.removed(operation);
        }
        let cause = format!(
            "this handle was made before a fork; open the {} anew in the child",
            self.single.kind
        );
        self.error(ErrorKind::Forked, operation, cause)
    }

    /// Whether the file at the object's path is still the mapped one.
    pub(crate) fn is_in_place(&self) -> bool {
        let kind = self.single.kind;
        let is_in_place = object::is_in_place(&self.space, kind, &self.name, self.identity());
        self.is_deleted.store(!is_in_place, Ordering::Relaxed);
        is_in_place
    }

    pub(crate) fn check_in_place(&self, operation: &'static str) -> Result<()> {
        if self.is_in_place() {
            return Ok(());
        }
        Err(self.removed(operation))
    }

    pub(crate) fn object(&self) -> String {
        object::label(self.single.kind, &self.name)
    }

    #[cold]
    pub(crate) fn error(
        &self,
        kind: ErrorKind,
        operation: &'static str,
        cause: impl Into<String>,
    ) -> Error {
        Error::new(kind, operation, self.object(), cause)
    }

    #[cold]
    fn removed(&self, operation: &'static str) -> Error {
        let cause = "it was removed; open it anew";
        self.error(ErrorKind::Removed, operation, cause)
    }

    #[cold]
    pub(crate) fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::os(operation, self.object(), errno)
    }
}
