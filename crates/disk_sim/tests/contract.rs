//! Simulated storage keeps the contract.

use clock::Clock;
use disk_backend::{Disk, UnmapBehavior};
use disk_contract::{DiskSpec, LayerSpec, Suite, Violation};
use disk_sim::{Image, SimDisk, SimLayer, SimOptions};
use std::time::Duration;

fn disk(spec: DiskSpec, change: impl Fn(&mut SimOptions)) -> Disk {
    let mut options = SimOptions {
        latency_max: Duration::ZERO,
        is_read_only: spec.is_read_only,
        ..SimOptions::new(spec.sector_count, spec.sector_size, spec.seed)
    };
    change(&mut options);
    let image = Image::of_disk(&spec.content, spec.sector_size);
    Disk::new(SimDisk::from_image(image, options, Clock::simulated().0)).expect("a legal disk")
}

fn layer(spec: LayerSpec, change: impl Fn(&mut SimOptions)) -> SimLayer {
    let mut options = SimOptions {
        latency_max: Duration::ZERO,
        ..SimOptions::new(spec.sector_count, spec.sector_size, 5)
    };
    change(&mut options);
    SimLayer::new(options, Clock::simulated().0)
}

#[test]
fn the_disk_keeps_the_contract() -> Result<(), Violation> {
    let suite = Suite::new().must_resize();
    suite.check_disks(async |spec| disk(spec, |_| ()))
}

#[test]
fn the_layer_keeps_the_contract() -> Result<(), Violation> {
    let suite = Suite::new().must_resize();
    suite.check_layers(async |spec| layer(spec, |_| ()))
}

#[test]
fn they_keep_it_without_fua_and_whatever_unmaps_do() -> Result<(), Violation> {
    for behavior in [UnmapBehavior::Ignored, UnmapBehavior::Unspecified] {
        let change = |options: &mut SimOptions| {
            options.unmap_behavior = behavior;
            options.is_fua_respected = false;
            options.atomic_write_sectors = 4;
        };
        let suite = Suite::new().sector_sizes([512]).sector_counts([1, 30]);
        let suite = suite.fixed_seed_count(1);
        suite.check_disks(async |spec| disk(spec, change))?;
        suite.check_layers(async |spec| layer(spec, change))?;
    }
    Ok(())
}
