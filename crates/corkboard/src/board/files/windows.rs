//! A board's three parts, of one file on disk.

use std::cell::OnceCell;

use super::super::Options;
use super::super::layout::{Geometry, Role};
use super::{checked, map_bell, mark_gone, new_files, ring};
use crate::error::Result;
use crate::object::{self, Created, Removal};
use crate::participants::BELL;
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
    let bell = OnceCell::new();
    // In this remover's turn, so that it is this board's.
    let mark = |mapping: &Mapping| {
        let Ok(place) = object::Place::open(space, Kind::Board, name) else {
            return;
        };
        let opened = place.file(Role::Readers.file_name(), Protection::ReadWrite);
        bell.get_or_init(|| map_bell(opened, &object));
        // Pairs with the writer's fence: it sees the state after what it publishes from now on, and
        // what it published before is marked below.
        sys::barrier::heavy();
        let opened = place.main_file(Protection::ReadOnly);
        let checked = opened.and_then(|opened| checked(opened, Role::Data, &object));
        if let Ok((_, _, geometry)) = checked {
            mark_gone(mapping, &geometry);
        }
    };
    let wake = |_: &Mapping| {
        if let Some(Some(readers)) = bell.get() {
            ring(readers.word(BELL));
        }
    };
    object::remove(space, Kind::Board, name, removal, |_| Ok(()), mark, wake)
}
