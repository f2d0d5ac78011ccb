//! A rule at work: what it has counted, and who waits at it.
//!
//! Invariants:
//! - R1: whether a rule strikes its request number n depends on the seed, the rule's id, n, and the time, and on nothing else; only
//!   `times` depends on how often it struck before. So the same requests in the same order have the same faults.
//! - R2: a request waits at a rule only in its own future and holds nothing meanwhile, so it holds up nobody (C4).
//! - R3: nobody waits at a rule that has been changed or removed: its gate stays open.

use crate::action::Action;
use crate::dice::Dice;
use crate::operation::Request;
use crate::rule::Rule;
use clock::Moment;
use event_listener::Event;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

pub(crate) struct LiveRule {
    pub(crate) id: u64,
    pub(crate) rule: Rule,
    seed: u64,
    begins: Moment,
    concerned: AtomicU64,
    struck: AtomicU64,
    /// For [`Action::FailForever`].
    has_failed: AtomicBool,
    gate: Gate,
}

impl LiveRule {
    /// The rule, from `now` on. It was checked.
    pub(crate) fn new(id: u64, rule: Rule, seed: u64, now: Moment) -> Self {
        Self {
            begins: now + Duration::from_secs_f64(rule.after_seconds),
            id,
            rule,
            seed,
            concerned: AtomicU64::new(0),
            struck: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            gate: Gate::default(),
        }
    }

    /// Counts a request that the rule is about, and says with which dice it strikes, if it does.
    pub(crate) fn meet(&self, now: Moment) -> Option<Dice> {
        let number = self.concerned.fetch_add(1, Relaxed) + 1;
        let mut dice = Dice::new(self.seed, self.id, number);
        let does_chance_agree = match self.rule.probability {
            Some(probability) => dice.fraction() < probability,
            None => true,
        };
        let is_due = match number.checked_sub(self.rule.after_requests) {
            None | Some(0) => false,
            Some(number) => self.rule.every.is_none_or(|every| number % every == 0),
        };
        let strikes = does_chance_agree && is_due && now >= self.begins;
        (strikes || self.has_failed.load(Acquire)).then_some(dice)
    }

    /// Takes one of the times that it may strike.
    pub(crate) fn strike(&self) -> bool {
        let times_max = self.rule.times.unwrap_or(u64::MAX);
        let next = |struck| (struck < times_max).then_some(struck + 1);
        let has_failed = self.has_failed.load(Acquire);
        if has_failed {
            self.struck.fetch_add(1, Relaxed);
            return true;
        }
        let strikes = self.struck.fetch_update(AcqRel, Acquire, next).is_ok();
        if strikes && matches!(self.rule.action, Action::FailForever(_)) {
            self.has_failed.store(true, SeqCst);
        }
        strikes
    }

    /// Waits until the rule is released.
    pub(crate) async fn hold(&self) {
        self.gate.wait().await;
    }

    /// Lets go of the requests that are held; says how many that were.
    pub(crate) fn release(&self) -> u64 {
        self.gate.release(1)
    }

    /// Lets go of the requests that are held, and holds none any more (R3).
    pub(crate) fn retire(&self) {
        self.gate.release(RETIRED);
    }

    /// How many requests it was about.
    pub(crate) fn concerned(&self) -> u64 {
        self.concerned.load(Relaxed)
    }

    /// How many it struck.
    pub(crate) fn struck(&self) -> u64 {
        self.struck.load(Relaxed)
    }

    /// How many it holds.
    pub(crate) fn held(&self) -> u64 {
        self.gate.held.load(Relaxed)
    }

    pub(crate) fn matters_to(&self, request: &Request) -> bool {
        self.rule.concerns(request)
    }
}

/// Added to a gate's releases once: it is open for ever.
const RETIRED: u64 = 1 << 63;

/// Where requests are held.
#[derive(Default)]
struct Gate {
    releases: AtomicU64,
    has_opened: Event,
    held: AtomicU64,
}

impl Gate {
    async fn wait(&self) {
        let before = self.releases.load(SeqCst);
        if before >= RETIRED {
            return;
        }
        let _held = Held::new(&self.held);
        loop {
            let opened = self.has_opened.listen();
            if self.releases.load(SeqCst) != before {
                return;
            }
            opened.await;
        }
    }

    fn release(&self, step: u64) -> u64 {
        let held = self.held.load(Relaxed);
        if self.releases.load(SeqCst) < RETIRED {
            self.releases.fetch_add(step, SeqCst);
        }
        self.has_opened.notify(usize::MAX);
        held
    }
}

/// A request that is held until this is dropped.
struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
