//! Mistakes that composed disks have made before, each as a test. `docs/testing.md` lists them.

mod common;

use common::{SECTOR_BYTES, base, cache, disk, holds, layer, plain, read};
use disk_backend::{Disk, DiskError, DiskIo};
use disk_contract::{DiskSpec, LayerSpec, Operation, ReferenceDisk, ReferenceLayer, When};
use disk_contract::{ScriptedDisk, ScriptedLayer};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::pin::pin;

/// `levels` stacks, each the only layer of the next, around `inner`.
fn nested(inner: Disk, levels: u32) -> Disk {
    (0..levels).fold(inner, |inner, _| {
        let layers = vec![LayerConfiguration::new(DiskLayer::from_disk(inner))];
        Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
    })
}

/// Through handles, disks as layers, stacks of stacks and wrappers.
#[test]
fn whoever_waits_for_another_size_learns_of_it_through_everything_in_between() {
    let ram = || RamDiskLayer::new(8 * 512).unwrap();
    let wrapped = ScriptedDisk::new(ReferenceDisk::new(DiskSpec::new(8, 512)));
    let disks = [
        disk(vec![plain(ram()), plain(base())]),
        disk(vec![plain(ScriptedLayer::new(ram())), plain(base())]),
        nested(disk(vec![plain(ram())]), 1),
        nested(disk(vec![plain(ram())]), 3),
        nested(Disk::new(wrapped).unwrap(), 2),
    ];
    for disk in disks {
        let mut waiting = pin!(disk.wait_resize(8));
        assert_eq!(block_on(poll_once(&mut waiting)), None);
        assert_eq!(block_on(disk.wait_resize(7)), 8);
        block_on(disk.resize(12)).unwrap();
        assert_eq!(block_on(waiting), 12);
        assert_eq!(disk.sector_count(), 12);
    }
}

/// With and without the handle that checks requests, and whatever is on top.
#[test]
fn a_read_only_stack_takes_no_change() {
    let tops: [fn() -> LayerConfiguration; 3] = [
        || plain(RamDiskLayer::new(16 * 512).unwrap()),
        || plain(layer()),
        || cache(layer()),
    ];
    for top in tops {
        let lower = base();
        let layers = vec![top(), plain(lower.clone())];
        let disk = block_on(LayeredDisk::new(true, layers)).unwrap();
        assert!(disk.is_read_only());
        changes_are_refused(&disk);
        let disk = Disk::new(disk).unwrap();
        assert!(matches!(
            block_on(common::write(&disk, 0, &[9])),
            Err(DiskError::ReadOnly)
        ));
        assert!(matches!(
            block_on(disk.unmap(0, 1, false)),
            Err(DiskError::ReadOnly)
        ));
        assert_eq!(block_on(read(&disk, 0, 3)).unwrap(), [1, 2, 3]);
        assert_eq!(holds(lower.inner(), 0, 1), [Some(1)]);
    }
}

fn changes_are_refused(disk: &impl DiskIo) {
    let bytes = [9; SECTOR_BYTES];
    let host = HostBuffers::from_ref(&bytes);
    let buffers = host.buffers();
    let results = [
        block_on(disk.write_vectored(&buffers, 0, false)),
        block_on(disk.write_zeroes(0, 1, false, true, false)),
        block_on(disk.unmap(0, 1, false)),
        block_on(disk.resize(1)),
    ];
    for result in results {
        assert!(matches!(result, Err(DiskError::ReadOnly)), "{result:?}");
    }
}

/// A cache in the middle that ends inside of the request keeps what it has room for.
#[test]
fn a_cache_that_is_shorter_than_a_request_is_filled() {
    let short = ScriptedLayer::new(ReferenceLayer::new(LayerSpec::new(5, SECTOR_BYTES as u32)));
    let lower = base();
    let layers = vec![plain(layer()), cache(short.clone()), plain(lower.clone())];
    let disk = disk(layers);
    let expected = [1, 2, 3, 4, 5, 0, 0, 0];
    assert_eq!(block_on(read(&disk, 0, 8)).unwrap(), expected);
    let kept = [1, 2, 3, 4, 5].map(Some);
    assert_eq!(holds(short.inner(), 0, 5), kept);
    // It is not asked again.
    lower.script().fail_nth(0, Operation::Read, When::Before);
    assert_eq!(block_on(read(&disk, 0, 8)).unwrap(), expected);
}
