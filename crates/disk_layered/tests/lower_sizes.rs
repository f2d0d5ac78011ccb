//! Lower layers that are shorter than the disk, or become so while it runs (L5), and a top that is resized over them (C10).

use disk_backend::{BlockState, Disk};
use disk_contract::{
    DiskSpec, LayerSpec, Operation, ReferenceDisk, ReferenceLayer, ScriptedLayer, When,
};
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::ops::Range;

const SECTOR_BYTES: usize = 512;

fn disk_of(byte: u8, sector_count: u64) -> Disk {
    let mut spec = DiskSpec::new(sector_count, SECTOR_BYTES as u32);
    spec.content.fill(byte);
    Disk::new(ReferenceDisk::new(spec)).unwrap()
}

fn ram(sector_count: u64) -> DiskLayer {
    DiskLayer::new(RamDiskLayer::new(sector_count * SECTOR_BYTES as u64).unwrap())
}

fn stack(layers: Vec<DiskLayer>) -> Disk {
    let layers = layers.into_iter().map(LayerConfiguration::new).collect();
    Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
}

/// A RAM layer of 10 sectors over a disk of ones, of which a handle is kept.
fn over_ones(lower_sector_count: u64) -> (Disk, Disk) {
    let lower = disk_of(1, lower_sector_count);
    let disk = stack(vec![ram(10), DiskLayer::from_disk(lower.clone())]);
    (disk, lower)
}

/// One byte for each sector: that with which all of it is filled.
fn read(disk: &Disk, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0xc5; (range.end - range.start) as usize * SECTOR_BYTES];
    let buffers = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&buffers.buffers(), range.start)).unwrap();
    drop(buffers);
    let sectors = bytes.chunks_exact(SECTOR_BYTES).map(|sector| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "{range:?}");
        sector[0]
    });
    sectors.collect()
}

fn write(disk: &Disk, sector: u64, byte: u8) {
    let bytes = [byte; SECTOR_BYTES];
    let buffers = HostBuffers::from_ref(&bytes);
    block_on(disk.write_vectored(&buffers.buffers(), sector, false)).unwrap();
}

/// For each sector of the disk, whether its status claims that it is zero.
fn claimed_zero(disk: &Disk) -> Vec<bool> {
    let mut claims = Vec::new();
    while (claims.len() as u64) < disk.sector_count() {
        let at = claims.len() as u64;
        let status = block_on(disk.block_status(at, disk.sector_count() - at)).unwrap();
        for extent in status.extents() {
            let is_zero = extent.state != BlockState::Data;
            claims.extend((0..extent.sector_count).map(|_| is_zero));
        }
    }
    claims
}

#[test]
fn beyond_a_shorter_lower_layer_the_disk_reads_zero_and_can_be_written() {
    let (disk, _) = over_ones(4);
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(read(&disk, 3..5), [1, 0]);
    assert_eq!(read(&disk, 7..10), [0, 0, 0]);
    assert_eq!(claimed_zero(&disk), [&[false; 4][..], &[true; 6]].concat());
    write(&disk, 4, 2);
    write(&disk, 9, 3);
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 1, 2, 0, 0, 0, 0, 3]);
}

#[test]
fn a_lower_layer_that_shrinks_reads_zero_where_it_was() {
    let (disk, lower) = over_ones(8);
    write(&disk, 6, 2);
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 1, 1, 1, 2, 1, 0, 0]);
    block_on(lower.resize(3)).unwrap();
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 0, 0, 0, 2, 0, 0, 0]);
    assert!(claimed_zero(&disk)[3..6].iter().all(|is_zero| *is_zero));
}

#[test]
fn a_lower_layer_that_grows_again_brings_nothing_back() {
    let (disk, lower) = over_ones(8);
    block_on(lower.resize(3)).unwrap();
    assert_eq!(read(&disk, 0..4), [1, 1, 1, 0]);
    block_on(lower.resize(10)).unwrap();
    for sector in 0..10 {
        // As if somebody had restored the file.
        write(&lower, sector, 7);
    }
    assert_eq!(read(&disk, 0..10), [7, 7, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert!(claimed_zero(&disk)[3..].iter().all(|is_zero| *is_zero));
    write(&disk, 5, 2);
    assert_eq!(read(&disk, 4..7), [0, 2, 0]);
    block_on(disk.unmap(0, 10, false)).unwrap();
    assert_eq!(read(&disk, 0..10), [0; 10]);
}

#[test]
fn a_lower_layer_that_grows_beyond_its_first_size_shows_no_more_than_before() {
    let (disk, lower) = over_ones(4);
    block_on(lower.resize(10)).unwrap();
    write(&lower, 6, 7);
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn nothing_shows_beyond_the_end_of_a_layer_in_between() {
    let middle = RamDiskLayer::new(4 * SECTOR_BYTES as u64).unwrap();
    let buffers = HostBuffers::from_ref(&[2; SECTOR_BYTES]);
    block_on(middle.write(&buffers.buffers(), 1, false)).unwrap();
    let bottom = DiskLayer::from_disk(disk_of(1, 10));
    let disk = stack(vec![ram(10), DiskLayer::new(middle), bottom]);
    assert_eq!(read(&disk, 0..10), [1, 2, 1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(claimed_zero(&disk)[4..], [true; 6]);
}

/// A flat list of layers is the same disk as the one in which some of them are a disk of their own.
#[test]
fn a_nested_stack_reads_as_the_flat_one_does() {
    let lower = || [ram(4), DiskLayer::from_disk(disk_of(1, 10))];
    let flat = stack([ram(10)].into_iter().chain(lower()).collect());
    let nested = stack(vec![ram(10), DiskLayer::from_disk(stack(lower().into()))]);
    assert_eq!(read(&flat, 0..10), read(&nested, 0..10));
    assert_eq!(claimed_zero(&flat), claimed_zero(&nested));
}

#[test]
fn a_top_layer_that_shrinks_and_grows_hides_what_lies_below() {
    let tops: [fn() -> DiskLayer; 2] = [
        || ram(10),
        || DiskLayer::new(ReferenceLayer::new(LayerSpec::new(10, SECTOR_BYTES as u32))),
    ];
    for top in tops {
        let disk = stack(vec![top(), DiskLayer::from_disk(disk_of(1, 20))]);
        assert_eq!(read(&disk, 0..10), [1; 10]);
        block_on(disk.resize(4)).unwrap();
        block_on(disk.resize(12)).unwrap();
        assert_eq!(read(&disk, 0..12), [[1; 4], [0; 4], [0; 4]].concat());
        assert_eq!(claimed_zero(&disk)[4..], [true; 8]);
        // Nor does an unmap uncover it (L3).
        block_on(disk.unmap(0, 12, false)).unwrap();
        assert_eq!(read(&disk, 0..12), [0; 12]);
    }
}

/// A RAM layer of 10 sectors over a layer of 8 ones, to which something happens between the stack's look at its size and each
/// read, and each question about its status.
fn over_changing_ones(change: fn(&ReferenceLayer)) -> Disk {
    let spec = LayerSpec::new(8, SECTOR_BYTES as u32);
    let lower = ScriptedLayer::new(ReferenceLayer::new(spec));
    let ones = [1; 8 * SECTOR_BYTES];
    let buffers = HostBuffers::from_ref(&ones);
    block_on(lower.write(&buffers.buffers(), 0, false)).unwrap();
    for operation in [Operation::Read, Operation::Status] {
        let changed = lower.clone();
        let change = move || change(changed.inner());
        lower.script().run(operation, When::Before, change);
    }
    stack(vec![ram(10), DiskLayer::new(lower)])
}

#[test]
fn a_lower_layer_that_shrinks_under_a_request_reads_zero_where_it_was() {
    // Each request finds one sector less than the stack has just been told of.
    let disk = over_changing_ones(|layer| {
        block_on(layer.resize(layer.sector_count().saturating_sub(1).max(1))).unwrap();
    });
    assert_eq!(read(&disk, 0..10), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    let disk = over_changing_ones(|layer| block_on(layer.resize(3)).unwrap());
    assert_eq!(claimed_zero(&disk), [&[false; 3][..], &[true; 7]].concat());
    assert_eq!(read(&disk, 0..10), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn reads_beside_a_shrinking_lower_layer_see_its_data_or_zeros_and_never_fail() {
    const ROUNDS: u64 = 200;
    for round in 0..ROUNDS {
        let (disk, lower) = over_ones(8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for sector_count in (1..8).rev() {
                    block_on(lower.resize(sector_count)).unwrap();
                }
            });
            let mut before = vec![1; 8];
            for _ in 0..20 {
                claimed_zero(&disk);
                let now = read(&disk, 0..8);
                let has_come_back = before.iter().zip(&now).any(|(old, new)| new > old);
                assert!(!has_come_back, "round {round}: {before:?}, then {now:?}");
                before = now;
            }
        });
        assert_eq!(read(&disk, 0..8), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
