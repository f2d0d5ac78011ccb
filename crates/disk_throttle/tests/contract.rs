//! With limits and without them, a disk keeps the contract.

use clock::{Clock, SimulatedTime};
use disk_backend::Disk;
use disk_contract::{DiskSpec, ReferenceDisk, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::RamDiskLayer;
use std::sync::atomic::{AtomicBool, Ordering};

fn throttled(spec: DiskSpec, limits: Limits, clock: &Clock) -> Disk {
    let below = Disk::new(ReferenceDisk::new(spec)).unwrap();
    let group = ThrottleGroup::new(limits, clock.clone()).unwrap();
    Disk::new(ThrottleDisk::new(below, &group)).unwrap()
}

#[test]
fn a_disk_without_limits_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .must_resize()
        .check_disks(async |spec| throttled(spec, Limits::default(), &Clock::real()))
}

#[test]
fn a_stack_with_such_a_disk_below_keeps_the_contract() -> Result<(), Violation> {
    Suite::new().fixed_seed_count(1).check_disks(async |spec| {
        let (read_only, size) = (spec.is_read_only, spec.sector_size);
        let top = RamDiskLayer::new_with_sector_size(spec.sector_count * u64::from(size), size);
        let below = throttled(spec, Limits::default(), &Clock::real());
        let layers = [DiskLayer::new(top.unwrap()), DiskLayer::from_disk(below)];
        let layers = layers.map(LayerConfiguration::new).into();
        Disk::new(LayeredDisk::new(read_only, layers).await.unwrap()).unwrap()
    })
}

/// Lets time pass while `check` runs, whenever somebody sleeps.
fn while_time_passes<R>(time: &SimulatedTime, check: impl FnOnce() -> R) -> R {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if time.advance_to_next().is_none() {
                    std::thread::yield_now();
                }
            }
        });
        // Also if it panics, or the other thread would go on.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_disk_with_limits_keeps_the_contract() -> Result<(), Violation> {
    let (clock, time) = Clock::simulated();
    let suite = Suite::new().fixed_seed_count(1).sector_counts([1, 30]);
    let mut limits = Limits::default();
    limits.bytes_per_second = Some(100_000);
    limits.burst_bytes = Some(2000);
    limits.operations_per_second = Some(100);
    while_time_passes(&time, || {
        suite.check_disks(async |spec| throttled(spec, limits, &clock))
    })
}
