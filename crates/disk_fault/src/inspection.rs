//! The rules in the inspection tree, where they are changed too.

use crate::control::FaultControl;
use crate::disk::Core;
use crate::live::LiveRule;
use crate::rule::Rule;
use crate::rules::Rules;
use inspect::{Inspect, Request};
use serde_json::Value;

impl Inspect for Core {
    fn inspect(&self, request: Request<'_>) {
        request
            .respond()
            .field("seed", &self.rules.seed)
            .field("rules", &self.rules)
            .field("unflushed_sector_count", &self.store.kept_sector_count())
            .field_mut_with("drop_unflushed", |new| {
                command(new, || Ok(self.store.forget().into()))
            });
    }
}

impl Inspect for Rules {
    fn inspect(&self, request: Request<'_>) {
        let mut response = request.respond();
        response.field_mut_with("add", |new| self.add_text(new));
        for rule in self.list() {
            response.field_with(&rule.id.to_string(), |request| {
                self.inspect_rule(&rule, request);
            });
        }
    }
}

impl Rules {
    fn inspect_rule(&self, rule: &LiveRule, request: Request<'_>) {
        let id = rule.id;
        request
            .respond()
            .field_mut_with("rule", |new| match new {
                None => Ok(rule_json(&rule.rule)),
                Some(text) => self.change_text(id, text),
            })
            .counter("concerned", rule.concerned())
            .counter("struck", rule.struck())
            .field("held", &rule.held())
            .field_mut_with("release", |new| {
                command(new, || Ok(self.release(id)?.into()))
            })
            .field_mut_with("remove", |new| {
                command(new, || {
                    self.remove(id).map(|()| true.into()).map_err(Into::into)
                })
            });
    }

    /// Adds the rule that a text describes; the value is its id.
    fn add_text(&self, new: Option<&str>) -> Result<Value, inspect::Reason> {
        match new {
            None => Ok(Value::Null),
            Some(text) => Ok(self.add(resource::from_str(text)?)?.into()),
        }
    }

    fn change_text(&self, id: u64, text: &str) -> Result<Value, inspect::Reason> {
        let rule: Rule = resource::from_str(text)?;
        let shown = rule_json(&rule);
        self.change(id, rule)?;
        Ok(shown)
    }
}

/// A value that does something when it is set to `true`, and otherwise is nothing.
fn command(
    new: Option<&str>,
    run: impl FnOnce() -> Result<Value, inspect::Reason>,
) -> Result<Value, inspect::Reason> {
    match new {
        None => Ok(Value::Null),
        Some("true") => run(),
        Some(_) => Err("set it to true to have it done".into()),
    }
}

fn rule_json(rule: &Rule) -> Value {
    serde_json::to_value(rule).unwrap_or_else(|error| error.to_string().into())
}

/// What the disk itself shows of its rules.
impl Inspect for FaultControl {
    fn inspect(&self, request: Request<'_>) {
        self.0.inspect(request);
    }
}
