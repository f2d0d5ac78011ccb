//! How values are spread, such as latencies: counted in buckets, without a lock.
//!
//! - H1: bucket `i` counts the values above `bound(i - 1)` and up to `bound(i)`; the last one all that are larger.
//! - H2: the count of a snapshot is the sum of its buckets, so they never disagree; the sum and the largest value may be those
//!   of a moment before or after.

use crate::{Inspect, Request};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Four buckets for each doubling up to 2^40, and one for the rest.
const BUCKET_COUNT: usize = 4 * 39 + 1;

/// The largest value that has a bucket with a bound. In nanoseconds, 18 minutes.
const VALUE_MAX: u64 = 1 << 40;

/// Counts values by their size. Any number of threads may record and look at the same time.
///
/// Values are whole numbers of a unit that the name of the part should tell, such as `latency_ns`. There are four buckets for each
/// doubling, so a value is known to within a quarter: their bounds are 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, and so on to
/// 2^40 (for nanoseconds, 18 minutes); beyond is one more. A histogram takes its 1.3 KB of memory when the first value is recorded.
///
/// Shown as `count`, `sum`, `max`, `p50`, `p90`, `p99`, `p999`, and `buckets`: how many values there are in each bucket that is
/// not empty, under its upper bound (the last is `inf`).
///
/// ```
/// let latency_us = inspect::Histogram::new();
/// for value in [9, 10, 700] {
///     latency_us.record(value);
/// }
/// let seen = latency_us.snapshot();
/// assert_eq!((seen.count(), seen.max(), seen.quantile(0.5)), (3, 700, 10));
/// ```
#[derive(Default)]
pub struct Histogram {
    buckets: OnceLock<Box<[AtomicU64; BUCKET_COUNT]>>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// What a [`Histogram`] had counted at some moment, or several together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Up to the last that is not empty.
    buckets: Vec<u64>,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// One that has counted nothing.
    pub const fn new() -> Self {
        Self {
            buckets: OnceLock::new(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }

    /// Counts `value`.
    pub fn record(&self, value: u64) {
        self.buckets()[index_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    /// As [`record`](Self::record), for a histogram that only one thread ever records in: it is cheaper, as nothing needs to be
    /// locked between processors. If several do so at once, values are lost, and nothing worse happens.
    pub fn record_alone(&self, value: u64) {
        let add = |to: &AtomicU64, count: u64| {
            let sum = to.load(Ordering::Relaxed).wrapping_add(count);
            to.store(sum, Ordering::Relaxed);
        };
        add(&self.buckets()[index_of(value)], 1);
        add(&self.sum, value);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets = self.buckets.get().into_iter().flat_map(|all| all.iter());
        let mut buckets: Vec<u64> = buckets.map(|one| one.load(Ordering::Relaxed)).collect();
        let used = buckets.iter().rposition(|count| *count > 0);
        buckets.truncate(used.map_or(0, |last| last + 1));
        HistogramSnapshot {
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }

    fn buckets(&self) -> &[AtomicU64; BUCKET_COUNT] {
        self.buckets
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKET_COUNT]))
    }
}

impl HistogramSnapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All values together; it starts again from 0 beyond 2^64.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value, or 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A value that the share `q` of all values (from 0 to 1; 0.99 for the 99th percentile) does not exceed: the upper bound of the
    /// bucket where that is so, and never above the largest value. 0 if there is none.
    pub fn quantile(&self, q: f64) -> u64 {
        let count = self.count();
        let rank = (q.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|in_bucket| {
            seen += in_bucket;
            seen >= rank
        });
        match found.map(bound) {
            Some(Some(bound)) => bound.min(self.max),
            Some(None) | None => self.max,
        }
    }

    /// How many values do not exceed each of 1, 2, 4, 8 and so on to 2^40: the bound, and the count up to and including it. What
    /// is larger is in [`count`](Self::count) only. The bounds are always the same ones, as monitoring systems want it; leave
    /// out those that are too fine.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        let mut next = 0;
        (0..=VALUE_MAX.ilog2()).map(move |exponent| {
            let end = index_of(1 << exponent) + 1;
            for index in next..end {
                seen += self.buckets.get(index).copied().unwrap_or_default();
            }
            next = end;
            (1 << exponent, seen)
        })
    }

    /// The buckets that are not empty: the upper bound, `None` for that of the largest values, and how many values there are.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let used = self.buckets.iter().enumerate();
        used.filter(|(_, count)| **count > 0)
            .map(|(index, count)| (bound(index), *count))
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (to, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *to = to.wrapping_add(*count);
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

/// The bucket of `value`: the two bits below the highest one, of the values that share it, tell the four buckets apart.
fn index_of(value: u64) -> usize {
    // Bounds belong to the bucket below them (H1).
    let below = value.saturating_sub(1);
    if below < 4 {
        return below as usize;
    }
    let highest = below.ilog2() as usize;
    let quarter = (below >> (highest - 2) & 3) as usize;
    (4 * (highest - 1) + quarter).min(BUCKET_COUNT - 1)
}

/// The largest value in bucket `index`; `None` for the last one.
fn bound(index: usize) -> Option<u64> {
    match index {
        0..4 => Some(index as u64 + 1),
        _ if index < BUCKET_COUNT - 1 => Some((5 + index as u64 % 4) << (index / 4 - 1)),
        _ => None,
    }
}

impl Inspect for Histogram {
    fn inspect(&self, req: Request<'_>) {
        // The copy is made only if some part is wanted.
        req.respond().merge_with(|req| self.snapshot().inspect(req));
    }
}

impl Inspect for HistogramSnapshot {
    fn inspect(&self, req: Request<'_>) {
        let mut response = req.respond();
        response
            .counter("count", self.count())
            .counter("sum", self.sum)
            .field("max", &self.max);
        for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            response.field_with(name, |req| req.value_with(|| self.quantile(q)));
        }
        response.field_with("buckets", |req| {
            req.entries(self.buckets().map(|(bound, count)| {
                let name = bound.map_or("inf".to_owned(), |bound| bound.to_string());
                (name, count)
            }));
        });
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.snapshot();
        f.debug_struct("Histogram")
            .field("count", &seen.count())
            .field("max", &seen.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
