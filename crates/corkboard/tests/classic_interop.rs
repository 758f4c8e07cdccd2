//! Old and new programs at one block: corkboard and the double of the original, see
//! `classic/double.c`, in both directions, with kills.
//!
//! The environment variable `CORKBOARD_DOUBLE` names the double; without it a test fails rather
//! than shows nothing.
#![cfg(windows)]

#[path = "common/random.rs"]
mod random;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use corkboard::classic::{self, Dialect, Event, Options, Reader, Reset, Writer};
use corkboard::{ErrorKind, Space};
use random::{Random, check_value};

const PATIENCE: Duration = Duration::from_secs(120);
const ALL: [Dialect; 3] = [Dialect::Seed, Dialect::Untailed, Dialect::Current];
const ACCESSES: u32 = 1_000;

/// Blocks have names of the session, so the space is any.
fn space() -> Space {
    let path = std::env::var_os("CORKBOARD_TEST_SPACE").map(PathBuf::from);
    let path = path.unwrap_or_else(|| std::env::temp_dir().join("corkboard-classic-test"));
    Space::at(path).unwrap()
}

/// A name that no other test has.
fn name(test: &str) -> String {
    format!("test-{}-{test}", std::process::id())
}

/// Another process, which is ended when the test is over.
struct Other {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// The original, doing what the words say.
    fn double(words: &[&str]) -> Self {
        let path = std::env::var("CORKBOARD_DOUBLE").expect("CORKBOARD_DOUBLE names the double");
        let mut command = Command::new(path);
        command.args(words);
        Self::of(command)
    }

    /// The same, after it has said that it is ready.
    fn ready(words: &[&str]) -> Self {
        Self::double(words).when_ready()
    }

    /// Another process of ours.
    fn ours(part: &str, name: &str, dialect: Dialect) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child_plays_its_part", "--nocapture"])
            .env("CORKBOARD_TEST_PART", part)
            .env("CORKBOARD_TEST_NAME", name)
            .env("CORKBOARD_TEST_DIALECT", dialect.as_str());
        Self::of(command).when_ready()
    }

    fn when_ready(mut self) -> Self {
        let mut line = String::new();
        while line.trim_end() != "ready" {
            line.clear();
            let count = self.output.read_line(&mut line).unwrap();
            assert!(count > 0, "it ended before it was ready");
        }
        self
    }

    /// Waits for its end; returns its exit status and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    /// Ends it at once, wherever it is.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the original reads.
fn read_by_double(dialect: Dialect, name: &str) -> (Option<i32>, String) {
    let (code, said) = Other::double(&[dialect.as_str(), "read", name]).end();
    (code, said.trim_end().to_owned())
}

#[test]
fn each_side_reads_what_the_other_wrote_at_every_length() {
    let space = space();
    for dialect in ALL {
        let name = name(&format!("lengths-{dialect}"));
        let options = Options::new(dialect).capacity(100);
        let mut writer = options.writer(&space, &name).unwrap();
        let mut reader = Reader::open(&space, &name, dialect).unwrap();
        for len in [0, 1, 8, 99, 100] {
            let content: Vec<u8> = (0..len).map(|index| 0xA0 ^ index as u8).collect();
            writer.write(&content).unwrap();
            assert_eq!(read_by_double(dialect, &name), (Some(0), hex(&content)));
            assert_eq!(reader.read().unwrap(), content);
        }
        let refused = writer.write(&[1; 101]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
        for len in [0, 1, 8, 99, 100] {
            let content: Vec<u8> = (0..len).map(|index| 0x50 ^ index as u8).collect();
            let words = [dialect.as_str(), "write", &name, "100", &hex(&content)];
            let _old = Other::ready(&words);
            assert_eq!(reader.read().unwrap(), content);
            assert_eq!(writer.read().unwrap(), content);
        }
        assert_eq!(reader.capacity().unwrap(), 100);
        // The original cuts it short.
        let words = [dialect.as_str(), "write", &name, "100", &hex(&[7; 101])];
        let _old = Other::ready(&words);
        assert_eq!(reader.read().unwrap(), [7; 100]);
    }
}

#[test]
fn a_block_that_the_original_made_is_taken_as_it_is() {
    let space = space();
    for dialect in ALL {
        let name = name(&format!("taken-{dialect}"));
        let absent = Reader::open(&space, &name, dialect).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        let old = Other::ready(&[dialect.as_str(), "write", &name, "5000", "6f6c64"]);
        let stat = classic::stat(&space, &name, None).unwrap();
        assert_eq!((stat.dialect, stat.capacity, stat.len), (dialect, 5000, 3));
        assert_eq!(stat.is_intact, Some(true));
        // Whole pages.
        assert_eq!(stat.view_len, 8192);
        let options = Options::new(dialect).capacity(10);
        let mut writer = options.writer(&space, &name).unwrap();
        assert_eq!(writer.read().unwrap(), b"old");
        assert_eq!(writer.capacity().unwrap(), 5000);
        let more = Options::new(dialect).capacity(5001).writer(&space, &name);
        assert_eq!(more.unwrap_err().kind(), ErrorKind::Incompatible);
        writer.write(b"new").unwrap();
        assert_eq!(read_by_double(dialect, &name), (Some(0), hex(b"new")));
        old.kill();
        // We have it open.
        assert_eq!(writer.read().unwrap(), b"new");
        drop(writer);
        let gone = Reader::open(&space, &name, dialect).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn the_wrong_dialect_is_refused_in_both_directions() {
    let space = space();
    for (is, other) in [
        (Dialect::Seed, Dialect::Untailed),
        (Dialect::Untailed, Dialect::Seed),
    ] {
        let name = name(&format!("dialect-{is}"));
        let _old = Other::ready(&[is.as_str(), "start", &name, "100"]);
        let kinds = [
            Reader::open(&space, &name, other).unwrap_err().kind(),
            Writer::open(&space, &name, other).unwrap_err().kind(),
            Options::new(other)
                .capacity(10)
                .writer(&space, &name)
                .unwrap_err()
                .kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Incompatible; 3]);
        assert_eq!(classic::recognise(&space, &name).unwrap(), is);
    }
}

#[test]
fn a_header_that_claims_more_than_there_is_is_refused() {
    let space = space();
    let name = name("claims");
    let mut writer = Options::new(Dialect::Seed)
        .capacity(100)
        .writer(&space, &name)
        .unwrap();
    let mut reader = Reader::open(&space, &name, Dialect::Seed).unwrap();
    for capacity in ["4064", "100000", "-32", "-34", "2147483614"] {
        let _old = Other::ready(&["seed", "claim", &name, capacity]);
        let errors = [
            reader.read().unwrap_err(),
            writer.read().unwrap_err(),
            writer.write(b"w").unwrap_err(),
            Reader::open(&space, &name, Dialect::Seed).unwrap_err(),
            Options::new(Dialect::Seed)
                .writer(&space, &name)
                .unwrap_err(),
            classic::stat(&space, &name, None).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{capacity}: {error}");
        }
    }
    for content_size in ["-1", "-2147483648", "4064", "2147483647"] {
        let _old = Other::ready(&["seed", "claim", &name, "100", content_size]);
        let errors = [
            reader.read().unwrap_err(),
            writer.write(b"w").unwrap_err(),
            classic::stat(&space, &name, None).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{content_size}: {error}");
        }
    }
    let _old = Other::ready(&["seed", "claim", &name, "100", "5"]);
    assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Corrupt);
    let _old = Other::ready(&["seed", "claim", &name, "100"]);
    assert_eq!(reader.read().unwrap(), b"");
    writer.write(b"healed").unwrap();
    assert_eq!(reader.read().unwrap(), b"healed");
}

#[test]
fn ten_writers_and_ten_readers_of_both_sides_access_one_block_a_thousand_times_each() {
    let space = space();
    for dialect in ALL {
        let name = name(&format!("mixed-{dialect}"));
        let word = dialect.as_str();
        // The old writers start first, as that empties the block.
        let mut others: Vec<Other> = (0..5)
            .map(|number| {
                let (count, number) = (ACCESSES.to_string(), number.to_string());
                Other::ready(&[word, "writer", &name, "200", &count, &number])
            })
            .collect();
        let mut keeper = Options::new(dialect)
            .capacity(200)
            .writer(&space, &name)
            .unwrap();
        for index in 0..15 {
            let count = ACCESSES.to_string();
            others.push(match index % 3 {
                0 => Other::ready(&[word, "reader", &name, &count]),
                1 => Other::ours("reader", &name, dialect),
                _ => Other::ours("writer", &name, dialect),
            });
        }
        for other in others {
            let (code, said) = other.end();
            assert_eq!(code, Some(0), "{said}");
        }
        check_value(&keeper.read().unwrap());
    }
}

#[test]
fn originals_that_start_again_and_again_make_nobody_lie() {
    let space = space();
    let name = name("restart");
    let value = |fill: u8| vec![fill; 300 + usize::from(fill)];
    let mut writer = Options::new(Dialect::Seed)
        .capacity(1000)
        .writer(&space, &name)
        .unwrap();
    let mut reader = Reader::open(&space, &name, Dialect::Seed).unwrap();
    let mut old = Other::ready(&["seed", "restart", &name, "1000", "20000"]);
    let (mut whole, mut empty, mut corrupt) = (0, 0, 0);
    let mut round = 0_u8;
    let status = loop {
        if let Some(status) = old.child.try_wait().unwrap() {
            break status;
        }
        round = round.wrapping_add(1);
        match writer.write(&value(round)) {
            Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
        match reader.read() {
            Ok(content) if content.is_empty() => empty += 1,
            Ok(content) => {
                assert_eq!(content, value(round));
                whole += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                corrupt += 1;
            }
        }
    };
    assert!(status.success(), "{status}");
    assert!(whole > 0);
    println!("{whole} values, {empty} times none, {corrupt} times corrupt");
    writer.write(b"last").unwrap();
    assert_eq!(reader.read().unwrap(), b"last");
    assert_eq!(
        read_by_double(Dialect::Seed, &name),
        (Some(0), hex(b"last"))
    );
}

#[test]
fn who_starts_second_on_our_side_keeps_what_the_original_wrote() {
    let space = space();
    let name = name("second");
    let _old = Other::ready(&["seed", "write", &name, "100", &hex(b"old value")]);
    for _ in 0..100 {
        let options = Options::new(Dialect::Seed).capacity(100);
        let mut writer = options.writer(&space, &name).unwrap();
        assert_eq!(writer.read().unwrap(), b"old value");
    }
}

/// Kills the holder and measures how long the next one takes.
fn goes_on(mut next: impl FnMut(Duration) -> bool, holder: Other, what: &str) -> Duration {
    assert!(
        !next(Duration::from_millis(50)),
        "{what} keeps the next out"
    );
    holder.kill();
    let killed = Instant::now();
    assert!(next(PATIENCE), "{what} is dead, and the next not in");
    killed.elapsed()
}

#[test]
fn the_end_of_a_holder_on_either_side_lets_the_other_go_on() {
    let space = space();
    let name = name("holder");
    let dialect = Dialect::Seed;
    let options = Options::new(dialect).capacity(100);
    let mut writer = options.writer(&space, &name).unwrap();
    writer.write(b"value").unwrap();
    let mut reader = Reader::open(&space, &name, dialect).unwrap();
    let mut times = Vec::new();
    for _ in 0..10 {
        for mode in ["read", "write"] {
            let holder = Other::ready(&["seed", "hold", &name, mode]);
            let next = |patience| writer.write_timeout(b"value", patience).unwrap();
            times.push(goes_on(next, holder, mode));
        }
        let holder = Other::ready(&["seed", "hold", &name, "write"]);
        let mut buffer = Vec::new();
        let next = |patience| reader.read_timeout(&mut buffer, patience).unwrap();
        times.push(goes_on(next, holder, "write"));
        assert_eq!(buffer, b"value");
        // Readers do not keep readers out.
        let _holder = Other::ready(&["seed", "hold", &name, "read"]);
        assert_eq!(reader.read().unwrap(), b"value");
    }
    times.sort();
    let longest = times[times.len() - 1];
    println!(
        "the next after {:?} (p50), {longest:?} (longest)",
        times[times.len() / 2]
    );
}

/// Long enough that most of the time of who writes it passes with the lock held.
const LONG: usize = 16 << 20;

#[test]
fn the_end_of_one_of_ours_in_the_middle_of_a_value_lets_originals_go_on() {
    let space = space();
    let name = name("middle");
    let dialect = Dialect::Seed;
    let options = Options::new(dialect).capacity(LONG);
    let mut keeper = options.writer(&space, &name).unwrap();
    let mut reader = Reader::open(&space, &name, dialect).unwrap();
    let (mut random, mut torn, mut times) = (Random(9), 0, Vec::new());
    for _ in 0..20 {
        keeper.write(b"value").unwrap();
        let holder = Other::ours("endless long writer", &name, dialect);
        until(|| reader.read().map_or(true, |content| content.len() == LONG));
        std::thread::sleep(Duration::from_micros(random.below(50_000)));
        holder.kill();
        // The start of the original empties the block, so this comes first.
        match reader.read() {
            Ok(content) => assert!(content.iter().all(|byte| *byte == content[0])),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                torn += 1;
            }
        }
        let start = Instant::now();
        let _old = Other::ready(&["seed", "write", &name, &LONG.to_string(), "6f6c64"]);
        times.push(start.elapsed());
        assert_eq!(reader.read().unwrap(), b"old");
    }
    times.sort();
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{torn} of 20 in the middle; an original starts and writes in {middle:?} (p50), {longest:?} (longest)"
    );
}

fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it does not come to pass");
        std::thread::yield_now();
    }
}

#[test]
fn a_value_whose_writer_was_ended_half_way_is_corrupt_until_the_next() {
    let space = space();
    let name = name("torn");
    let options = Options::new(Dialect::Seed).capacity(100);
    let mut writer = options.writer(&space, &name).unwrap();
    writer.write(&[1; 100]).unwrap();
    let mut reader = Reader::open(&space, &name, Dialect::Seed).unwrap();
    let torn = Other::ready(&["seed", "tear", &name, "100"]);
    torn.kill();
    assert_eq!(reader.read().unwrap_err().kind(), ErrorKind::Corrupt);
    writer.write(&[2; 100]).unwrap();
    assert_eq!(reader.read().unwrap(), [2; 100]);
}

#[test]
fn killed_writers_and_readers_of_both_sides_keep_nobody_out() {
    let space = space();
    let name = name("kills");
    let dialect = Dialect::Seed;
    let options = Options::new(dialect).capacity(200);
    let mut writer = options.writer(&space, &name).unwrap();
    let mut reader = Reader::open(&space, &name, dialect).unwrap();
    let begin = |index: usize| match index {
        0 => Other::ready(&["seed", "writer", &name, "200", "100000000", "3"]),
        1 => Other::ready(&["seed", "reader", &name, "100000000"]),
        2 => Other::ours("endless writer", &name, dialect),
        _ => Other::ours("endless reader", &name, dialect),
    };
    let mut others: Vec<Other> = (0..4).map(begin).collect();
    let mut random = Random(5);
    let mut buffer = Vec::new();
    for _ in 0..40 {
        let index = random.below(4) as usize;
        let fresh = begin(index);
        std::mem::replace(&mut others[index], fresh).kill();
        assert!(writer.write_timeout(&random.value(200), PATIENCE).unwrap());
        match reader.read_timeout(&mut buffer, PATIENCE) {
            Ok(in_time) => {
                assert!(in_time);
                check_value(&buffer);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
        }
    }
    drop(others);
    writer.write(b"last").unwrap();
    assert_eq!(reader.read().unwrap(), b"last");
}

#[test]
fn a_waiting_reader_sees_each_value_of_the_original() {
    let space = space();
    let name = name("watch");
    let _keeper = Options::new(Dialect::Seed)
        .capacity(100)
        .writer(&space, &name)
        .unwrap();
    let mut reader = Reader::open(&space, &name, Dialect::Seed).unwrap();
    let mut buffer = Vec::new();
    assert!(reader.wait(&mut buffer, Some(PATIENCE)).unwrap());
    assert!(
        !reader
            .wait(&mut buffer, Some(Duration::from_millis(5)))
            .unwrap()
    );
    for number in 0..20_u8 {
        let value = [b'v', number];
        let _old = Other::ready(&["seed", "write", &name, "100", &hex(&value)]);
        while buffer != value {
            // The start of the original may be seen, too, as an empty value.
            assert!(reader.wait(&mut buffer, Some(PATIENCE)).unwrap());
        }
    }
}

#[test]
fn current_programs_that_disagree_on_the_system_s_start_are_noticed() {
    let space = space();
    let name = name("boot");
    let start = 1_750_000_000;
    let dialect = Dialect::Current;
    let old = ["current:1750000000", "write", &name, "100", "6f6c64"];
    let _old = Other::ready(&old);
    let unknown = Reader::open(&space, &name, dialect).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Incompatible, "{unknown}");
    let options = Options::new(dialect).boot_time(start);
    let mut writer = options.writer(&space, &name).unwrap();
    assert_eq!(writer.read().unwrap(), b"old");
    let holder = Other::ready(&["current:1750000000", "hold", &name, "read"]);
    let next = |patience| writer.write_timeout(b"new", patience).unwrap();
    goes_on(next, holder, "an old reader");
}

#[test]
fn a_lock_of_an_unknown_start_hides_no_other_start() {
    let space = space();
    let name = name("starts");
    // Lock files outlive their programs, and numbers of processes come again.
    let forget = || {
        let files = std::fs::read_dir(std::env::temp_dir().join("rwfilelock"));
        for file in files.into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().contains(&name) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    };
    forget();
    let dialect = Dialect::Current;
    let current = Options::new(dialect).capacity(100);
    // What this leaves in the folder of lock files begins with 0.
    let mut writer = current.writer(&space, &name).unwrap();
    writer.write(b"value").unwrap();
    // A block whose name ends in the same way is another one.
    let longer = format!("y_SMLF-{name}");
    let _other = Other::ready(&["current:1750000000", "write", &longer, "100", "6f6c64"]);
    assert_eq!(
        Reader::open(&space, &name, dialect)
            .unwrap()
            .read()
            .unwrap(),
        b"value"
    );
    let _old = Other::ready(&["current:1750000000", "write", &name, "100", "6f6c64"]);
    let unknown = Reader::open(&space, &name, dialect).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Incompatible, "{unknown}");
    let known = current.boot_time(1_750_000_000);
    assert_eq!(known.reader(&space, &name).unwrap().read().unwrap(), b"old");
    forget();
}

/// The lock's folder is found by the process's environment, so this takes a process of its own.
#[test]
fn a_lock_that_cannot_be_opened_is_told_as_such() {
    let space = space();
    let name = name("lockless");
    let options = Options::new(Dialect::Seed).capacity(100);
    let mut writer = options.writer(&space, &name).unwrap();
    writer.write(b"value").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let nowhere = std::env::temp_dir().join("not-there").join("nor-this");
    command
        .args(["--exact", "child_plays_its_part", "--nocapture"])
        .env("CORKBOARD_TEST_PART", "lockless reader")
        .env("CORKBOARD_TEST_NAME", &name)
        .env("CORKBOARD_TEST_DIALECT", Dialect::Seed.as_str())
        .env("CORKBOARD_TEST_SPACE", space.path())
        .env("TMP", &nowhere)
        .env("TEMP", &nowhere);
    let (code, said) = Other::of(command).when_ready().end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_checked_in_bytes_are_those_of_the_double() {
    let content = "It is 21.5 degrees, 晴";
    for (dialect, golden) in [
        (
            Dialect::Seed,
            &include_bytes!("classic/golden/seed.bin")[..],
        ),
        (
            Dialect::Untailed,
            include_bytes!("classic/golden/untailed.bin"),
        ),
        (
            Dialect::Current,
            include_bytes!("classic/golden/current.bin"),
        ),
    ] {
        let path = std::env::temp_dir().join(name(&format!("golden-{dialect}")));
        let (hex, file) = (hex(content.as_bytes()), path.to_str().unwrap());
        let (code, said) = Other::double(&[dialect.as_str(), "golden", "48", &hex, file]).end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), golden, "{dialect}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn events_are_the_system_s_own() {
    let space = space();
    let name = name("event");
    assert_eq!(
        Event::open(&space, &name).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let event = Event::create(&space, &name, Reset::Auto).unwrap();
    let taken = Event::create(&space, &name, Reset::Auto).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert!(!event.wait(Some(Duration::from_millis(1))).unwrap());
    let (code, _) = Other::double(&["seed", "event", "set", &name, "0"]).end();
    assert_eq!(code, Some(0));
    assert!(event.wait(Some(PATIENCE)).unwrap());
    assert!(!event.wait(Some(Duration::ZERO)).unwrap(), "auto-reset");
    let waiting = Other::double(&["seed", "event", "wait", &name, "100000"]);
    Event::open(&space, &name).unwrap().set().unwrap();
    assert_eq!(waiting.end().0, Some(0));
    event.set().unwrap();
    event.reset().unwrap();
    assert!(!event.wait(Some(Duration::ZERO)).unwrap());
    for bad in ["", "a\\b", "Global\\", "x\0y"] {
        let refused = Event::open(&space, bad).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidName, "{bad:?}");
    }
    let local = Event::create(&space, &format!("Local\\{name}-2"), Reset::Manual).unwrap();
    local.set().unwrap();
    let same = Event::open_or_create(&space, &format!("{name}-2"), Reset::Manual).unwrap();
    assert!(same.wait(None).unwrap() && same.wait(None).unwrap());
}

/// Not a test of its own: our part in the tests above.
#[test]
fn child_plays_its_part() {
    let Ok(part) = std::env::var("CORKBOARD_TEST_PART") else {
        return;
    };
    let name = std::env::var("CORKBOARD_TEST_NAME").unwrap();
    let dialect = std::env::var("CORKBOARD_TEST_DIALECT").unwrap();
    let dialect = ALL
        .into_iter()
        .find(|each| each.as_str() == dialect)
        .unwrap();
    let space = space();
    let mut random = Random(u64::from(std::process::id()));
    let rounds = if part.starts_with("endless") {
        u32::MAX
    } else {
        ACCESSES
    };
    // The name of the test may stand on this line.
    println!("\nready");
    match part.trim_start_matches("endless ") {
        "writer" => {
            let mut writer = Writer::open(&space, &name, dialect).unwrap();
            for _ in 0..rounds {
                writer.write(&random.value(200)).unwrap();
            }
        }
        "long writer" => {
            let mut writer = Writer::open(&space, &name, dialect).unwrap();
            for round in 0..rounds {
                writer.write(&vec![round as u8; LONG]).unwrap();
            }
        }
        "reader" => {
            let mut reader = Reader::open(&space, &name, dialect).unwrap();
            for _ in 0..rounds {
                match reader.read() {
                    Ok(value) => check_value(&value),
                    // Only where writers are killed half-way.
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                        assert!(part.starts_with("endless"), "{error}");
                    }
                }
            }
        }
        "lockless reader" => {
            let mut reader = Reader::open(&space, &name, dialect).unwrap();
            let error = reader.read().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("rwfilelock"), "{error}");
        }
        other => panic!("no part {other}"),
    }
}
