//! Layers that do not hide what they unmap: whatever a layer says of itself, the stack keeps it (C7, L3).

use disk_backend::{BlockState, Disk, DiskError, DiskIo, UnmapBehavior};
use disk_contract::{
    DiskSpec, LayerSpec, PlainLayer, ReferenceDisk, ReferenceLayer, Suite, Violation,
};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

fn plain_layer(spec: LayerSpec, unmap_behavior: UnmapBehavior) -> PlainLayer {
    PlainLayer::new(ReferenceLayer::new(spec).with_unmap_behavior(unmap_behavior))
}

fn check(unmap_behavior: UnmapBehavior) -> Result<(), Violation> {
    Suite::new()
        .sector_counts([1, 30])
        .fixed_seed_count(1)
        .check_layers(async |spec| plain_layer(spec, unmap_behavior))
}

#[test]
fn a_layer_that_zeroes_what_it_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Zeroes)
}

#[test]
fn a_layer_that_ignores_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Ignored)
}

#[test]
fn a_layer_whose_unmap_is_unspecified_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Unspecified)
}

/// Over a disk of ones, with a two in the first sector. Without the handle, which leaves out what is ignored by itself.
fn over_ones(unmap_behavior: UnmapBehavior) -> LayeredDisk {
    let mut spec = DiskSpec::new(4, 512);
    spec.content.fill(1);
    let lower = DiskLayer::from_disk(Disk::new(ReferenceDisk::new(spec)).unwrap());
    let top = DiskLayer::new(plain_layer(LayerSpec::new(4, 512), unmap_behavior));
    let layers = [top, lower].map(LayerConfiguration::new);
    let disk = block_on(LayeredDisk::new(false, layers.into())).unwrap();
    let buffers = HostBuffers::from_ref(&[2; 512]);
    block_on(disk.write_vectored(&buffers.buffers(), 0, false)).unwrap();
    disk
}

fn first_bytes(disk: &LayeredDisk) -> [u8; 4] {
    let mut bytes = vec![0xc5; 4 * 512];
    let buffers = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&buffers.buffers(), 0)).unwrap();
    drop(buffers);
    std::array::from_fn(|sector| bytes[sector * 512])
}

#[test]
fn an_unmap_above_data_reads_zero_and_says_so() {
    let disk = over_ones(UnmapBehavior::Zeroes);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
    block_on(disk.unmap(0, 2, true)).unwrap();
    assert_eq!(first_bytes(&disk), [0, 0, 1, 1]);
    let status = block_on(disk.block_status(0, 2)).unwrap();
    assert!(
        status
            .extents()
            .iter()
            .all(|extent| extent.state != BlockState::Data)
    );
}

#[test]
fn a_stack_whose_top_ignores_unmaps_says_so_and_changes_nothing() {
    let disk = over_ones(UnmapBehavior::Ignored);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Ignored);
    block_on(disk.unmap(0, 4, false)).unwrap();
    assert_eq!(first_bytes(&disk), [2, 1, 1, 1]);
    // Zeros that are asked for are written nevertheless.
    block_on(disk.write_zeroes(0, 2, false, true, false)).unwrap();
    assert_eq!(first_bytes(&disk), [0, 0, 1, 1]);
    let refused = block_on(disk.write_zeroes(2, 1, false, true, true));
    assert!(matches!(refused, Err(DiskError::Unsupported)));
    assert_eq!(first_bytes(&disk), [0, 0, 1, 1]);
}

#[test]
fn an_unspecified_unmap_uncovers_nothing() {
    let disk = over_ones(UnmapBehavior::Unspecified);
    block_on(disk.unmap(0, 4, false)).unwrap();
    assert_eq!(first_bytes(&disk), [2, 0, 1, 0]);
}
