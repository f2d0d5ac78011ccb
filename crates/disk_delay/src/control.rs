//! The handle by which the delay is seen and changed.

use crate::delay::{InvalidDelay, delay_of, nanoseconds_of};
use inspect::{Inspect, Request};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Sees and changes the delay of a [`DelayDisk`](crate::DelayDisk) while it is used. Cheap to clone.
///
/// Another delay is in force for every request that begins after it: those that wait keep the one that they began with.
#[derive(Debug, Clone)]
pub struct DelayControl(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// At most [`DELAY_SECONDS_MAX`](crate::DELAY_SECONDS_MAX).
    delay_ns: AtomicU64,
    waiting: AtomicU64,
}

impl DelayControl {
    pub(crate) fn new(delay: Duration) -> Result<Self, InvalidDelay> {
        Ok(Self(Arc::new(Shared {
            delay_ns: AtomicU64::new(nanoseconds_of(delay)?),
            waiting: AtomicU64::new(0),
        })))
    }

    /// The delay of requests that begin now.
    pub fn delay(&self) -> Duration {
        Duration::from_nanos(self.0.delay_ns.load(Relaxed))
    }

    /// Changes the delay of requests that begin from now on.
    ///
    /// # Errors
    /// If it is longer than [`DELAY_SECONDS_MAX`](crate::DELAY_SECONDS_MAX); the old one stays.
    pub fn set(&self, delay: Duration) -> Result<(), InvalidDelay> {
        self.0.delay_ns.store(nanoseconds_of(delay)?, Relaxed);
        Ok(())
    }

    /// How many requests wait.
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Relaxed)
    }

    /// Counts a request that waits, until the answer is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.0.waiting.fetch_add(1, Relaxed);
        Waiting(&self.0.waiting)
    }

    fn set_text(&self, new: &str) -> Result<(), inspect::Reason> {
        let seconds: f64 = new
            .parse()
            .map_err(|_| format!("\"{}\" is no number of seconds", new.escape_debug()))?;
        Ok(self.set(delay_of(seconds)?)?)
    }
}

impl Inspect for DelayControl {
    fn inspect(&self, request: Request<'_>) {
        request
            .respond()
            .field_mut_with("seconds", |new| {
                if let Some(new) = new {
                    self.set_text(new)?;
                }
                Ok::<_, inspect::Reason>(self.delay().as_secs_f64())
            })
            .field("waiting", &self.waiting());
    }
}

/// A request that waits until this is dropped.
pub(crate) struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
