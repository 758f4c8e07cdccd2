//! Samples of this machine, as JSON with a checksum of its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::content::{Defect, Head};

/// The longest sample in bytes.
pub const CAPACITY: usize = 1024;

/// One sample. What the machine does not tell is `null`.
#[derive(Debug, Serialize, Deserialize)]
struct Sample {
    sequence: u64,
    writer: u64,
    monotonic_ns: u64,
    /// Over about the last second, all processors together.
    cpu_percent: Option<f64>,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    load: Option<[f64; 3]>,
    /// Of all interfaces but the loopback.
    received_bytes: Option<u64>,
    sent_bytes: Option<u64>,
}

/// Takes samples.
#[derive(Default)]
pub struct Sampler {
    /// Busy and total processor time of the last hundred samples.
    processor: VecDeque<(u64, u64)>,
}

impl Sampler {
    /// A sample as it is published.
    pub fn sample(&mut self, sequence: u64, writer: u64, clock: fn() -> u64) -> String {
        let memory = read("/proc/meminfo");
        let kibibytes = |key: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(key))?;
            Some(number(line.split_whitespace().nth(1))? * 1024)
        };
        let network = network(&read("/proc/net/dev"));
        let mut sample = Sample {
            sequence,
            writer,
            monotonic_ns: 0,
            cpu_percent: self.cpu_percent(&read("/proc/stat")),
            memory_total_bytes: kibibytes("MemTotal"),
            memory_available_bytes: kibibytes("MemAvailable"),
            load: load(&read("/proc/loadavg")),
            received_bytes: network.map(|(received, _)| received),
            sent_bytes: network.map(|(_, sent)| sent),
        };
        sample.monotonic_ns = clock();
        seal(&sample)
    }

    fn cpu_percent(&mut self, stat: &str) -> Option<f64> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = line
            .split_whitespace()
            .map_while(|t| t.parse().ok())
            .collect();
        // Guest time, the last two, is contained in user time.
        let total: u64 = times.iter().take(8).sum();
        let idle = times.get(3)? + times.get(4)?;
        self.processor.push_back((total.checked_sub(idle)?, total));
        if self.processor.len() > 100 {
            self.processor.pop_front();
        }
        let (busy_before, total_before) = *self.processor.front()?;
        let (busy, total) = *self.processor.back()?;
        let passed = total
            .checked_sub(total_before)
            .filter(|passed| *passed > 0)?;
        Some((busy.saturating_sub(busy_before) * 1000 / passed) as f64 / 10.0)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

fn load(text: &str) -> Option<[f64; 3]> {
    let numbers: Vec<f64> = text
        .split(' ')
        .take(3)
        .map_while(|n| n.parse().ok())
        .collect();
    numbers.try_into().ok()
}

fn network(text: &str) -> Option<(u64, u64)> {
    let mut sums = None;
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut counters = counters.split_whitespace();
        let received = number(counters.next())?;
        let sent = number(counters.nth(7))?;
        let (sum_received, sum_sent) = sums.unwrap_or((0, 0));
        sums = Some((sum_received + received, sum_sent + sent));
    }
    sums
}

const CHECKSUM: &str = ",\"checksum\":\"";

/// Appends the checksum of everything before it.
fn seal(sample: &Sample) -> String {
    let mut text = serde_json::to_string(sample).expect("a sample has a JSON form");
    text.pop();
    let checksum = fnv1a(text.as_bytes());
    text + &format!("{CHECKSUM}{checksum:016x}\"}}")
}

/// Verifies every byte: the checksum, that it parses, and that it is the value it should be.
pub fn verify(value: &[u8], sequence: u64) -> Result<Head, Defect> {
    let corrupt = |what: &str| Defect::Corrupt(format!("sample {sequence} {what}"));
    let text = std::str::from_utf8(value).map_err(|_| corrupt("is not text"))?;
    let (content, checksum) = text
        .rsplit_once(CHECKSUM)
        .ok_or_else(|| corrupt("has no checksum"))?;
    let stated = checksum
        .strip_suffix("\"}")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    if stated != Some(fnv1a(content.as_bytes())) {
        return Err(corrupt("does not match its own checksum"));
    }
    let sample: Sample = serde_json::from_str(text).map_err(|_| corrupt("does not parse"))?;
    if sample.sequence != sequence {
        let what = format!("sample {sequence} says that it is {}", sample.sequence);
        return Err(Defect::Torn(what));
    }
    Ok(Head {
        writer: sample.writer,
        monotonic_ns: sample.monotonic_ns,
    })
}

/// FNV-1a, 64 bits: unlike the library's CRC-64 in every respect.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_this_machine_fits_and_any_change_to_it_is_noticed() {
        let mut sampler = Sampler::default();
        let text = sampler.sample(9, 2, || 5);
        assert!(text.len() <= CAPACITY, "{text}");
        assert!(text.contains("memory_total_bytes\":") && !text.contains("total_bytes\":null"));
        let head = verify(text.as_bytes(), 9).ok().unwrap();
        assert_eq!((head.writer, head.monotonic_ns), (2, 5));
        assert!(matches!(verify(text.as_bytes(), 10), Err(Defect::Torn(_))));
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 2;
            assert!(verify(&bytes, 9).is_err(), "byte {index} of {text}");
        }
    }

    #[test]
    fn the_machine_is_described_in_numbers_it_can_have() {
        let network = network(
            "Inter-| R\n face |b\n  lo: 9 0 0 0 0 0 0 0 9\n e0: 1 2 3 4 5 6 7 8 90 1\n e1:5 0 0 0 0 0 0 0 6\n",
        );
        assert_eq!(network, Some((6, 96)));
        assert_eq!(load("0.50 1.25 2.00 1/234 5\n"), Some([0.5, 1.25, 2.0]));
        let mut sampler = Sampler::default();
        assert_eq!(sampler.cpu_percent("cpu  10 0 10 70 10 0 0 0 0 0\n"), None);
        let half = sampler.cpu_percent("cpu  60 0 10 120 10 0 0 0 0 0\n");
        assert_eq!(half, Some(50.0));
    }
}
