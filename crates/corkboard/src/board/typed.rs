//! Boards of one plain-old-data type.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::attached::Attached;
use super::files::object;
use super::layout::{Geometry, MAX_ALIGN, TYPE_NAME_LEN, TypeRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::crc64;
use crate::participants::text;

/// A type as boards compare it: by unqualified name, size and alignment.
///
/// Modules and crates are not part of the name, so that two programs may each define the type.
#[derive(Clone, Copy, Debug)]
pub(super) struct TypeOf {
    full_name: &'static str,
    size: usize,
    align: usize,
}

/// Which type was compared last and found right.
#[derive(Default)]
pub(super) struct Known(AtomicUsize);

impl TypeOf {
    pub(super) fn of<T: 'static>() -> Self {
        Self {
            full_name: std::any::type_name::<T>(),
            size: size_of::<T>(),
            align: align_of::<T>(),
        }
    }

    pub(super) fn size(self) -> usize {
        self.size
    }

    /// As the header keeps it.
    pub(super) fn record(self) -> TypeRecord {
        let short = unqualified(self.full_name);
        let mut name = [0; TYPE_NAME_LEN];
        if short.len() <= TYPE_NAME_LEN {
            name[..short.len()].copy_from_slice(short.as_bytes());
        } else {
            let sum = format!("#{:016x}", crc64(short.as_bytes(), 0));
            let len = short.floor_char_boundary(TYPE_NAME_LEN - sum.len());
            name[..len].copy_from_slice(&short.as_bytes()[..len]);
            name[len..len + sum.len()].copy_from_slice(sum.as_bytes());
        }
        TypeRecord {
            name,
            size: self.size as u64,
            align: self.align as u64,
        }
    }

    /// Whether a board can hold the type at all.
    pub(super) fn check_possible(self, name: &str) -> Result<()> {
        if self.align as u64 <= MAX_ALIGN {
            return Ok(());
        }
        let cause = format!(
            "type {} is aligned to {} bytes, values are to {MAX_ALIGN}; lower its alignment",
            self.full_name, self.align
        );
        Err(Error::new(
            ErrorKind::Incompatible,
            "open",
            object(name),
            cause,
        ))
    }

    /// Whether an existing board is of this type.
    pub(super) fn check_geometry(self, geometry: &Geometry, name: &str) -> Result<()> {
        if geometry.value_type == Some(self.record()) {
            return Ok(());
        }
        let found = match &geometry.value_type {
            Some(found) => describe(found),
            None => "untyped".to_owned(),
        };
        let cause = format!(
            "it is {found}, not {}; use the same type on all sides, or remove the board",
            describe(&self.record())
        );
        Err(Error::new(
            ErrorKind::Incompatible,
            "open",
            object(name),
            cause,
        ))
    }

    /// Whether values of this type belong on the board; an untyped board takes any.
    #[inline]
    pub(super) fn check(
        self,
        board: &Attached,
        known: &Known,
        operation: &'static str,
    ) -> Result<()> {
        let key = self.full_name.as_ptr() as usize ^ self.full_name.len() << 48;
        if known.0.load(Ordering::Relaxed) != key {
            if board.geometry.value_type.is_some() {
                self.check_geometry(&board.geometry, &board.name)
                    .map_err(|error| error.during(operation))?;
            }
            known.0.store(key, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    pub(super) fn wrong_length(self, board: &Attached, len: usize) -> Error {
        let cause = format!(
            "the value has {len} bytes, {} has {}; let all writers publish that type",
            self.full_name, self.size
        );
        board.error(ErrorKind::Incompatible, "read", cause)
    }
}

fn describe(of: &TypeRecord) -> String {
    format!(
        "of type {} ({} bytes, aligned to {})",
        text(&of.name),
        of.size,
        of.align
    )
}

/// Drops the path before each name: `a::Pair<b::C>` is `Pair<C>`.
fn unqualified(full: &str) -> String {
    let mut short = String::new();
    for part in full.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        short += part.rsplit("::").next().unwrap_or(part);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_not_part_of_a_name() {
        assert_eq!(unqualified("u64"), "u64");
        assert_eq!(unqualified("a::b::Pose"), "Pose");
        assert_eq!(
            unqualified("a::Pair<b::C, [d::e::F; 4]>"),
            "Pair<C, [F; 4]>"
        );
    }

    #[test]
    fn long_names_differ_where_the_whole_names_do() {
        struct A<T>(T);
        type Long = A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<u8>>>>>>>>>>>>>>>>>>>>>>;
        type Other = A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<A<i8>>>>>>>>>>>>>>>>>>>>>>;
        let record = TypeOf::of::<Long>().record();
        assert_ne!(record.name, TypeOf::of::<Other>().record().name);
        assert!(record.name.ends_with(&[0]) || record.name.len() == TYPE_NAME_LEN);
    }
}
