//! Sending to streams and receiving from them.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Running, Scratch, terminal};
use rustix::process::{Pid, Signal, kill_process};

/// A command that reads and writes files; killed when the test is over.
struct InFiles {
    child: Child,
    output: PathBuf,
}

impl InFiles {
    fn start(scratch: &Scratch, arguments: &[&str], input: &[u8]) -> Self {
        // The space's directory is there as soon as somebody looked into it.
        assert_eq!(scratch.code(&["ls"]), Some(0));
        let number = std::fs::read_dir(&scratch.0).unwrap().count();
        let [from, output] = ["in", "out"].map(|what| scratch.0.join(format!("{number}.{what}")));
        std::fs::write(&from, input).unwrap();
        let child = scratch
            .command(arguments)
            .stdin(File::open(from).unwrap())
            .stdout(File::create(&output).unwrap())
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// Waits for its end, which must be a good one; returns what it printed.
    fn end(mut self) -> Vec<u8> {
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        std::fs::read(&self.output).unwrap()
    }
}

impl Drop for InFiles {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that another process does.
fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "it does not happen");
        std::thread::yield_now();
    }
}

impl Scratch {
    fn send(&self, arguments: &[&str], input: &[u8]) {
        let output = self.run(&[&["pub"], arguments].concat(), input);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }

    fn stat(&self, name: &str) -> serde_json::Value {
        self.json(&["stat", name, "--kind", "stream", "--json"])
    }

    fn subscribers(&self, name: &str) -> usize {
        self.stat(name)["subscribers"].as_array().unwrap().len()
    }

    /// How many have joined, so that they miss nothing that is sent from now on.
    fn joined(&self, name: &str) -> usize {
        let stat = self.stat(name);
        let subscribers = stat["subscribers"].as_array().unwrap();
        let has_joined = |one: &&serde_json::Value| one["position"].is_u64();
        subscribers.iter().filter(has_joined).count()
    }

    /// The exit status and what was told on standard error.
    fn told(&self, arguments: &[&str], input: &[u8]) -> (Option<i32>, String) {
        let output = self.run(arguments, input);
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), told)
    }
}

fn lines(count: usize) -> Vec<u8> {
    let lines = (1..=count).map(|number| format!("{number}\n"));
    lines.collect::<String>().into_bytes()
}

const MILLION: usize = 1_000_000;

#[test]
fn a_million_lines_arrive_whoever_was_first() {
    let scratch = Scratch::new("million");
    let input = lines(MILLION);
    // Subscribed before there is a stream.
    let sub = InFiles::start(&scratch, &["sub", "s"], b"");
    scratch.send(&["s"], &input);
    assert!(sub.end() == input);
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    // While records are being sent: there is no room for more of them.
    let publisher = InFiles::start(&scratch, &["pub", "s"], &input);
    until(|| scratch.json(&["ls", "--json"])[0]["sequence"] == 16384);
    assert!(InFiles::start(&scratch, &["sub", "s"], b"").end() == input);
    publisher.end();
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    // After the end.
    scratch.send(&["s", "--capacity", "64MiB"], &input);
    assert!(InFiles::start(&scratch, &["sub", "s"], b"").end() == input);
}

#[test]
fn two_subscribers_both_get_everything() {
    let scratch = Scratch::new("two");
    scratch.send(&["s", "--keep"], b"");
    let input = lines(100_000);
    let subs = [(); 2].map(|()| InFiles::start(&scratch, &["sub", "s"], b""));
    until(|| scratch.joined("s") == 2);
    scratch.send(&["s"], &input);
    for sub in subs {
        assert!(sub.end() == input);
    }
    assert_eq!(scratch.subscribers("s"), 0);
}

#[test]
fn lines_are_records_also_empty_ones_and_the_last_without_a_line_break() {
    let scratch = Scratch::new("lines");
    scratch.send(&["s"], b"one\n\n\xff\x00 three\nlast");
    assert_eq!(scratch.stat("s")["sequence"], 5);
    let output = scratch.run(&["sub", "s"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"one\n\n\xff\x00 three\nlast\n");
    scratch.send(&["empty"], b"");
    assert_eq!(scratch.text(&["sub", "empty"]), "");
}

#[test]
fn frames_carry_any_bytes() {
    let scratch = Scratch::new("frames");
    let mut input = Vec::new();
    let records = [
        &b"line\nbreak\n"[..],
        b"",
        &[0; 300],
        b"\xff",
        &[b'\n'; 5000],
    ];
    for record in records {
        input.extend((record.len() as u32).to_le_bytes());
        input.extend(record);
    }
    scratch.send(&["s", "--frames"], &input);
    assert_eq!(scratch.stat("s")["sequence"], 6);
    assert!(scratch.run(&["sub", "s", "--frames"], b"").stdout == input);
    let (code, told) = scratch.told(&["pub", "t", "--frames"], &input[..20]);
    assert_eq!(code, Some(2));
    assert!(
        told.contains("ends within frame 3; 2 records were sent"),
        "{told}"
    );
    let (code, told) = scratch.told(&["pub", "u", "--frames"], b"\xff\xff\xff\xff");
    assert_eq!(code, Some(2));
    assert!(
        told.contains("frame 1 has more than 262144 bytes"),
        "{told}"
    );
}

#[test]
fn a_line_that_is_too_long_is_told_by_its_number_and_those_before_it_were_sent() {
    let scratch = Scratch::new("long");
    let long = [b'x'; 300];
    let fits = [b'x'; 256];
    let input = [&b"one\n"[..], &fits, b"\n", &long, b"\nfour\n"].concat();
    let (code, told) = scratch.told(&["pub", "s", "--capacity", "1KiB"], &input);
    assert_eq!(code, Some(2));
    let wanted = "line 3 has more than 256 bytes, a quarter of the capacity; remove the stream (corkboard rm s), and send with a larger --capacity; 2 records were sent";
    assert!(told.contains(wanted), "{told}");
    let stat = scratch.stat("s");
    assert_eq!(
        (&stat["sequence"], &stat["ended"]),
        (&2.into(), &false.into())
    );
    // One without an end is not read to it.
    let (code, told) = scratch.told(&["pub", "s"], &[b'x'; 1 << 20]);
    assert!(code == Some(2) && told.contains("line 1 has"), "{told}");
}

#[test]
fn a_stream_without_room_makes_pub_wait_and_its_time_out_tells_how_far_it_got() {
    let scratch = Scratch::new("full");
    let pub_ = ["pub", "s", "--capacity", "1KiB", "--timeout", "5ms"];
    let (code, told) = scratch.told(&pub_, &lines(100));
    assert_eq!(code, Some(1));
    let wanted = "stream \"s\" is full; gave up waiting for room; 16 records were sent";
    assert!(told.contains(wanted), "{told}");
    // Not even for an end mark.
    let (code, told) = scratch.told(&pub_, b"");
    assert!(
        code == Some(1) && told.contains("0 records were sent"),
        "{told}"
    );
    let overwrites = ["o", "--capacity", "1KiB", "--overwrite"];
    scratch.send(&overwrites, &lines(100));
    let (code, told) = scratch.told(&["pub", "s", "--overwrite"], b"");
    assert!(
        code == Some(2) && told.contains("it has overflow Block"),
        "{told}"
    );
}

#[test]
fn what_was_overwritten_is_told_and_only_strict_minds() {
    let scratch = Scratch::new("overwritten");
    scratch.send(&["s", "--capacity", "1KiB", "--overwrite"], &lines(100));
    let from = ["sub", "s", "--from", "1"];
    let output = scratch.run(&from, b"");
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    let missed = numbers[0] - 1;
    assert!(missed > 80 && numbers.iter().copied().eq(missed + 1..=100));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(&format!("{missed} records were overwritten")),
        "{told}"
    );
    let (code, told) = scratch.told(&[&from[..], &["--strict"]].concat(), b"");
    assert!(
        code == Some(2) && told.contains("were overwritten"),
        "{told}"
    );
    assert_eq!(scratch.text(&["sub", "s"]), printed);
}

#[test]
fn a_subscription_begins_and_ends_where_it_is_asked_to() {
    let scratch = Scratch::new("places");
    let (first, second) = (b"1\n2\n3\n", b"4\n");
    scratch.send(&["s"], first);
    scratch.send(&["s"], second);
    assert_eq!(scratch.text(&["sub", "s"]), "1\n2\n3\n");
    assert_eq!(scratch.text(&["sub", "s"]), "1\n2\n3\n");
    assert_eq!(scratch.text(&["sub", "s", "--from", "3"]), "3\n");
    assert_eq!(scratch.text(&["sub", "s", "--from", "5"]), "4\n");
    assert_eq!(
        scratch.text(&["sub", "s", "--follow", "--count", "4"]),
        "1\n2\n3\n4\n"
    );
    assert_eq!(scratch.text(&["sub", "s", "--count", "2"]), "1\n2\n");
    assert_eq!(scratch.text(&["sub", "s", "--count", "0"]), "");
    for bad in ["0", "-1", "first"] {
        assert_eq!(
            scratch.code(&["sub", "s", &format!("--from={bad}")]),
            Some(2)
        );
    }
    let newest = scratch.start(&["sub", "s", "--from", "newest"]);
    until(|| scratch.joined("s") == 1);
    scratch.send(&["s"], b"later\n");
    assert_eq!(newest.end(), (Some(0), vec!["later".into()], vec![]));
}

#[test]
fn a_subscriber_that_gets_nothing_gives_up_in_time() {
    let scratch = Scratch::new("patience");
    let sub = ["sub", "s", "--timeout", "20ms"];
    let (code, told) = scratch.told(&sub, b"");
    assert_eq!(code, Some(1));
    assert!(
        told.contains("there is no stream \"s\"") && told.contains("gave up"),
        "{told}"
    );
    scratch.send(&["s", "--keep"], b"one\n");
    for timeout in ["0s", "1ms", "20ms"] {
        let output = scratch.run(&["sub", "s", "--timeout", timeout], b"");
        assert_eq!(
            (output.status.code(), &*output.stdout),
            (Some(1), &b"one\n"[..])
        );
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("gave up waiting after 1 records"), "{told}");
    }
}

#[test]
fn json_has_an_object_for_each_record() {
    let scratch = Scratch::new("json");
    scratch.send(&["天气"], b"sun \"and\" rain\n\xff\xfe\n");
    let text = scratch.text(&["sub", "天气", "--json"]);
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = serde_json::json!([
        {"name": "天气", "sequence": 1, "size": 14, "encoding": "utf-8", "value": "sun \"and\" rain"},
        {"name": "天气", "sequence": 2, "size": 2, "encoding": "base64", "value": "//4="},
    ]);
    assert_eq!(serde_json::Value::from(objects), expected);
}

#[test]
fn removal_ends_a_subscription_with_a_negative_answer_and_sending_with_an_error() {
    let scratch = Scratch::new("removal");
    scratch.send(&["s", "--keep"], b"one\n");
    let sub = scratch.start(&["sub", "s"]);
    assert_eq!(sub.line(), "one");
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    let (code, stdout, stderr) = sub.end();
    assert_eq!((code, stdout.len()), (Some(1), 0));
    assert!(stderr[0].contains("stream \"s\" was removed"), "{stderr:?}");

    let mut command = scratch.command(&["pub", "s", "--capacity", "1KiB"]);
    let command = command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut publisher = command.spawn().unwrap();
    publisher
        .stdin
        .take()
        .unwrap()
        .write_all(&lines(100))
        .unwrap();
    until(|| scratch.json(&["ls", "--json"])[0]["sequence"] == 16);
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    let output = publisher.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("it was removed") && told.contains("16 records were sent"),
        "{told}"
    );
}

#[test]
fn a_subscriber_that_is_killed_holds_nobody_up_and_the_next_one_goes_on() {
    let scratch = Scratch::new("killed");
    let input = lines(50_000);
    scratch.send(&["s", "--capacity", "64KiB", "--keep"], b"");
    let publisher = InFiles::start(&scratch, &["pub", "s"], &input);
    // Nobody reads what it prints, so it stops receiving.
    let mut command = scratch.command(&["sub", "s"]);
    let mut stuck = command.stdout(Stdio::piped()).spawn().unwrap();
    let position = || scratch.stat("s")["subscribers"][0]["position"].as_u64();
    until(|| {
        let before = position();
        before > Some(0) && (0..100).all(|_| position() == before)
    });
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    let rest = InFiles::start(&scratch, &["sub", "s"], b"").end();
    publisher.end();
    assert!(!rest.is_empty() && input.ends_with(&rest));
    let mut printed = Vec::new();
    stuck.stdout.unwrap().read_to_end(&mut printed).unwrap();
    assert!(input.starts_with(&printed));
}

#[test]
fn a_subscriber_that_is_asked_to_end_lets_go_and_ends_by_the_signal() {
    let scratch = Scratch::new("signals");
    scratch.send(&["s", "--keep"], b"one\n");
    for signal in [Signal::INT, Signal::TERM] {
        let mut sub = scratch.start(&["sub", "s"]);
        assert_eq!(sub.line(), "one");
        // It waits for signals, too, as soon as it has waited for records a while.
        let path = format!("/proc/{}/task", sub.child.id());
        until(|| std::fs::read_dir(&path).unwrap().count() > 1);
        let look = |what: &str| {
            let path = format!("/proc/{}/{what}", sub.child.id());
            std::fs::read_to_string(path).unwrap()
        };
        // Where is 0 for whom the kernel does not tell.
        until(|| match look("wchan").as_str() {
            "0" => look("status").contains("State:\tS"),
            wchan => wchan.contains("poll"),
        });
        kill_process(Pid::from_child(&sub.child), signal).unwrap();
        let status = sub.child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert_eq!(scratch.subscribers("s"), 0, "{signal:?}");
    }
}

#[test]
fn a_subscription_ends_when_nobody_reads_its_output_any_more() {
    let scratch = Scratch::new("output");
    scratch.send(&["s", "--keep"], b"one\n");
    for (script, printed) in [
        (r#""$0" sub s | head -n 1; echo over"#, &["one", "over"][..]),
        (r#""$0" sub absent | true; echo over"#, &["over"]),
        (
            r#"seq 100000 | "$0" pub t --capacity 64MiB; "$0" sub t | head -n 1"#,
            &["1"],
        ),
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_corkboard")]);
        shell.env("CORKBOARD_DIR", &scratch.0);
        let printed = printed.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(Running::of(shell).end(), (Some(0), printed, vec![]));
    }
}

#[test]
fn records_that_are_sent_one_by_one_arrive_one_by_one() {
    let scratch = Scratch::new("one-by-one");
    let sub = scratch.start(&["sub", "s"]);
    let mut command = scratch.command(&["pub", "s"]);
    let mut publisher = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = publisher.stdin.take().unwrap();
    for word in ["one", "two", "three"] {
        writeln!(input, "{word}").unwrap();
        assert_eq!(sub.line(), word);
    }
    let now = scratch.stat("s");
    assert_eq!(now["producers"][0]["pid"], publisher.id());
    assert_eq!(now["producers"][0]["producing"], true);
    let subscriber = &now["subscribers"][0];
    assert_eq!(
        (&subscriber["position"], &subscriber["lag"]),
        (&3.into(), &0.into())
    );
    // One at a time.
    let (code, told) = scratch.told(&["pub", "s"], b"four\n");
    assert!(
        code == Some(2) && told.contains("is alive and has it"),
        "{told}"
    );
    drop(input);
    assert!(publisher.wait().unwrap().success());
    assert_eq!(sub.end(), (Some(0), vec![], vec![]));
}

#[test]
fn several_send_to_a_shared_stream_and_the_last_one_ends_it() {
    let scratch = Scratch::new("shared");
    let sub = InFiles::start(&scratch, &["sub", "s"], b"");
    let shared = ["pub", "s", "--shared", "--keep"];
    let input = lines(1000);
    let publishers = [(); 2].map(|()| InFiles::start(&scratch, &shared, &input));
    for publisher in publishers {
        publisher.end();
    }
    scratch.send(&["s"], b"");
    let printed = String::from_utf8(sub.end()).unwrap();
    let mut numbers: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(
        numbers
            .into_iter()
            .eq((1..=1000).flat_map(|number| [number; 2]))
    );
}

#[test]
fn a_rate_is_kept_to() {
    let scratch = Scratch::new("rate");
    let start = Instant::now();
    scratch.send(&["s", "--rate", "1000"], &lines(101));
    assert!(start.elapsed().as_secs_f64() >= 0.1);
    for bad in ["0", "-1", "fast", "nan", "inf"] {
        assert_eq!(
            scratch.code(&["pub", "s", &format!("--rate={bad}")]),
            Some(2)
        );
    }
}

#[test]
fn who_sends_at_a_terminal_is_told_that_it_waits() {
    let scratch = Scratch::new("told");
    let (mut master, terminal) = terminal();
    let mut publisher = scratch
        .command(&["pub", "s", "--capacity", "1KiB", "--timeout", "600ms"])
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stderr(terminal)
        .spawn()
        .unwrap();
    publisher
        .stdin
        .take()
        .unwrap()
        .write_all(&lines(100))
        .unwrap();
    let mut shown = Vec::new();
    // The end of a terminal is an error in Linux.
    let _ = master.read_to_end(&mut shown);
    assert_eq!(publisher.wait().unwrap().code(), Some(1));
    let shown = String::from_utf8(shown).unwrap();
    let waits = "corkboard: stream \"s\" is full; waiting for a subscriber to make room (with --follow, if it stops at an earlier end)\r\n";
    assert!(
        shown.starts_with(waits) && shown.contains("16 records were sent"),
        "{shown}"
    );
}

#[test]
fn streams_are_listed_shown_and_removed_like_other_objects() {
    let scratch = Scratch::new("listed");
    scratch.send(&["log", "--capacity", "64KiB", "--keep"], b"one\nthree\n");
    assert_eq!(scratch.code(&["put", "board", "--text", "v"]), Some(0));
    let sub = scratch.start(&["sub", "log", "--from", "2"]);
    assert_eq!(sub.line(), "three");
    let text = scratch.text(&["ls"]);
    let lines: Vec<&str> = text.lines().collect();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let titles = words(lines[0]);
    assert_eq!(titles[6..], ["WRITERS", "READERS", "LAG", "RATE"]);
    assert_eq!(words(lines[1])[..5], ["board", "board", "1", "B", "1.0"]);
    let stream = words(lines[2]);
    assert_eq!(
        stream[..10],
        ["log", "stream", "5", "B", "64.0", "KiB", "2", "-", "0", "1"]
    );
    assert_eq!(stream[10], "0");
    assert!(stream.last().unwrap().ends_with("/s"), "{text}");
    let row = &scratch.json(&["ls", "--json"])[1];
    assert_eq!((&row["writers"], &row["readers"]), (&0.into(), &1.into()));
    assert_eq!((&row["lag"], &row["age_seconds"]), (&0.into(), &().into()));
    assert!(row["rate"].as_f64().unwrap() > 0.0);

    let text = scratch.text(&["stat", "log"]);
    for wanted in [
        "stream \"log\"\n  sequence     2\n  oldest       1\n  size         5 B\n",
        "  capacity     64.0 KiB (65536 bytes), 1024 records\n",
        "  longest      16.0 KiB (16384 bytes)\n",
        "  when full    block\n",
        "producers: none",
        "POSITION  LAG",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let stat = scratch.json(&["stat", "log", "--json", "--rate=1ms"]);
    assert_eq!((&stat["rate"], &stat["lag"]), (&0.0.into(), &0.into()));
    let over = stat["rate_seconds"].as_f64().unwrap();
    assert!(over >= 0.001);
    let rows = scratch.json(&["ls", "--json", "--rate=1ms"]);
    assert_eq!(
        (&rows[0]["rate"], &rows[1]["rate"]),
        (&().into(), &0.0.into())
    );

    assert_eq!(scratch.code(&["lock", "log", "--", "true"]), Some(0));
    let (code, told) = scratch.told(&["rm", "log"], b"");
    assert_eq!(code, Some(2));
    assert!(told.contains("--kind lock or --kind stream"), "{told}");
    assert_eq!(scratch.code(&["rm", "log", "--kind", "stream"]), Some(0));
    let (code, told) = scratch.told(&["sub", "log", "--timeout", "0s"], b"");
    assert!(
        code == Some(1) && told.contains("is a lock, not a stream"),
        "{told}"
    );
}

#[test]
fn a_held_stream_lasts_until_it_is_removed() {
    let scratch = Scratch::new("held");
    let hold = InFiles::start(&scratch, &["pub", "s", "--hold"], b"one\n");
    assert_eq!(scratch.text(&["sub", "s"]), "one\n");
    // Others may send meanwhile.
    scratch.send(&["s"], b"two\n");
    assert_eq!(scratch.code(&["rm", "s"]), Some(0));
    hold.end();
}
