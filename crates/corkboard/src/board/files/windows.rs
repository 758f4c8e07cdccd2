//! A board's three parts, of one file on disk.

use super::super::Options;
use super::super::layout::{Geometry, LATEST, Role};
use super::{checked, mark_gone, new_files};
use crate::error::Result;
use crate::object::{self, Created, Removal};
use crate::space::{Kind, Space};
use crate::sys;
use crate::sys::map::{Mapping, Protection};

/// Makes the board. `Ok(None)` when another process was first.
pub(crate) fn create(
    space: &Space,
    name: &str,
    geometry: &Geometry,
    options: &Options,
) -> Result<Option<Created>> {
    object::create(space, Kind::Board, name, &new_files(geometry, options))
}

/// Removes the board `name`: attached handles are told, later openers start afresh.
pub(crate) fn remove(space: &Space, name: &str, removal: Removal) -> Result<()> {
    let object = object::label(Kind::Board, name);
    let geometry = object::Place::open(space, Kind::Board, name)
        .and_then(|place| place.main_file(Protection::ReadOnly))
        .and_then(|opened| checked(opened, Role::Data, &object))
        .map(|(_, _, geometry)| geometry);
    let mark = |mapping: &Mapping| {
        // Pairs with the writer's fence: it sees the state after what it publishes from now on, and
        // what it published before is marked below.
        sys::barrier::heavy();
        if let Ok(geometry) = &geometry {
            mark_gone(mapping, geometry);
        }
    };
    let wake = |mapping: &Mapping| sys::wait::wake_low(mapping.word(LATEST));
    object::remove(space, Kind::Board, name, removal, |_| Ok(()), mark, wake)
}
