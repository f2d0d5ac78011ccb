//! Throttled disks in simulated time, and what reaches the disks below.

#![allow(dead_code, reason = "each test uses some of it")]

use super::common::probe;
use clock::{Clock, SimulatedTime};
use disk_backend::{Disk, DiskError};
use disk_contract::ProbeLog;
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::ram_disk;
use futures_lite::future::{block_on, poll_once};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub(crate) struct World {
    pub(crate) group: ThrottleGroup,
    pub(crate) clock: Clock,
    pub(crate) time: SimulatedTime,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let (clock, time) = Clock::simulated();
        let group = ThrottleGroup::new(limits, clock.clone()).unwrap();
        Self { group, clock, time }
    }

    /// Of 1 MiB in memory.
    pub(crate) fn disk(&self) -> Disk {
        let below = ram_disk(1 << 20, false).unwrap();
        Disk::new(ThrottleDisk::new(below, &self.group)).unwrap()
    }

    pub(crate) fn probe(&self) -> (Disk, ProbeLog) {
        let log = ProbeLog::default();
        let below = Disk::new(probe(&log)).unwrap();
        let disk = ThrottleDisk::new(below, &self.group);
        (Disk::new(disk).unwrap(), log)
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now().since_origin()
    }
}

pub(crate) fn bytes(per_second: u64, burst: u64) -> Limits {
    let mut limits = Limits::default();
    limits.bytes_per_second = Some(per_second);
    limits.burst_bytes = Some(burst);
    limits
}

pub(crate) fn operations(per_second: u64, burst: u64) -> Limits {
    let mut limits = Limits::default();
    limits.operations_per_second = Some(per_second);
    limits.burst_operations = Some(burst);
    limits
}

/// Something that was begun, and may be done.
pub(crate) struct Begun(Option<Running>);

type Running = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

impl Begun {
    /// Writes so many sectors.
    pub(crate) fn write(disk: &Disk, sectors: u64) -> Self {
        let disk = disk.clone();
        Self(Some(Box::pin(async move {
            super::common::write(&disk, 0, sectors, 1).await
        })))
    }

    pub(crate) fn unmap(disk: &Disk) -> Self {
        let disk = disk.clone();
        Self(Some(Box::pin(async move { disk.unmap(0, 1, false).await })))
    }

    /// Polls it, unless it is done already; it must succeed.
    pub(crate) fn is_done(&mut self) -> bool {
        if let Some(future) = &mut self.0 {
            match block_on(poll_once(future)) {
                Some(result) => result.unwrap(),
                None => return false,
            }
        }
        self.0 = None;
        true
    }

    pub(crate) fn forget(self) {
        std::mem::forget(self.0);
    }
}

/// Keeps `depth` requests of `make` under way on each disk until `end`, and returns how many of each disk were done.
pub(crate) fn load(
    world: &World,
    makes: &[&dyn Fn() -> Begun],
    depth: usize,
    end: Duration,
) -> Vec<u64> {
    let begin = |make: &&dyn Fn() -> Begun| -> Vec<Begun> { (0..depth).map(|_| make()).collect() };
    let mut under_way: Vec<Vec<Begun>> = makes.iter().map(begin).collect();
    let mut done = vec![0; makes.len()];
    loop {
        let mut has_moved = false;
        for (index, requests) in under_way.iter_mut().enumerate() {
            for request in requests {
                if request.is_done() {
                    *request = makes[index]();
                    done[index] += 1;
                    has_moved = true;
                }
            }
        }
        if !has_moved {
            match world.time.next() {
                Some(next) if next.since_origin() <= end => world.time.advance_to_next(),
                _ => return done,
            };
        }
    }
}
