//! Disks, built as they are written down.

use crate::graph::{DiskGraph, LayerGraph, LayerKind, Traits};
use disk_backend::Disk;
use disk_contract::Stores;
use disk_delay::DelayDisk;
use disk_fault::{Action, Delay, FaultControl, FaultDisk, FaultOptions, InjectedError, Rule};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::{LazyRamDiskLayer, RamDiskLayer};
use fastrand::Rng;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Builds a disk over the stores of a world.
pub(crate) fn disk<'a>(
    graph: &'a DiskGraph,
    stores: &'a mut Stores,
) -> Pin<Box<dyn Future<Output = Disk> + 'a>> {
    Box::pin(async move {
        match graph {
            DiskGraph::Sim { sectors, traits } => {
                let disk = stores.disk(*sectors, |options| traits.apply(options));
                Disk::new(disk).expect("simulated storage is a legal disk")
            }
            DiskGraph::Fault { disk: inner, seed } => {
                let inner = disk(inner, stores).await;
                let options = FaultOptions::new(*seed, stores.clock());
                let (disk, control) = FaultDisk::new(inner, options).expect("no rules are legal");
                come_and_go(control, rules(*seed, stores), stores);
                Disk::new(disk).expect("a wrapper of a legal disk is one")
            }
            DiskGraph::Delay { disk: inner, ms } => {
                let inner = disk(inner, stores).await;
                let delay = Duration::from_millis(*ms);
                let (disk, _) =
                    DelayDisk::new(inner, delay, stores.clock()).expect("a short delay");
                Disk::new(disk).expect("a wrapper of a legal disk is one")
            }
            DiskGraph::Throttle { disk: inner, rate } => {
                let inner = disk(inner, stores).await;
                let mut limits = Limits::default();
                limits.operations_per_second = Some(*rate);
                let group = ThrottleGroup::new(limits, stores.clock()).expect("a legal limit");
                Disk::new(ThrottleDisk::new(inner, &group))
                    .expect("a wrapper of a legal disk is one")
            }
            DiskGraph::Stack {
                is_read_only,
                is_indexed,
                layers,
            } => {
                let mut configurations = Vec::new();
                for layer in layers {
                    configurations.push(configuration(layer, stores).await);
                }
                let disk = LayeredDisk::new(*is_read_only, configurations).await;
                let disk = disk.expect("a legal stack");
                let disk = match is_indexed {
                    true => disk,
                    false => disk.without_index(),
                };
                Disk::new(disk).expect("a stack is a legal disk")
            }
        }
    })
}

/// Lets faults begin and end with the world.
fn come_and_go(control: FaultControl, rules: Vec<Rule>, stores: &mut Stores) {
    let begin = control.clone();
    stores.when_it_begins(move || {
        for rule in rules {
            begin.add(rule).expect("a legal rule");
        }
    });
    stores.when_it_ends(move || {
        for rule in control.list() {
            control.remove(rule.id).expect("it is in the list");
        }
    });
}

async fn configuration(graph: &LayerGraph, stores: &mut Stores) -> LayerConfiguration {
    let sector_size = stores.sector_size();
    let layer = match &graph.kind {
        LayerKind::Ram(Some(sectors)) => {
            let size = sectors * u64::from(sector_size);
            let layer = RamDiskLayer::new_with_sector_size(size, sector_size);
            DiskLayer::new(layer.expect("a legal size"))
        }
        LayerKind::Ram(None) => DiskLayer::new(LazyRamDiskLayer::new()),
        LayerKind::Sim {
            sectors,
            traits,
            is_filled,
        } => DiskLayer::new(match is_filled {
            true => stores.filled_layer(*sectors, |options| traits.apply(options)),
            false => stores.layer(*sectors, |options| traits.apply(options)),
        }),
        LayerKind::Disk(graph) => DiskLayer::from_disk(disk(graph, stores).await),
    };
    let mut configuration = LayerConfiguration::new(layer);
    configuration.write_through = graph.write_through;
    configuration.read_cache = graph.read_cache;
    configuration
}

impl Traits {
    fn apply(self, options: &mut disk_sim::SimOptions) {
        options.atomic_write_sectors = self.atomic_write_sectors;
        options.is_fua_respected = self.is_fua_respected;
        options.unmap_behavior = self.unmap_behavior;
        options.is_read_only = self.is_read_only;
        options.refuses_after_failed_flush = self.refuses_after_failed_flush;
    }
}

/// Rules that break no promise: whoever is struck waits, finds its writes reordered, or fails where that is allowed.
fn rules(seed: u64, stores: &Stores) -> Vec<Rule> {
    if stores.is_after_crash() {
        return Vec::new();
    }
    let mut rng = Rng::with_seed(seed);
    let count = rng.usize(0..4);
    let rules = (0..count).map(|_| {
        let mut rule = Rule::new(action(&mut rng, stores.may_fail()));
        rule.probability = Some(f64::from(rng.u8(1..30)) / 100.0);
        rule.after_requests = rng.u64(0..20);
        if rng.u8(0..3) == 0 {
            rule.times = Some(rng.u64(1..10));
        }
        rule
    });
    rules.collect()
}

fn action(rng: &mut Rng, may_fail: bool) -> Action {
    let errors = [
        InjectedError::Io,
        InjectedError::NoSpace,
        InjectedError::WriteFault,
        InjectedError::UnrecoveredReadError,
    ];
    let error = errors[rng.usize(0..errors.len())];
    match rng.u8(0..10) {
        0..3 => Action::Delay(Delay::UniformMs([0.0, 3.6e6])),
        3 => Action::Delay(Delay::FixedMs(10.0)),
        4 | 5 => Action::Reorder(rng.u32(2..8)),
        6 | 7 if may_fail => Action::Error(error),
        8 if may_fail => Action::PartialError(error),
        9 if may_fail && rng.u8(0..8) == 0 => Action::FailForever(error),
        _ => Action::Delay(Delay::UniformMs([0.0, 5.0])),
    }
}
