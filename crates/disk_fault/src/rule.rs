//! A rule: which requests it is about, when it strikes, and what it does then.

use crate::action::Action;
use crate::error::Invalid;
use crate::operation::{Operation, Request};
use resource::JsonPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The longest time until a rule begins, in seconds: some 30 years.
pub const AFTER_SECONDS_MAX: f64 = 1e9;

/// Which requests something happens to, and what.
///
/// A rule is about the requests of its `operations` that touch its `sectors`, and numbers them from 1. It strikes those that
/// all of its other keys agree to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[schemars(rename = "FaultRule")]
pub struct Rule {
    /// What it does to a request.
    pub action: Action,
    /// The operations that it is about; if not given, all that the action can be done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Operation>>,
    /// The sectors that it is about: requests that touch any of them. If not given, all, and flushes and resizes besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sectors: Option<SectorRange>,
    /// Let so many requests pass first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_requests: u64,
    /// Let so much time pass first, in seconds since the rule was added or changed.
    #[serde(default, skip_serializing_if = "is_at_once")]
    pub after_seconds: f64,
    /// Of the requests that come after `after_requests`, counted from 1, strike those whose number is a multiple of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Strike with this probability, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Strike so many times at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// A range of sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::exhaustive_structs, reason = "a range has two numbers")]
pub struct SectorRange {
    /// The first sector.
    pub start: u64,
    /// How many there are, at least one.
    pub count: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
fn is_at_once(seconds: &f64) -> bool {
    *seconds == 0.0
}

impl Rule {
    /// A rule that strikes every request that `action` can be done to.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            operations: None,
            sectors: None,
            after_requests: 0,
            after_seconds: 0.0,
            every: None,
            probability: None,
            times: None,
        }
    }

    /// The same for these operations alone.
    #[must_use]
    pub fn on(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.operations = Some(operations.into_iter().collect());
        self
    }

    /// The same for requests that touch any of `count` sectors from `start` on.
    #[must_use]
    pub fn sectors(mut self, start: u64, count: u64) -> Self {
        self.sectors = Some(SectorRange { start, count });
        self
    }

    /// The same, at most so many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// The operations that it is about.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        let named = self.operations.as_deref();
        let all = named.unwrap_or_else(|| self.action.operations());
        let has_range = self.sectors.is_some();
        let fits = move |operation: &Operation| !has_range || operation.has_sectors();
        all.iter().copied().filter(fits)
    }

    /// Those of the sectors of `request` that it is about.
    pub(crate) fn overlap(&self, request: &Range<u64>) -> Range<u64> {
        match self.sectors {
            None => request.clone(),
            Some(SectorRange { start, count }) => {
                let first = request.start.max(start);
                first..request.end.min(start + count).max(first)
            }
        }
    }

    /// Whether it is about this request.
    pub(crate) fn concerns(&self, request: &Request) -> bool {
        self.operations().any(|known| known == request.operation)
            && (self.sectors.is_none() || !self.overlap(&request.sectors).is_empty())
            && self.action.matters_to(request)
    }

    /// Checks that it means something, and that all of it can come true.
    ///
    /// # Errors
    /// [`Invalid`], which names the place in the rule.
    pub fn check(&self) -> Result<(), Invalid> {
        let root = JsonPath::root();
        self.check_operations(&root.key("operations"))?;
        self.check_sectors(&root.key("sectors"))?;
        for (key, number) in [("every", self.every), ("times", self.times)] {
            if number == Some(0) {
                let message = "0 would never strike: give at least 1, or leave the key out";
                return Err(Invalid::new(root.key(key), message));
            }
        }
        if let Some(probability) = self.probability
            && !(0.0..=1.0).contains(&probability)
        {
            let message = format!("{probability} is no probability: give a number from 0 to 1");
            return Err(Invalid::new(root.key("probability"), message));
        }
        if !(0.0..=AFTER_SECONDS_MAX).contains(&self.after_seconds) {
            let seconds = self.after_seconds;
            let message = format!("{seconds} seconds are not between 0 and {AFTER_SECONDS_MAX}");
            return Err(Invalid::new(root.key("after_seconds"), message));
        }
        self.action.check(&root.key("action"))
    }

    /// A rule never names what it could not do anything to.
    fn check_operations(&self, path: &JsonPath) -> Result<(), Invalid> {
        let Some(named) = &self.operations else {
            return Ok(());
        };
        let possible = self.action.operations();
        if named.is_empty() {
            let list = Operation::list(possible.iter().copied());
            let message = format!("no operation is named: leave the key out for {list}");
            return Err(Invalid::new(path.clone(), message));
        }
        for (index, operation) in named.iter().enumerate() {
            let wrong = if !possible.contains(operation) {
                format!(
                    "\"{}\" cannot be done to {operation}; it can be done to: {}",
                    self.action.name(),
                    Operation::list(possible.iter().copied())
                )
            } else if self.sectors.is_some() && !operation.has_sectors() {
                format!("{operation} is about no sectors: leave out \"sectors\", or this operation")
            } else if named[..index].contains(operation) {
                format!("{operation} is named twice")
            } else {
                continue;
            };
            return Err(Invalid::new(path.index(index), wrong));
        }
        Ok(())
    }

    fn check_sectors(&self, path: &JsonPath) -> Result<(), Invalid> {
        let Some(SectorRange { start, count }) = self.sectors else {
            return Ok(());
        };
        let message = match start.checked_add(count) {
            _ if count == 0 => "no sector is named: give at least 1, or leave out \"sectors\"",
            None => "the last sector is beyond the end of any disk",
            Some(_) => return Ok(()),
        };
        Err(Invalid::new(path.key("count"), message))
    }
}
