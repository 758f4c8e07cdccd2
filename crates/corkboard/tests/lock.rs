//! Readers-writer locks, as their users see them.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, until};
#[cfg(target_os = "linux")]
use corkboard::Problem;
#[cfg(target_os = "linux")]
use corkboard::lock::Access;
use corkboard::lock::{self, Hold, Options, RwLock, State};
use corkboard::{ErrorKind, Kind};

const PATIENCE: Duration = Duration::from_secs(60);

/// The two ways to have a lock: in a space, and at a path.
fn openers(scratch: &Scratch) -> [Box<dyn Fn() -> RwLock>; 2] {
    let space = scratch.space();
    let path = scratch.0.join("file");
    [
        Box::new(move || RwLock::open(&space, "x").unwrap()),
        Box::new(move || RwLock::at(&path).unwrap()),
    ]
}

/// Two handles each.
fn handles(scratch: &Scratch) -> [(RwLock, RwLock); 2] {
    openers(scratch).map(|open| (open(), open()))
}

#[test]
fn two_handles_of_one_process_exclude_each_other() {
    let scratch = Scratch::new();
    for (mut a, mut b) in handles(&scratch) {
        {
            let _guard = a.write().unwrap();
            assert!(b.try_write().unwrap().is_none());
            assert!(b.try_read().unwrap().is_none());
        }
        {
            let _guard = a.read().unwrap();
            assert!(b.try_write().unwrap().is_none());
            assert!(b.try_read().unwrap().is_some());
        }
        assert!(b.try_write().unwrap().is_some());
        assert!(a.try_write().unwrap().is_some());
    }
}

/// Whether somebody holds a byte of the file, as the kernel says.
#[cfg(target_os = "linux")]
fn is_byte_held(path: &std::path::Path, byte: i64) -> bool {
    use std::os::fd::AsRawFd as _;
    let file = std::fs::OpenOptions::new();
    let file = file.clone().read(true).write(true).open(path).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: `lock` is valid and outlives the call.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(status, 0);
    lock.l_type != libc::F_UNLCK as libc::c_short
}

#[cfg(target_os = "linux")]
#[test]
fn who_does_not_wait_any_longer_claims_no_turn() {
    const TURN: i64 = (1 << 41) + 2;
    let scratch = Scratch::new();
    let files = [
        scratch.space().path().join("x.lock"),
        scratch.0.join("file"),
    ];
    for ((mut a, mut b), file) in handles(&scratch).into_iter().zip(files) {
        let guard = a.write().unwrap();
        assert!(b.try_read().unwrap().is_none());
        assert!(!is_byte_held(&file, TURN));
        assert!(b.read_timeout(Duration::from_millis(5)).unwrap().is_none());
        assert!(!is_byte_held(&file, TURN));
        drop(guard);
        assert!(b.try_read().unwrap().is_some());
    }
}

#[test]
fn a_forgotten_guard_is_given_back_by_the_next_lock_or_by_the_handle() {
    let scratch = Scratch::new();
    for (mut a, mut b) in handles(&scratch) {
        std::mem::forget(a.write().unwrap());
        assert!(b.try_read().unwrap().is_none());
        drop(a.read().unwrap());
        assert!(b.try_write().unwrap().is_some());
        std::mem::forget(a.write().unwrap());
        drop(a);
        assert!(b.try_write().unwrap().is_some());
    }
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_released() {
    let scratch = Scratch::new();
    for (mut a, mut b) in handles(&scratch) {
        let (sender, receiver) = channel();
        let guard = a.write().unwrap();
        let waiter = thread::spawn(move || {
            drop(b.read().unwrap());
            drop(b.write().unwrap());
            sender.send(()).unwrap();
        });
        assert!(receiver.try_recv().is_err());
        drop(guard);
        receiver.recv_timeout(PATIENCE).expect("woken");
        waiter.join().unwrap();
    }
}

#[test]
fn a_waiting_writer_keeps_later_readers_out_and_no_longer_than_it_waits() {
    let scratch = Scratch::new();
    for open in openers(&scratch) {
        let (mut a, mut writer, mut late) = (open(), open(), open());
        let guard = a.read().unwrap();
        let is_seen = Arc::new(AtomicBool::new(false));
        let waiter = thread::spawn({
            let is_seen = is_seen.clone();
            move || {
                while !is_seen.load(Ordering::Relaxed) {
                    let timeout = Duration::from_millis(300);
                    assert!(writer.write_timeout(timeout).unwrap().is_none());
                }
                writer
            }
        });
        until(|| late.try_read().unwrap().is_none());
        is_seen.store(true, Ordering::Relaxed);
        let _writer = waiter.join().unwrap();
        assert!(late.try_read().unwrap().is_some(), "the gate is open again");
        drop(guard);
    }
}

#[test]
fn time_outs_are_never_early_and_the_longest_is_for_ever() {
    let scratch = Scratch::new();
    for (mut a, mut b) in handles(&scratch) {
        let guard = a.write().unwrap();
        for timeout in [0, 1, 30].map(Duration::from_millis) {
            for write in [false, true] {
                let start = Instant::now();
                let got = match write {
                    true => b.write_timeout(timeout).unwrap().is_some(),
                    false => b.read_timeout(timeout).unwrap().is_some(),
                };
                assert!(!got && start.elapsed() >= timeout);
            }
        }
        let waiter = thread::spawn(move || {
            assert!(b.read_timeout(Duration::MAX).unwrap().is_some());
            assert!(b.write_timeout(Duration::MAX).unwrap().is_some());
        });
        thread::yield_now();
        drop(guard);
        waiter.join().unwrap();
    }
}

#[test]
fn a_removed_lock_says_so_and_a_held_one_is_not_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut a = Options::new().label("me").open(&space, "x").unwrap();
    let mut b = RwLock::open(&space, "x").unwrap();
    let guard = a.read().unwrap();
    let error = space.remove(Kind::Lock, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("(me) holds it"), "{error}");
    drop(guard);
    let holder = a.write().unwrap();
    let waiter = thread::spawn(move || b.write().map(drop).map_err(|error| error.kind()));
    until(|| {
        let handles = lock::stat(&space, "x").unwrap().handles;
        handles
            .iter()
            .any(|handle| handle.hold == Hold::AwaitsWrite)
    });
    drop(holder);
    // Either it came in before the removal, or it is told.
    loop {
        match space.remove(Kind::Lock, "x") {
            Ok(()) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
    }
    assert!(matches!(
        waiter.join().unwrap(),
        Ok(()) | Err(ErrorKind::Removed)
    ));
    assert_eq!(a.read().unwrap_err().kind(), ErrorKind::Removed);
    assert_eq!(space.entries().unwrap(), []);
    drop(RwLock::open(&space, "x").unwrap().write().unwrap());
}

#[test]
fn a_lock_file_that_was_deleted_or_replaced_is_noticed() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let mut a = RwLock::at(&path).unwrap();
    drop(a.write().unwrap());
    std::fs::remove_file(&path).unwrap();
    let mut b = RwLock::at(&path).unwrap();
    let guard = b.write().unwrap();
    assert!(a.try_write().unwrap().is_none(), "both are at the new file");
    drop(guard);
    drop(a.write().unwrap());
    std::fs::rename(&path, scratch.0.join("moved")).unwrap();
    let guard = a.write().unwrap();
    assert!(RwLock::at(&path).unwrap().try_read().unwrap().is_none());
    drop(guard);
}

#[cfg(target_os = "linux")]
#[test]
fn a_named_lock_whose_file_was_moved_or_deleted_is_noticed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut named = RwLock::open(&space, "x").unwrap();
    drop(named.read().unwrap());
    let file = space.path().join("x.lock");
    std::fs::rename(&file, space.path().join("y.lock")).unwrap();
    assert_eq!(named.read().unwrap_err().kind(), ErrorKind::Removed);
    let mut moved = RwLock::open(&space, "y").unwrap();
    drop(moved.read().unwrap());
    std::fs::remove_file(space.path().join("y.lock")).unwrap();
    assert_eq!(moved.write().unwrap_err().kind(), ErrorKind::Removed);
}

#[test]
fn a_waiter_notices_that_the_file_was_replaced() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let mut a = RwLock::at(&path).unwrap();
    let mut b = RwLock::at(&path).unwrap();
    let guard = a.write().unwrap();
    let waiter = thread::spawn(move || drop(b.write().unwrap()));
    std::fs::remove_file(&path).unwrap();
    drop(guard);
    waiter.join().unwrap();
    assert!(path.exists(), "the waiter's lock is at the path");
}

#[test]
fn files_of_others_keep_their_content() {
    let scratch = Scratch::new();
    let path = scratch.0.join("data");
    std::fs::write(&path, b"precious").unwrap();
    let (mut a, mut b) = (RwLock::at(&path).unwrap(), RwLock::at(&path).unwrap());
    let guard = a.write().unwrap();
    let waiter = thread::spawn(move || drop(b.write().unwrap()));
    drop(guard);
    waiter.join().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

/// Where nobody can wake who waits, it looks again and again.
#[test]
fn who_waits_long_for_a_file_of_others_goes_on_waiting() {
    let scratch = Scratch::new();
    let path = scratch.0.join("data");
    std::fs::write(&path, b"precious").unwrap();
    let (mut a, mut b) = (RwLock::at(&path).unwrap(), RwLock::at(&path).unwrap());
    let guard = a.write().unwrap();
    // Many times as long as the longest sleep.
    let long = Duration::from_secs(1);
    assert!(b.read_timeout(long).unwrap().is_none());
    assert!(b.write_timeout(long).unwrap().is_none());
    drop(guard);
    assert!(b.write_timeout(Duration::ZERO).unwrap().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_file_may_be_cut_short_or_overwritten_at_any_time_and_keeps_what_is_written() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let (mut a, mut b) = (RwLock::at(&path).unwrap(), RwLock::at(&path).unwrap());
    for content in [&b""[..], b"short", &[0xFF; 10_000], &[b'a'; 200]] {
        let guard = a.write().unwrap();
        let waiter = thread::spawn(move || {
            drop(b.read().unwrap());
            b
        });
        std::fs::write(&path, content).unwrap();
        drop(guard);
        b = waiter.join().unwrap();
        drop(b.write().unwrap());
        drop(RwLock::at(&path).unwrap().write().unwrap());
        assert!(
            std::fs::read(&path).unwrap() == content,
            "not ours to change"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_empty_for_a_moment_is_its_owners() {
    let scratch = Scratch::new();
    let path = scratch.0.join("settings");
    std::fs::write(&path, b"old").unwrap();
    let mut a = RwLock::at(&path).unwrap();
    let guard = a.write().unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut b = RwLock::at(&path).unwrap();
    assert!(b.try_read().unwrap().is_none());
    std::io::Write::write_all(&mut &file, b"new content").unwrap();
    drop(guard);
    drop(b.write().unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), b"new content");
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_above_a_lock_file_that_was_replaced_is_noticed() {
    let scratch = Scratch::new();
    let (directory, link) = (scratch.0.join("a"), scratch.0.join("current"));
    for name in ["a", "b"] {
        std::fs::create_dir(scratch.0.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    let path = link.join("file");
    let mut old = RwLock::at(&path).unwrap();
    for _ in 0..3 {
        drop(old.write().unwrap());
    }
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(scratch.0.join("b"), &link).unwrap();
    let mut new = RwLock::at(&path).unwrap();
    let guard = new.write().unwrap();
    assert!(old.try_write().unwrap().is_none());
    drop(guard);
    drop(old.write().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_damaged_lock_that_is_held_is_not_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let file = space.path().join("x.lock");
    let mut lock = RwLock::open(&space, "x").unwrap();
    let guard = lock.write().unwrap();
    let flip = |space: &corkboard::Space| {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(space.path().join("x.lock"))
            .unwrap();
        file.write_all_at(&[0xFF], 40).unwrap();
    };
    flip(&space);
    let error = space.remove(Kind::Lock, "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(file.exists());
    drop(guard);
    space.remove(Kind::Lock, "x").unwrap();
    assert!(!file.exists());
    // Whatever else has a lock's name goes, too.
    std::fs::create_dir(&file).unwrap();
    space.remove(Kind::Lock, "x").unwrap();
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    space.remove(Kind::Lock, "x").unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_lock_file_is_refused_and_named() {
    let scratch = Scratch::new();
    let kind = |path: &std::path::Path| {
        let error = RwLock::at(path).unwrap_err();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.to_string().contains(&name), "{error}");
        error.kind()
    };
    let target = scratch.0.join("target");
    std::fs::write(&target, b"").unwrap();
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert_eq!(kind(&link), ErrorKind::Untrusted);
    assert_eq!(kind(&scratch.0), ErrorKind::Unsupported);
    let fifo = scratch.0.join("fifo");
    common::make_fifo(&fifo);
    assert_eq!(kind(&fifo), ErrorKind::Unsupported);
    assert_eq!(kind(&scratch.0.join("no/such")), ErrorKind::NotFound);
    assert_eq!(
        RwLock::open(&scratch.space(), "a/b").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
}

#[cfg(target_os = "linux")]
#[test]
fn damaged_locks_are_errors_that_name_them_and_can_be_removed() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let file = space.path().join("x.lock");
    drop(RwLock::open(&space, "x").unwrap());
    let pristine = std::fs::read(&file).unwrap();
    let mut shorter = pristine.clone();
    shorter.truncate(5000);
    let mut flipped = pristine.clone();
    flipped[40] ^= 1;
    for content in [&b""[..], b"nonsense", &shorter, &flipped, &[0xFF; 16384]] {
        std::fs::write(&file, content).unwrap();
        let error = RwLock::open(&space, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("lock \"x\""), "{error}");
        let findings = space.diagnose().unwrap();
        assert!(
            findings
                .iter()
                .any(|found| found.problem() == Problem::Damaged)
        );
        space.remove(Kind::Lock, "x").unwrap();
        drop(RwLock::open(&space, "x").unwrap());
    }
    // Everything after the header may be anything: these are hints.
    let mut hints = pristine.clone();
    hints[264..].fill(0xFF);
    std::fs::write(&file, &hints).unwrap();
    let mut a = RwLock::open(&space, "x").unwrap();
    let mut b = RwLock::open(&space, "x").unwrap();
    let guard = a.write().unwrap();
    assert!(b.try_read().unwrap().is_none());
    lock::stat(&space, "x").unwrap();
    drop(guard);
    assert!(b.try_read().unwrap().is_some());
    space.remove(Kind::Lock, "x").unwrap();
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    assert_eq!(
        RwLock::open(&space, "x").unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

#[test]
fn who_holds_a_lock_can_be_read() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let state = || lock::stat(&space, "x").unwrap().state;
    let mut a = Options::new().label("first").open(&space, "x").unwrap();
    let _keeper = space.keep(Kind::Lock, "x").unwrap();
    let mut b = Options::new().label("second").open(&space, "x").unwrap();
    assert_eq!(state(), State::Free);
    let guard = a.read().unwrap();
    assert_eq!(state(), State::Read);
    let waiter = thread::spawn(move || drop(b.write().unwrap()));
    let waits = || {
        let stat = lock::stat(&space, "x").unwrap();
        let second = stat
            .handles
            .into_iter()
            .find(|handle| handle.label == "second");
        stat.writer_waits && second.is_some_and(|handle| handle.hold == Hold::AwaitsWrite)
    };
    until(waits);
    let stat = lock::stat(&space, "x").unwrap();
    let first = stat
        .handles
        .iter()
        .find(|handle| handle.label == "first")
        .unwrap();
    assert_eq!((first.hold, first.is_alive), (Hold::Reads, true));
    assert_eq!(first.pid, std::process::id());
    assert!(first.since.is_some() && first.is_holder());
    drop(guard);
    waiter.join().unwrap();
    let guard = a.write().unwrap();
    assert_eq!(state(), State::Written);
    drop(guard);
    drop(a);
    assert_eq!(lock::stat(&space, "x").unwrap().handles, []);
}

#[test]
fn more_handles_than_the_table_lists_exclude_each_other_all_the_same() {
    let scratch = Scratch::new();
    let space = scratch.space();
    let mut all: Vec<RwLock> = (0..130)
        .map(|_| RwLock::open(&space, "x").unwrap())
        .collect();
    assert_eq!(lock::stat(&space, "x").unwrap().handles.len(), 124);
    let (last, others) = all.split_last_mut().unwrap();
    let guard = last.write().unwrap();
    assert!(
        others
            .iter_mut()
            .all(|other| other.try_read().unwrap().is_none())
    );
    drop(guard);
    assert!(others[0].try_write().unwrap().is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn access_is_exact_despite_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let space = scratch.space();
    for (access, mode) in [
        (Access::Owner, 0o600),
        (Access::Group, 0o660),
        (Access::Everyone, 0o666),
    ] {
        let options = Options::new().access(access);
        drop(options.open(&space, &access.to_string()).unwrap());
        let path = scratch.0.join(format!("{access}-file"));
        drop(options.at(&path).unwrap());
        for file in [space.path().join(format!("{access}.lock")), path] {
            let found = std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{file:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn handles_of_a_fork_s_child_are_refused_and_release_nothing() {
    let scratch = Scratch::new();
    for (mut a, mut b) in handles(&scratch) {
        let guard = a.write().unwrap();
        // SAFETY: the child only locks, which fails, drops its copies, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let kind = b.try_read().map(|_| ()).map_err(|error| error.kind());
            drop(guard);
            drop((a, b));
            let code = i32::from(kind != Err(ErrorKind::Forked));
            // SAFETY: ends this process; nothing of it is used afterwards.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: waits for the child started above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "refused with `Forked`");
        assert!(b.try_read().unwrap().is_none(), "still held");
        drop(guard);
        assert!(b.try_write().unwrap().is_some());
    }
}
