//! What a rule does to a request.

use crate::dice::Dice;
use crate::error::Invalid;
use crate::operation::{Operation, Request};
use disk_backend::{DiskError, MediumErrorDetails};
use resource::JsonPath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// The longest delay, in milliseconds: a day.
pub const DELAY_MS_MAX: f64 = 24.0 * 3600.0 * 1000.0;

/// The most bits that are flipped in one request: those of the smallest sector.
pub const FLIP_BITS_MAX: u32 = 512 * 8;

/// The most writes that are kept back.
pub const REORDER_MAX: u32 = 4096;

/// The most steps of a histogram.
pub const STEPS_MAX: usize = 1024;

/// What a rule does to a request that it strikes.
///
/// `delay` and `hold` only make a request wait; then the next rule that strikes it has its way. Of all others the first one
/// decides what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[schemars(rename = "FaultAction")]
pub enum Action {
    /// Let some time pass first; see the table of delays.
    Delay(Delay),
    /// Wait until the rule is released, changed or removed.
    Hold,
    /// Fail, and do nothing; see the table of errors.
    Error(InjectedError),
    /// Fail, and from then on fail every request that the rule is about, whatever else the rule says of when it strikes.
    FailForever(InjectedError),
    /// Do nothing, and say that it was done.
    Drop,
    /// Write some of the sectors and not the others, and say that all were. At least one of the sectors
    /// that the rule is about is not written; of several, at least one is.
    Partial,
    /// As `partial`, but fail.
    PartialError(InjectedError),
    /// Change that many bits of what is read, from 1 to 4096, among the sectors that the rule is about.
    FlipBits(u32),
    /// Read from, or write to, other sectors of the disk than those that were asked for. A request as long as the disk has
    /// nowhere else to go: the rule is not about it.
    Misdirect,
    /// Say that what was written is durable, without asking the disk for it. For flushes, and for those writes and zeroes that
    /// are to be durable by themselves (FUA): these are done, but like any other.
    SkipFlush,
    /// Keep writes back, and write them below in another order: at the next flush, before something else is done to their sectors,
    /// and by chance when more are kept than this number, from 2 to 4096 (or more than 64 MiB). Users read what they wrote. Writes
    /// that are to be durable by themselves (FUA) are not kept back: the rule is not about them.
    Reorder(u32),
}

impl Action {
    /// As it is written in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Hold => "hold",
            Self::Error(_) => "error",
            Self::FailForever(_) => "fail_forever",
            Self::Drop => "drop",
            Self::Partial => "partial",
            Self::PartialError(_) => "partial_error",
            Self::FlipBits(_) => "flip_bits",
            Self::Misdirect => "misdirect",
            Self::SkipFlush => "skip_flush",
            Self::Reorder(_) => "reorder",
        }
    }

    /// The operations that it can be done to.
    pub fn operations(&self) -> &'static [Operation] {
        use Operation::{Flush, Read, Unmap, Write, WriteZeroes};
        match self {
            Self::Delay(_) | Self::Hold | Self::Error(_) | Self::FailForever(_) => &Operation::ALL,
            Self::Drop => &[Write, WriteZeroes, Unmap],
            Self::Partial | Self::PartialError(_) => &[Write, WriteZeroes],
            Self::FlipBits(_) => &[Read],
            Self::Misdirect => &[Read, Write, WriteZeroes],
            Self::SkipFlush => &[Write, WriteZeroes, Flush],
            Self::Reorder(_) => &[Write],
        }
    }

    /// Whether a request only waits, and goes on to the next rule.
    pub(crate) fn only_waits(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Hold)
    }

    /// Whether it would make a difference to this request, which is of an operation that it can be done to.
    pub(crate) fn matters_to(&self, request: &Request) -> bool {
        match self {
            Self::Misdirect => request.sectors.end - request.sectors.start < request.sector_count,
            Self::SkipFlush => request.operation == Operation::Flush || request.fua,
            Self::Reorder(_) => !request.fua,
            _ => true,
        }
    }

    pub(crate) fn check(&self, path: &JsonPath) -> Result<(), Invalid> {
        let path = path.key(self.name());
        match self {
            Self::Delay(delay) => delay.check(&path),
            Self::FlipBits(count) if !(1..=FLIP_BITS_MAX).contains(count) => Err(Invalid::new(
                path,
                format!("{count} bits cannot be flipped: give a number from 1 to {FLIP_BITS_MAX}"),
            )),
            Self::Reorder(count) if !(2..=REORDER_MAX).contains(count) => Err(Invalid::new(
                path,
                format!(
                    "{count} writes cannot be kept back: give a number from 2 to {REORDER_MAX}"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// How long a request is delayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[schemars(rename = "FaultDelay")]
pub enum Delay {
    /// So many milliseconds, each time.
    FixedMs(f64),
    /// A time between these two, in milliseconds; all are as likely.
    UniformMs([f64; 2]),
    /// Times as they were measured: steps, in ascending order.
    HistogramMs(Vec<DelayStep>),
}

/// A step of a histogram of delays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FaultDelayStep")]
pub struct DelayStep {
    /// The longest delay of this step, in milliseconds. The shortest is the longest of the step before, or 0.
    pub to_ms: f64,
    /// How many requests, among those of all steps, are delayed like this.
    pub weight: u32,
}

impl Delay {
    pub(crate) fn draw(&self, dice: &mut Dice) -> Duration {
        let ms = match self {
            Self::FixedMs(ms) => *ms,
            Self::UniformMs([from, to]) => from + (to - from) * dice.fraction(),
            Self::HistogramMs(steps) => draw_step(steps, dice),
        };
        Duration::from_secs_f64(ms / 1000.0)
    }

    fn check(&self, path: &JsonPath) -> Result<(), Invalid> {
        match self {
            Self::FixedMs(ms) => check_ms(*ms, 0.0, &path.key("fixed_ms")),
            Self::UniformMs([from, to]) => {
                let path = path.key("uniform_ms");
                check_ms(*from, 0.0, &path.index(0))?;
                check_ms(*to, *from, &path.index(1))
            }
            Self::HistogramMs(steps) => check_steps(steps, &path.key("histogram_ms")),
        }
    }
}

fn draw_step(steps: &[DelayStep], dice: &mut Dice) -> f64 {
    let total: u64 = steps.iter().map(|step| u64::from(step.weight)).sum();
    let mut left = dice.below(total.max(1));
    let mut from = 0.0;
    for step in steps {
        match left.checked_sub(u64::from(step.weight)) {
            Some(rest) => left = rest,
            None => return from + (step.to_ms - from) * dice.fraction(),
        }
        from = step.to_ms;
    }
    from
}

fn check_steps(steps: &[DelayStep], path: &JsonPath) -> Result<(), Invalid> {
    if steps.len() > STEPS_MAX {
        let count = steps.len();
        let message = format!("{count} steps are too many: a histogram has at most {STEPS_MAX}");
        return Err(Invalid::new(path.clone(), message));
    }
    if steps.iter().all(|step| step.weight == 0) {
        let message = "no step has a weight, so there is no delay to choose";
        return Err(Invalid::new(path.clone(), message));
    }
    let mut from = 0.0;
    for (index, step) in steps.iter().enumerate() {
        check_ms(step.to_ms, from, &path.index(index).key("to_ms"))?;
        from = step.to_ms;
    }
    Ok(())
}

fn check_ms(ms: f64, from: f64, path: &JsonPath) -> Result<(), Invalid> {
    if (from..=DELAY_MS_MAX).contains(&ms) {
        return Ok(());
    }
    let message = format!("a delay of {ms} ms is not between {from} ms and a day");
    Err(Invalid::new(path.clone(), message))
}

/// An error that a rule can cause: every one that a disk can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[schemars(rename = "FaultError")]
pub enum InjectedError {
    /// The store failed.
    Io,
    /// There is no room.
    NoSpace,
    /// The disk takes no writes.
    ReadOnly,
    /// The disk cannot do this at all.
    Unsupported,
    /// The request reaches beyond the end of the disk.
    IllegalBlock,
    /// The request is malformed.
    InvalidInput,
    /// The memory of the request cannot be used.
    MemoryAccess,
    /// Another initiator's reservation forbids the request.
    ReservationConflict,
    /// Another initiator's reservation aborted the request.
    AbortDueToPreemptAndAbort,
    /// The disk cannot be ejected.
    UnsupportedEject,
    /// A medium error: the data could not be read back.
    UnrecoveredReadError,
    /// A medium error: the data could not be written.
    WriteFault,
    /// A medium error: the checksum did not match.
    GuardCheckFailed,
    /// A medium error: the application tag did not match.
    ApplicationTagCheckFailed,
    /// A medium error: the reference tag did not match.
    ReferenceTagCheckFailed,
}

impl InjectedError {
    /// The error itself. Where an error has a cause, that is the rule with this id.
    pub fn to_disk_error(self, rule: u64) -> DiskError {
        let cause = || io::Error::other(format!("rule {rule} of a fault disk says so"));
        let medium = |details| DiskError::MediumError(cause(), details);
        match self {
            Self::Io => DiskError::Io(cause()),
            Self::NoSpace => DiskError::NoSpace,
            Self::ReadOnly => DiskError::ReadOnly,
            Self::Unsupported => DiskError::Unsupported,
            Self::IllegalBlock => DiskError::IllegalBlock,
            Self::InvalidInput => DiskError::InvalidInput,
            Self::MemoryAccess => DiskError::MemoryAccess(guestmem::AccessError::ReadOnly),
            Self::ReservationConflict => DiskError::ReservationConflict,
            Self::AbortDueToPreemptAndAbort => DiskError::AbortDueToPreemptAndAbort,
            Self::UnsupportedEject => DiskError::UnsupportedEject,
            Self::UnrecoveredReadError => medium(MediumErrorDetails::UnrecoveredReadError),
            Self::WriteFault => medium(MediumErrorDetails::WriteFault),
            Self::GuardCheckFailed => medium(MediumErrorDetails::GuardCheckFailed),
            Self::ApplicationTagCheckFailed => {
                medium(MediumErrorDetails::ApplicationTagCheckFailed)
            }
            Self::ReferenceTagCheckFailed => medium(MediumErrorDetails::ReferenceTagCheckFailed),
        }
    }
}
