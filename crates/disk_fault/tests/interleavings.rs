//! Requests for the same sectors side by side with writes that are kept back, polled in random orders: what was read stays until it
//! is changed, and a flush makes it durable.

mod common;

use clock::Clock;
use common::{SECTOR, read};
use disk_backend::{Disk, DiskError};
use disk_contract::{DiskSpec, ReferenceDisk, ScriptedDisk, seeds};
use disk_fault::{Action, FaultControl, FaultDisk, FaultOptions, Rule};
use fastrand::Rng;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

/// Few, so that requests meet.
const SECTORS: u64 = 3;
const RUNS: u64 = 3000;

type Running = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

/// A disk that keeps back about half of what is written, over one that takes several polls for each request.
fn disk(seed: u64) -> (Disk, FaultControl) {
    let below = ScriptedDisk::new(ReferenceDisk::new(DiskSpec::new(SECTORS, SECTOR as u32)));
    below.script().stutter(1);
    let mut options = FaultOptions::new(seed, Clock::real());
    let mut rule = Rule::new(Action::Reorder(2));
    rule.probability = Some(0.6);
    options.rules = vec![rule];
    let (disk, control) = FaultDisk::new(Disk::new(below).unwrap(), options).unwrap();
    (Disk::new(disk).unwrap(), control)
}

/// What a request does when it is complete.
enum Effect {
    Nothing,
    /// These sectors hold the stamp, and durably so or not.
    Change(std::ops::Range<usize>, u8, bool),
    /// All is durable.
    Flush,
}

fn random_request(disk: &Disk, rng: &mut Rng, stamp: u8) -> (Running, Effect) {
    let disk = disk.clone();
    let first = rng.u64(..SECTORS);
    let count = rng.u64(1..=SECTORS - first);
    let sectors = first as usize..(first + count) as usize;
    let fua = rng.u8(..4) == 0;
    match rng.u8(..10) {
        0..5 => {
            let data = vec![stamp; count as usize * SECTOR];
            let request = async move {
                let host = HostBuffers::from_ref(&data);
                disk.write_vectored(&host.buffers(), first, fua).await
            };
            (Box::pin(request), Effect::Change(sectors, stamp, fua))
        }
        5 => {
            let request = async move { disk.write_zeroes(first, count, fua, true, false).await };
            (Box::pin(request), Effect::Change(sectors, 0, fua))
        }
        6 => {
            let request = async move { disk.unmap(first, count, false).await };
            (Box::pin(request), Effect::Change(sectors, 0, false))
        }
        7 => {
            let request = async move { read(&disk, first, count).await.map(drop) };
            (Box::pin(request), Effect::Nothing)
        }
        _ => (
            Box::pin(async move { disk.sync_cache().await }),
            Effect::Flush,
        ),
    }
}

fn stamps(disk: &Disk) -> Vec<u8> {
    common::stamps(disk, 0, SECTORS)
}

/// What was seen of the sectors, and which stamps cannot be seen any more: those that were replaced before somebody's eyes, and
/// those whose request was complete when something else was seen. Zero, which several requests write, is never one of them.
#[derive(Default)]
struct Seen {
    last: Vec<u8>,
    complete: Vec<u8>,
    dead: Vec<BTreeSet<u8>>,
}

impl Seen {
    fn new(disk: &Disk) -> Self {
        Self {
            last: stamps(disk),
            complete: Vec::new(),
            dead: vec![BTreeSet::new(); SECTORS as usize],
        }
    }

    /// Looks while all requests stand still.
    fn look(&mut self, disk: &Disk, at: &str) {
        for (sector, found) in stamps(disk).into_iter().enumerate() {
            let dead = &mut self.dead[sector];
            assert!(
                !dead.contains(&found),
                "{at}: sector {sector}: {found} came back"
            );
            dead.extend(self.complete.iter().chain([&self.last[sector]]));
            dead.remove(&found);
            dead.remove(&0);
            self.last[sector] = found;
        }
    }
}

/// A request under way.
struct Step {
    running: Running,
    effect: Effect,
    /// For a flush that has begun: what was dead then, of sectors whose content was of complete requests.
    dead: Option<Vec<BTreeSet<u8>>>,
}

/// Some requests at once, each step that of a random one. If `drops`, some are dropped half way. The power may be cut when a flush
/// is complete: then the others are dropped.
fn round(
    disk: &Disk,
    control: &FaultControl,
    rng: &mut Rng,
    stamp: &mut u8,
    drops: bool,
    at: &str,
) {
    let mut seen = Seen::new(disk);
    // What there is at first was flushed.
    seen.complete.extend(seen.last.clone());
    let mut steps = Vec::new();
    for _ in 0..rng.usize(2..7) {
        *stamp += 1;
        let (running, effect) = random_request(disk, rng, *stamp);
        let dead = None;
        steps.push(Step {
            running,
            effect,
            dead,
        });
    }
    while !steps.is_empty() {
        let index = rng.usize(..steps.len());
        let step = &mut steps[index];
        if matches!(step.effect, Effect::Flush) && step.dead.is_none() {
            seen.look(disk, at);
            let mut dead = seen.dead.clone();
            for (dead, last) in dead.iter_mut().zip(&seen.last) {
                if !seen.complete.contains(last) {
                    dead.clear();
                }
            }
            step.dead = Some(dead);
        }
        match block_on(poll_once(&mut step.running)) {
            Some(result) => {
                result.unwrap();
                match steps.swap_remove(index) {
                    Step {
                        effect: Effect::Change(_, stamp, _),
                        ..
                    } => seen.complete.push(stamp),
                    Step {
                        dead: Some(dead), ..
                    } if rng.bool() => {
                        control.drop_unflushed();
                        for (sector, found) in stamps(disk).into_iter().enumerate() {
                            let is_lost = dead[sector].contains(&found);
                            assert!(!is_lost, "{at}: sector {sector}: {found} after the cut");
                        }
                        return;
                    }
                    _ => {}
                }
            }
            None if drops && rng.u8(..8) == 0 => drop(steps.swap_remove(index)),
            None => {}
        }
        if rng.u8(..3) == 0 {
            seen.look(disk, at);
        }
    }
    seen.look(disk, at);
}

fn check(seed: u64, drops: bool) {
    let mut rng = Rng::with_seed(seed);
    let (disk, control) = disk(seed);
    let mut stamp = 0;
    for index in 0..4 {
        let at = format!("round {index}, drops: {drops}");
        round(&disk, &control, &mut rng, &mut stamp, drops, &at);
        block_on(disk.drain());
        let found = stamps(&disk);
        block_on(disk.sync_cache()).unwrap();
        assert_eq!(stamps(&disk), found, "{at}: after a flush");
        control.drop_unflushed();
        assert_eq!(stamps(&disk), found, "{at}: after a power cut");
    }
}

fn check_all(drops: bool) {
    seeds(RUNS, RUNS / 3).for_each(|seed| check(seed.value(), drops));
}

#[test]
fn what_was_replaced_never_comes_back_and_what_was_flushed_stays() {
    check_all(false);
}

#[test]
fn so_it_does_where_requests_are_dropped_half_way() {
    check_all(true);
}

/// What may be found in a sector after a power cut: what was durable, or anything later.
#[test]
fn a_power_cut_leaves_what_was_durable_or_something_later() {
    for seed in seeds(300, 100) {
        let mut rng = Rng::with_seed(seed.value());
        let (disk, control) = disk(seed.value());
        let mut possible = vec![vec![0_u8]; SECTORS as usize];
        for step in 1..120_u8 {
            let at = format!("step {step}");
            let (request, effect) = random_request(&disk, &mut rng, step);
            block_on(request).unwrap();
            let keep_last = |values: &mut Vec<u8>| _ = values.drain(..values.len() - 1);
            match effect {
                Effect::Nothing => {}
                Effect::Flush => possible.iter_mut().for_each(keep_last),
                Effect::Change(sectors, stamp, is_durable) => {
                    for values in &mut possible[sectors] {
                        values.push(stamp);
                        if is_durable {
                            keep_last(values);
                        }
                    }
                }
            }
            for (sector, found) in stamps(&disk).into_iter().enumerate() {
                assert_eq!(
                    Some(&found),
                    possible[sector].last(),
                    "{at}, sector {sector}"
                );
            }
            if rng.u8(..10) == 0 {
                control.drop_unflushed();
                for (sector, found) in stamps(&disk).into_iter().enumerate() {
                    let values = &mut possible[sector];
                    assert!(
                        values.contains(&found),
                        "{at}, sector {sector}: {found}, not of {values:?}"
                    );
                    *values = vec![found];
                }
            }
        }
    }
}
