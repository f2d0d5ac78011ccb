//! Rules that come and go while clients work, and the memory of which errors were ordered, so that no other error is forgiven.
//!
//! - Errors are made only for sectors of the clients that die, and failing flushes only where those and `fio` are, which asks for none:
//!   the tools' requests all have to succeed.
//! - Delays, holds and reordering meet everybody.
//! - What breaks a promise without saying so (lost, misdirected and half writes, flipped bits, skipped flushes) is not used: after it
//!   nobody could say which bytes are right.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::Control;
use super::exports::{EXPORTS, MORTAL_PARTS};
use super::random::Random;
use super::world::World;
use crate::Fallible;

/// What a request does, as far as rules tell requests apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Change,
    Flush,
}

/// An order for errors, from when it may have been there to when it was gone for certain.
#[derive(Debug)]
struct Order {
    id: u64,
    export: usize,
    touch: Touch,
    sectors: Range<u64>,
    errno: u32,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct ErrorLog(Vec<Order>);

impl ErrorLog {
    /// Whether an error that a request got can be one that was ordered.
    pub(crate) fn explains(
        &self,
        export: usize,
        touch: Touch,
        sectors: &Range<u64>,
        errno: u32,
        sent: Instant,
    ) -> bool {
        self.0.iter().any(|order| {
            let meets = order.sectors.start < sectors.end && sectors.start < order.sectors.end;
            (order.export, order.touch, order.errno) == (export, touch, errno)
                && (meets || touch == Touch::Flush)
                && order.until.is_none_or(|until| until >= sent)
        })
    }

    fn is_gone(&mut self, id: u64) {
        let now = Instant::now();
        for order in self.0.iter_mut().filter(|order| order.id == id) {
            order.until = Some(now);
        }
        // Longer than any request takes.
        let is_recent = |until: Instant| now.duration_since(until) < 2 * super::TIME_MAX;
        self.0.retain(|order| order.until.is_none_or(is_recent));
    }
}

/// A rule that the daemon has.
#[derive(Debug)]
struct Live {
    id: u64,
    path: String,
    must_go_before_end: bool,
    until: Instant,
}

/// A rule to be.
#[derive(Debug)]
struct Plan {
    kind: &'static str,
    rule: Value,
    errors: Vec<(Touch, u32)>,
    sectors: Range<u64>,
    /// Whether the daemon could not end well with it.
    must_go_before_end: bool,
    life_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Weather {
    random: Random,
    live: Vec<Live>,
    next: Instant,
    id: u64,
}

const LIVE_MAX: usize = 6;
const ERRORS: [(&str, u32); 4] = [
    ("io", EIO),
    ("no_space", 28),
    ("write_fault", EIO),
    ("unrecovered_read_error", EIO),
];
const EIO: u32 = 5;

impl Weather {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::of(seed, "weather"),
            live: Vec::new(),
            next: Instant::now(),
            id: 0,
        }
    }

    /// Lets rules come and go. Called often.
    pub(crate) fn change(&mut self, control: &mut Control, world: &World) -> Fallible {
        let now = Instant::now();
        self.remove(control, world, |rule| rule.until <= now)?;
        if now < self.next {
            return Ok(());
        }
        self.next = now + Duration::from_millis(self.random.between(30, 300));
        if self.live.len() < LIVE_MAX {
            self.add(control, world)?;
        }
        Ok(())
    }

    fn add(&mut self, control: &mut Control, world: &World) -> Fallible {
        let faulty: Vec<_> = (0..EXPORTS.len())
            .filter(|export| EXPORTS[*export].fault_path.is_some())
            .collect();
        let export = *self.random.pick(&faulty);
        let plan = plan(&mut self.random, export);
        let path = EXPORTS[export].fault_path.expect("was chosen for it");
        self.id += 1;
        // Before it is there, so that no error comes unannounced.
        for (touch, errno) in plan.errors {
            world.errors().0.push(Order {
                id: self.id,
                export,
                touch,
                sectors: plan.sectors.clone(),
                errno,
                until: None,
            });
        }
        let number = control.set(&format!("{path}/rules/add"), plan.rule.to_string().into())?;
        world.tally.add(format!("rules: {}", plan.kind), 1);
        self.live.push(Live {
            id: self.id,
            path: format!("{path}/rules/{number}"),
            must_go_before_end: plan.must_go_before_end,
            until: Instant::now() + Duration::from_millis(plan.life_ms),
        });
        Ok(())
    }

    fn remove(
        &mut self,
        control: &mut Control,
        world: &World,
        is_meant: impl Fn(&Live) -> bool,
    ) -> Fallible {
        let (going, staying) = self.live.drain(..).partition(|rule| is_meant(rule));
        self.live = staying;
        let going: Vec<Live> = going;
        for rule in going {
            let struck = control.inspect(&format!("{}/struck", rule.path))?;
            world
                .tally
                .add("requests struck by rules", struck.as_u64().unwrap_or(0));
            control.set(&format!("{}/remove", rule.path), true.into())?;
            world.errors().is_gone(rule.id);
        }
        Ok(())
    }

    /// Removes every rule.
    pub(crate) fn clear(&mut self, control: &mut Control, world: &World) -> Fallible {
        self.remove(control, world, |_| true)
    }

    /// Removes what the daemon could not end well with. Delays and what is kept back may stay.
    pub(crate) fn clear_for_end(&mut self, control: &mut Control, world: &World) -> Fallible {
        self.remove(control, world, |rule| rule.must_go_before_end)
    }

    /// The daemon has ended, and its rules with it.
    pub(crate) fn forget(&mut self, world: &World) {
        for rule in self.live.drain(..) {
            world.errors().is_gone(rule.id);
        }
    }
}

fn plan(random: &mut Random, export: usize) -> Plan {
    let Plan {
        kind,
        mut rule,
        errors,
        sectors,
        must_go_before_end,
        life_ms,
    } = plan_action(random, export);
    let keys = rule.as_object_mut().expect("a rule is an object");
    match random.below(5) {
        0 => _ = keys.insert("every".into(), random.between(2, 9).into()),
        1 => _ = keys.insert("after_requests".into(), random.between(1, 50).into()),
        2 => _ = keys.insert("times".into(), random.between(1, 20).into()),
        _ if kind == "delay" => _ = keys.insert("probability".into(), 0.05.into()),
        _ => _ = keys.insert("probability".into(), 0.3.into()),
    }
    if kind == "hold" {
        keys.insert("times".into(), random.between(1, 4).into());
    }
    Plan {
        kind,
        rule,
        errors,
        sectors,
        must_go_before_end,
        life_ms,
    }
}

fn plan_action(random: &mut Random, export: usize) -> Plan {
    let about = &EXPORTS[export];
    let quiet = |kind, rule, life_ms| Plan {
        kind,
        rule,
        errors: Vec::new(),
        sectors: 0..0,
        must_go_before_end: kind == "hold",
        life_ms,
    };
    let life_ms = random.between(300, 3000);
    match random.below(10) {
        0..=1 => {
            let delay = *random.pick(&[
                r#"{"fixed_ms": 1.5}"#,
                r#"{"uniform_ms": [0.1, 4.0]}"#,
                r#"{"histogram_ms": [{"to_ms": 0.5, "weight": 90}, {"to_ms": 20, "weight": 10}]}"#,
            ]);
            let delay: Value = serde_json::from_str(delay).expect("is JSON");
            quiet("delay", json!({ "action": { "delay": delay } }), life_ms)
        }
        2..=3 => quiet("hold", json!({ "action": "hold" }), random.between(50, 400)),
        4..=5 if about.fault_writes => {
            let kept_max = *random.pick(&[2, 16, 256]);
            quiet(
                "reorder",
                json!({ "action": { "reorder": kept_max } }),
                life_ms,
            )
        }
        6 if about.fault_flushes => Plan {
            kind: "failing flush",
            rule: json!({ "action": { "error": "io" }, "operations": ["flush"] }),
            errors: vec![(Touch::Flush, EIO)],
            sectors: 0..0,
            must_go_before_end: true,
            life_ms,
        },
        _ => plan_error(random, about.fault_writes, life_ms),
    }
}

fn plan_error(random: &mut Random, sees_writes: bool, life_ms: u64) -> Plan {
    let part = random.pick(&MORTAL_PARTS);
    let start = part.start + random.below(part.end - part.start);
    let sectors = start..random.between(start + 1, part.end);
    let (name, errno) = *random.pick(&ERRORS);
    const CHANGES: [&str; 3] = ["write", "write_zeroes", "unmap"];
    let (kind, action, operations, touch) = match random.below(5) {
        0 if sees_writes => (
            "partly failing write",
            "partial_error",
            &CHANGES[..2],
            Touch::Change,
        ),
        1 if sees_writes => (
            "failing for ever",
            "fail_forever",
            &CHANGES[..],
            Touch::Change,
        ),
        2 | 3 if sees_writes => ("failing change", "error", &CHANGES[..], Touch::Change),
        _ => ("failing read", "error", &["read"][..], Touch::Read),
    };
    Plan {
        kind,
        rule: json!({
            "action": { action: name },
            "operations": operations,
            "sectors": { "start": sectors.start, "count": sectors.end - sectors.start },
        }),
        errors: vec![(touch, errno)],
        sectors,
        must_go_before_end: true,
        life_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::exports::{NESTED, OVERLAY};

    #[test]
    fn only_an_ordered_error_is_explained() {
        let sent = Instant::now();
        let mut log = ErrorLog(vec![Order {
            id: 1,
            export: 2,
            touch: Touch::Read,
            sectors: 10..20,
            errno: EIO,
            until: None,
        }]);
        let explains = |log: &ErrorLog, export, touch, sectors, errno| {
            log.explains(export, touch, &sectors, errno, sent)
        };
        assert!(explains(&log, 2, Touch::Read, 19..30, EIO));
        assert!(!explains(&log, 1, Touch::Read, 19..30, EIO), "export");
        assert!(!explains(&log, 2, Touch::Change, 19..30, EIO), "operation");
        assert!(!explains(&log, 2, Touch::Read, 20..30, EIO), "sectors");
        assert!(!explains(&log, 2, Touch::Read, 19..30, 28), "error");
        log.is_gone(1);
        assert!(explains(&log, 2, Touch::Read, 19..30, EIO), "sent before");
        let later = log.explains(2, Touch::Read, &(19..30), EIO, Instant::now());
        assert!(!later, "sent after it was gone");
    }

    #[test]
    fn errors_are_planned_for_those_who_die_and_for_nobody_else() {
        let mut random = Random::of(1, "plans");
        let mut kinds = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let plan = plan(&mut random, NESTED);
            kinds.insert(plan.kind);
            let has_error = plan.rule.to_string().contains("err") || plan.kind.contains("fail");
            assert_eq!(has_error, !plan.errors.is_empty(), "{plan:?}");
            for (touch, _) in &plan.errors {
                let is_within = |part: &&Range<u64>| {
                    part.start <= plan.sectors.start && plan.sectors.end <= part.end
                };
                let is_theirs = MORTAL_PARTS.iter().any(|part| is_within(&part));
                assert!(is_theirs || *touch == Touch::Flush, "{plan:?}");
            }
        }
        assert!(kinds.len() >= 8, "{kinds:?}");
    }

    #[test]
    fn an_image_that_is_only_read_gets_no_rules_for_writes_and_flushes() {
        let mut random = Random::of(2, "plans");
        for _ in 0..200 {
            let plan = plan(&mut random, OVERLAY);
            let touches: Vec<_> = plan.errors.iter().map(|(touch, _)| *touch).collect();
            assert!(touches.is_empty() || touches == [Touch::Read], "{plan:?}");
            assert_ne!(plan.kind, "reorder");
        }
    }
}
