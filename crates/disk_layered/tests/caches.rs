//! Layers that keep what is read from below.

mod common;

use common::{base, cache, counter, disk, holds, layer, plain, read, write};
use disk_backend::{Disk, DiskError};
use disk_contract::{Operation, When};
use disk_layered::{LayerIo, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::pin::pin;

#[test]
fn what_was_read_is_not_asked_for_again() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower.clone())]);
    assert_eq!(block_on(read(&disk, 2, 3)).unwrap(), [3, 4, 5]);
    assert_eq!(
        holds(top.inner(), 1, 5),
        [None, Some(3), Some(4), Some(5), None]
    );
    lower.script().fail_nth(0, Operation::Read, When::Before);
    assert_eq!(block_on(read(&disk, 2, 3)).unwrap(), [3, 4, 5]);
    assert!(lower.script().is_pending());
    assert_eq!(counter(&disk, 0, "bytes_hit"), 3 * 512);
    assert_eq!(counter(&disk, 0, "bytes_missed"), 3 * 512);
    assert_eq!(counter(&disk, 0, "bytes_filled"), 3 * 512);
    assert_eq!(counter(&disk, 1, "bytes_hit"), 3 * 512);
}

#[test]
fn a_request_that_hits_in_part_fills_the_rest() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    block_on(write(&disk, 4, &[77])).unwrap();
    block_on(read(&disk, 8, 1)).unwrap();
    assert_eq!(
        block_on(read(&disk, 2, 8)).unwrap(),
        [3, 4, 77, 6, 7, 8, 9, 10]
    );
    let held: Vec<_> = [3, 4, 77, 6, 7, 8, 9, 10].map(Some).into();
    assert_eq!(holds(top.inner(), 2, 8), held);
    assert_eq!(counter(&disk, 0, "bytes_filled"), 7 * 512);
}

#[test]
fn every_cache_on_the_way_keeps_what_it_missed() {
    let (first, middle, second, lower) = (layer(), layer(), layer(), base());
    let disk = disk(vec![
        cache(first.clone()),
        plain(middle.clone()),
        cache(second.clone()),
        plain(lower),
    ]);
    let bytes = [99; 512];
    block_on(
        middle
            .inner()
            .write(&HostBuffers::from_ref(&bytes).buffers(), 1, false),
    )
    .unwrap();
    assert_eq!(block_on(read(&disk, 0, 3)).unwrap(), [1, 99, 3]);
    assert_eq!(holds(first.inner(), 0, 3), [Some(1), Some(99), Some(3)]);
    assert_eq!(holds(second.inner(), 0, 3), [Some(1), None, Some(3)]);
}

#[test]
fn a_cache_in_the_middle_keeps_what_is_read() {
    let (top, middle, lower) = (layer(), layer(), base());
    let disk = disk(vec![
        plain(top.clone()),
        cache(middle.clone()),
        plain(lower),
    ]);
    block_on(write(&disk, 1, &[50])).unwrap();
    assert_eq!(block_on(read(&disk, 0, 3)).unwrap(), [1, 50, 3]);
    assert_eq!(holds(middle.inner(), 0, 3), [Some(1), None, Some(3)]);
    assert_eq!(holds(top.inner(), 0, 3), [None, Some(50), None]);
}

#[test]
fn sectors_that_no_layer_has_take_no_place_in_a_cache() {
    let (top, lower) = (layer(), layer());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [0, 0]);
    assert_eq!(holds(top.inner(), 0, 2), [None, None]);
}

#[test]
fn a_cache_longer_than_what_lies_below_is_filled_as_far_as_that_reaches() {
    let top = RamDiskLayer::new(32 * 512).unwrap();
    let disk = disk(vec![cache(top), plain(base())]);
    let mut expected: Vec<u8> = (10..=16).collect();
    expected.resize(12, 0);
    assert_eq!(block_on(read(&disk, 9, 12)).unwrap(), expected);
    assert_eq!(counter(&disk, 0, "bytes_filled"), 7 * 512);
}

#[test]
fn a_read_longer_than_is_read_at_once_fills_all_of_it() {
    const LEN: u64 = 5 << 20;
    let lower = RamDiskLayer::new(LEN).unwrap();
    let bytes = vec![7; LEN as usize];
    block_on(lower.write(&HostBuffers::from_ref(&bytes).buffers(), 0, false)).unwrap();
    let disk = disk(vec![cache(RamDiskLayer::new(LEN).unwrap()), plain(lower)]);
    let read = block_on(read(&disk, 3, (LEN / 512) as usize - 3)).unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
    assert_eq!(counter(&disk, 0, "bytes_filled"), LEN - 3 * 512);
}

/// The window in which a fill could undo what came after its read (L2).
#[test]
fn a_fill_does_not_undo_a_write_or_an_unmap_that_came_after_its_read() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Read, When::After);
    let mut reading = pin!(read(&disk, 0, 4));
    assert!(block_on(poll_once(&mut reading)).is_none());
    assert!(gate.is_reached());
    block_on(write(&disk, 0, &[50])).unwrap();
    block_on(disk.unmap(1, 1, false)).unwrap();
    block_on(disk.write_zeroes(2, 1, false, true, false)).unwrap();
    gate.open();
    assert_eq!(block_on(reading).unwrap(), [1, 2, 3, 4]);
    assert_eq!(block_on(read(&disk, 0, 4)).unwrap(), [50, 0, 0, 4]);
    assert_eq!(holds(top.inner(), 3, 1), [Some(4)]);
}

/// Beyond what lies below, an unmap could make sectors absent: a fill that began before the layer below shrank must not come back.
#[test]
fn a_fill_does_not_undo_an_unmap_beyond_a_lower_layer_that_shrank() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Read, When::After);
    let mut reading = pin!(read(&disk, 8, 4));
    assert!(block_on(poll_once(&mut reading)).is_none());
    block_on(lower.inner().resize(8)).unwrap();
    block_on(disk.unmap(8, 4, false)).unwrap();
    gate.open();
    block_on(reading).unwrap();
    assert_eq!(block_on(read(&disk, 8, 4)).unwrap(), [0; 4]);
}

#[test]
fn a_fill_that_fails_fails_nobody_and_is_counted() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    top.script().fail_nth(0, Operation::Fill, When::Before);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1, 2]);
    assert_eq!(counter(&disk, 0, "fill_failures"), 1);
    assert_eq!(holds(top.inner(), 0, 2), [None, None]);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1, 2]);
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(2)]);
}

#[test]
fn the_reply_does_not_wait_for_a_slow_fill() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    let gate = top.script().hold(Operation::Fill, When::Before);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1, 2]);
    assert!(gate.is_reached());
    assert_eq!(holds(top.inner(), 0, 2), [None, None]);
    // Whoever comes by gets it further; draining finishes it.
    let mut draining = pin!(disk.drain());
    assert!(block_on(poll_once(&mut draining)).is_none());
    gate.open();
    block_on(draining);
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(2)]);
}

#[test]
fn a_slow_fill_is_finished_by_whoever_misses_next() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    let gate = top.script().hold(Operation::Fill, When::Before);
    block_on(read(&disk, 0, 2)).unwrap();
    gate.open();
    block_on(read(&disk, 8, 1)).unwrap();
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(2)]);
}

#[test]
fn fills_that_nobody_finishes_are_bounded() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    for _ in 0..200 {
        top.script().hold(Operation::Fill, When::Before);
        assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [1]);
    }
    assert!(counter(&disk, 0, "fills_skipped") > 0);
}

/// Memory of a guest may change at any time; what is kept is what the layer below holds (C3).
#[test]
fn what_is_kept_is_not_what_a_guest_makes_of_its_memory() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower)]);
    let guest = guestmem::GuestMemory::allocate(4096);
    let scribbled = guest.clone();
    top.script().run(Operation::Fill, When::Before, move || {
        scribbled.fill_at(0, 0xab, 1024).unwrap();
    });
    let request = OwnedRequestBuffers::linear(0, 1024, true);
    block_on(disk.read_vectored(&request.buffer(&guest), 0)).unwrap();
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(2)]);
}

#[test]
fn an_error_from_below_fills_nothing_and_is_the_requests() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![cache(top.clone()), plain(lower.clone())]);
    lower.script().fail_nth(0, Operation::Read, When::After);
    assert!(matches!(block_on(read(&disk, 0, 2)), Err(DiskError::Io(_))));
    assert_eq!(holds(top.inner(), 0, 2), [None, None]);
}

#[test]
fn a_read_only_disk_fills_its_caches() {
    let (top, lower) = (layer(), base());
    let layers = vec![cache(top.clone()), plain(lower)];
    let disk = Disk::new(block_on(LayeredDisk::new(true, layers)).unwrap()).unwrap();
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1, 2]);
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(2)]);
}

#[test]
fn a_cache_in_memory_is_filled_where_it_is_absent_and_nowhere_else() {
    let disk = disk(vec![
        cache(RamDiskLayer::new(16 * 512).unwrap()),
        plain(base()),
    ]);
    block_on(write(&disk, 3, &[60])).unwrap();
    block_on(disk.unmap(4, 1, false)).unwrap();
    let expected = [1, 2, 3, 60, 0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    for _ in 0..2 {
        assert_eq!(block_on(read(&disk, 0, 16)).unwrap(), expected);
    }
    assert_eq!(counter(&disk, 0, "bytes_filled"), 14 * 512);
    assert_eq!(counter(&disk, 1, "bytes_hit"), 14 * 512);
}

#[test]
fn sectors_that_a_resize_added_are_not_filled() {
    let lower = base();
    let disk = disk(vec![
        cache(RamDiskLayer::new(16 * 512).unwrap()),
        plain(lower),
    ]);
    block_on(disk.resize(8)).unwrap();
    block_on(disk.resize(16)).unwrap();
    assert_eq!(block_on(read(&disk, 6, 4)).unwrap(), [7, 8, 0, 0]);
    assert_eq!(block_on(read(&disk, 6, 4)).unwrap(), [7, 8, 0, 0]);
}
