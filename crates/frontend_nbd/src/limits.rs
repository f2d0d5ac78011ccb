//! How much clients may ask for at once.

use crate::slots::SLOTS_MAX;
use inspect::Inspect;
use std::time::Duration;

/// Bounds on what all clients together, and each of them, can make a server hold.
///
/// Begin with the default and change what must differ.
#[derive(Debug, Clone, Inspect)]
#[non_exhaustive]
pub struct Limits {
    /// How many connections there may be; further ones are closed at once. 1024 unless changed.
    pub connections_max: usize,
    /// How many requests of one connection are worked on at once; further ones wait in the socket. From 1 to 128; 128 unless
    /// changed.
    pub requests_in_flight_max: usize,
    /// How many bytes of data one connection may hold, on their way to a disk or a client. At least 1 MiB; 2 MiB unless
    /// changed. Larger requests pass through in pieces.
    pub bytes_in_flight_max: usize,
    /// How long a stopping server waits for clients to take the replies that are ready; 10 seconds unless changed.
    #[inspect(debug)]
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            requests_in_flight_max: 128,
            bytes_in_flight_max: 2 << 20,
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// One piece of a request in the largest sectors, not aligned to them, is four of those (see `step::Payload`).
const BYTES_IN_FLIGHT_MIN: usize = 4 * crate::export::SECTOR_SIZE_MAX as usize;

impl Limits {
    /// The same with every value brought into its range.
    pub(crate) fn clamped(mut self) -> Self {
        self.requests_in_flight_max = self.requests_in_flight_max.clamp(1, 128.min(SLOTS_MAX));
        self.bytes_in_flight_max = self.bytes_in_flight_max.max(BYTES_IN_FLIGHT_MIN);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_brought_into_their_range() {
        let limits = Limits {
            requests_in_flight_max: 0,
            bytes_in_flight_max: 1,
            ..Limits::default()
        };
        let clamped = limits.clamped();
        assert_eq!(clamped.requests_in_flight_max, 1);
        assert_eq!(clamped.bytes_in_flight_max, 1 << 20);
        let limits = Limits {
            requests_in_flight_max: usize::MAX,
            ..Limits::default()
        };
        assert_eq!(limits.clamped().requests_in_flight_max, 128);
    }
}
