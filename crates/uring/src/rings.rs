//! The rings of the process: as many as processors, up to some, so that threads rarely share one, and none before it is needed.

use crate::Ring;
use crate::ring::Core;
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each ring has 100 KiB of queues.
const RING_COUNT_MAX: usize = 8;

pub(crate) struct Rings {
    make: fn() -> io::Result<&'static Core>,
    first: OnceLock<Result<Ring, io::Error>>,
    /// None where the system gives no more than the first.
    others: [OnceLock<Option<Ring>>; RING_COUNT_MAX - 1],
}

impl Rings {
    pub(crate) const fn new(make: fn() -> io::Result<&'static Core>) -> Self {
        Self {
            make,
            first: OnceLock::new(),
            others: [const { OnceLock::new() }; RING_COUNT_MAX - 1],
        }
    }

    /// The ring for thread `number`.
    pub(crate) fn get(&self, number: usize) -> Result<Ring, &io::Error> {
        let first = self.first.get_or_init(|| {
            (self.make)().map(Ring).inspect_err(|error| {
                tracing::warn!(%error, "no io_uring here: requests that have to wait use threads instead");
            })
        });
        let first = *first.as_ref()?;
        let Some(other) = number.checked_sub(1) else {
            return Ok(first);
        };
        let other = self.others[other].get_or_init(|| (self.make)().ok().map(Ring));
        Ok(other.unwrap_or(first))
    }
}

pub(crate) fn of_this_thread() -> Result<Ring, &'static io::Error> {
    static RINGS: Rings = Rings::new(Core::start);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static COUNT: OnceLock<usize> = OnceLock::new();
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let number = NUMBER.get().unwrap_or_else(|| {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = *COUNT.get_or_init(|| processors().min(RING_COUNT_MAX));
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        NUMBER.set(Some(number));
        number
    });
    RINGS.get(number)
}
