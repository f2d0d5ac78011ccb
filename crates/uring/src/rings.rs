//! The rings of the process: as many as processors, up to some, so that threads rarely share one. All are made when the first is asked
//! for, so that what the process holds does not depend on which thread does what.

use crate::Ring;
use crate::ring::Core;
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Each ring has some 100 KiB of queues.
const RING_COUNT_MAX: usize = 8;

pub(crate) struct Rings {
    make: fn() -> io::Result<&'static Core>,
    /// At least one, or why there is none.
    made: OnceLock<Result<Vec<Ring>, io::Error>>,
}

impl Rings {
    pub(crate) const fn new(make: fn() -> io::Result<&'static Core>) -> Self {
        Self {
            make,
            made: OnceLock::new(),
        }
    }

    /// The ring for thread `number`, if there are to be `count` of them.
    pub(crate) fn get(&self, number: usize, count: usize) -> Result<Ring, &io::Error> {
        let made = self.made.get_or_init(|| self.make_all(count)).as_ref()?;
        Ok(made[number % made.len()])
    }

    /// As many as the system gives.
    fn make_all(&self, count: usize) -> Result<Vec<Ring>, io::Error> {
        let first = (self.make)().inspect_err(|error| {
            tracing::warn!(%error, "no io_uring here: requests that have to wait use threads instead");
        })?;
        let others = (1..count).map_while(|_| (self.make)().ok());
        Ok(std::iter::once(first).chain(others).map(Ring).collect())
    }
}

pub(crate) fn of_this_thread() -> Result<Ring, &'static io::Error> {
    static RINGS: Rings = Rings::new(Core::start);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    let number = NUMBER.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    });
    RINGS.get(number, ring_count())
}

fn ring_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.min(RING_COUNT_MAX)
    })
}
