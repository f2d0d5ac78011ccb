//! Resizes of a RAM layer that meet each other, or requests.

use disk_backend::DiskError;
use disk_layered::{LayerIo, LayerStatus};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::pin::{Pin, pin};

/// The sectors of a chunk: a shrink lets others run after each one that held data.
const CHUNK_SECTORS: u64 = (2 << 20) / 512;
const CHUNK_COUNT: u64 = 8;

/// A layer of eight chunks with a sector of data in each.
fn layer_with_data() -> RamDiskLayer {
    let layer = RamDiskLayer::new(CHUNK_COUNT * CHUNK_SECTORS * 512).unwrap();
    let data = [7; 512];
    let data = HostBuffers::from_ref(&data);
    for chunk in 0..CHUNK_COUNT {
        block_on(layer.write(&data.buffers(), chunk * CHUNK_SECTORS, false)).unwrap();
    }
    layer
}

/// Polls as often as it takes, unless that is far more often than there is work; nobody else is polled meanwhile.
fn completes_alone(mut future: Pin<&mut impl Future>) -> bool {
    (0..1000).any(|_| block_on(poll_once(&mut future)).is_some())
}

#[test]
fn a_resize_does_not_wait_for_one_that_is_no_longer_polled() {
    let layer = layer_with_data();
    let mut abandoned = pin!(layer.resize(1));
    assert!(
        block_on(poll_once(&mut abandoned)).is_none(),
        "it is in the middle of its work"
    );
    assert!(completes_alone(pin!(layer.resize(CHUNK_SECTORS))));
    assert_eq!(layer.sector_count(), CHUNK_SECTORS);
    assert!(completes_alone(abandoned));
    assert_eq!(layer.sector_count(), CHUNK_SECTORS, "the later one counts");
}

#[test]
fn the_inspection_tree_changes_the_size_while_a_resize_is_under_way() {
    let layer = layer_with_data();
    let mut shrinking = pin!(layer.resize(1));
    assert!(block_on(poll_once(&mut shrinking)).is_none());
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let updated = block_on(inspect::update("sector_count", "64", &layer));
            done.send(updated.is_ok()).unwrap();
        });
        // Were it to wait for the resize above, only the time limit of the whole test run would end this.
        assert!(finished.recv().unwrap());
    });
    assert_eq!(layer.sector_count(), 64);
}

#[test]
fn a_grow_after_an_unfinished_shrink_shows_zeros() {
    let layer = layer_with_data();
    {
        let mut dropped = pin!(layer.resize(1));
        assert!(block_on(poll_once(&mut dropped)).is_none());
    }
    block_on(layer.resize(CHUNK_COUNT * CHUNK_SECTORS)).unwrap();
    for chunk in 1..CHUNK_COUNT {
        let mut data = [0xee; 512];
        let mut answered = disk_layered::SectorBitmap::new(1);
        let at = chunk * CHUNK_SECTORS;
        let marker = disk_layered::SectorMarker::new(&mut answered, at, at..at + 1);
        block_on(layer.read(&HostBuffers::from_mut(&mut data).buffers(), at, marker)).unwrap();
        assert!(
            answered.is_full(),
            "an added sector hides what lies below (C10)"
        );
        assert_eq!(data, [0; 512]);
    }
}

#[test]
fn sectors_that_a_shrink_took_have_no_status() {
    // What a status meets that was checked against the size before the shrink.
    let layer = layer_with_data();
    block_on(layer.resize(CHUNK_SECTORS)).unwrap();
    for (sector, count) in [
        (CHUNK_SECTORS, 1),
        (CHUNK_SECTORS - 1, 2),
        (0, 3 * CHUNK_SECTORS),
        (CHUNK_COUNT * CHUNK_SECTORS, 8),
    ] {
        match block_on(layer.layer_status(sector, count)) {
            Err(DiskError::IllegalBlock) => {}
            // It may tell of the sectors that are left, and end there.
            Ok(LayerStatus::Present(status)) if sector < CHUNK_SECTORS => {
                assert!(sector + status.sector_count() <= CHUNK_SECTORS);
            }
            Ok(LayerStatus::Absent { sector_count }) if sector < CHUNK_SECTORS => {
                assert!(sector + sector_count <= CHUNK_SECTORS);
            }
            other => panic!("{count} sectors from {sector} on: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_number_of_sectors_is_refused_in_text_for_a_terminal() {
    let layer = RamDiskLayer::new(1 << 20).unwrap();
    let refused = block_on(inspect::update("sector_count", "4\u{11}\u{1b}[31m", &layer));
    let message = refused.expect_err("it is no number").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
}
