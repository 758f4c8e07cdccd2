//! Spaces: who may use a directory, and what is refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use corkboard::{Access, ErrorKind, Space};

mod common;
use common::Scratch;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_space_is_private() {
    let scratch = Scratch::new();
    let space = Space::at(scratch.0.join("s")).unwrap();
    assert_eq!(mode(space.path()), 0o700);
    assert!(space.entries().unwrap().is_empty());
}

#[test]
fn a_shared_space_gets_its_exact_mode() {
    let scratch = Scratch::new();
    for (access, expected) in [(Access::Group, 0o2770), (Access::Everyone, 0o1777)] {
        let path = scratch.0.join(access.to_string());
        let space = Space::options().access(access).open(&path).unwrap();
        assert_eq!(mode(space.path()), expected);
    }
}

#[test]
fn a_symbolic_link_is_refused_also_with_a_trailing_slash() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.0.join("real")).unwrap();
    let link = scratch.0.join("link");
    symlink(scratch.0.join("real"), &link).unwrap();
    for path in [link.clone(), link.join("")] {
        let error = Space::at(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted);
    }
}

#[test]
fn a_world_writable_directory_needs_the_sticky_bit() {
    let scratch = Scratch::new();
    let path = scratch.0.join("open");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Space::at(&path).unwrap_err().kind(), ErrorKind::Untrusted);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).unwrap();
    Space::at(&path).unwrap();
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    std::fs::write(&path, b"x").unwrap();
    let error = Space::at(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    assert!(error.to_string().contains(path.to_str().unwrap()));
}
