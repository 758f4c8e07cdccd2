//! Samples, their quantiles, and the two ways of taking them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::clock::{ns_per_tick, ticks};

/// How much of everything a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A look: a tenth of the usual.
    Quick,
    /// What a plain run does.
    Usual,
    /// Ten times the usual, and 10^8 values in the saturating rows.
    Full,
    /// One of the eleven turns of `--check`.
    Turn,
    /// A quarter of such a turn, or what a median needs.
    Pass,
}

impl Effort {
    /// Scales a usual number of samples, never below what a median needs.
    pub fn samples(self, usual: usize) -> usize {
        match self {
            Self::Quick => (usual / 10).max(50),
            Self::Usual => usual,
            Self::Full => usual * 10,
            Self::Turn => (usual / 4).max(50),
            Self::Pass => (usual / 16).max(50),
        }
    }

    /// Distinct values that a saturating row waits for.
    pub fn distinct_values(self) -> u64 {
        match self {
            Self::Quick => 1_000_000,
            Self::Usual => 10_000_000,
            Self::Full => 100_000_000,
            Self::Turn | Self::Pass => 500_000,
        }
    }
}

/// The quantiles of one row, in nanoseconds per operation.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// How many samples the quantiles are over.
    pub samples: u64,
    /// How many operations each sample averages over; 1 when each was timed by itself.
    pub batch: u64,
}

impl Summary {
    /// From samples in ticks, each of `batch` operations.
    pub fn of_ticks(samples: impl IntoIterator<Item = u64>, batch: u64) -> Self {
        Self::of(samples, ns_per_tick() / batch as f64, batch)
    }

    /// From samples in nanoseconds, each of one operation.
    pub fn of_ns(samples: impl IntoIterator<Item = u64>) -> Self {
        Self::of(samples, 1.0, 1)
    }

    fn of(samples: impl IntoIterator<Item = u64>, scale: f64, batch: u64) -> Self {
        let mut samples: Vec<u64> = samples.into_iter().collect();
        samples.sort_unstable();
        let at = |q| quantile(&samples, q).map_or(f64::NAN, |value| value as f64 * scale);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            samples: samples.len() as u64,
            batch,
        }
    }
}

impl Summary {
    /// Of operations that follow one another at once, from the stamps between them.
    ///
    /// Tails are those of single operations. The median is that of means over 16 neighbours: a
    /// processor's clock may advance in steps of 10 ns, too coarse for ratios of single ones.
    pub fn of_stamps(stamps: &[u64]) -> Self {
        const NEIGHBOURS: usize = 16;
        let differences = stamps.windows(2).map(|pair| pair[1] - pair[0]);
        let groups = stamps.windows(NEIGHBOURS + 1).step_by(NEIGHBOURS);
        let groups = groups.map(|group| group[NEIGHBOURS] - group[0]);
        Self {
            p50: Self::of_ticks(groups, NEIGHBOURS as u64).p50,
            ..Self::of_ticks(differences, 1)
        }
    }
}

/// The smallest sample that at least the fraction `q` of all samples do not exceed (nearest rank).
pub fn quantile<T: Copy>(sorted: &[T], q: f64) -> Option<T> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The median, of any order.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    quantile(&values, 0.5).unwrap_or(f64::NAN)
}

/// Times operations too short for a clock, in batches of about 2 µs: quantiles are over batches.
///
/// The same loop for every peer; a warm-up of 20 ms finds the length of a batch and lets caches,
/// branch predictors and page tables settle.
#[inline(always)]
pub fn batched(effort: Effort, mut operation: impl FnMut()) -> Summary {
    let start = Instant::now();
    let first = ticks();
    let mut warm_ups = 0;
    while start.elapsed() < Duration::from_millis(20) {
        for _ in 0..16 {
            operation();
        }
        warm_ups += 16;
    }
    let mean_ns = (ticks() - first) as f64 * ns_per_tick() / f64::from(warm_ups);
    let batch = (2_000.0 / mean_ns).ceil().clamp(1.0, 4_096.0) as u64;
    // Slow operations get fewer samples: no row takes much more than a second at usual effort.
    let affordable = (1e9 / (mean_ns * batch as f64)) as usize;
    let count = effort.samples(20_000.min(affordable.max(500)));
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let start = ticks();
        for _ in 0..batch {
            operation();
        }
        samples.push(ticks() - start);
    }
    Summary::of_ticks(samples, batch)
}

/// Times each of `count` operations by itself, after a tenth as many to warm up. The operation
/// returns its own time in ticks, so that it can leave its preparation out.
#[inline(always)]
pub fn each(count: usize, mut operation: impl FnMut() -> u64) -> Summary {
    for _ in 0..count / 10 {
        operation();
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        samples.push(operation());
    }
    Summary::of_ticks(samples, 1)
}

/// Counts samples without keeping them: one bucket per tick up to [`Histogram::LIMIT`], so that a
/// hundred million samples cost no more than a few cache lines.
pub struct Histogram {
    buckets: Vec<u64>,
    /// Samples beyond the last bucket, few by nature.
    beyond: Vec<u64>,
    count: u64,
}

impl Histogram {
    const LIMIT: usize = 1 << 16;

    pub fn new() -> Self {
        Self {
            buckets: vec![0; Self::LIMIT],
            beyond: Vec::new(),
            count: 0,
        }
    }

    #[inline(always)]
    pub fn add(&mut self, ticks: u64) {
        self.count += 1;
        match self.buckets.get_mut(ticks as usize) {
            Some(bucket) => *bucket += 1,
            None => self.beyond.push(ticks),
        }
    }

    pub fn summary(mut self) -> Summary {
        self.beyond.sort_unstable();
        let at = |q: f64| {
            let rank = ((q * self.count as f64).ceil() as u64).max(1);
            let mut below = 0;
            for (ticks, bucket) in self.buckets.iter().enumerate() {
                below += bucket;
                if below >= rank {
                    return ticks as f64 * ns_per_tick();
                }
            }
            let index = (rank - below - 1) as usize;
            let ticks = self.beyond.get(index).copied();
            ticks.map_or(f64::NAN, |ticks| ticks as f64 * ns_per_tick())
        };
        Summary {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            samples: self.count,
            batch: 1,
        }
    }
}

/// What one stamp costs. Some machines count in steps longer than that (10 ns here and there), so
/// this, too, is measured in batches.
pub fn stamp_cost(effort: Effort) -> Summary {
    batched(effort, || {
        black_box(ticks());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 0.5), Some(50));
        assert_eq!(quantile(&hundred, 0.99), Some(99));
        assert_eq!(quantile(&hundred, 0.999), Some(100));
        assert_eq!(quantile(&hundred, 0.0), Some(1));
        assert_eq!(quantile(&[7], 0.999), Some(7));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn the_median_needs_no_order() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_batch_is_divided_by_its_length() {
        let summary = Summary::of_ticks([1_000; 10], 100);
        assert!((summary.p50 - 10.0 * ns_per_tick()).abs() < 1e-9);
        assert_eq!(summary.p50, summary.p999);
        assert_eq!((summary.samples, summary.batch), (10, 100));
    }

    #[test]
    fn stamps_give_a_fine_median_and_single_tails() {
        // Steps of 0 and 10 in turns, and one of 1 000.
        let mut now = 0;
        let mut stamps = vec![now];
        for step in 0..1_600 {
            now += if step == 800 { 1_000 } else { step % 2 * 10 };
            stamps.push(now);
        }
        let summary = Summary::of_stamps(&stamps);
        assert!((summary.p50 / ns_per_tick() - 5.0).abs() < 1e-9);
        assert!((summary.p99 / ns_per_tick() - 10.0).abs() < 1e-9);
        assert_eq!((summary.samples, summary.batch), (1_600, 1));
    }

    #[test]
    fn a_histogram_says_what_sorted_samples_say() {
        let samples = (0..10_000).map(|n: u64| n * 7_919 % 200_000);
        let mut histogram = Histogram::new();
        samples.clone().for_each(|sample| histogram.add(sample));
        let (counted, sorted) = (histogram.summary(), Summary::of_ticks(samples, 1));
        assert_eq!(counted.samples, 10_000);
        assert_eq!(counted.p50, sorted.p50);
        assert_eq!(counted.p99, sorted.p99);
        assert_eq!(counted.p999, sorted.p999);
    }
}
