//! The handle by which rules are seen and changed.

use crate::disk::Core;
use crate::error::RuleError;
use crate::rule::Rule;
use std::fmt;
use std::sync::Arc;

/// Sees and changes the rules of a [`FaultDisk`](crate::FaultDisk) while it is used. Cheap to clone.
///
/// A change is in force for every request that begins after it; those that have begun keep what was decided for them, but for
/// those that are held.
#[derive(Clone)]
pub struct FaultControl(pub(crate) Arc<Core>);

/// A rule, and what it has done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RuleStatus {
    /// Its id. The rules that a disk begins with have the numbers from 0; no id is used twice.
    pub id: u64,
    /// The rule.
    pub rule: Rule,
    /// How many requests it was about, since it was added or changed.
    pub concerned: u64,
    /// How many of them it struck.
    pub struck: u64,
    /// How many requests it holds.
    pub held: u64,
}

impl FaultControl {
    /// Adds a rule behind the others, and returns its id.
    ///
    /// # Errors
    /// [`RuleError::Invalid`], [`RuleError::TooMany`].
    pub fn add(&self, rule: Rule) -> Result<u64, RuleError> {
        self.0.rules.add(rule)
    }

    /// Puts another rule in the place of one. It begins to count anew, and lets go of the requests that the old one holds.
    ///
    /// # Errors
    /// [`RuleError::Invalid`], [`RuleError::Unknown`]; the old rule stays.
    pub fn change(&self, id: u64, rule: Rule) -> Result<(), RuleError> {
        self.0.rules.change(id, rule)
    }

    /// Removes a rule, and lets go of the requests that it holds.
    ///
    /// # Errors
    /// [`RuleError::Unknown`].
    pub fn remove(&self, id: u64) -> Result<(), RuleError> {
        self.0.rules.remove(id)
    }

    /// Lets go of the requests that a rule holds, and returns how many those were. The rule stays, and holds those that come.
    ///
    /// # Errors
    /// [`RuleError::Unknown`].
    pub fn release(&self, id: u64) -> Result<u64, RuleError> {
        self.0.rules.release(id)
    }

    /// The rules, in the order in which requests meet them.
    pub fn list(&self) -> Vec<RuleStatus> {
        let rules = self.0.rules.list();
        let status = rules.iter().map(|rule| RuleStatus {
            id: rule.id,
            rule: rule.rule.clone(),
            concerned: rule.concerned(),
            struck: rule.struck(),
            held: rule.held(),
        });
        status.collect()
    }

    /// The seed of everything that chance decides.
    pub fn seed(&self) -> u64 {
        self.0.rules.seed
    }

    /// Throws away the writes that a `reorder` rule has kept back, as if the power failed, and returns how many sectors those were:
    /// what users read next is what is below. What is being written below just now arrives there or not.
    ///
    /// A disk without such a rule keeps nothing back.
    pub fn drop_unflushed(&self) -> u64 {
        self.0.store.forget()
    }

    /// How many sectors are kept back.
    pub fn unflushed_sector_count(&self) -> u64 {
        self.0.store.kept_sector_count()
    }
}

impl fmt::Debug for FaultControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultControl")
            .field("seed", &self.seed())
            .field("rules", &self.list())
            .finish_non_exhaustive()
    }
}
