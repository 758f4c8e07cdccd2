//! What boards say of themselves: types, labels, who is attached, what dead processes left.

mod common;

use std::time::{Duration, SystemTime};

use common::Scratch;
#[cfg(target_os = "linux")]
use corkboard::Problem;
use corkboard::board::{
    self, Integrity, Options, OwnedSnapshot, Reader, Snapshot, Timestamp, Writer, WriterMode,
};
use corkboard::{ErrorKind, Kind};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Pose {
    position: [f64; 3],
    heading: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Speed {
    forward: [f64; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C, align(128))]
struct TooAligned([u8; 128]);

const POSE: Pose = Pose {
    position: [1.0, 2.0, 3.0],
    heading: 0.5,
};

#[test]
fn a_value_of_the_boards_type_comes_back_and_no_other_type_goes_in() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let pose = Options::new().value_type::<Pose>();
    let mut writer = pose.writer(&space, "robot").unwrap();
    assert_eq!(writer.capacity(), size_of::<Pose>());
    writer.publish_value(&POSE).unwrap();
    let mut reader = pose.reader(&space, "robot").unwrap();
    assert_eq!(
        *reader.read().unwrap().unwrap().value::<Pose>().unwrap(),
        POSE
    );
    let owned = reader.into_snapshot().unwrap().unwrap();
    assert_eq!(*owned.value::<Pose>().unwrap(), POSE);
    let mut untyped = Reader::open(&space, "robot").unwrap();
    let snapshot = untyped.read().unwrap().unwrap();
    assert_eq!(*snapshot.value::<Pose>().unwrap(), POSE);

    let speed = Options::new().value_type::<Speed>();
    let refused = [
        speed.writer(&space, "robot").unwrap_err(),
        speed.open_writer(&space, "robot").unwrap_err(),
        speed.reader(&space, "robot").unwrap_err(),
        snapshot.value::<Speed>().unwrap_err(),
        writer
            .publish_value(&Speed { forward: [0.0; 4] })
            .unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let text = error.to_string();
        assert!(text.contains("Pose") && text.contains("Speed"), "{text}");
    }
    assert_eq!(writer.publish_value(&POSE).unwrap(), 2);
    let of = board::stat(&space, "robot").unwrap().value_type.unwrap();
    assert_eq!((of.name.as_str(), of.size, of.align), ("Pose", 32, 8));

    let too_aligned = Options::new().value_type::<TooAligned>();
    let error = too_aligned.writer(&space, "lines").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[test]
fn values_are_aligned_wherever_they_are_held() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = capacity.to_string();
        let options = Options::new()
            .value_type::<Line>()
            .capacity(capacity)
            .max_readers(1);
        let mut writer = options.writer(&space, &name).unwrap();
        writer.publish_value(&Line([7; 64])).unwrap();
        let mut pinning = options.reader(&space, &name).unwrap();
        let mut observer = options.reader(&space, &name).unwrap();
        assert!(!pinning.is_observer() && observer.is_observer());
        for reader in [&mut pinning, &mut observer] {
            let snapshot = reader.read().unwrap().unwrap();
            assert_eq!(*snapshot.value::<Line>().unwrap(), Line([7; 64]));
        }
        let latest = writer.latest().unwrap().unwrap();
        assert_eq!(*latest.value::<Line>().unwrap(), Line([7; 64]));
    }
}

#[test]
fn an_untyped_board_takes_values_and_checks_their_length() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new().writer(&space, "any").unwrap();
    let mut reader = Reader::open(&space, "any").unwrap();
    writer.publish_value(&POSE).unwrap();
    assert_eq!(
        *reader.read().unwrap().unwrap().value::<Pose>().unwrap(),
        POSE
    );
    writer.publish(b"short").unwrap();
    let error = reader.read().unwrap().unwrap().value::<Pose>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    let typed = Options::new().value_type::<Pose>();
    let error = typed.reader(&space, "any").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[cfg(target_os = "linux")]
#[test]
fn a_loan_on_a_large_board_is_the_shared_memory_itself() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for mode in [WriterMode::Exclusive, WriterMode::Shared] {
        let name = format!("{mode:?}");
        let options = Options::new().capacity(100_000).writer_mode(mode);
        let mut writer = options.writer(&space, &name).unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        let mut loan = writer.loan(100_000).unwrap();
        loan.fill(1);
        let loaned = loan.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_shared = maps.lines().any(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            (address(start)..address(end)).contains(&loaned) && line.ends_with("/data")
        });
        assert!(is_shared);
        assert!(reader.read().unwrap().is_none(), "not yet published");
        loan.truncate(70_000);
        assert_eq!(loan.publish().unwrap(), 1);
        assert_eq!(*reader.read().unwrap().unwrap(), [1; 70_000]);
        drop(writer.loan(5).unwrap());
        std::mem::forget(writer.loan(6).unwrap());
        assert_eq!(writer.publish(b"next").unwrap(), 2);
        assert_eq!(&*reader.read().unwrap().unwrap(), b"next");
        // A forgotten loan blocks nobody.
        if mode == WriterMode::Shared {
            let mut other = Writer::open(&space, &name).unwrap();
            for sequence in 3..300 {
                assert_eq!(other.publish(b"other").unwrap(), sequence);
            }
        }
    }
}

#[test]
fn a_shared_writer_reads_what_another_published_and_keeps_it() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for capacity in [64, 5000] {
        let name = capacity.to_string();
        let options = Options::new()
            .capacity(capacity)
            .writer_mode(WriterMode::Shared);
        let mut first = options.writer(&space, &name).unwrap();
        let mut second = options.writer(&space, &name).unwrap();
        assert!(first.latest().unwrap().is_none());
        second.publish(b"from the second").unwrap();
        let snapshot = first.latest().unwrap().unwrap();
        for _ in 0..300 {
            second.publish(&[1; 60]).unwrap();
        }
        assert_eq!(&*snapshot, b"from the second");
        assert_eq!(snapshot.sequence(), 1);
        assert_eq!(first.latest().unwrap().unwrap().sequence(), 301);
    }
}

#[test]
fn stat_names_everyone_who_is_attached() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let before = SystemTime::now();
    let mut writer = Options::new()
        .capacity(5000)
        .label("the writer")
        .integrity(Integrity::None)
        .timestamp(Timestamp::Precise)
        .writer(&space, "x")
        .unwrap();
    let _keeper = space.keep(Kind::Board, "x").unwrap();
    let empty = board::stat(&space, "x").unwrap();
    assert_eq!((empty.sequence, empty.len, empty.age), (0, None, None));
    writer.publish(&[0; 4321]).unwrap();
    let long = "a label of more bytes than an entry has room for, cut at a whole character: 天气";
    let mut reader = Options::new().label(long).reader(&space, "x").unwrap();
    let slot_held = reader.read().unwrap().is_some();
    assert!(slot_held && reader.writer_alive());
    let stat = board::stat(&space, "x").unwrap();
    assert_eq!(stat.capacity, 5000);
    assert_eq!(stat.integrity, Integrity::None);
    assert_eq!(stat.timestamp, Timestamp::Precise);
    assert_eq!(stat.writer_mode, WriterMode::Exclusive);
    assert_eq!((stat.sequence, stat.len), (1, Some(4321)));
    assert!(stat.writer_alive && stat.data_mode == 0o600);
    assert!(stat.published_at.unwrap() >= before && stat.age.unwrap() < Duration::from_secs(600));
    assert!(stat.allocated_bytes >= 4321 && stat.allocated_bytes < 1 << 20);
    let writers = stat.writers.unwrap();
    assert_eq!(writers.len(), 1);
    assert_eq!(writers[0].label, "the writer");
    assert_eq!(writers[0].pid, std::process::id());
    assert!(writers[0].is_alive && writers[0].is_publishing);
    let readers = stat.readers.unwrap();
    assert_eq!(readers.len(), 1);
    assert!(long.starts_with(&readers[0].label) && readers[0].label.len() >= 45);
    assert!(readers[0].pinned_slot.is_some());
    let unnamed = Reader::open(&space, "x").unwrap();
    let stat = board::stat(&space, "x").unwrap();
    assert!(
        stat.readers.unwrap()[1].label.starts_with("attached"),
        "the program"
    );
    drop((writer, reader, unnamed));
    let stat = board::stat(&space, "x").unwrap();
    assert_eq!((stat.writers, stat.readers), (Some(vec![]), Some(vec![])));
    assert!(!stat.writer_alive);
}

#[cfg(target_os = "linux")]
#[test]
fn a_healthy_space_has_no_findings_and_loose_modes_are_found_and_mended() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let space = scratch.space();
    for (name, access) in [
        ("mine", board::Access::Owner),
        ("ours", board::Access::Group),
        ("everyones", board::Access::Everyone),
    ] {
        for (suffix, writers) in [("", board::Access::Owner), ("-w", access)] {
            let options = Options::new().readers(access).writers(writers);
            let mut writer = options.writer(&space, &format!("{name}{suffix}")).unwrap();
            writer.publish(b"healthy").unwrap();
        }
    }
    let found = common::findings(&space);
    assert!(found.is_empty(), "{found:?}");
    let control = space.path().join("mine.board/control");
    let loose = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&control, loose).unwrap();
    let found = common::findings(&space);
    let finding = found.first().unwrap();
    assert_eq!(finding.problem(), Problem::WrongMode);
    assert!(finding.subject().contains("mine") && finding.is_fixable());
    finding.fix().unwrap();
    let mode = std::fs::metadata(&control).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(space.path().join("mine.board/data"), "damaged").unwrap();
    let found = common::findings(&space);
    let finding = found.first().unwrap();
    assert_eq!(finding.problem(), Problem::Damaged);
    assert!(!finding.is_fixable());
    assert_eq!(finding.fix().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn who_may_read_and_write_must_match_when_it_is_asked_for() {
    use board::Access::{Everyone, Group, Owner};
    let scratch = Scratch::new();
    let space = scratch.space();
    let board = Options::new().readers(Everyone).writers(Group);
    let writer = board.writer(&space, "x").unwrap();
    let _keeper = space.keep(Kind::Board, "x").unwrap();
    drop(writer);
    let new = Options::new;
    for same in [new(), new().readers(Everyone), new().writers(Group), board] {
        same.writer(&space, "x").unwrap();
        same.reader(&space, "x").unwrap();
    }
    for (what, other) in [
        ("readers Everyone", new().readers(Group)),
        ("writers Group", new().writers(Owner)),
        ("writers Group", new().writers(Everyone)),
    ] {
        for error in [
            other.writer(&space, "x").unwrap_err(),
            other.reader(&space, "x").unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Incompatible);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    // Writers read, too.
    let board = new().readers(Owner).writers(Group);
    let writer = board.writer(&space, "y").unwrap();
    let _keeper = space.keep(Kind::Board, "y").unwrap();
    drop(writer);
    board.writer(&space, "y").unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_readers_table_is_only_for_those_who_may_write_to_it() {
    use board::Access::{Everyone, Group, Owner};
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let space = scratch.space();
    for (readers, writers, expected) in [
        (Owner, Owner, 0o600),
        (Group, Owner, 0o660),
        (Everyone, Owner, 0o660),
        (Everyone, Everyone, 0o666),
    ] {
        let name = format!("{readers} {writers}");
        let options = Options::new().readers(readers).writers(writers);
        drop(options.writer(&space, &name).unwrap());
        let path = space.path().join(format!("{name}.board/readers"));
        let mode = std::fs::metadata(path).unwrap().mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_strangers_reading_locks_hide_a_writer_only_while_they_last() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for mode in [WriterMode::Exclusive, WriterMode::Shared] {
        let name = format!("{mode:?}");
        let options = Options::new().capacity(64).writer_mode(mode);
        drop(options.writer(&space, &name).unwrap());
        let data = space.path().join(format!("{name}.board/data"));
        let data = std::fs::File::open(data).unwrap();
        // Of every byte.
        common::lock_bytes(&data, libc::F_RDLCK, 0, 0);
        let mut writer = options.writer(&space, &name).unwrap();
        let mut reader = Reader::open(&space, &name).unwrap();
        writer.publish(b"news").unwrap();
        assert_eq!(&*reader.read().unwrap().unwrap(), b"news");
        assert_eq!(
            writer.publish(&[0; 65]).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert!(!reader.is_observer() && !reader.writer_alive());
        drop(data);
        common::until(|| {
            writer.publish(b"more").unwrap();
            reader.writer_alive()
        });
    }
}

thread_local! {
    static IS_OUT_OF_MEMORY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Refuses memory that is aligned as values are, where a test says so.
struct Sparing;

// SAFETY: the system's, or nothing, as the contract allows.
unsafe impl std::alloc::GlobalAlloc for Sparing {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if layout.align() == 64 && IS_OUT_OF_MEMORY.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: the caller's promise; all of it came from there.
        unsafe { std::alloc::System.dealloc(address, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Sparing = Sparing;

#[test]
fn without_memory_for_a_copy_there_is_an_error_and_nothing_is_lost() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let options = Options::new().capacity(1000);
    let mut writer = options.writer(&space, "x").unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    writer.publish(&[7; 1000]).unwrap();
    IS_OUT_OF_MEMORY.set(true);
    let errors = [
        reader.read().unwrap_err(),
        writer.latest().unwrap_err(),
        writer.loan(1000).unwrap_err(),
    ];
    IS_OUT_OF_MEMORY.set(false);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
    assert_eq!(*reader.read().unwrap().unwrap(), [7; 1000]);
    assert_eq!(*writer.latest().unwrap().unwrap(), [7; 1000]);
    assert_eq!(writer.loan(1000).unwrap().publish().unwrap(), 2);
}

#[test]
fn handles_go_where_they_should() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Writer>();
    is_send::<Reader>();
    is_send::<Snapshot<'_>>();
    is_sync::<Snapshot<'_>>();
    is_send::<OwnedSnapshot>();
    is_sync::<OwnedSnapshot>();
    is_send::<corkboard::Space>();
    is_sync::<corkboard::Space>();
}
