//! What is different on Windows: where objects are, how long they live, and who else can use them.

#![cfg(windows)]

mod common;

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::time::Duration;

use common::{Scratch, is_ready};
use corkboard::board::{Options, Reader, Writer, WriterMode};
use corkboard::event::{self, Event, Reset};
use corkboard::lock::RwLock;
use corkboard::{ErrorKind, Kind, Problem, Space, wait};
use windows_sys::Win32::System::Memory::{
    FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_BASIC_INFORMATION, MEMORY_MAPPED_VIEW_ADDRESS,
    MapViewOfFile, OpenFileMappingW, PAGE_READONLY, UnmapViewOfFile, VirtualQuery,
};
use windows_sys::Win32::System::Threading::{
    EVENT_MODIFY_STATE, OpenEventW, ResetEvent, SYNCHRONIZATION_SYNCHRONIZE, SetEvent,
    WaitForSingleObject,
};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));
const NOW: Option<Duration> = Some(Duration::ZERO);

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The only file of a space.
fn only_file(space: &Space) -> PathBuf {
    let mut files = std::fs::read_dir(space.path()).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

/// The first bytes of an object's memory, mapped for writing by somebody who knows its name.
struct Memory(MEMORY_MAPPED_VIEW_ADDRESS, usize);

impl Memory {
    fn open(space: &Space, part: &str, len: usize) -> Self {
        let record = std::fs::read(only_file(space)).unwrap();
        let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
        let name = format!("Local\\corkboard-{:016x}{:016x}-{part}", word(16), word(24));
        // SAFETY: the name lives until the call returns; the handle is closed when it was used.
        unsafe {
            let section = OpenFileMappingW(FILE_MAP_READ | FILE_MAP_WRITE, 0, wide(&name).as_ptr());
            assert!(!section.is_null(), "{name}");
            let section = OwnedHandle::from_raw_handle(section);
            let rights = FILE_MAP_READ | FILE_MAP_WRITE;
            let view = MapViewOfFile(section.as_raw_handle(), rights, 0, 0, len);
            assert!(!view.Value.is_null());
            Self(view, len)
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are mapped and committed; nobody else touches them meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.0.Value.cast(), self.1) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped above, and not used any more.
        unsafe { UnmapViewOfFile(self.0) };
    }
}

#[test]
fn an_object_lives_as_long_as_somebody_has_it_open_and_content_is_never_on_disk() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let needle = b"a needle that no file may have";
    let mut writer = Options::new()
        .capacity(1 << 30)
        .writer(&space, "x")
        .unwrap();
    writer.publish(needle).unwrap();
    let file = only_file(&space);
    let on_disk = std::fs::read(&file).unwrap();
    assert_eq!(on_disk.len(), 256);
    assert!(!on_disk.windows(8).any(|bytes| bytes == &needle[..8]));
    let mut reader = Reader::open(&space, "x").unwrap();
    drop(writer);
    assert_eq!(&*reader.read().unwrap().unwrap(), needle);
    let mut writer = Writer::open(&space, "x").unwrap();
    assert_eq!(writer.publish(b"next").unwrap(), 2, "the reader kept it");
    drop((reader, writer));
    assert!(space.entries().unwrap().is_empty());
    let gone = Reader::open(&space, "x").unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let findings = space.diagnose().unwrap();
    assert_eq!(findings[0].problem(), Problem::StaleFile);
    let mut writer = Options::new().writer(&space, "x").unwrap();
    assert_eq!(writer.publish(b"afresh").unwrap(), 1);
    drop(writer);
    let removed = space.remove(Kind::Board, "x").unwrap_err();
    assert_eq!(removed.kind(), ErrorKind::NotFound);
    assert!(!file.exists(), "what was left of it is gone");
}

#[test]
fn a_reader_cannot_write_through_its_mapping() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut writer = Options::new()
        .capacity(100_000)
        .writer(&space, "x")
        .unwrap();
    writer.publish(&[1; 100_000]).unwrap();
    let mut reader = Reader::open(&space, "x").unwrap();
    let snapshot = reader.read().unwrap().unwrap();
    let mut found = MEMORY_BASIC_INFORMATION::default();
    let size = size_of_val(&found);
    // SAFETY: the call touches only `found`.
    let status = unsafe { VirtualQuery(snapshot.as_ptr().cast(), &raw mut found, size) };
    assert_eq!((status, found.Protect), (size, PAGE_READONLY));
}

#[test]
fn files_that_are_no_object_s_are_errors_that_name_it() {
    let scratch = Scratch::new();
    let space = scratch.space();
    type Open = fn(&Space) -> Option<corkboard::Error>;
    let kinds: [(Kind, Open); 3] = [
        (Kind::Board, |space| {
            let writer = Options::new().writer(space, "x").err();
            assert!(Reader::open(space, "x").is_err() || writer.is_none());
            writer
        }),
        (Kind::Lock, |space| RwLock::open(space, "x").err()),
        (Kind::Event, |space| {
            Event::open_or_create(space, "x", Reset::Auto).err()
        }),
    ];
    for (kind, open) in kinds {
        assert!(open(&space).is_none());
        let path = only_file(&space);
        let whole = std::fs::read(&path).unwrap();
        let mut contents: Vec<Vec<u8>> = (0..whole.len())
            .step_by(5)
            .map(|len| whole[..len].to_vec())
            .collect();
        contents.push(vec![0; whole.len()]);
        contents.push(vec![0xA5; 100_000]);
        for bit in (0..whole.len() * 8).step_by(3) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            contents.push(flipped);
        }
        for content in contents {
            std::fs::write(&path, &content).unwrap();
            let Some(error) = open(&space) else {
                panic!("{kind}: {} bytes were taken for an object", content.len());
            };
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
            assert!(error.to_string().contains("\"x\""), "{error}");
        }
        space.remove(kind, "x").unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(open(&space).unwrap().kind(), ErrorKind::Damaged);
        space.remove(kind, "x").unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_claims_more_memory_than_there_is_is_damaged() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let _writer = Options::new().writer(&space, "x").unwrap();
    let path = only_file(&space);
    let whole = std::fs::read(&path).unwrap();
    // The lengths of the three parts, each with its checksum put right.
    for at in [56, 88, 120] {
        for len in [1_u64 << 20, 1 << 32, 1 << 46, u64::MAX, 0, 1] {
            let mut record = whole.clone();
            let was = u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
            assert!(was >= 4096, "a length");
            let len = if len <= was && len > 1 {
                was + len
            } else {
                len
            };
            record[at..at + 8].copy_from_slice(&len.to_le_bytes());
            let checksum = corkboard::integrity::crc64(&record[..248], 0);
            record[248..].copy_from_slice(&checksum.to_le_bytes());
            std::fs::write(&path, &record).unwrap();
            for error in [
                Reader::open(&space, "x").map(drop),
                Writer::open(&space, "x").map(drop),
                corkboard::board::stat(&space, "x").map(drop),
            ] {
                // Whoever does not open that part does not notice.
                if let Err(error) = error {
                    let kinds = [ErrorKind::Damaged, ErrorKind::WriterExists];
                    assert!(kinds.contains(&error.kind()), "{at} {len}: {error}");
                }
            }
            let stat = corkboard::board::stat(&space, "x").unwrap_err();
            assert_eq!(stat.kind(), ErrorKind::Damaged, "{at} {len}: {stat}");
        }
    }
    std::fs::write(&path, &whole).unwrap();
    corkboard::board::stat(&space, "x").unwrap();
}

#[test]
fn damaged_memory_is_an_error_and_never_a_value() {
    const HEAD: usize = 4096;
    let value: Vec<u8> = (0..60).collect();
    for capacity in [64, 5000] {
        let scratch = Scratch::new();
        let space = scratch.space();
        let mut writer = Options::new()
            .capacity(capacity)
            .writer(&space, "x")
            .unwrap();
        for _ in 0..3 {
            writer.publish(&value).unwrap();
        }
        let mut memory = Memory::open(&space, "data", HEAD);
        let mut wrong = 0;
        // Wine keeps every file that was closed until the last one with locks on it is: not too many.
        for byte in (0..HEAD).filter(|byte| *byte < 600 || byte % 16 == 0) {
            memory.bytes()[byte] ^= 0x10;
            let read = Reader::open(&space, "x").and_then(|mut reader| {
                let mut copy = Vec::new();
                let sequence = reader.read_into(&mut copy)?;
                let shown = reader.read()?.map(|snapshot| snapshot.to_vec());
                Ok((sequence, copy, shown))
            });
            match read {
                Ok((sequence, copy, shown)) => {
                    assert!(sequence.is_none() || copy == value, "byte {byte}");
                    assert!(shown.is_none_or(|shown| shown == value), "byte {byte}");
                }
                Err(error) => {
                    assert!(error.to_string().contains("\"x\""), "{error}");
                    wrong += 1;
                }
            }
            memory.bytes()[byte] ^= 0x10;
        }
        // At least the header and the newest value.
        assert!(wrong >= 192 + 8, "{wrong}");
        let mut reader = Reader::open(&space, "x").unwrap();
        assert_eq!(&*reader.read().unwrap().unwrap(), value, "and back");
    }
}

#[test]
fn other_programs_set_and_wait_for_our_events() {
    let scratch = Scratch::new();
    let space = scratch.space();
    for reset in [Reset::Auto, Reset::Manual] {
        let name = format!("{reset}");
        let mut ours = Event::create(&space, &name, reset).unwrap();
        // SAFETY: the name lives until the call returns; the handle is ours.
        let theirs = unsafe {
            let rights = EVENT_MODIFY_STATE | SYNCHRONIZATION_SYNCHRONIZE;
            let event = OpenEventW(rights, 0, wide(&ours.system_name()).as_ptr());
            assert!(!event.is_null());
            OwnedHandle::from_raw_handle(event)
        };
        let handle = theirs.as_raw_handle().addr();
        // SAFETY: the handles below are an event's, and open as long as `theirs`.
        let set = move || unsafe { assert_ne!(SetEvent(handle as *mut _), 0) };
        let is_set = || unsafe { WaitForSingleObject(handle as *mut _, 0) == 0 };
        let unset = || unsafe { ResetEvent(handle as *mut _) };

        ours.set().unwrap();
        assert!(is_set());
        unset();
        assert!(!ours.wait(NOW).unwrap());
        let setter = std::thread::spawn(set);
        assert!(ours.wait(PATIENCE).unwrap(), "{reset}: they woke us");
        setter.join().unwrap();
        unset();
        let setter = std::thread::spawn(set);
        let which = wait::any(&mut [&mut ours], PATIENCE).unwrap();
        assert_eq!(which, Some(0), "{reset}: also among others");
        setter.join().unwrap();
        unset();
        let notifier = ours.notifier().unwrap();
        let pacer = Event::create(&space, &format!("{name}-pacer"), Reset::Manual).unwrap();
        let pace = pacer.notifier().unwrap();
        for _ in 0..3 {
            assert!(!is_ready(&notifier, Duration::ZERO));
            set();
            assert!(is_ready(&notifier, PATIENCE.unwrap()));
            notifier.clear().unwrap();
            assert!(
                event::stat(&space, &name).unwrap().is_signalled,
                "it consumes none"
            );
            unset();
            // The thread that looks tells of this one once in each of its rounds, so that a whole
            // round comes after the unsetting.
            for _ in 0..3 {
                pacer.set().unwrap();
                assert!(is_ready(&pace, PATIENCE.unwrap()));
                pace.clear().unwrap();
                pacer.reset().unwrap();
            }
        }
    }
}

#[test]
fn an_event_of_the_other_kind_that_another_program_made_is_refused() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let name = {
        let event = Event::create(&space, "x", Reset::Auto).unwrap();
        event.system_name()
    };
    // SAFETY: the name lives until the call returns; the handle is ours.
    let _theirs = unsafe {
        OwnedHandle::from_raw_handle(windows_sys::Win32::System::Threading::CreateEventW(
            std::ptr::null(),
            1,
            0,
            wide(&name).as_ptr(),
        ))
    };
    let error = Event::open_or_create(&space, "x", Reset::Auto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn objects_for_all_sessions_are_named_so() {
    let scratch = Scratch::new();
    let space = Space::options().all_sessions().open(&scratch.0).unwrap();
    let options = Options::new().writer_mode(WriterMode::Shared);
    match options.writer(&space, "x") {
        Ok(mut writer) => {
            writer.publish(b"for all").unwrap();
            // Whoever opens it need not ask for it.
            let mut reader = Reader::open(&scratch.space(), "x").unwrap();
            assert_eq!(&*reader.read().unwrap().unwrap(), b"for all");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(
                error.to_string().contains("SeCreateGlobalPrivilege"),
                "{error}"
            );
        }
    }
}

#[test]
fn who_waits_for_a_board_s_creation_or_removal_is_woken() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = {
        let space = space.clone();
        std::thread::spawn(move || {
            let mut reader = Reader::open_timeout(&space, "x", PATIENCE.unwrap()).unwrap();
            let first = reader.wait(PATIENCE).unwrap().unwrap().to_vec();
            sender.send(first).unwrap();
            reader.wait(PATIENCE).map(drop).unwrap_err().kind()
        })
    };
    let mut writer = Options::new().writer(&space, "x").unwrap();
    writer.publish(b"first").unwrap();
    let first = receiver.recv_timeout(PATIENCE.unwrap()).unwrap();
    assert_eq!(first, b"first");
    space.remove(Kind::Board, "x").unwrap();
    assert_eq!(waiter.join().unwrap(), ErrorKind::Removed);
}
