//! How much may begin, and what makes no sense.

/// How much a group may begin per second, and at once after it has been idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that are read and written, per second; none: as many as are asked for.
    pub bytes_per_second: Option<u64>,
    /// How many bytes may begin at once after a pause; none: as many as in a tenth of a second.
    pub burst_bytes: Option<u64>,
    /// Requests per second, but for flushes; none: as many as are asked for.
    pub operations_per_second: Option<u64>,
    /// How many requests may begin at once after a pause; none: as many as in a tenth of a second, and at least one.
    pub burst_operations: Option<u64>,
}

/// Limits that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
#[non_exhaustive]
pub struct InvalidLimits {
    /// The field, which is the key of a description as well.
    pub field: &'static str,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// A bucket holds as much as comes in this part of a second, unless it was told.
const BURST_PER_SECOND: u64 = 10;

impl Limits {
    /// Whether nothing is limited.
    pub fn are_none(&self) -> bool {
        self.bytes_per_second.is_none() && self.operations_per_second.is_none()
    }

    /// Whether they can be kept.
    ///
    /// # Errors
    /// The first field that makes no sense: a zero, or a burst of what is not limited.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        let refuse = |field, message: String| Err(InvalidLimits { field, message });
        for (rate_field, rate, burst_field, burst) in [
            (
                "bytes_per_second",
                self.bytes_per_second,
                "burst_bytes",
                self.burst_bytes,
            ),
            (
                "operations_per_second",
                self.operations_per_second,
                "burst_operations",
                self.burst_operations,
            ),
        ] {
            if rate == Some(0) {
                let message =
                    "0 would let nothing begin: give at least 1, or leave it out for no limit";
                return refuse(rate_field, message.to_owned());
            }
            if burst == Some(0) {
                let message = "0 would let nothing begin: give at least 1, or leave it out for a tenth of a second";
                return refuse(burst_field, message.to_owned());
            }
            if burst.is_some() && rate.is_none() {
                let message = format!(
                    "there is nothing to burst above without {rate_field}: give that as well, or leave this out"
                );
                return refuse(burst_field, message);
            }
        }
        Ok(())
    }

    /// Of bytes.
    pub(crate) fn bytes(&self) -> Option<Limit> {
        Limit::of(self.bytes_per_second, self.burst_bytes)
    }

    /// Of operations.
    pub(crate) fn operations(&self) -> Option<Limit> {
        Limit::of(self.operations_per_second, self.burst_operations)
    }
}

/// The limit of one bucket: neither number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) units_per_second: u64,
    /// How much the bucket holds.
    pub(crate) burst_units: u64,
}

impl Limit {
    fn of(per_second: Option<u64>, burst: Option<u64>) -> Option<Self> {
        let units_per_second = per_second?;
        let default = || (units_per_second / BURST_PER_SECOND).max(1);
        Some(Self {
            units_per_second,
            burst_units: burst.unwrap_or_else(default),
        })
    }
}
