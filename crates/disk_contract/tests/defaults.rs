//! Disks and layers that implement no more than they must: what the traits do for them keeps the contract too.

use disk_backend::{Disk, UnmapBehavior};
use disk_contract::{
    DiskSpec, LayerSpec, PlainDisk, PlainLayer, ReferenceDisk, ReferenceLayer, Suite, Violation,
};

fn check(unmap_behavior: UnmapBehavior) -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512, 65536])
        .sector_counts([1, 9])
        .check_disks(async |spec: DiskSpec| {
            let inner = ReferenceDisk::new(spec).with_unmap_behavior(unmap_behavior);
            Disk::new(PlainDisk::new(inner)).unwrap()
        })?;
    Suite::new()
        .sector_sizes([512])
        .sector_counts([1, 9])
        .fixed_seed_count(1)
        .check_layers(async |spec: LayerSpec| {
            PlainLayer::new(ReferenceLayer::new(spec).with_unmap_behavior(unmap_behavior))
        })
}

#[test]
fn what_is_plain_and_zeroes_what_it_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Zeroes)
}

#[test]
fn what_is_plain_and_ignores_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Ignored)
}

#[test]
fn what_is_plain_and_whose_unmap_is_unspecified_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Unspecified)
}
