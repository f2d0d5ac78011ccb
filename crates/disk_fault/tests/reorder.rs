//! Writes that are kept back: what users see of them, in which order they go, and what a power cut leaves.

mod common;

use clock::Clock;
use common::{SECTOR, SECTORS, World, read, stamps, write};
use disk_backend::{BlockState, Disk, DiskError};
use disk_contract::{DiskSpec, Operation as Scripted, ReferenceDisk, ScriptedDisk, When};
use disk_fault::{Action, FaultControl, FaultDisk, FaultOptions, Operation, Rule};
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::collections::BTreeSet;
use std::pin::pin;

fn world(seed: u64, writes_max: u32) -> World {
    let options = FaultOptions::new(seed, Clock::real());
    World::with(options, [Rule::new(Action::Reorder(writes_max))])
}

async fn write_durably(disk: &Disk, sector: u64, stamp: u8) -> Result<(), DiskError> {
    let data = [stamp; SECTOR];
    let host = HostBuffers::from_ref(&data);
    disk.write_vectored(&host.buffers(), sector, true).await
}

#[test]
fn what_is_kept_back_is_read_by_users_and_not_yet_below() {
    let world = world(1, 64);
    block_on(async {
        write(&world.disk, 2, 4, 1).await.unwrap();
        write(&world.disk, 4, 1, 2).await.unwrap();
        write(&world.disk, 5, 3, 3).await.unwrap();
    });
    assert_eq!(stamps(&world.disk, 1, 8), [0, 1, 1, 2, 3, 3, 3, 0]);
    assert_eq!(world.control.unflushed_sector_count(), 6);
    assert_eq!(world.stamps(), [0; SECTORS as usize]);
    block_on(world.disk.sync_cache()).unwrap();
    assert_eq!(world.stamps()[1..9], [0, 1, 1, 2, 3, 3, 3, 0]);
    assert_eq!(stamps(&world.disk, 1, 8), [0, 1, 1, 2, 3, 3, 3, 0]);
    assert_eq!(world.control.unflushed_sector_count(), 0);
}

/// In which order four writes come below, by a flush.
fn order(seed: u64) -> Vec<String> {
    let world = world(seed, 64);
    for sector in [1, 5, 9, 13] {
        block_on(write(&world.disk, sector, 1, 1)).unwrap();
    }
    assert_eq!(world.log.take(), [""; 0]);
    block_on(world.disk.sync_cache()).unwrap();
    let mut log = world.log.take();
    assert_eq!(log.pop().unwrap(), "flush");
    log
}

#[test]
fn a_flush_writes_in_an_order_of_the_seed_and_then_flushes() {
    let orders: BTreeSet<Vec<String>> = (0..40).map(order).collect();
    assert!(orders.len() > 12, "{} of 24 orders", orders.len());
    for order in &orders {
        let writes: BTreeSet<&str> = order.iter().map(String::as_str).collect();
        assert_eq!(
            writes,
            BTreeSet::from(["write 1+1", "write 13+1", "write 5+1", "write 9+1"])
        );
    }
    assert_eq!(order(7), order(7));
}

#[test]
fn when_more_are_kept_than_may_be_chance_says_which_is_written() {
    let mut first = BTreeSet::new();
    for seed in 0..40 {
        let world = world(seed, 3);
        for sector in [1, 5, 9, 13] {
            block_on(write(&world.disk, sector, 1, 1)).unwrap();
        }
        let log = world.log.take();
        assert_eq!(log.len(), 1, "{log:?}");
        first.extend(log);
        assert_eq!(world.control.unflushed_sector_count(), 3);
    }
    let all = ["write 1+1", "write 5+1", "write 9+1"].map(str::to_owned);
    assert_eq!(first, BTreeSet::from(all));
}

#[test]
fn what_else_is_done_to_a_sector_comes_after_what_was_kept_back_of_it() {
    let world = world(1, 64);
    let keep = || {
        for sector in [2, 3, 8] {
            block_on(write(&world.disk, sector, 1, 1)).unwrap();
        }
    };
    keep();
    block_on(write_durably(&world.disk, 3, 2)).unwrap();
    assert_eq!(world.log.take(), ["write 3+1", "write 3+1 fua"]);
    assert_eq!(stamps(&world.disk, 2, 2), [1, 2]);
    keep();
    world.log.take();
    block_on(world.disk.write_zeroes(3, 2, false, true, false)).unwrap();
    assert_eq!(world.log.take(), ["write 3+1", "zero 3+2 false true false"]);
    assert_eq!(stamps(&world.disk, 2, 2), [1, 0]);
    keep();
    world.log.take();
    block_on(world.disk.unmap(3, 2, true)).unwrap();
    assert_eq!(world.log.take(), ["write 3+1", "unmap 3+2 true"]);
    assert_eq!(stamps(&world.disk, 2, 2), [1, 0]);
    assert_eq!(world.control.unflushed_sector_count(), 2);
}

#[test]
fn the_status_of_what_is_kept_back_is_data() {
    let world = world(1, 64);
    block_on(write(&world.disk, 2, 3, 1)).unwrap();
    block_on(write(&world.disk, 7, 1, 1)).unwrap();
    let status = block_on(world.disk.block_status(1, 9)).unwrap();
    let extents = status.extents().iter();
    let extents: Vec<_> = extents
        .map(|extent| (extent.sector_count, extent.state))
        .collect();
    let (data, zero) = (BlockState::Data, BlockState::Zero);
    assert_eq!(
        extents,
        [(1, zero), (3, data), (2, zero), (1, data), (2, zero)]
    );
}

#[test]
fn a_power_cut_loses_what_was_not_flushed_and_nothing_else() {
    let world = world(1, 64);
    block_on(async {
        write(&world.disk, 1, 1, 1).await.unwrap();
        world.disk.sync_cache().await.unwrap();
        write(&world.disk, 1, 2, 2).await.unwrap();
        write_durably(&world.disk, 5, 3).await.unwrap();
    });
    assert_eq!(stamps(&world.disk, 0, 6), [0, 2, 2, 0, 0, 3]);
    assert_eq!(world.control.drop_unflushed(), 2);
    assert_eq!(stamps(&world.disk, 0, 6), [0, 1, 0, 0, 0, 3]);
    assert_eq!(world.control.drop_unflushed(), 0);
}

#[test]
fn a_flush_that_is_skipped_leaves_what_is_kept_back_to_a_power_cut() {
    let rules = [
        Rule::new(Action::Reorder(64)),
        Rule::new(Action::SkipFlush).on([Operation::Flush]),
    ];
    let world = World::new(rules);
    block_on(write(&world.disk, 1, 1, 1)).unwrap();
    block_on(world.disk.sync_cache()).unwrap();
    assert_eq!(world.control.drop_unflushed(), 1);
}

#[test]
fn when_the_rule_goes_what_it_kept_back_is_still_read_and_flushed() {
    let world = world(1, 64);
    block_on(write(&world.disk, 1, 1, 1)).unwrap();
    world.control.remove(0).unwrap();
    assert_eq!(stamps(&world.disk, 1, 1), [1]);
    block_on(world.disk.sync_cache()).unwrap();
    assert_eq!(world.stamps()[1], 1);
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let world = world(1, 64);
    block_on(async {
        write(&world.disk, 10, 6, 1).await.unwrap();
        world.disk.resize(12).await.unwrap();
        world.disk.resize(SECTORS).await.unwrap();
    });
    assert_eq!(stamps(&world.disk, 10, 6), [1, 1, 0, 0, 0, 0]);
    // Cut off by somebody else, without our knowing.
    block_on(async {
        write(&world.disk, 10, 6, 2).await.unwrap();
        world.below.resize(12).await.unwrap();
        world.disk.sync_cache().await.unwrap();
        world.below.resize(SECTORS).await.unwrap();
    });
    assert_eq!(stamps(&world.disk, 10, 6), [2, 2, 0, 0, 0, 0]);
}

#[test]
fn memory_for_what_is_kept_back_is_bounded() {
    let ram = disklayer_ram::ram_disk(256 << 20, false).unwrap();
    let mut options = FaultOptions::new(1, Clock::real());
    options.rules = vec![Rule::new(Action::Reorder(4096))];
    let (disk, control) = FaultDisk::new(ram, options).unwrap();
    let disk = Disk::new(disk).unwrap();
    let max_sectors = (64 << 20) / SECTOR as u64;
    for piece in 0..20 {
        block_on(write(&disk, piece * 8192, 8192, piece as u8 + 1)).unwrap();
        assert!(control.unflushed_sector_count() <= max_sectors);
    }
    assert!(control.unflushed_sector_count() >= max_sectors / 2);
    for piece in 0..20 {
        assert_eq!(stamps(&disk, piece * 8192, 1), [piece as u8 + 1]);
    }
    control.drop_unflushed();
    block_on(write(&disk, 0, max_sectors + 8, 99)).unwrap();
    assert_eq!(
        control.unflushed_sector_count(),
        0,
        "longer than may be kept"
    );
}

/// A disk under a rule that keeps back, over one that does as a script says.
fn scripted() -> (Disk, FaultControl, ScriptedDisk) {
    let below = ScriptedDisk::new(ReferenceDisk::new(DiskSpec::new(SECTORS, SECTOR as u32)));
    let mut options = FaultOptions::new(1, Clock::real());
    options.rules = vec![Rule::new(Action::Reorder(64))];
    let (disk, control) = FaultDisk::new(Disk::new(below.clone()).unwrap(), options).unwrap();
    (Disk::new(disk).unwrap(), control, below)
}

#[test]
fn a_flush_that_failed_succeeds_when_all_of_it_has_been_written_again() {
    let (disk, control, below) = scripted();
    block_on(write(&disk, 1, 1, 1)).unwrap();
    block_on(write(&disk, 3, 1, 1)).unwrap();
    below.script().fail_nth(1, Scripted::Write, When::Before);
    let error = block_on(disk.sync_cache()).unwrap_err();
    assert!(matches!(error, DiskError::Io(_)), "{error:?}");
    assert_eq!(
        control.unflushed_sector_count(),
        1,
        "what failed is still kept"
    );
    assert_eq!(stamps(&disk, 0, 4), [0, 1, 0, 1]);
    block_on(disk.sync_cache()).unwrap();
    control.drop_unflushed();
    assert_eq!(stamps(&disk, 0, 4), [0, 1, 0, 1]);
}

#[test]
fn a_flush_that_is_dropped_or_forgotten_half_way_holds_up_nobody() {
    for is_forgotten in [false, true] {
        let (disk, _control, below) = scripted();
        block_on(write(&disk, 1, 2, 1)).unwrap();
        let gate = below.script().hold(Scripted::Write, When::Before);
        let flushed = disk.clone();
        let mut flush = Box::pin(async move { flushed.sync_cache().await });
        assert!(block_on(poll_once(&mut flush)).is_none());
        match is_forgotten {
            true => std::mem::forget(flush),
            false => drop(flush),
        }
        assert_eq!(stamps(&disk, 0, 4), [0, 1, 1, 0], "reads wait for nothing");
        block_on(write(&disk, 2, 2, 2)).unwrap();
        // A zeroing has to come after the write that is held up, and gets it to its end when it can.
        let mut zero = pin!(disk.write_zeroes(1, 1, false, true, false));
        assert!(block_on(poll_once(&mut zero)).is_none());
        gate.open();
        block_on(&mut zero).unwrap();
        block_on(disk.sync_cache()).unwrap();
        assert_eq!(stamps(&disk, 0, 4), [0, 0, 2, 2]);
        if !is_forgotten {
            block_on(disk.drain());
        }
    }
}

#[test]
fn a_drain_ends_what_a_dropped_flush_began() {
    let (disk, control, below) = scripted();
    block_on(write(&disk, 1, 1, 1)).unwrap();
    let gate = below.script().hold(Scripted::Write, When::Before);
    {
        let mut flush = pin!(disk.sync_cache());
        assert!(block_on(poll_once(&mut flush)).is_none());
    }
    let mut drain = pin!(disk.drain());
    assert!(block_on(poll_once(&mut drain)).is_none());
    gate.open();
    block_on(&mut drain);
    assert_eq!(control.unflushed_sector_count(), 0);
}

#[test]
fn a_write_that_came_while_another_was_under_way_stays_the_newer_one() {
    // A direct write comes below after what was kept back while it was under way; but it was called first, and whoever has
    // read the newer one shall not read the older one afterwards.
    let (disk, control, below) = scripted();
    let gate = below.script().hold(Scripted::Write, When::Before);
    let mut direct = pin!(write_durably(&disk, 1, 1));
    assert!(block_on(poll_once(&mut direct)).is_none());
    block_on(write(&disk, 1, 1, 2)).unwrap();
    // Its write below is done, but nobody has heard of that yet.
    let after = below.script().hold(Scripted::Write, When::After);
    let mut flush = pin!(disk.sync_cache());
    assert!(block_on(poll_once(&mut flush)).is_none());
    gate.open();
    block_on(&mut direct).unwrap();
    assert_eq!(stamps(&disk, 1, 1), [2]);
    after.open();
    block_on(&mut flush).unwrap();
    assert_eq!(stamps(&disk, 1, 1), [2], "new, then old");
    assert_eq!(
        control.drop_unflushed(),
        0,
        "the flush has written it again"
    );
    assert_eq!(stamps(&disk, 1, 1), [2]);
}

#[test]
fn a_flush_makes_durable_what_it_found_or_what_has_replaced_it_since() {
    // As above: 2 is newer than 1, and comes below before it. But now 3 has replaced 2 by the time the flush hears of that.
    let (disk, control, below) = scripted();
    let gate = below.script().hold(Scripted::Write, When::Before);
    let mut direct = pin!(write_durably(&disk, 1, 1));
    assert!(block_on(poll_once(&mut direct)).is_none());
    block_on(write(&disk, 1, 1, 2)).unwrap();
    let after = below.script().hold(Scripted::Write, When::After);
    let mut flush = pin!(disk.sync_cache());
    assert!(block_on(poll_once(&mut flush)).is_none());
    gate.open();
    block_on(&mut direct).unwrap();
    assert_eq!(stamps(&disk, 1, 1), [2]);
    block_on(write(&disk, 1, 1, 3)).unwrap();
    after.open();
    block_on(&mut flush).unwrap();
    control.drop_unflushed();
    assert_eq!(
        stamps(&disk, 1, 1),
        [3],
        "1 was older than 2, which was flushed"
    );
}

#[test]
fn memory_that_changes_after_a_write_changes_nothing_that_is_kept() {
    let world = world(1, 64);
    let memory = guestmem::GuestMemory::allocate(4096);
    memory.fill_at(0, 1, SECTOR).unwrap();
    let owned = OwnedRequestBuffers::linear(0, SECTOR, false);
    block_on(world.disk.write_vectored(&owned.buffer(&memory), 1, false)).unwrap();
    memory.fill_at(0, 2, SECTOR).unwrap();
    assert_eq!(stamps(&world.disk, 1, 1), [1]);
    block_on(world.disk.sync_cache()).unwrap();
    assert_eq!(world.stamps()[1], 1);
    assert_eq!(block_on(read(&world.disk, 1, 1)).unwrap(), [1; SECTOR]);
}

#[test]
fn what_was_being_written_in_a_power_cut_does_not_come_over_what_comes_after_it() {
    let (disk, control, below) = scripted();
    block_on(write(&disk, 1, 1, 1)).unwrap();
    let gate = below.script().hold(Scripted::Write, When::Before);
    {
        let mut flush = pin!(disk.sync_cache());
        assert!(block_on(poll_once(&mut flush)).is_none());
    }
    control.drop_unflushed();
    let mut after = pin!(write_durably(&disk, 1, 2));
    assert!(block_on(poll_once(&mut after)).is_none());
    gate.open();
    block_on(&mut after).unwrap();
    assert_eq!(stamps(&disk, 1, 1), [2]);
}

#[test]
fn a_read_does_not_show_what_came_below_while_something_newer_was_kept() {
    for is_idle in [true, false] {
        let (disk, _control, below) = scripted();
        if !is_idle {
            block_on(write(&disk, 9, 1, 9)).unwrap();
        }
        let reading = below.script().hold(Scripted::Read, When::Before);
        let mut read = pin!(read(&disk, 1, 1));
        assert!(block_on(poll_once(&mut read)).is_none());
        let writing = below.script().hold(Scripted::Write, When::Before);
        let mut direct = pin!(write_durably(&disk, 1, 1));
        assert!(block_on(poll_once(&mut direct)).is_none());
        // Newer than the direct write, and below before it; neither of the two is told yet.
        block_on(write(&disk, 1, 1, 2)).unwrap();
        let _written_back = below.script().hold(Scripted::Write, When::After);
        let mut unmap = pin!(disk.unmap(1, 1, false));
        assert!(block_on(poll_once(&mut unmap)).is_none());
        let _written = below.script().hold(Scripted::Write, When::After);
        writing.open();
        assert!(block_on(poll_once(&mut direct)).is_none());
        reading.open();
        let data = block_on(poll_once(&mut read)).unwrap().unwrap();
        assert_eq!(data[0], 2, "others have read 2, and may read it again");
    }
}

#[test]
fn two_pieces_that_share_sectors_are_never_written_at_once() {
    let (disk, control, below) = scripted();
    let begin_to_write = |sector: u64| {
        let gate = below.script().hold(Scripted::Write, When::Before);
        let mut zero = pin!(disk.write_zeroes(sector, 1, false, true, false));
        assert!(block_on(poll_once(&mut zero)).is_none());
        gate
    };
    block_on(write(&disk, 0, 4, 1)).unwrap();
    block_on(write(&disk, 5, 1, 2)).unwrap();
    let first = begin_to_write(0);
    let second = begin_to_write(5);
    let mut unmap = pin!(disk.unmap(5, 1, false));
    assert!(block_on(poll_once(&mut unmap)).is_none());
    // It is in the way of the unmap, and shares a sector with what is being written.
    block_on(write(&disk, 3, 3, 3)).unwrap();
    second.open();
    assert!(block_on(poll_once(&mut unmap)).is_none());
    first.open();
    block_on(&mut unmap).unwrap();
    block_on(disk.sync_cache()).unwrap();
    control.drop_unflushed();
    assert_eq!(stamps(&disk, 0, 6), [1, 1, 1, 3, 3, 0]);
}
