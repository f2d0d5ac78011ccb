//! A point in time.

use std::ops::Add;
use std::time::Duration;

/// A point in the time of a clock, to the nanosecond. Moments of different clocks have nothing to do with each other.
///
/// The last moment is some 500 billion years after the origin; what would lie beyond is that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// When the clock began.
    pub const ORIGIN: Self = Self(Duration::ZERO);
    /// A moment that never comes.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The time since the clock's origin.
    pub fn since_origin(self) -> Duration {
        self.0
    }

    /// The time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}
