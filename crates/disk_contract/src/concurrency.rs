//! Several threads on the same few sectors (C2), whose requests are dropped now and then (C9).

use crate::Clause;
use crate::alone::complete_alone;
use crate::history::Event;
use crate::ledger::{Arena, Fault, Kind, Ledger};
use crate::subject::{Checked, Subject};
use disk_backend::{DiskIo, UnmapBehavior};
use fastrand::Rng;
use futures_lite::future::poll_once;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

/// The sectors that all threads work on.
const HOT_SECTORS_MAX: u64 = 8;

const THREADS: u64 = 4;

/// The requests of each thread; fewer where sectors are large.
const REQUESTS: u32 = 400;
const REQUESTS_OF_LARGE_SECTORS: u32 = 80;
const LARGE_SECTOR_BYTES: u32 = 16 << 10;

/// Hammers a disk that holds what [`stamp_content`](crate::ledger::stamp_content) says.
pub(crate) fn check<T: DiskIo>(subject: &mut Subject<'_, T>, stall_limit: Duration) -> Checked {
    let arena = Arena::new(subject.disk(), hot_sectors(subject));
    let seeds: Vec<u64> = (0..THREADS).map(|_| subject.rng().u64(..)).collect();
    let logs = std::thread::scope(|scope| {
        let spawn = |(thread, seed): (usize, u64)| {
            let arena = &arena;
            scope.spawn(move || {
                let work = pin!(Worker::new(arena, thread as u64, seed).run());
                complete_alone(work, stall_limit).unwrap_or_else(|| {
                    let what = "a request is stuck, and nothing wakes it".to_owned();
                    Err((Clause::C4, what))
                })
            })
        };
        let workers: Vec<_> = seeds.into_iter().enumerate().map(spawn).collect();
        let logs = workers.into_iter().map(|worker| match worker.join() {
            Ok(log) => log,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        logs.collect::<Result<Vec<_>, Fault>>()
    });
    logs.and_then(|logs| arena.check(&logs.concat()))
        .map_err(|(clause, what)| subject.violation(clause, format!("seen by threads: {what}")))
}

/// Some sectors at the beginning, at the end, or in the middle.
pub(crate) fn hot_sectors<T: DiskIo>(subject: &mut Subject<'_, T>) -> Range<u64> {
    let sector_count = subject.sector_count();
    let hot_count = sector_count.min(HOT_SECTORS_MAX);
    let start = match subject.rng().u8(0..3) {
        0 => 0,
        1 => sector_count - hot_count,
        _ => (sector_count - hot_count) / 2,
    };
    start..start + hot_count
}

/// A range inside, never empty.
pub(crate) fn range_inside(rng: &mut Rng, hot: &Range<u64>) -> Range<u64> {
    let start = rng.u64(hot.clone());
    start..rng.u64(start + 1..=hot.end)
}

/// One thread.
struct Worker<'a, T> {
    arena: &'a Arena<'a, T>,
    ledger: Ledger<'a, T>,
    rng: Rng,
}

impl<'a, T: DiskIo> Worker<'a, T> {
    fn new(arena: &'a Arena<'a, T>, thread: u64, seed: u64) -> Self {
        Self {
            arena,
            ledger: Ledger::new(arena, thread, THREADS),
            rng: Rng::with_seed(seed),
        }
    }

    async fn run(mut self) -> Result<Vec<(u64, Event)>, Fault> {
        let is_large = self.arena.disk().sector_size() >= LARGE_SECTOR_BYTES;
        let requests = if is_large {
            REQUESTS_OF_LARGE_SECTORS
        } else {
            REQUESTS
        };
        for _ in 0..requests {
            self.request().await?;
        }
        Ok(self.ledger.into_log())
    }

    async fn request(&mut self) -> Result<(), Fault> {
        let kind = match self.rng.u8(0..20) {
            0..8 => Kind::Write,
            8..16 => Kind::Read,
            16 => Kind::WriteZeroes,
            17 => Kind::Unmap,
            18 => Kind::Status,
            _ => Kind::Flush,
        };
        if kind == Kind::Unmap && self.arena.disk().unmap_behavior() == UnmapBehavior::Unspecified {
            // Nobody can say what it did.
            return Ok(());
        }
        let range = range_inside(&mut self.rng, &self.arena.hot());
        let fua = self.rng.u8(0..8) == 0;
        let call = self.ledger.call(kind, range);
        let request = self.arena.perform(&call, fua);
        if self.rng.u8(0..16) > 0 {
            let result = request.await;
            return self.ledger.returned(&call, result);
        }
        let polled = poll_once(request).await;
        match polled {
            Some(result) => self.ledger.returned(&call, result),
            None => {
                self.ledger.gave_up(&call);
                Ok(())
            }
        }
    }
}
