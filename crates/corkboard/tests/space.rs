//! Spaces: who may use a directory, and what is refused.

#![cfg(target_os = "linux")]

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use corkboard::board::{Options, Reader};
use corkboard::event::{Event, Reset};
use corkboard::integrity::crc64;
use corkboard::lock::RwLock;
use corkboard::{Access, Error, ErrorKind, Problem, Space, call, stream};

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
fn a_space_whose_creator_died_before_it_set_the_mode_is_mended() {
    let scratch = Scratch::new();
    let options = Space::options().access(Access::Group);
    let private = std::fs::Permissions::from_mode(0o700);
    for (name, expected) in [("empty", 0o2770), ("used", 0o700)] {
        let path = scratch.0.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, private.clone()).unwrap();
        if name == "used" {
            std::fs::write(path.join("something"), b"").unwrap();
        }
        options.open(&path).unwrap();
        assert_eq!(mode(&path), expected, "{name}");
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
    let space = Space::at(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Options::new().writer(&space, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted, "also later");
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

#[test]
fn a_limit_on_file_sizes_is_an_error_and_not_the_end() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let block = corkboard::classic::Options::new(corkboard::classic::Dialect::Seed);
    drop(block.clone().capacity(4096).writer(&space, "old").unwrap());
    assert!(common::forked(|| {
        let mut old = block.writer(&space, "old").unwrap();
        let limit = |bytes| {
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: bytes,
            };
            // SAFETY: changes a limit of this process only.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        };
        let no_space = |result: Result<(), Error>, limited: &str| {
            let is_it = matches!(&result, Err(error) if error.kind() == ErrorKind::NoSpace);
            if !is_it {
                eprintln!("{limited}: {result:?}");
            }
            is_it
        };
        // The tables are longer than the data.
        limit(8192);
        let tables = Options::new().capacity(64).writer(&space, "x");
        limit(1024);
        let board = Options::new().capacity(64).writer(&space, "x");
        let stream = stream::Options::new().producer(&space, "x");
        let call = call::Server::create(&space, "x", call::Options::new());
        let event = Event::create(&space, "x", Reset::Manual);
        let lock = RwLock::open(&space, "x");
        // One without a page does, too.
        let file = RwLock::at(scratch.0.join("x.lock"));
        no_space(tables.map(drop), "tables")
            && no_space(board.map(drop), "board")
            && no_space(stream.map(drop), "stream")
            && no_space(call.map(drop), "call")
            && no_space(event.map(drop), "event")
            && no_space(lock.map(drop), "lock")
            && file.is_ok()
            && no_space(block.writer(&space, "new").map(drop), "new block")
            && no_space(old.write(&[1; 2000]), "block")
            && std::fs::read_dir(&scratch.0).unwrap().all(|entry| {
                let name = entry.unwrap().file_name();
                !name.to_string_lossy().starts_with(".new")
            })
    }));
}

/// Gives every file in and below a directory the layout version after its own, as a later release
/// might; returns how many there were.
fn age(directory: &std::path::Path) -> usize {
    const VERSION: usize = 8;
    const SEAL: usize = 184;
    let paths = std::fs::read_dir(directory).unwrap();
    let aged = paths.map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return age(&path);
        }
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let mut header = [0; SEAL + 8];
        file.read_exact_at(&mut header, 0).unwrap();
        assert!(header.starts_with(b"corkbrd"), "{}", path.display());
        header[VERSION] += 1;
        let seal = crc64(&header[..SEAL], 0);
        header[SEAL..].copy_from_slice(&seal.to_le_bytes());
        file.write_all_at(&header, 0).unwrap();
        1
    });
    aged.sum()
}

#[test]
fn objects_of_another_layout_version_are_refused_listed_and_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let create = || -> Result<(), Error> {
        Options::new().writer(&space, "x")?.publish(b"value")?;
        drop(stream::Options::new().producer(&space, "x")?);
        drop(call::Server::create(&space, "x", call::Options::new())?);
        drop(Event::create(&space, "x", Reset::Manual)?);
        drop(RwLock::open(&space, "x")?);
        Ok(())
    };
    create().unwrap();
    let there = space.entries().unwrap();
    assert_eq!(there.len(), 5);
    assert!(age(space.path()) >= 5);
    let refused = [
        ("board", Options::new().writer(&space, "x").map(drop)),
        ("board", Reader::open(&space, "x").map(drop)),
        (
            "stream",
            stream::Options::new().producer(&space, "x").map(drop),
        ),
        (
            "stream",
            stream::Subscriber::open(&space, "x", stream::From::Oldest).map(drop),
        ),
        (
            "call",
            call::Server::create(&space, "x", call::Options::new()).map(drop),
        ),
        ("call", call::Client::open(&space, "x").map(drop)),
        ("event", Event::open(&space, "x").map(drop)),
        ("lock", RwLock::open(&space, "x").map(drop)),
    ];
    for (what, refused) in refused {
        let error = refused.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{what}: {error}");
        assert!(error.to_string().contains("layout version"), "{error}");
    }
    let mut findings = space.diagnose().unwrap();
    findings.retain(|finding| finding.problem() == Problem::Incompatible);
    assert_eq!(findings.len(), there.len(), "{findings:?}");
    assert!(!findings.iter().any(corkboard::Finding::is_fixable));
    assert_eq!(space.entries().unwrap().len(), there.len());
    for entry in there {
        space.remove(entry.kind(), entry.name()).unwrap();
    }
    assert!(space.entries().unwrap().is_empty());
    create().unwrap();
}
