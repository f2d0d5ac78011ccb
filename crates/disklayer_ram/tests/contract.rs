//! RAM layers and RAM disks keep the contract of disks and layers.

use disk_backend::Disk;
use disk_contract::{DiskSpec, LayerSpec, Member, StackPlan, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{RamDiskLayer, ram_disk};

/// More than two chunks of 2 MiB, in bytes, and not a whole number of them.
const SEVERAL_CHUNKS_BYTES: u64 = (4 << 20) + (100 << 10);

fn layer(spec: LayerSpec) -> RamDiskLayer {
    let size = spec.sector_count * u64::from(spec.sector_size);
    RamDiskLayer::new_with_sector_size(size, spec.sector_size).unwrap()
}

/// A RAM layer that is the whole disk; filled before it becomes one, so that it may be read-only.
async fn layered(spec: DiskSpec) -> LayeredDisk {
    let ram = layer(LayerSpec::new(spec.sector_count, spec.sector_size));
    let plan = StackPlan::new(&spec, &[Member::Layer(spec.sector_count)]);
    plan.layer(0).fill_layer(&ram).await.unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(ram))];
    LayeredDisk::new(spec.is_read_only, layers).await.unwrap()
}

#[test]
fn a_ram_disk_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512])
        .without_read_only()
        .must_resize()
        .check_disks(async |spec| {
            let disk = ram_disk(spec.sector_count * 512, false).unwrap();
            spec.fill(&disk).await.unwrap();
            disk
        })
}

#[test]
fn a_disk_of_one_ram_layer_keeps_the_contract_for_all_sector_sizes() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512, 4096, 65536])
        .sector_counts([1, 7, 40])
        .must_resize()
        .check_disks(async |spec| Disk::new(layered(spec).await).unwrap())
}

#[test]
fn a_disk_of_one_ram_layer_needs_no_handle_to_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_counts([1, 70])
        .must_resize()
        .check_backends(layered)
}

#[test]
fn a_disk_of_several_chunks_keeps_the_contract() -> Result<(), Violation> {
    for sector_size in [512, 4096, 65536] {
        Suite::new()
            .sector_sizes([sector_size])
            .sector_counts([SEVERAL_CHUNKS_BYTES / u64::from(sector_size)])
            .fixed_seed_count(1)
            .step_count(120)
            .must_resize()
            .check_disks(async |spec| Disk::new(layered(spec).await).unwrap())?;
    }
    Ok(())
}

/// Nine RAM layers, more than an index names for a region, that share what the disk holds in the beginning; one of them is longer than
/// the disk.
async fn deep(spec: DiskSpec, is_indexed: bool) -> Disk {
    let counts = [1, 1, 1, 2, 1, 1, 1, 1, 1];
    let members = counts.map(|times| Member::Layer(times * spec.sector_count));
    let plan = StackPlan::new(&spec, &members);
    let mut layers = Vec::new();
    for index in 0..members.len() {
        let member = plan.layer(index);
        let ram = layer(LayerSpec::new(member.sector_count(), member.sector_size()));
        member.fill_layer(&ram).await.unwrap();
        layers.push(LayerConfiguration::new(DiskLayer::new(ram)));
    }
    let disk = LayeredDisk::new(spec.is_read_only, layers).await.unwrap();
    Disk::new(match is_indexed {
        true => disk,
        false => disk.without_index(),
    })
    .unwrap()
}

#[test]
fn a_disk_of_nine_ram_layers_keeps_the_contract_with_and_without_an_index() -> Result<(), Violation>
{
    for is_indexed in [true, false] {
        Suite::new()
            .sector_counts([1, 70, 300])
            .must_resize()
            .check_disks(async |spec| deep(spec, is_indexed).await)?;
    }
    Ok(())
}

#[test]
fn a_ram_layer_keeps_the_contract_wherever_it_stands() -> Result<(), Violation> {
    for (sector_size, sector_count) in [(512, 1), (512, 70), (4096, 70), (65536, 9)] {
        Suite::new()
            .sector_sizes([sector_size])
            .sector_counts([sector_count])
            .fixed_seed_count(1)
            .must_resize()
            .check_layers(async |spec| layer(spec))?;
    }
    Ok(())
}
