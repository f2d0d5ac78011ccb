//! The rules of a disk, and what they decide.

use crate::dice::Dice;
use crate::error::{Invalid, RuleError};
use crate::live::LiveRule;
use crate::operation::Request;
use crate::rule::Rule;
use arc_swap::ArcSwap;
use clock::Clock;
use parking_lot::Mutex;
use resource::JsonPath;
use smallvec::SmallVec;
use std::sync::Arc;

/// The most rules of a disk: each request looks at each of them.
pub const RULES_MAX: usize = 256;

pub(crate) struct Rules {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    /// In the order in which they were added, which is that of their ids.
    list: ArcSwap<Vec<Arc<LiveRule>>>,
    /// The id of the next one. Held while the list changes.
    next_id: Mutex<u64>,
}

/// A rule that strikes a request, and the request's dice.
pub(crate) struct Strike {
    pub(crate) rule: Arc<LiveRule>,
    pub(crate) dice: Dice,
}

/// What becomes of a request.
pub(crate) struct Verdict {
    /// What it waits for first, in this order.
    pub(crate) waits: SmallVec<[Strike; 1]>,
    /// What decides; none if it is then done as if there were no rule.
    pub(crate) end: Option<Strike>,
}

impl Rules {
    /// # Errors
    /// The first rule that is wrong, or that there are too many.
    pub(crate) fn new(seed: u64, clock: Clock, rules: Vec<Rule>) -> Result<Self, RuleError> {
        check_all(&rules)?;
        let now = clock.now();
        let rules = (0..).zip(rules);
        let list: Vec<_> = rules
            .map(|(id, rule)| Arc::new(LiveRule::new(id, rule, seed, now)))
            .collect();
        Ok(Self {
            seed,
            clock,
            next_id: Mutex::new(list.len() as u64),
            list: ArcSwap::from_pointee(list),
        })
    }

    pub(crate) fn are_none(&self) -> bool {
        self.list.load().is_empty()
    }

    /// What becomes of `request`; none if no rule strikes it. All rules that it concerns count it here and now, whatever it
    /// waits for afterwards.
    pub(crate) fn judge(&self, request: &Request) -> Option<Verdict> {
        let list = self.list.load();
        let now = self.clock.now();
        let mut verdict = Verdict {
            waits: SmallVec::new(),
            end: None,
        };
        for rule in list.iter().filter(|rule| rule.matters_to(request)) {
            let Some(dice) = rule.meet(now) else {
                continue;
            };
            let only_waits = rule.rule.action.only_waits();
            if (verdict.end.is_some() && !only_waits) || !rule.strike() {
                continue;
            }
            let rule = Arc::clone(rule);
            match only_waits {
                true => verdict.waits.push(Strike { rule, dice }),
                false => verdict.end = Some(Strike { rule, dice }),
            }
        }
        (verdict.end.is_some() || !verdict.waits.is_empty()).then_some(verdict)
    }

    pub(crate) fn add(&self, rule: Rule) -> Result<u64, RuleError> {
        rule.check()?;
        let mut next_id = self.next_id.lock();
        let mut list = self.list();
        if list.len() >= RULES_MAX {
            return Err(RuleError::TooMany { max: RULES_MAX });
        }
        let id = *next_id;
        *next_id += 1;
        list.push(self.begin(id, rule));
        self.list.store(Arc::new(list));
        Ok(id)
    }

    pub(crate) fn change(&self, id: u64, rule: Rule) -> Result<(), RuleError> {
        rule.check()?;
        let _changing = self.next_id.lock();
        let mut list = self.list();
        let index = index_of(&list, id)?;
        let old = std::mem::replace(&mut list[index], self.begin(id, rule));
        self.list.store(Arc::new(list));
        old.retire();
        Ok(())
    }

    pub(crate) fn remove(&self, id: u64) -> Result<(), RuleError> {
        let _changing = self.next_id.lock();
        let mut list = self.list();
        let index = index_of(&list, id)?;
        let old = list.remove(index);
        self.list.store(Arc::new(list));
        old.retire();
        Ok(())
    }

    pub(crate) fn release(&self, id: u64) -> Result<u64, RuleError> {
        let list = self.list();
        Ok(list[index_of(&list, id)?].release())
    }

    pub(crate) fn list(&self) -> Vec<Arc<LiveRule>> {
        self.list.load().to_vec()
    }

    fn begin(&self, id: u64, rule: Rule) -> Arc<LiveRule> {
        Arc::new(LiveRule::new(id, rule, self.seed, self.clock.now()))
    }
}

/// Checks the rules that a disk begins with.
///
/// # Errors
/// The first rule that is wrong, or that there are too many.
pub(crate) fn check_all(rules: &[Rule]) -> Result<(), RuleError> {
    if rules.len() > RULES_MAX {
        return Err(RuleError::TooMany { max: RULES_MAX });
    }
    for (index, rule) in rules.iter().enumerate() {
        rule.check().map_err(|error| error.in_rule(index))?;
    }
    Ok(())
}

fn index_of(list: &[Arc<LiveRule>], id: u64) -> Result<usize, RuleError> {
    let index = list.iter().position(|rule| rule.id == id);
    index.ok_or_else(|| {
        let ids: Vec<String> = list.iter().map(|rule| rule.id.to_string()).collect();
        let known = match ids.is_empty() {
            true => "none".to_owned(),
            false => ids.join(", "),
        };
        RuleError::Unknown { id, known }
    })
}

impl Invalid {
    /// The same mistake, in a rule of a list.
    fn in_rule(self, index: usize) -> Self {
        let rule = JsonPath::root().key("rules").index(index);
        let segments = [rule.segments(), self.path.segments()].concat();
        Self {
            path: segments.into_iter().collect(),
            ..self
        }
    }
}
