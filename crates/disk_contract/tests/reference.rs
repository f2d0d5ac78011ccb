//! The kit's own disk and layer keep the contract: what it demands can be had.

use disk_backend::Disk;
use disk_contract::{ReferenceDisk, ReferenceLayer, ScriptedDisk, ScriptedLayer, Suite, Violation};

#[test]
fn the_reference_disk_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512, 4096, 65536])
        .must_resize()
        .check_disks(async |spec| Disk::new(ReferenceDisk::new(spec)).unwrap())
}

#[test]
fn the_reference_disk_needs_no_handle_to_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .must_resize()
        .check_backends(async |spec| ReferenceDisk::new(spec))
}

#[test]
fn the_reference_layer_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .must_resize()
        .check_layers(async |spec| ReferenceLayer::new(spec))
}

/// Every request can be left alone at several places.
#[test]
fn what_stutters_keeps_the_contract() -> Result<(), Violation> {
    let suite = Suite::new().sector_sizes([512]).sector_counts([1, 30]);
    suite.check_disks(async |spec| {
        let disk = ScriptedDisk::new(ReferenceDisk::new(spec));
        disk.script().stutter(2);
        Disk::new(disk).unwrap()
    })?;
    suite.fixed_seed_count(1).check_layers(async |spec| {
        let layer = ScriptedLayer::new(ReferenceLayer::new(spec));
        layer.script().stutter(1);
        layer
    })
}
