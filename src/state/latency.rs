//! How long nodes take to answer: a histogram with buckets that grow with what they hold.
//!
//! Below 8 microseconds each has its own bucket; from there on every power of two is divided into four, so that a bucket is
//! at most a quarter of its lower bound wide. The last one holds everything above a minute.

use super::counters::count;
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Number of buckets.
pub const BUCKETS: usize = 101;

/// Buckets in a power of two, as a power of two.
const DIVISION: u32 = 2;
/// Below this each microsecond has its bucket.
const EXACT: u64 = 8;

shareable! {
    /// What one worker has measured of one node.
    #[derive(Debug)]
    pub struct LatencyRecord {
        buckets: [AtomicU64; BUCKETS],
        microseconds: AtomicU64,
    }
}

/// The measurements of all workers at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Answers by time; see [`upper_bound`].
    pub buckets: [u64; BUCKETS],
    /// The sum of all times.
    pub microseconds: u64,
}

impl LatencyRecord {
    /// An answer took that long. Only for the worker that the record belongs to.
    #[inline]
    pub fn observe(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        count(&self.buckets[bucket(microseconds)]);
        let sum = self.microseconds.load(Ordering::Relaxed).wrapping_add(microseconds);
        self.microseconds.store(sum, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, sum: &mut Latency) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum = sum.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        sum.microseconds = sum.microseconds.wrapping_add(self.microseconds.load(Ordering::Relaxed));
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], microseconds: 0 }
    }
}

impl Latency {
    /// How many answers were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time that so many of all answers (0 to 1) did not exceed, as exactly as the buckets are; `None` without answers
    /// and beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen as f64 >= wanted
        };
        self.buckets.iter().position(reaches).and_then(upper_bound)
    }
}

#[inline]
fn bucket(microseconds: u64) -> usize {
    if microseconds < EXACT {
        return microseconds as usize;
    }
    let power = microseconds.ilog2();
    let part = microseconds >> (power - DIVISION) & ((1 << DIVISION) - 1);
    let index = EXACT as usize + (((power - EXACT.ilog2()) << DIVISION) as usize) + part as usize;
    index.min(BUCKETS - 1)
}

/// The times of a bucket are shorter than that; `None` for the last one, which has no bound.
pub fn upper_bound(bucket: usize) -> Option<Duration> {
    let next = bucket as u64 + 1;
    let microseconds = match next.checked_sub(EXACT) {
        None => next,
        Some(above) => {
            let (power, part) = (above >> DIVISION, above & ((1 << DIVISION) - 1));
            (1 << DIVISION | part) << (power + u64::from(EXACT.ilog2() - DIVISION))
        }
    };
    (bucket < BUCKETS - 1).then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), None);
        latency.buckets[3] = 95;
        latency.buckets[50] = 5;
        assert_eq!([0.0, 0.5, 0.95].map(|share| latency.quantile(share)), [upper_bound(3); 3]);
        assert_eq!([0.96, 1.0].map(|share| latency.quantile(share)), [upper_bound(50); 2]);
        latency.buckets[BUCKETS - 1] = 1;
        assert_eq!(latency.quantile(1.0), None);
    }

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for at in 0..BUCKETS - 1 {
            let bound = upper_bound(at).expect("a bound").as_micros() as u64;
            assert!(bound > last, "bucket {at}");
            assert_eq!((bucket(last), bucket(bound - 1), bucket(bound)), (at, at, at + 1), "{last} to {bound}");
            assert!(bound - last <= 1 + last / 4, "bucket {at} is from {last} to {bound}");
            last = bound;
        }
        assert!((60_000_000..90_000_000).contains(&last), "the last one begins at {last}");
        assert_eq!((bucket(u64::MAX), upper_bound(BUCKETS - 1)), (BUCKETS - 1, None));
    }
}
