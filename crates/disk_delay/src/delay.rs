//! Delays, as numbers that can be waited for.

use std::time::Duration;

/// The longest delay, in seconds: a day.
pub const DELAY_SECONDS_MAX: u32 = 24 * 3600;

/// A delay that cannot be waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a delay of {seconds} seconds is not between 0 and a day ({DELAY_SECONDS_MAX} seconds)")]
#[non_exhaustive]
pub struct InvalidDelay {
    /// The delay in seconds, for people: it may be no number at all.
    pub seconds: String,
}

/// The delay in nanoseconds, which are few enough for 64 bits.
pub(crate) fn nanoseconds_of(delay: Duration) -> Result<u64, InvalidDelay> {
    let nanoseconds = u64::try_from(delay.as_nanos());
    nanoseconds
        .ok()
        .filter(|_| delay <= Duration::from_secs(DELAY_SECONDS_MAX.into()))
        .ok_or_else(|| InvalidDelay {
            seconds: delay.as_secs_f64().to_string(),
        })
}

/// The delay that a number of seconds is, to the nanosecond.
pub(crate) fn delay_of(seconds: f64) -> Result<Duration, InvalidDelay> {
    let is_possible = (0.0..=f64::from(DELAY_SECONDS_MAX)).contains(&seconds);
    let delay = Duration::try_from_secs_f64(seconds).ok();
    delay.filter(|_| is_possible).ok_or_else(|| InvalidDelay {
        seconds: seconds.to_string(),
    })
}
