//! File disks keep the contract, on a medium and in memory.

mod common;

use common::{Place, open, places};
use disk_backend::Disk;
use disk_contract::{DiskSpec, LayerSpec, Member, ReferenceLayer, StackPlan, Suite, Violation};
use disk_file::FileDiskOptions;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new image of its own for each disk. Its name is gone once it is open, so that nothing piles up.
fn make(place: &Place, way: &FileDiskOptions, spec: &DiskSpec) -> Disk {
    static IMAGES_MADE: AtomicU64 = AtomicU64::new(0);
    let path = place.path(&format!(
        "{}.raw",
        IMAGES_MADE.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::write(&path, &spec.content).expect("an image");
    let options = FileDiskOptions {
        read_only: spec.is_read_only,
        sector_size: spec.sector_size,
        ..way.clone()
    };
    let disk = open(&path, &options).expect("it opens");
    std::fs::remove_file(&path).expect("it is there");
    disk
}

/// Runs the suite the way it is said, with those of the sector sizes that there are then.
#[expect(
    clippy::print_stdout,
    reason = "the runner keeps it for those that fail"
)]
fn check(place: &Place, sector_sizes: &[u32], suite: &Suite) -> Result<(), Violation> {
    for (name, way) in place.ways() {
        let possible = sector_sizes.iter().filter(|size| **size >= way.sector_size);
        // Past the page cache each request waits for the medium, so one size has to do.
        let possible = possible.take(if way.direct { 1 } else { usize::MAX });
        println!("{}, {name}", place.file_system);
        // What differs from one way to the next is when requests end; one of them goes through all seeds.
        let suite = match name != "by io_uring" && name != "in memory" {
            true => suite.clone().fixed_seed_count(1),
            false => suite.clone(),
        };
        suite
            .sector_sizes(possible.copied())
            .check_disks(async |spec| make(place, &way, &spec))?;
    }
    Ok(())
}

#[test]
fn a_file_disk_keeps_the_contract() -> Result<(), Violation> {
    for place in places() {
        check(&place, &[512, 4096], &Suite::new())?;
    }
    Ok(())
}

#[test]
fn a_file_disk_of_large_sectors_keeps_the_contract() -> Result<(), Violation> {
    // Seventy such sectors would be nothing but more of the same, and 4.5 MiB for each disk.
    let suite = Suite::new().sector_counts([1, 7]).fixed_seed_count(1);
    for place in places() {
        check(&place, &[65536], &suite)?;
    }
    Ok(())
}

/// A stack with a file at the bottom: alone, or below a layer that is longer, as long, or shorter.
async fn over_file(place: &Place, spec: &DiskSpec, file_sector_count: Option<u64>) -> Disk {
    let layer_count = usize::from(file_sector_count.is_some());
    let members: Vec<_> = [Member::Layer(spec.sector_count)]
        .into_iter()
        .take(layer_count)
        .chain([Member::Disk(file_sector_count.unwrap_or(spec.sector_count))])
        .collect();
    let plan = StackPlan::new(spec, &members);
    let mut layers = Vec::new();
    if layer_count == 1 {
        let layer = ReferenceLayer::new(LayerSpec::new(spec.sector_count, spec.sector_size));
        plan.layer(0).fill_layer(&layer).await.expect("it is empty");
        layers.push(DiskLayer::new(layer));
    }
    let is_read_only = spec.is_read_only || layer_count == 1;
    let file = plan.layer(layer_count).disk_spec(is_read_only);
    layers.push(DiskLayer::from_disk(make(
        place,
        &FileDiskOptions::default(),
        &file,
    )));
    let layers = layers.into_iter().map(LayerConfiguration::new).collect();
    let disk = LayeredDisk::new(spec.is_read_only, layers).await;
    Disk::new(disk.expect("a legal stack")).expect("valid metadata")
}

#[test]
fn a_file_disk_as_a_layer_keeps_the_contract() -> Result<(), Violation> {
    let suite = Suite::new().sector_counts([1, 30]).fixed_seed_count(1);
    for place in places() {
        suite.check_disks(async |spec| over_file(&place, &spec, None).await)?;
        suite.check_disks(async |spec| {
            let lengths = [
                spec.sector_count.div_ceil(2),
                spec.sector_count,
                spec.sector_count + 7,
            ];
            // The seed is the same when the run is replayed.
            let file_sector_count = lengths[(spec.seed % 3) as usize];
            over_file(&place, &spec, Some(file_sector_count)).await
        })?;
    }
    Ok(())
}
