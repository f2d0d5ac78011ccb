//! Disks, built as they are written down.

use crate::graph::{DiskGraph, DurableShape, LayerGraph, LayerKind, Rates, Traits};
use disk_backend::Disk;
use disk_contract::Stores;
use disk_delay::DelayDisk;
use disk_fault::{Action, Delay, FaultControl, FaultDisk, FaultOptions, InjectedError, Rule};
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disk_sim::SimOptions;
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, Verify, format};
use disklayer_ram::{LazyRamDiskLayer, RamDiskLayer};
use fastrand::Rng;
use scsi_buffers::HostBuffers;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Builds a disk over the stores of a world.
pub(crate) async fn disk(graph: &DiskGraph, stores: &mut Stores) -> Disk {
    let mut builder = Builder {
        stores,
        group: None,
    };
    builder.disk(graph).await
}

struct Builder<'a> {
    stores: &'a mut Stores,
    /// That of all throttles that share one, once there is one of them.
    group: Option<ThrottleGroup>,
}

impl Builder<'_> {
    fn disk<'a>(&'a mut self, graph: &'a DiskGraph) -> Pin<Box<dyn Future<Output = Disk> + 'a>> {
        Box::pin(async move {
            match graph {
                DiskGraph::Sim { sectors, traits } => {
                    let disk = self.stores.disk(*sectors, |options| traits.apply(options));
                    Disk::new(disk).expect("simulated storage is a legal disk")
                }
                DiskGraph::Fault { disk, seed } => {
                    let below = self.disk(disk).await;
                    self.fault(below, *seed)
                }
                DiskGraph::Delay { disk, ms } => {
                    let below = self.disk(disk).await;
                    let delay = Duration::from_millis(*ms);
                    let disk = DelayDisk::new(below, delay, self.stores.clock());
                    let (disk, _) = disk.expect("a short delay");
                    Disk::new(disk).expect("a wrapper of a legal disk is one")
                }
                DiskGraph::Throttle {
                    disk,
                    rates,
                    is_shared,
                } => {
                    let below = self.disk(disk).await;
                    let disk = ThrottleDisk::new(below, &self.group(*rates, *is_shared));
                    Disk::new(disk).expect("a wrapper of a legal disk is one")
                }
                DiskGraph::Stack {
                    is_read_only,
                    is_indexed,
                    layers,
                } => self.stack(*is_read_only, *is_indexed, layers).await,
            }
        })
    }

    fn fault(&mut self, below: Disk, seed: u64) -> Disk {
        let options = FaultOptions::new(seed, self.stores.clock());
        let (disk, control) = FaultDisk::new(below, options).expect("no rules are legal");
        come_and_go(control, rules(seed, self.stores), self.stores);
        Disk::new(disk).expect("a wrapper of a legal disk is one")
    }

    fn group(&mut self, rates: Rates, is_shared: bool) -> ThrottleGroup {
        if let Some(group) = self.group.as_ref().filter(|_| is_shared) {
            return group.clone();
        }
        let mut limits = Limits::default();
        limits.operations_per_second = rates.operations;
        limits.bytes_per_second = rates.bytes;
        let group = ThrottleGroup::new(limits, self.stores.clock()).expect("legal limits");
        if is_shared {
            self.group = Some(group.clone());
        }
        group
    }

    async fn stack(&mut self, is_read_only: bool, is_indexed: bool, layers: &[LayerGraph]) -> Disk {
        let mut configurations = Vec::new();
        for layer in layers {
            configurations.push(self.configuration(layer).await);
        }
        let disk = LayeredDisk::new(is_read_only, configurations).await;
        let disk = disk.expect("a legal stack");
        let disk = match is_indexed {
            true => disk,
            false => disk.without_index(),
        };
        Disk::new(disk).expect("a stack is a legal disk")
    }

    /// A durable layer: a new one, or what a crash has left of it.
    async fn durable(
        &mut self,
        store: Disk,
        sectors: u64,
        shape: DurableShape,
        is_filled: bool,
    ) -> DurableLayer {
        let is_new = !self.stores.is_after_crash();
        if is_new {
            create(&store, sectors, shape).await;
        }
        let mut options = DurableOptions::default();
        if shape.has_few_pages {
            options.cache_bytes = 0;
        }
        if let Some(after) = shape.verified {
            options.close_after_flushes = after;
        }
        let layer = DurableLayer::open(store, &options).await;
        let layer = layer.unwrap_or_else(|error| panic!("a durable layer is lost: {error}"));
        if is_new && is_filled {
            for sector in 0..sectors {
                let Some(content) = self.stores.some_content(sector) else {
                    continue;
                };
                let host = HostBuffers::from_ref(&content);
                let written = layer.write(&host.buffers(), sector, false).await;
                written.expect("nothing fails yet");
            }
            layer.sync_cache().await.expect("nothing fails yet");
        }
        layer
    }

    async fn configuration(&mut self, graph: &LayerGraph) -> LayerConfiguration {
        let sector_size = self.stores.sector_size();
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
                true => {
                    let change = |options: &mut SimOptions| traits.apply(options);
                    self.stores.filled_layer(*sectors, change)
                }
                false => self.stores.layer(*sectors, |options| traits.apply(options)),
            }),
            LayerKind::Durable {
                store,
                sectors,
                shape,
                is_filled,
            } => {
                let store = self.disk(store).await;
                let layer = self.durable(store, *sectors, *shape, *is_filled).await;
                DiskLayer::new(layer)
            }
            LayerKind::Disk(graph) => DiskLayer::from_disk(self.disk(graph).await),
        };
        let mut configuration = LayerConfiguration::new(layer);
        configuration.write_through = graph.write_through;
        configuration.read_cache = graph.read_cache;
        configuration
    }
}

/// Makes a durable layer on a store that nothing fails on yet.
async fn create(store: &Disk, sectors: u64, shape: DurableShape) {
    let mut options = FormatOptions::new(sectors);
    options.log_blocks = Some(shape.log_blocks);
    options.stripe_sectors = Some(shape.stripe_blocks * (4096 / store.sector_size()));
    options.layer_id = Some([7; 16]);
    if shape.verified.is_some() {
        options.verify = Verify::Data;
    }
    format(store, &options).await.expect("a legal layer");
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

impl Traits {
    fn apply(self, options: &mut SimOptions) {
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
