//! How much clients may ask for at once, and for how long.

use crate::slots::SLOTS_MAX;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Bounds on what all clients together, and each of them, can make a server hold.
///
/// Begin with the default and change what must differ. All of them can be changed while the server serves:
/// [`ServerHandle::set_limits`](crate::ServerHandle::set_limits), or one by one in the inspection tree of
/// [`ServerHandle`](crate::ServerHandle), under `limits/`, by the names given here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `connections_max`: how many connections there may be; further ones are closed at once. At most 1 000 000; 1024 unless
    /// changed. Those that exist stay when it is lowered.
    pub connections_max: usize,
    /// `connections_per_export_max`: how many of them may use one export, unless the export has
    /// [its own limit](crate::Export::with_connections_max); further ones are told so. None unless changed.
    pub connections_per_export_max: Option<usize>,
    /// `requests_in_flight_max`: how many requests of one connection are worked on at once; further ones wait in the socket.
    /// From 1 to 128; 128 unless changed.
    pub requests_in_flight_max: usize,
    /// `bytes_in_flight_max`: how many bytes of data one connection may hold, on their way to a disk or a client. From 1 MiB to
    /// 1 GiB; 2 MiB unless changed. Larger requests pass through in pieces. A change is for connections made after it.
    pub bytes_in_flight_max: usize,
    /// `stop_grace_s`: how long clients have to take the replies that are ready when the server stops or their export is
    /// removed. At most a day; 10 seconds unless changed.
    pub stop_grace: Duration,
    /// `handshake_timeout_s`: how long a client may take to choose an export; then it is closed. At most a day; 10 seconds unless
    /// changed; `None`, for no such limit. A change is for connections made after it.
    pub handshake_timeout: Option<Duration>,
    /// `idle_timeout_s`: how long a client may say nothing while none of its requests is worked on, or take none of the replies
    /// that wait for it; then it is closed, at most a second later. At most a day; `None`, no such limit, unless changed.
    pub idle_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_per_export_max: None,
            requests_in_flight_max: 128,
            bytes_in_flight_max: 2 << 20,
            stop_grace: Duration::from_secs(10),
            handshake_timeout: Some(Duration::from_secs(10)),
            idle_timeout: None,
        }
    }
}

const CONNECTIONS: RangeInclusive<usize> = 0..=1_000_000;
const REQUESTS_IN_FLIGHT: RangeInclusive<usize> = 1..=128;
const _: () = assert!(*REQUESTS_IN_FLIGHT.end() <= SLOTS_MAX);
/// One piece of a request in the largest sectors, not aligned to them, is four of those (see `step::Payload`).
const BYTES_IN_FLIGHT: RangeInclusive<usize> =
    4 * crate::export::SECTOR_SIZE_MAX as usize..=1 << 30;
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Less would be no time at all.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The limits of a running server, which may change at any time.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    connections_max: AtomicUsize,
    connections_per_export_max: OptionalCount,
    requests_in_flight_max: AtomicUsize,
    bytes_in_flight_max: AtomicUsize,
    stop_grace: OptionalTime,
    handshake_timeout: OptionalTime,
    idle_timeout: OptionalTime,
}

/// A count, or none.
#[derive(Debug)]
pub(crate) struct OptionalCount(AtomicUsize);

/// A time in microseconds, or none.
#[derive(Debug)]
struct OptionalTime(AtomicU64);

impl LiveLimits {
    pub(crate) fn new(limits: Limits) -> Self {
        let live = Self {
            connections_max: AtomicUsize::new(0),
            connections_per_export_max: OptionalCount::new(None),
            requests_in_flight_max: AtomicUsize::new(0),
            bytes_in_flight_max: AtomicUsize::new(0),
            stop_grace: OptionalTime::new(None),
            handshake_timeout: OptionalTime::new(None),
            idle_timeout: OptionalTime::new(None),
        };
        live.set(limits);
        live
    }

    /// Sets all, each brought into its range.
    pub(crate) fn set(&self, limits: Limits) {
        let set = |to: &AtomicUsize, value: usize, range: RangeInclusive<usize>| {
            to.store(value.clamp(*range.start(), *range.end()), Ordering::Relaxed);
        };
        set(&self.connections_max, limits.connections_max, CONNECTIONS);
        let of_export = limits.connections_per_export_max;
        let of_export = of_export.map(|count| count.min(*CONNECTIONS.end()));
        self.connections_per_export_max.set(of_export);
        let in_flight = limits.requests_in_flight_max;
        set(&self.requests_in_flight_max, in_flight, REQUESTS_IN_FLIGHT);
        let bytes = limits.bytes_in_flight_max;
        set(&self.bytes_in_flight_max, bytes, BYTES_IN_FLIGHT);
        let clamp = |time: Duration| time.clamp(TIMEOUT_MIN, TIME_MAX);
        self.stop_grace.set(Some(limits.stop_grace.min(TIME_MAX)));
        self.handshake_timeout
            .set(limits.handshake_timeout.map(clamp));
        self.idle_timeout.set(limits.idle_timeout.map(clamp));
    }

    pub(crate) fn get(&self) -> Limits {
        Limits {
            connections_max: self.connections_max(),
            connections_per_export_max: self.connections_per_export_max(),
            requests_in_flight_max: self.requests_in_flight_max(),
            bytes_in_flight_max: self.bytes_in_flight_max(),
            stop_grace: self.stop_grace(),
            handshake_timeout: self.handshake_timeout(),
            idle_timeout: self.idle_timeout(),
        }
    }

    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    pub(crate) fn connections_per_export_max(&self) -> Option<usize> {
        self.connections_per_export_max.get()
    }

    pub(crate) fn requests_in_flight_max(&self) -> usize {
        self.requests_in_flight_max.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_in_flight_max(&self) -> usize {
        self.bytes_in_flight_max.load(Ordering::Relaxed)
    }

    pub(crate) fn stop_grace(&self) -> Duration {
        self.stop_grace.get().expect("there is always a grace")
    }

    pub(crate) fn handshake_timeout(&self) -> Option<Duration> {
        self.handshake_timeout.get()
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.get()
    }

    /// Shows the limits. `idle_timeout_changed` is called after that one was changed.
    pub(crate) fn show(&self, req: inspect::Request<'_>, idle_timeout_changed: impl Fn()) {
        req.respond()
            .field_mut_with("connections_max", |new| {
                change_count(&self.connections_max, new, CONNECTIONS)
            })
            .field_mut_with("connections_per_export_max", |new| {
                self.connections_per_export_max.change(new)
            })
            .field_mut_with("requests_in_flight_max", |new| {
                change_count(&self.requests_in_flight_max, new, REQUESTS_IN_FLIGHT)
            })
            .field_mut_with("bytes_in_flight_max", |new| {
                change_count(&self.bytes_in_flight_max, new, BYTES_IN_FLIGHT)
            })
            .field_mut_with("stop_grace_s", |new| {
                self.stop_grace.change(new, Duration::ZERO, "")
            })
            .field_mut_with("handshake_timeout_s", |new| {
                self.handshake_timeout.change(new, TIMEOUT_MIN, OR_NONE)
            })
            .field_mut_with("idle_timeout_s", |new| {
                let after = self.idle_timeout.change(new, TIMEOUT_MIN, OR_NONE)?;
                if new.is_some() {
                    idle_timeout_changed();
                }
                Ok::<_, OutOfRange>(after)
            });
    }
}

/// The text for no limit.
const NONE: &str = "none";
const OR_NONE: &str = ", or `none`";

/// What a limit may be.
#[derive(Debug, thiserror::Error)]
#[error("it must be {0}")]
pub(crate) struct OutOfRange(String);

impl OutOfRange {
    fn new(from: impl fmt::Display, to: impl fmt::Display, unit: &str, or: &str) -> Self {
        Self(format!("a number{unit} from {from} to {to}{or}"))
    }
}

fn change_count(
    count: &AtomicUsize,
    new: Option<&str>,
    range: RangeInclusive<usize>,
) -> Result<usize, OutOfRange> {
    if let Some(new) = new {
        let (from, to) = (range.start(), range.end());
        let new = new.parse().ok().filter(|new| range.contains(new));
        let new = new.ok_or_else(|| OutOfRange::new(from, to, "", ""))?;
        count.store(new, Ordering::Relaxed);
    }
    Ok(count.load(Ordering::Relaxed))
}

impl OptionalCount {
    const NO_COUNT: usize = usize::MAX;

    pub(crate) fn new(count: Option<usize>) -> Self {
        Self(AtomicUsize::new(count.unwrap_or(Self::NO_COUNT)))
    }

    fn set(&self, count: Option<usize>) {
        self.0
            .store(count.unwrap_or(Self::NO_COUNT), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| *count != Self::NO_COUNT)
    }

    /// Reads it, or changes it to a number of connections, or to `none`.
    pub(crate) fn change(&self, new: Option<&str>) -> Result<Option<usize>, OutOfRange> {
        match new {
            Some(NONE) => self.set(None),
            Some(new) => {
                let (from, to) = (CONNECTIONS.start(), CONNECTIONS.end());
                let count = new.parse().ok().filter(|new| CONNECTIONS.contains(new));
                let count = count.ok_or_else(|| OutOfRange::new(from, to, "", OR_NONE))?;
                self.set(Some(count));
            }
            None => {}
        }
        Ok(self.get())
    }
}

impl OptionalTime {
    const NO_TIME: u64 = u64::MAX;

    fn new(time: Option<Duration>) -> Self {
        let empty = Self(AtomicU64::new(Self::NO_TIME));
        empty.set(time);
        empty
    }

    fn set(&self, time: Option<Duration>) {
        let time_us = time.map_or(Self::NO_TIME, |time| time.as_micros() as u64);
        self.0.store(time_us, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        let time_us = Some(self.0.load(Ordering::Relaxed));
        let time_us = time_us.filter(|time_us| *time_us != Self::NO_TIME);
        time_us.map(Duration::from_micros)
    }

    /// Reads it, in seconds, or changes it to a number of seconds, or to `none` if `or` says so.
    fn change(
        &self,
        new: Option<&str>,
        from: Duration,
        or: &str,
    ) -> Result<Option<f64>, OutOfRange> {
        match new {
            Some(NONE) if or == OR_NONE => self.set(None),
            Some(new) => {
                let time = new.parse().ok();
                let time = time.and_then(|time| Duration::try_from_secs_f64(time).ok());
                let time = time.filter(|time| (from..=TIME_MAX).contains(time));
                let (from, to) = (from.as_secs_f64(), TIME_MAX.as_secs());
                let time = time.ok_or_else(|| OutOfRange::new(from, to, " of seconds", or))?;
                self.set(Some(time));
            }
            None => {}
        }
        Ok(self.get().map(|time| time.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use std::cell::Cell;

    #[test]
    fn values_are_brought_into_their_range() {
        let limits = Limits {
            connections_per_export_max: Some(usize::MAX),
            requests_in_flight_max: 0,
            bytes_in_flight_max: 1,
            stop_grace: Duration::MAX,
            idle_timeout: Some(Duration::ZERO),
            ..Limits::default()
        };
        let live = LiveLimits::new(limits).get();
        assert_eq!(live.connections_per_export_max, Some(1_000_000));
        assert_eq!(live.requests_in_flight_max, 1);
        assert_eq!(live.bytes_in_flight_max, 1 << 20);
        assert_eq!(live.stop_grace, TIME_MAX);
        assert_eq!(live.idle_timeout, Some(TIMEOUT_MIN));
        let limits = Limits {
            requests_in_flight_max: usize::MAX,
            ..Limits::default()
        };
        assert_eq!(LiveLimits::new(limits).requests_in_flight_max(), 128);
        let default = LiveLimits::new(Limits::default()).get();
        assert_eq!(default, Limits::default());
    }

    #[test]
    fn every_limit_can_be_changed_within_its_range_and_only_there() {
        let live = LiveLimits::new(Limits::default());
        let changes = Cell::new(0);
        let tree = inspect::adhoc(|req| live.show(req, || changes.set(changes.get() + 1)));
        let change = |name, value| block_on(inspect::update(name, value, &tree));
        for (name, good, bad) in [
            (
                "connections_max",
                &["0", "1000000"][..],
                &["-1", "1000001", "none", ""][..],
            ),
            (
                "connections_per_export_max",
                &["none", "7"],
                &["1000001", "None"],
            ),
            (
                "requests_in_flight_max",
                &["1", "128"],
                &["0", "129", "1.5"],
            ),
            (
                "bytes_in_flight_max",
                &["1048576", "1073741824"],
                &["1048575", "1073741825"],
            ),
            ("stop_grace_s", &["0", "86400"], &["none", "-1", "86401"]),
            (
                "handshake_timeout_s",
                &["none", "0.001", "2.5"],
                &["0", "inf", "NaN", "-0.1"],
            ),
            (
                "idle_timeout_s",
                &["none", "86400"],
                &["0", "0.0001", "1e300", "soon"],
            ),
        ] {
            for value in good {
                let after = change(name, value).unwrap();
                let expected = value.parse::<f64>().ok();
                assert_eq!(after.as_f64(), expected, "{name} {value}");
            }
            let before = block_on(inspect::inspect(name, None, &tree)).unwrap();
            for value in bad {
                let error = change(name, value).unwrap_err().to_string();
                assert!(error.contains("it must be a number"), "{error}");
            }
            let after = block_on(inspect::inspect(name, None, &tree)).unwrap();
            assert_eq!(after, before, "{name}");
        }
        assert_eq!(changes.get(), 2, "good values of the idle timeout");
        assert_eq!(live.idle_timeout(), Some(TIME_MAX));
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        let live = LiveLimits::new(Limits::default());
        let tree = inspect::adhoc(|req| live.show(req, || ()));
        let error = block_on(inspect::update("idle_timeout_s", "x", &tree)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"idle_timeout_s\" was not changed to \"x\": \
             it must be a number of seconds from 0.001 to 86400, or `none`"
        );
    }
}
