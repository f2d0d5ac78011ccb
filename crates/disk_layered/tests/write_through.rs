//! Layers that hold copies of what is written below.

mod common;

use common::{base, counter, disk, holds, layer, plain, read, through, through_cache, write};
use disk_backend::{BlockState, Disk, DiskError, UnmapBehavior};
use disk_contract::{LayerSpec, Operation, ReferenceLayer, ScriptedLayer, When};
use disk_layered::{LayerIo, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::OwnedRequestBuffers;
use std::pin::pin;

#[test]
fn a_write_lands_in_every_layer_down_to_the_first_that_is_not_write_through() {
    let (first, second, third, lower) = (layer(), layer(), layer(), base());
    let disk = disk(vec![
        through(first.clone()),
        through(second.clone()),
        plain(third.clone()),
        plain(lower.clone()),
    ]);
    block_on(write(&disk, 4, &[50, 51])).unwrap();
    for layer in [&first, &second, &third] {
        assert_eq!(holds(layer.inner(), 3, 4), [None, Some(50), Some(51), None]);
    }
    assert_eq!(holds(lower.inner(), 4, 2), [Some(5), Some(6)]);
    assert_eq!(counter(&disk, 2, "bytes_written"), 1024);
}

#[test]
fn zeros_and_unmaps_reach_every_copy() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    block_on(disk.write_zeroes(2, 2, false, true, false)).unwrap();
    block_on(disk.unmap(5, 2, false)).unwrap();
    assert_eq!(block_on(read(&disk, 1, 7)).unwrap(), [2, 0, 0, 5, 0, 0, 8]);
    let visible = |layer: &ScriptedLayer, sector| holds(layer.inner(), sector, 1)[0].unwrap_or(0);
    for sector in [2, 3, 5, 6] {
        assert_eq!(visible(&lower, sector), 0, "sector {sector}");
    }
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
}

/// A copy that ignores unmaps gets zeros written (L3).
#[test]
fn an_unmap_writes_zeros_to_copies_that_would_ignore_it() {
    for behavior in [UnmapBehavior::Ignored, UnmapBehavior::Unspecified] {
        let spec = LayerSpec::new(16, 512);
        let top = ReferenceLayer::new(spec).with_unmap_behavior(behavior);
        let top = ScriptedLayer::new(top);
        let disk = disk(vec![through(top.clone()), plain(base())]);
        assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
        block_on(write(&disk, 0, &[9, 9, 9, 9])).unwrap();
        block_on(disk.unmap(0, 4, false)).unwrap();
        assert_eq!(block_on(read(&disk, 0, 4)).unwrap(), [0; 4]);
        assert_eq!(holds(top.inner(), 0, 4), [Some(0); 4]);
    }
}

#[test]
fn an_unmap_is_ignored_if_that_is_what_the_lowest_written_layer_does() {
    let lower = ReferenceLayer::new(LayerSpec::new(16, 512));
    let lower = ScriptedLayer::new(lower.with_unmap_behavior(UnmapBehavior::Ignored));
    let disk = disk(vec![through(layer()), plain(lower)]);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Ignored);
    block_on(write(&disk, 0, &[9])).unwrap();
    block_on(disk.unmap(0, 1, false)).unwrap();
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [9]);
}

/// A failed write may have happened or not, but not first the one and then the other (C2, L4).
#[test]
fn after_an_error_below_the_copy_is_thrown_away() {
    for when in [When::Before, When::After] {
        let (top, lower) = (layer(), base());
        let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
        block_on(write(&disk, 3, &[60])).unwrap();
        lower.script().fail_nth(0, Operation::Write, when);
        assert!(matches!(
            block_on(write(&disk, 3, &[61, 61])),
            Err(DiskError::Io(_))
        ));
        assert_eq!(holds(top.inner(), 3, 2), [None, None]);
        let truth: Vec<_> = holds(lower.inner(), 3, 2).into_iter().flatten().collect();
        assert_eq!(block_on(read(&disk, 3, 2)).unwrap(), truth);
        assert_eq!(
            block_on(read(&disk, 3, 2)).unwrap(),
            truth,
            "from the cache"
        );
    }
}

#[test]
fn after_an_error_in_a_copy_nothing_below_changes() {
    let (top, middle, lower) = (layer(), layer(), base());
    let disk = disk(vec![
        through(top.clone()),
        through(middle.clone()),
        plain(lower.clone()),
    ]);
    middle.script().fail_nth(0, Operation::Write, When::After);
    block_on(write(&disk, 0, &[70])).unwrap_err();
    assert_eq!(holds(top.inner(), 0, 1), [None]);
    assert_eq!(holds(middle.inner(), 0, 1), [None]);
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [1]);
}

/// The copy that cannot be thrown away keeps what was written, and so reads agree for ever.
#[test]
fn a_copy_that_cannot_be_thrown_away_is_the_one_that_is_read() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    top.script().fail_nth(0, Operation::Evict, When::Before);
    lower.script().fail_nth(0, Operation::Write, When::Before);
    block_on(write(&disk, 0, &[80])).unwrap_err();
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [80]);
    assert_eq!(counter(&disk, 0, "eviction_failures"), 1);
}

/// Nobody sees what may still be taken back.
#[test]
fn a_read_waits_for_a_write_that_is_half_done_and_finishes_it_itself() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Write, When::Before);
    {
        let mut writing = pin!(write(&disk, 2, &[90]));
        assert!(block_on(poll_once(&mut writing)).is_none());
        assert_eq!(holds(top.inner(), 2, 1), [Some(90)]);
        let mut reading = pin!(read(&disk, 2, 1));
        assert!(block_on(poll_once(&mut reading)).is_none());
        // What does not overlap goes on.
        assert_eq!(block_on(read(&disk, 3, 1)).unwrap(), [4]);
        gate.open();
        // The writer is never polled again (C4).
        assert_eq!(block_on(reading).unwrap(), [90]);
    }
    assert_eq!(holds(lower.inner(), 2, 1), [Some(90)]);
}

#[test]
fn a_dropped_write_is_finished_before_the_next_one_to_its_sectors() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Write, When::Before);
    {
        let mut writing = pin!(write(&disk, 2, &[91, 91]));
        assert!(block_on(poll_once(&mut writing)).is_none());
    }
    gate.open();
    block_on(write(&disk, 3, &[92])).unwrap();
    for layer in [&top, &lower] {
        assert_eq!(holds(layer.inner(), 2, 2), [Some(91), Some(92)]);
    }
}

#[test]
fn draining_finishes_what_dropped_requests_left() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::WriteZeroes, When::Before);
    {
        let mut zeroing = pin!(disk.write_zeroes(2, 2, false, true, false));
        assert!(block_on(poll_once(&mut zeroing)).is_none());
    }
    gate.open();
    block_on(disk.drain());
    assert_eq!(holds(top.inner(), 2, 2), [Some(0); 2]);
    // Nothing lies below the lowest layer, so there a zero may be absent.
    assert_eq!(holds(lower.inner(), 1, 4), [Some(2), None, None, Some(5)]);
}

/// A chain of requests that wait for each other, all forgotten, is finished by the last one, however long it is.
#[test]
fn a_long_chain_of_forgotten_writes_holds_up_nobody() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Write, When::Before);
    let mut forgotten: Vec<_> = (0..100)
        .map(|index| {
            let disk = disk.clone();
            Box::pin(async move { write(&disk, index % 15, &[index as u8, index as u8]).await })
        })
        .collect();
    for writing in &mut forgotten {
        assert!(block_on(poll_once(writing)).is_none());
    }
    gate.open();
    block_on(write(&disk, 0, &[200; 16])).unwrap();
    assert_eq!(holds(lower.inner(), 0, 16), [Some(200); 16]);
    std::mem::forget(forgotten);
}

#[test]
fn a_read_that_a_write_disturbs_begins_anew() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Read, When::After);
    let mut reading = pin!(read(&disk, 0, 2));
    assert!(block_on(poll_once(&mut reading)).is_none());
    block_on(write(&disk, 1, &[33])).unwrap();
    gate.open();
    assert_eq!(block_on(reading).unwrap(), [1, 33]);
    assert_eq!(holds(top.inner(), 0, 2), [Some(1), Some(33)]);
}

/// A fill that began before a write failed must not put back what the write may have replaced (L2, L4).
#[test]
fn a_fill_does_not_outlive_a_failed_write() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Read, When::After);
    let mut reading = pin!(read(&disk, 0, 2));
    assert!(block_on(poll_once(&mut reading)).is_none());
    lower.script().fail_nth(0, Operation::Write, When::After);
    block_on(write(&disk, 0, &[44])).unwrap_err();
    assert_eq!(holds(top.inner(), 0, 1), [None]);
    gate.open();
    assert_eq!(block_on(reading).unwrap(), [44, 2]);
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [44, 2]);
}

/// However often it is disturbed, a read comes to its end.
#[test]
fn a_read_among_writes_that_never_end_gets_its_turn() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top), plain(lower.clone())]);
    let gates: Vec<_> = (0..3)
        .map(|nth| lower.script().hold_nth(nth, Operation::Read, When::After))
        .collect();
    let mut reading = pin!(read(&disk, 0, 1));
    for (number, gate) in gates.iter().enumerate() {
        assert!(block_on(poll_once(&mut reading)).is_none());
        assert!(gate.is_reached());
        // The layer on top has this sector from now on, and then throws it away.
        lower.script().fail_nth(0, Operation::Write, When::After);
        block_on(write(&disk, 0, &[number as u8])).unwrap_err();
        gate.open();
    }
    assert_eq!(block_on(reading).unwrap(), [2]);
}

/// What is stored twice is fetched once (C3).
#[test]
fn both_copies_hold_the_same_whatever_a_guest_does_to_its_memory() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let guest = guestmem::GuestMemory::allocate(4096);
    guest.fill_at(0, 7, 1024).unwrap();
    let scribbled = guest.clone();
    lower.script().run(Operation::Write, When::Before, move || {
        scribbled.fill_at(0, 0xab, 1024).unwrap();
    });
    let request = OwnedRequestBuffers::linear(0, 1024, false);
    block_on(disk.write_vectored(&request.buffer(&guest), 0, false)).unwrap();
    assert_eq!(holds(top.inner(), 0, 2), [Some(7); 2]);
    assert_eq!(holds(lower.inner(), 0, 2), [Some(7); 2]);
}

#[test]
fn a_write_longer_than_is_written_at_once_lands_whole() {
    const LEN: u64 = 3 << 20;
    let ram = || RamDiskLayer::new(LEN).unwrap();
    let disk = disk(vec![through(ram()), plain(ram())]);
    let bytes: Vec<u8> = (0..LEN / 512).map(|sector| sector as u8).collect();
    block_on(write(&disk, 0, &bytes)).unwrap();
    assert_eq!(block_on(read(&disk, 0, bytes.len())).unwrap(), bytes);
    assert_eq!(counter(&disk, 1, "bytes_written"), LEN);
}

#[test]
fn status_does_not_tell_of_zeros_that_are_taken_back() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::WriteZeroes, When::Before);
    lower
        .script()
        .fail_nth(0, Operation::WriteZeroes, When::Before);
    let mut zeroing = pin!(disk.write_zeroes(0, 1, false, true, false));
    assert!(block_on(poll_once(&mut zeroing)).is_none());
    let mut asking = pin!(disk.block_status(0, 1));
    assert!(block_on(poll_once(&mut asking)).is_none());
    gate.open();
    let status = block_on(asking).unwrap();
    assert_eq!(status.extents()[0].state, BlockState::Data);
    block_on(zeroing).unwrap_err();
}

#[test]
fn status_that_a_change_disturbs_is_asked_for_anew() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    let status_gate = top.script().hold(Operation::Status, When::Before);
    let mut asking = pin!(disk.block_status(0, 1));
    assert!(block_on(poll_once(&mut asking)).is_none());
    let zero_gate = lower.script().hold(Operation::WriteZeroes, When::Before);
    lower
        .script()
        .fail_nth(0, Operation::WriteZeroes, When::Before);
    let mut zeroing = pin!(disk.write_zeroes(0, 1, false, true, false));
    assert!(block_on(poll_once(&mut zeroing)).is_none());
    // The copy says zero now, which will not have been true.
    status_gate.open();
    assert!(block_on(poll_once(&mut asking)).is_none());
    zero_gate.open();
    let status = block_on(asking).unwrap();
    assert_eq!(status.extents()[0].state, BlockState::Data);
    block_on(zeroing).unwrap_err();
}

/// A write that fails makes the copy absent, so a fill that began before it must be over by then (R1).
#[test]
fn a_write_waits_for_a_slow_fill_of_its_sectors() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
    let gate = top.script().hold(Operation::Fill, When::Before);
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [1]);
    lower.script().fail_nth(0, Operation::Write, When::After);
    let mut writing = pin!(write(&disk, 0, &[55]));
    let early = block_on(poll_once(&mut writing));
    gate.open();
    match early {
        Some(result) => result.unwrap_err(),
        None => block_on(writing).unwrap_err(),
    };
    block_on(disk.drain());
    assert_eq!(holds(lower.inner(), 0, 1), [Some(55)]);
    assert_eq!(block_on(read(&disk, 0, 1)).unwrap(), [55]);
}

#[test]
fn growing_makes_zeros_in_every_copy_and_shrinking_takes_them_all_along() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    block_on(disk.resize(8)).unwrap();
    assert_eq!(lower.inner().sector_count(), 8);
    // The stack has seen the smaller size when it grows.
    assert_eq!(block_on(read(&disk, 6, 2)).unwrap(), [7, 8]);
    block_on(disk.resize(12)).unwrap();
    assert_eq!(disk.sector_count(), 12);
    assert_eq!(block_on(read(&disk, 6, 6)).unwrap(), [7, 8, 0, 0, 0, 0]);
    block_on(write(&disk, 10, &[5, 6])).unwrap();
    assert_eq!(block_on(read(&disk, 9, 3)).unwrap(), [0, 5, 6]);
    top.inner().make_absent(0..12);
    assert_eq!(block_on(read(&disk, 6, 6)).unwrap(), [7, 8, 0, 0, 5, 6]);
}

/// What a longer layer held beyond the end of the disk must not show when the disk grows (C10).
#[test]
fn growing_over_a_longer_layer_zeros_what_it_holds_there() {
    let top = ScriptedLayer::new(ReferenceLayer::new(LayerSpec::new(8, 512)));
    let lower = base();
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    block_on(disk.resize(12)).unwrap();
    assert_eq!(lower.inner().sector_count(), 16);
    top.inner().make_absent(0..12);
    assert_eq!(block_on(read(&disk, 6, 6)).unwrap(), [7, 8, 0, 0, 0, 0]);
}

/// Beyond the end that a layer once had nothing shows, and so nothing may be written there either (L5, W4).
#[test]
fn a_layer_that_shrank_behind_our_back_takes_no_writes_where_it_would_not_show_them() {
    let (top, lower) = (layer(), base());
    let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
    block_on(read(&disk, 8, 4)).unwrap();
    block_on(lower.inner().resize(8)).unwrap();
    assert_eq!(block_on(read(&disk, 7, 3)).unwrap(), [8, 0, 0]);
    assert!(matches!(
        block_on(write(&disk, 8, &[1])),
        Err(DiskError::IllegalBlock)
    ));
    block_on(lower.inner().resize(16)).unwrap();
    assert!(matches!(
        block_on(write(&disk, 8, &[1])),
        Err(DiskError::IllegalBlock)
    ));
    assert_eq!(block_on(read(&disk, 7, 3)).unwrap(), [8, 0, 0]);
}

#[test]
fn a_read_only_disk_has_nothing_to_order() {
    let layers = vec![through_cache(layer()), plain(base())];
    let disk = Disk::new(block_on(LayeredDisk::new(true, layers)).unwrap()).unwrap();
    assert_eq!(block_on(read(&disk, 0, 2)).unwrap(), [1, 2]);
    assert!(matches!(
        block_on(write(&disk, 0, &[1])),
        Err(DiskError::ReadOnly)
    ));
}

/// Several threads write, unmap and read the same sectors; in the end both copies agree.
#[test]
fn copies_agree_after_threads_have_raced() {
    let (top, lower) = (layer(), base());
    top.script().stutter(1);
    lower.script().stutter(2);
    let disk = disk(vec![through_cache(top.clone()), plain(lower.clone())]);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let disk = &disk;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..300 {
                    let sector = rng.u64(0..16);
                    let count = rng.u64(1..=16 - sector);
                    match rng.u8(0..4) {
                        0 => block_on(disk.unmap(sector, count, false)).unwrap(),
                        1 => {
                            let mut cancelled = pin!(write(disk, sector, &[3]));
                            let _ = block_on(poll_once(&mut cancelled));
                        }
                        2 => {
                            block_on(read(disk, sector, count as usize)).unwrap();
                        }
                        _ => {
                            let bytes = vec![rng.u8(..); count as usize];
                            block_on(write(disk, sector, &bytes)).unwrap();
                        }
                    }
                }
            });
        }
    });
    block_on(disk.drain());
    let copies = holds(top.inner(), 0, 16).into_iter();
    let truth = holds(lower.inner(), 0, 16).into_iter();
    for (sector, (copy, truth)) in copies.zip(truth).enumerate() {
        assert!(
            copy.is_none() || copy.unwrap() == truth.unwrap_or(0),
            "sector {sector}"
        );
    }
}

/// Since a crash the copy may be ahead of what lies below, so it must not be thrown away for a request that is refused.
#[test]
fn a_write_that_waits_for_a_shrink_and_is_then_beyond_the_end_touches_no_copy() {
    let top = ScriptedLayer::new(RamDiskLayer::new(16 * 512).unwrap());
    let lower = ScriptedLayer::new(ReferenceLayer::new(LayerSpec::new(20, 512)));
    let disk = disk(vec![through(top.clone()), plain(lower.clone())]);
    block_on(write(&disk, 9, &[60])).unwrap();
    block_on(lower.inner().write_zeroes(9, 1, false, true, false, false)).unwrap();
    let gate = top.script().hold(Operation::Resize, When::Before);
    let mut shrink = pin!(disk.resize(10));
    assert!(block_on(poll_once(shrink.as_mut())).is_none());
    let mut late = pin!(write(&disk, 9, &[61, 61]));
    assert!(block_on(poll_once(late.as_mut())).is_none());
    gate.open();
    block_on(shrink).unwrap();
    assert!(matches!(block_on(late), Err(DiskError::IllegalBlock)));
    assert_eq!(block_on(read(&disk, 9, 1)).unwrap(), [60]);
}
