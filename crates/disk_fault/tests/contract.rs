//! Without rules, and under rules that only take time, a disk keeps the contract.

use clock::{Clock, SimulatedTime};
use disk_backend::Disk;
use disk_contract::{DiskSpec, ReferenceDisk, ScriptedDisk, Suite, Violation};
use disk_fault::{Action, Delay, FaultDisk, FaultOptions, Operation, Rule};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{RamDiskLayer, ram_disk};
use std::sync::atomic::{AtomicBool, Ordering};

fn faulty(spec: DiskSpec, clock: &Clock, rules: Vec<Rule>) -> Disk {
    let mut options = FaultOptions::new(spec.seed, clock.clone());
    options.rules = rules;
    let below = Disk::new(ReferenceDisk::new(spec)).unwrap();
    Disk::new(FaultDisk::new(below, options).unwrap().0).unwrap()
}

#[test]
fn a_disk_without_rules_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .must_resize()
        .check_disks(async |spec| faulty(spec, &Clock::real(), Vec::new()))
}

#[test]
fn a_stack_with_a_faulty_disk_below_keeps_the_contract() -> Result<(), Violation> {
    Suite::new().fixed_seed_count(1).check_disks(async |spec| {
        let (read_only, size) = (spec.is_read_only, spec.sector_size);
        let top = RamDiskLayer::new_with_sector_size(spec.sector_count * u64::from(size), size);
        let below = faulty(spec, &Clock::real(), Vec::new());
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
fn a_disk_whose_requests_are_delayed_keeps_the_contract() -> Result<(), Violation> {
    let (clock, time) = Clock::simulated();
    let mut some = Rule::new(Action::Delay(Delay::UniformMs([0.0, 5.0])));
    some.probability = Some(0.5);
    let mut flushes = Rule::new(Action::Delay(Delay::FixedMs(3.0))).on([Operation::Flush]);
    flushes.every = Some(2);
    let suite = Suite::new().fixed_seed_count(1).sector_counts([1, 30]);
    while_time_passes(&time, || {
        suite.check_disks(async |spec| faulty(spec, &clock, vec![some.clone(), flushes.clone()]))
    })
}

/// A disk that needs several polls for each request, below rules that keep writes back.
fn reordering(spec: DiskSpec, every: u64) -> Disk {
    let mut options = FaultOptions::new(spec.seed, Clock::real());
    let mut rule = Rule::new(Action::Reorder(3));
    rule.every = Some(every);
    options.rules = vec![rule];
    let below = ScriptedDisk::new(ReferenceDisk::new(spec));
    below.script().stutter(1);
    let below = Disk::new(below).unwrap();
    Disk::new(FaultDisk::new(below, options).unwrap().0).unwrap()
}

#[test]
fn a_disk_that_reorders_writes_to_memory_keeps_the_contract() -> Result<(), Violation> {
    let suite = Suite::new().sector_sizes([512]).without_read_only();
    suite.sector_counts([2, 30]).check_disks(async |spec| {
        let ram = ram_disk(spec.sector_count * 512, false).unwrap();
        spec.fill(&ram).await.unwrap();
        let mut options = FaultOptions::new(spec.seed, Clock::real());
        let mut rule = Rule::new(Action::Reorder(2));
        rule.probability = Some(0.5);
        options.rules = vec![rule];
        Disk::new(FaultDisk::new(ram, options).unwrap().0).unwrap()
    })
}

#[test]
fn a_disk_that_reorders_writes_keeps_the_contract() -> Result<(), Violation> {
    for every in [1, 2] {
        Suite::new()
            .fixed_seed_count(3)
            .sector_counts([1, 3, 30])
            .must_resize()
            .check_disks(async |spec| reordering(spec, every))?;
    }
    Ok(())
}
