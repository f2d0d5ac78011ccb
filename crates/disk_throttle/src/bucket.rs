//! A bucket of tokens: what may begin, as arithmetic on moments.
//!
//! Tokens are counted in billionths: so many units per second are as many billionths of a unit per nanosecond, and nothing is rounded
//! but the moment at which a request may begin, upwards to a nanosecond. A level is between a full bucket (2^64 units) and the debt
//! of one request (2^64 units), which is far from the ends of 128 bits.

use crate::limits::Limit;
use clock::Moment;
use std::time::Duration;

const NANO: i128 = 1_000_000_000;

/// Invariants: B1, at `at` it holds `level` billionths, at most what it can hold. B2, who takes from it waits until it holds what he
/// takes, or is full; so there is never more than one request's debt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    limit: Limit,
    /// Negative: a debt.
    level: i128,
    at: Moment,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(limit: Limit, now: Moment) -> Self {
        Self {
            limit,
            level: i128::from(limit.burst_units) * NANO,
            at: now,
        }
    }

    /// The same under another limit: what is owed stays, and so does what is there as far as there is room for it.
    pub(crate) fn with_limit(mut self, limit: Limit, now: Moment) -> Self {
        self.fill(now);
        self.limit = limit;
        self.level = self.level.min(self.capacity());
        self
    }

    /// When so many units may begin, if nothing else does before.
    pub(crate) fn ready_at(&self, units: u64) -> Moment {
        let needed = i128::from(units.min(self.limit.burst_units)) * NANO;
        let missing = needed.saturating_sub(self.level).max(0).unsigned_abs();
        let wait_ns = missing.div_ceil(self.limit.units_per_second.into());
        self.at + duration_of(wait_ns)
    }

    /// Takes units at a moment at which they may begin.
    pub(crate) fn take(&mut self, units: u64, at: Moment) {
        self.fill(at);
        self.level -= i128::from(units) * NANO;
    }

    /// Takes back what was taken for nothing, as far as there is room for it.
    pub(crate) fn give_back(&mut self, units: u64, now: Moment) {
        self.fill(now);
        self.level = self.capacity().min(self.level + i128::from(units) * NANO);
    }

    /// How long units take to flow in, in nanoseconds.
    pub(crate) fn time_ns(&self, units: u64) -> u128 {
        (u128::from(units) * NANO.unsigned_abs()).div_ceil(self.limit.units_per_second.into())
    }

    /// What it holds at a moment, in whole units; negative: how much is owed.
    pub(crate) fn units_at(mut self, now: Moment) -> i128 {
        self.fill(now);
        self.level.div_euclid(NANO)
    }

    /// Lets flow in what does until a moment, before which nothing is taken any more.
    pub(crate) fn fill(&mut self, now: Moment) {
        let elapsed_ns = i128::try_from(now.since(self.at).as_nanos()).unwrap_or(i128::MAX);
        let filled = elapsed_ns.saturating_mul(self.limit.units_per_second.into());
        self.level = self.level.saturating_add(filled).min(self.capacity());
        self.at = self.at.max(now);
    }

    fn capacity(&self) -> i128 {
        i128::from(self.limit.burst_units) * NANO
    }
}

/// As long as a duration can be, if it is longer.
fn duration_of(nanoseconds: u128) -> Duration {
    let seconds = u64::try_from(nanoseconds / NANO.unsigned_abs()).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanoseconds % NANO.unsigned_abs()).unwrap_or(0);
    Duration::new(seconds, rest)
}
