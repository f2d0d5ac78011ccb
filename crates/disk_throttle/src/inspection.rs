//! A group in the inspection tree of each of its disks, where its limits are changed too.

use crate::group::ThrottleGroup;
use crate::limits::Limits;
use inspect::{Inspect, Reason, Request};
use resource::ByteSize;

impl Inspect for ThrottleGroup {
    fn inspect(&self, request: Request<'_>) {
        let limits = self.limits();
        let status = self.status();
        let mut response = request.respond();
        response
            .field("group", &self.0.name)
            .field_mut_with("bytes_per_second", |new| {
                self.change(new, bytes, |limits, new| {
                    limits.bytes_per_second = new;
                    limits.burst_bytes = limits.burst_bytes.filter(|_| new.is_some());
                })?;
                Ok::<_, Reason>(self.limits().bytes_per_second)
            })
            .field_mut_with("burst_bytes", |new| {
                self.change(new, bytes, |limits, new| limits.burst_bytes = new)?;
                Ok::<_, Reason>(self.limits().bytes().map(|limit| limit.burst_units))
            })
            .field_mut_with("operations_per_second", |new| {
                self.change(new, operations, |limits, new| {
                    limits.operations_per_second = new;
                    limits.burst_operations = limits.burst_operations.filter(|_| new.is_some());
                })?;
                Ok::<_, Reason>(self.limits().operations_per_second)
            })
            .field_mut_with("burst_operations", |new| {
                self.change(new, operations, |limits, new| limits.burst_operations = new)?;
                Ok::<_, Reason>(self.limits().operations().map(|limit| limit.burst_units))
            });
        if limits.bytes_per_second.is_some() {
            response.field("available_bytes", &number(status.available_bytes));
        }
        if limits.operations_per_second.is_some() {
            response.field("available_operations", &number(status.available_operations));
        }
        response
            .field("waiting", &status.waiting)
            .field("disks", &status.disks);
    }
}

impl ThrottleGroup {
    fn change(
        &self,
        new: Option<&str>,
        read: fn(&str) -> Result<u64, Reason>,
        apply: impl FnOnce(&mut Limits, Option<u64>),
    ) -> Result<(), Reason> {
        if let Some(text) = new {
            let value = match text {
                "null" => None,
                text => Some(read(text)?),
            };
            self.update_limits(|limits| apply(limits, value))?;
        }
        Ok(())
    }
}

fn bytes(text: &str) -> Result<u64, Reason> {
    Ok(text.parse::<ByteSize>()?.into())
}

fn operations(text: &str) -> Result<u64, Reason> {
    let no_number = |_| {
        let text = text.escape_debug();
        format!("\"{text}\" is no whole number of operations; null is no limit")
    };
    Ok(text.parse().map_err(no_number)?)
}

/// What a bucket holds, in the numbers that a tree has.
fn number(units: Option<i128>) -> Option<i64> {
    let clamped = |units: i128| units.clamp(i64::MIN.into(), i64::MAX.into());
    units.map(|units| clamped(units) as i64)
}
