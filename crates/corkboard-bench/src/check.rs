//! `--check`: the promises about speed, each held against its limit.
//!
//! Everything that a threshold compares is measured eleven times, in turns: absolute times drift
//! on shared machines, ratios within one turn hardly do. The median of the ratios counts. What takes
//! long for its pauses has four passes in each turn, for which the same holds.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use crate::board::{self, LARGE, SMALL};
use crate::measure::{Effort, median, stamp_cost};
use crate::payload::LONG;
use crate::process;
use crate::report::{self, significant};
use crate::rows::{self, Outcome, Run};
use crate::rows::{attached, call, lock, publish, read, round_trip, saturate, stream, take_over};
use crate::scratch::Scratch;
use crate::stream::{Shape, UNVERIFIED, VERIFIED};
use crate::{Arguments, write_json};

const TURNS: usize = 11;
const PASSES: usize = 4;

/// A row, by group and label.
type Key = (&'static str, String);

/// What is compared with the limit.
enum Value {
    /// The row's median divided by another's.
    Ratio(Key, Key),
    /// The same, of what both have beyond a third row, which both contain.
    Beyond(Key, Key, Key),
    /// The row's median in nanoseconds, without what a time stamp costs by itself.
    Median(Key),
    /// The row's 99.9th percentile in nanoseconds.
    Tail(Key),
    /// The row's 99th percentile in milliseconds.
    Percentile99(Key),
    /// One of the row's counts: the worst turn or pass.
    Worst(Key, &'static str),
    /// One of the row's rates: the median of its turns or passes.
    Rate(Key, &'static str),
}

struct Threshold {
    promise: String,
    value: Value,
    least: f64,
    most: f64,
    /// What the value has in it that is nobody's doing. Where that alone is beyond the limit, the
    /// line says nothing of us, and is not judged.
    floor: Option<Value>,
}

/// What came of a threshold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// Its floor is beyond the limit.
    Void,
}

impl Threshold {
    fn at_most(promise: &str, value: Value, most: f64) -> Self {
        Self {
            promise: promise.into(),
            value,
            least: f64::NEG_INFINITY,
            most,
            floor: None,
        }
    }

    fn verdict(&self, value: f64, floor: Option<f64>) -> Verdict {
        if value >= self.least && value <= self.most {
            Verdict::Met
        } else if floor.is_some_and(|floor| floor > self.most) {
            Verdict::Void
        } else {
            // Not a number, too.
            Verdict::Missed
        }
    }
}

fn thresholds() -> Vec<Threshold> {
    let mut all = Vec::new();
    let mut at_most = |promise: &str, value, most| {
        all.push(Threshold::at_most(promise, value, most));
    };
    let [small, large, long] = [SMALL, LARGE, LONG].map(|capacity| {
        [board::Shape::unverified, board::Shape::verified].map(|shape| shape(capacity).label())
    });
    let [unverified_small, verified_small] = small;
    let [unverified_large, verified_large] = large;
    let [_, verified_long] = long;

    let ratio = |group, ours: &str, theirs: &str| {
        Value::Ratio((group, ours.into()), (group, theirs.into()))
    };
    // What is done with the bytes is the same for all, and no part of reading them.
    let beyond_fold = |ours: &str, theirs: &str| {
        let key = |label: &str| (read::TITLE, label.to_owned());
        Value::Beyond(key(ours), key(theirs), key(read::FOLD))
    };
    for (board, ours) in [("small", &verified_small), ("large", &verified_large)] {
        let promise =
            format!("read 64 B unchanged, without folding, {board} board, of mmap-sync's");
        at_most(&promise, beyond_fold(ours, read::MMAP_SYNC), 0.15);
        let promise = format!("read 64 B unchanged, without folding, {board} board, of ringfire's");
        at_most(&promise, beyond_fold(ours, read::RINGFIRE), 0.30);
    }
    // The same with the fold, which is much of the time.
    let whole_read = |ours: &str, theirs: &str| ratio(read::TITLE, ours, theirs);
    for (board, ours) in [("small", &verified_small), ("large", &verified_large)] {
        let promise = format!("read 64 B unchanged, and fold, {board} board, of ringfire's");
        at_most(&promise, whole_read(ours, read::RINGFIRE), 0.50);
    }
    at_most(
        "fold 64 B alone, of ringfire's read and fold",
        whole_read(read::FOLD, read::RINGFIRE),
        0.50,
    );
    at_most(
        "publish 64 B verified, of mmap-sync's write_raw",
        ratio(publish::SHORT_TITLE, &verified_small, publish::MMAP_SYNC),
        0.08,
    );
    at_most(
        "publish 64 B unverified, of memcpy",
        ratio(publish::SHORT_TITLE, &unverified_small, publish::MEMCPY),
        7.0,
    );
    for (promise, ours, theirs, most) in [
        (
            "small, unverified, of ringfire's ring",
            &unverified_small,
            round_trip::RING,
            1.1,
        ),
        (
            "small, verified, of ringfire's ring",
            &verified_small,
            round_trip::RING,
            1.7,
        ),
        (
            "large, unverified, of iceoryx2",
            &unverified_large,
            round_trip::PUB_SUB,
            0.30,
        ),
        (
            "large, verified, of iceoryx2",
            &verified_large,
            round_trip::PUB_SUB,
            0.45,
        ),
    ] {
        let promise = format!("round trip spinning, {promise}");
        at_most(&promise, ratio(round_trip::SPINNING, ours, theirs), most);
    }
    at_most(
        "publish 1 MiB verified, of mmap-sync's write_raw",
        ratio(publish::LONG_TITLE, &verified_long, publish::MMAP_SYNC),
        0.5,
    );
    at_most(
        "publish 1 MiB verified, of memcpy",
        ratio(publish::LONG_TITLE, &verified_long, publish::MEMCPY),
        1.7,
    );
    at_most(
        "publish a filled loan of 1 MiB unverified, ns",
        Value::Median((publish::LOAN_TITLE, publish::LOAN.into())),
        100.0,
    );
    for (board, title) in [
        ("small", attached::SMALL_TITLE),
        ("large", attached::LARGE_TITLE),
    ] {
        let (_, none) = attached::LABELS[0];
        for (_, some) in &attached::LABELS[1..] {
            let promise = format!("publish 64 B with {some}, {board} board, of with none");
            at_most(&promise, ratio(title, some, none), 2.0);
        }
    }
    for ours in [
        &unverified_small,
        &verified_small,
        &unverified_large,
        &verified_large,
    ] {
        let key = || (saturate::TITLE, ours.clone());
        let name = ours.trim_start_matches("corkboard, ");
        let promise = format!("read from a saturating writer, p99.9 ns, {name}");
        at_most(&promise, Value::Tail(key()), 2_000.0);
        let promise = format!("torn values, {name}");
        at_most(&promise, Value::Worst(key(), saturate::TORN), 0.0);
        let promise = format!("steps backwards, {name}");
        at_most(&promise, Value::Worst(key(), saturate::BACKWARDS), 0.0);
        let promise = format!("retries per 100 values from a saturating writer, {name}");
        at_most(&promise, Value::Rate(key(), saturate::RETRIES), 1.0);
    }
    let [unverified, verified] = [UNVERIFIED, VERIFIED].map(Shape::label);
    at_most(
        "produce 64 B unverified, of ringfire's ring",
        ratio(stream::PRODUCE, &unverified, stream::RING),
        5.0,
    );
    at_most(
        "round trip spinning, stream, unverified, of ringfire's ring",
        ratio(round_trip::SPINNING, &unverified, round_trip::RING),
        1.3,
    );
    at_most(
        "round trip spinning, stream, verified, of iceoryx2",
        ratio(round_trip::SPINNING, &verified, round_trip::PUB_SUB),
        0.35,
    );
    // 0.8 of the rate is 1.25 of the time.
    at_most(
        "a 64 B record, sustained, stream, unverified, of ringfire's ring",
        ratio(stream::SUSTAINED, &unverified, stream::RING),
        1.25,
    );
    at_most(
        "a 1 MiB record, sustained, stream, unverified, of memcpy",
        ratio(
            stream::LONG_SUSTAINED,
            &stream::lending(UNVERIFIED),
            stream::MEMCPY,
        ),
        1.25,
    );
    at_most(
        "take-over after SIGKILL, p99 ms",
        Value::Percentile99((take_over::TITLE, take_over::LABEL.into())),
        20.0,
    );
    at_most(
        "read lock and unlock, of the bare fcntl calls",
        ratio(lock::ALONE, lock::READ, lock::BARE_READ),
        1.5,
    );
    at_most(
        "lock hand-over on one core, of a bare futex's",
        ratio(lock::HAND_OVER, lock::NAMED, round_trip::FUTEX),
        3.0,
    );
    at_most(
        "lock hand-over on one core, of 15 ms polling",
        ratio(lock::HAND_OVER, lock::NAMED, lock::POLLING),
        1.0 / 200.0,
    );
    at_most(
        "call spinning, unverified, of iceoryx2's request/response",
        ratio(call::SPINNING, call::UNVERIFIED, call::ICEORYX2),
        0.5,
    );
    at_most(
        "call sleeping on one core, of two bare futex hand-overs",
        ratio(call::SLEEPING, call::VERIFIED, round_trip::FUTEX),
        2.0,
    );
    at_most(
        "call sleeping on one core, of D-Bus",
        ratio(call::SLEEPING, call::VERIFIED, call::DBUS),
        0.1,
    );
    at_most(
        "event round trip sleeping on one core, of iceoryx2's event",
        ratio(
            round_trip::SLEEPING,
            round_trip::OUR_EVENT,
            round_trip::EVENT,
        ),
        1.0,
    );
    at_most(
        "a writer among eight readers without pause, longest ms",
        Value::Worst(
            (lock::AMONG, lock::WRITER_AMONG_READERS.into()),
            lock::LONGEST,
        ),
        50.0,
    );
    for label in lock::TIME_OUT_ROWS {
        let key = || (lock::TIME_OUTS, label.to_owned());
        at_most(
            &format!("time-outs that were early, {label}"),
            Value::Worst(key(), lock::EARLY),
            0.0,
        );
        at_most(
            &format!("latest time-out, ms, {label}"),
            Value::Worst(key(), lock::LONGEST),
            5.0,
        );
    }
    // Putting to sleep and waking is the kernel's work.
    let sleeping = |ours: &str| ratio(round_trip::SLEEPING, ours, round_trip::EVENT);
    let promise = "round trip sleeping on one core, of iceoryx2's event";
    all.push(Threshold {
        floor: Some(sleeping(round_trip::FUTEX)),
        ..Threshold::at_most(promise, sleeping(&verified_small), 0.5)
    });
    // Once a round, give or take what one slice that ran out adds.
    let key = (round_trip::SLEEPING, verified_small.clone());
    all.push(Threshold {
        promise: "round trip sleeping on one core, sleeps of the far side in a round".into(),
        value: Value::Rate(key, round_trip::FAR_SLEEPS),
        least: 0.95,
        most: 1.05,
        floor: None,
    });
    // On some processors the fold by itself takes a sixth of mmap-sync's read.
    for (board, ours) in [("small", verified_small), ("large", verified_large)] {
        let promise = format!("read 64 B unchanged, and fold, {board} board, of mmap-sync's");
        all.push(Threshold {
            floor: Some(whole_read(read::FOLD, read::MMAP_SYNC)),
            ..Threshold::at_most(&promise, whole_read(&ours, read::MMAP_SYNC), 0.15)
        });
    }
    all
}

impl Value {
    fn keys(&self) -> Vec<&Key> {
        match self {
            Self::Ratio(ours, theirs) => vec![ours, theirs],
            Self::Beyond(ours, theirs, both) => vec![ours, theirs, both],
            Self::Median(key)
            | Self::Tail(key)
            | Self::Percentile99(key)
            | Self::Worst(key, _)
            | Self::Rate(key, _) => vec![key],
        }
    }

    /// `stamp` is what a time stamp costs, in nanoseconds.
    fn of(&self, turns: &BTreeMap<Key, Vec<Outcome>>, stamp: f64) -> f64 {
        let each = |key: &Key, value: &dyn Fn(&Outcome) -> f64| -> Vec<f64> {
            turns.get(key).into_iter().flatten().map(value).collect()
        };
        let p50 = |outcome: &Outcome| outcome.summary.p50;
        let fact = |name: &'static str| {
            move |outcome: &Outcome| {
                let found = outcome.facts.iter().find(|(fact, _)| *fact == name);
                found.map_or(f64::NAN, |(_, value)| *value)
            }
        };
        match self {
            Self::Ratio(ours, theirs) => {
                let pairs = each(ours, &p50).into_iter().zip(each(theirs, &p50));
                median(pairs.map(|(ours, theirs)| ours / theirs).collect())
            }
            Self::Beyond(ours, theirs, both) => {
                let [ours, theirs, both] = [ours, theirs, both].map(|key| each(key, &p50));
                let turns = ours.iter().zip(theirs).zip(both);
                median(
                    turns
                        .map(|((ours, theirs), both)| (ours - both) / (theirs - both))
                        .collect(),
                )
            }
            Self::Median(key) => median(each(key, &p50)) - stamp,
            Self::Tail(key) => median(each(key, &|outcome| outcome.summary.p999)),
            Self::Percentile99(key) => median(each(key, &|outcome| outcome.summary.p99 / 1e6)),
            Self::Rate(key, name) => median(each(key, &fact(name))),
            Self::Worst(key, name) => each(key, &fact(name)).into_iter().fold(0.0, f64::max),
        }
    }
}

/// Measures, prints a line for each threshold, and says by the exit code whether all were met.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    process::pin(process::NEAR)?;
    let scratch = Scratch::create()?;
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let mut thresholds = thresholds();
    thresholds.retain(|threshold| threshold.promise.contains(filter));
    let needed = |group: &rows::Group, row: &rows::Row| {
        let values = thresholds
            .iter()
            .flat_map(|threshold| [Some(&threshold.value), threshold.floor.as_ref()])
            .flatten()
            .flat_map(Value::keys);
        values
            .into_iter()
            .any(|key| key.0 == group.title && key.1 == row.label)
    };
    let groups = rows::all();
    let mut turns = BTreeMap::<Key, Vec<Outcome>>::new();
    let mut disturbances = 0;
    let stamp = stamp_cost(Effort::Turn).p50;
    for turn in 1..=TURNS {
        eprint!("\rturn {turn} of {TURNS} ");
        for group in &groups {
            let (passes, effort) = match group.pauses() {
                true => (PASSES, Effort::Pass),
                false => (1, Effort::Turn),
            };
            let rows = || group.rows.iter().filter(|row| needed(group, row));
            for row in (0..passes).flat_map(|_| rows()) {
                let before = process::involuntary_switches()?;
                let outcome = row.measure(Run {
                    scratch: &scratch,
                    effort,
                });
                let outcome = outcome.with_context(|| format!("{}: {}", group.title, row.label))?;
                disturbances += group.disturbances_since(before)?;
                let key = (group.title, row.label.clone());
                turns.entry(key).or_default().push(outcome);
            }
        }
    }
    eprintln!();
    let to_stdout = arguments
        .json
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    let (mut missed, mut void) = (0, 0);
    let mut results = Vec::new();
    for threshold in &thresholds {
        let value = threshold.value.of(&turns, stamp);
        let floor = threshold
            .floor
            .as_ref()
            .map(|floor| floor.of(&turns, stamp));
        let verdict = threshold.verdict(value, floor);
        missed += usize::from(verdict == Verdict::Missed);
        void += usize::from(verdict == Verdict::Void);
        let word = match verdict {
            Verdict::Met => "ok    ",
            Verdict::Missed => "MISSED",
            Verdict::Void => "void  ",
        };
        let limit = match threshold.least {
            f64::NEG_INFINITY => format!("<= {}", significant(threshold.most)),
            least => format!("{}..{}", significant(least), significant(threshold.most)),
        };
        if !to_stdout {
            writeln!(
                stdout(),
                "{word}  {:<72}{:>9}   {limit}{}",
                threshold.promise,
                significant(value),
                match (verdict, floor) {
                    (Verdict::Met, _) | (_, None) => String::new(),
                    (_, Some(floor)) => format!(", floor {}", significant(floor)),
                },
            )?;
        }
        results.push(json!({
            "promise": threshold.promise,
            "value": value,
            "least": threshold.least.is_finite().then_some(threshold.least),
            "most": threshold.most,
            "floor": floor,
            "met": match verdict {
                Verdict::Met => Some(true),
                Verdict::Missed => Some(false),
                Verdict::Void => None,
            },
        }));
    }
    report::print_disturbances(&mut std::io::stderr(), disturbances)?;
    write_json(arguments, results.into())?;
    eprintln!(
        "{missed} of {} missed, {void} without meaning here: what everybody does takes longer by itself",
        thresholds.len()
    );
    Ok(ExitCode::from(u8::from(missed > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_floor_beyond_the_limit_excuses_a_miss() {
        let threshold = Threshold {
            promise: String::new(),
            value: Value::Median((read::TITLE, String::new())),
            least: 0.0,
            most: 0.15,
            floor: None,
        };
        let verdicts = [
            threshold.verdict(0.15, None),
            threshold.verdict(0.16, None),
            threshold.verdict(0.24, Some(0.15)),
            threshold.verdict(0.24, Some(0.17)),
            threshold.verdict(0.10, Some(0.17)),
            threshold.verdict(f64::NAN, Some(0.05)),
        ];
        use Verdict::{Met, Missed, Void};
        assert!(verdicts == [Met, Missed, Missed, Void, Met, Missed]);
    }
}
