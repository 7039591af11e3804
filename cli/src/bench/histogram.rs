//! Counting durations in bounded memory, and summing up repeated measurements.

use crate::output::round;
use serde::Serialize;

/// Buckets for each power of two: a value is known to half of 1/256, 0.2 %.
const SUB: u64 = 256;
/// Values below `SUB` have a bucket each, every further power of two up to 2^64 has `SUB / 2` of its own.
const BUCKETS: usize = (SUB + (64 - SUB.ilog2() as u64) * (SUB / 2)) as usize;

/// A log-linear histogram of nanoseconds (the layout of HdrHistogram): constant relative error, 30 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
        }
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        // `bucket` never exceeds the last index: see its test with `u64::MAX`.
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// Returns what it takes to build the same again: the buckets that are not empty, and what is in them.
    pub(crate) fn filled(&self) -> Vec<(usize, u64)> {
        let counts = self.counts.iter().copied().enumerate();
        counts.filter(|&(_, count)| count > 0).collect()
    }

    /// Adds the buckets of another one. Fails, with nothing added, where there is no such bucket.
    pub(crate) fn add_filled(&mut self, filled: &[(usize, u64)]) -> anyhow::Result<()> {
        anyhow::ensure!(
            filled.iter().all(|&(bucket, _)| bucket < BUCKETS),
            "a time beyond the last bucket"
        );
        for &(bucket, count) in filled {
            self.counts[bucket] += count;
            self.total += count;
        }
        Ok(())
    }

    pub(crate) const fn len(&self) -> u64 {
        self.total
    }

    /// Returns the smallest value that at least `permille` thousandths of the values do not exceed (nearest rank), as
    /// the middle of its bucket; `None` without values.
    pub(crate) fn percentile(&self, permille: u64) -> Option<u64> {
        let rank = (self.total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(index as u64));
            }
        }
        None
    }
}

const fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    // With the highest bit at `SUB`'s or above, the shift leaves a number from SUB / 2 to SUB - 1.
    let shift = value.ilog2() - SUB.ilog2() + 1;
    let base = SUB + (shift as u64 - 1) * (SUB / 2);
    (base + (value >> shift) - SUB / 2) as usize
}

/// Returns the middle of the values that fall into a bucket.
const fn middle(index: u64) -> u64 {
    if index < SUB {
        return index;
    }
    let shift = (index - SUB) / (SUB / 2) + 1;
    let low = ((index - SUB) % (SUB / 2) + SUB / 2) << shift;
    low + (1 << (shift - 1))
}

/// Repeated measurements of one thing: the median, and how far it may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Sums values up, rounded to this many digits. `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>, digits: i32) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self {
            median: round((low + high) / 2.0, digits),
            min: round(min, digits),
            max: round(max, digits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_their_middle() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 0..BUCKETS {
            assert_eq!(bucket(middle(index as u64)), index);
        }
        for value in (0..100_000).chain([1 << 40, (1 << 40) + 12_345]) {
            assert!(bucket(value) <= bucket(value + 1));
            let error = middle(bucket(value) as u64).abs_diff(value);
            assert!(error <= value / 256, "{value} is off by {error}");
        }
    }

    #[test]
    fn percentiles_are_of_nearest_rank() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(500), None);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.len(), 100);
        for (permille, value) in [(0, 1), (10, 1), (500, 50), (505, 51), (990, 99), (1000, 100)] {
            assert_eq!(histogram.percentile(permille), Some(value));
        }
    }

    #[test]
    fn merging_is_recording_together() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        a.record(10);
        b.record(20);
        b.record(30);
        a.merge(&b);
        assert_eq!((a.len(), a.percentile(500)), (3, Some(20)));
    }

    #[test]
    fn filled_buckets_are_the_whole() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        for value in [3, 3, 1 << 20, u64::MAX] {
            a.record(value);
        }
        b.add_filled(&a.filled()).expect("its own buckets");
        assert_eq!((b.len(), &b.counts), (4, &a.counts));
        assert!(b.add_filled(&[(0, 1), (BUCKETS, 1)]).is_err());
        assert_eq!(b.len(), 4);
    }

    #[test]
    fn a_spread_takes_the_middle_two_of_an_even_number() {
        assert_eq!(Spread::of([], 0), None);
        assert_eq!(Spread::of([f64::NAN], 0), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of([3.0], 1), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.04], 1), spread(2.0, 1.0, 4.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0], 1), spread(2.5, 1.0, 4.0));
    }
}
