//! Each bug acts when it is planted, and only then: the same requests, without it and with it.
//!
//! Nothing here needs a second thread: that a bug can be seen in one is what tests in simulated worlds rely on.

mod durable;
mod stack;

use disk_backend::{Disk, DiskError};
use disk_contract::{Operation, When};
use disk_layered::{DiskLayer, LayerConfiguration};
use disk_sim::{Sim, SimDisk, SimOptions};
use futures_lite::future::{block_on, poll_once};
use guestmem::GuestMemory;
use planted::Bug;
use scsi_buffers::OwnedRequestBuffers;
use stack::{SECTOR_BYTES, SECTORS, base, cache, disk, holds, layer, plain, ram, ram_over_base};
use stack::{read, read_bytes, through, write, write_with};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// The scenario ends as it must, but for the bug.
fn acts<T: Debug + PartialEq>(bug: Bug, scenario: impl Fn() -> T, right: T, wrong: T) {
    assert_eq!(scenario(), right, "without a bug");
    let planted = planted::plant(bug);
    assert_eq!(scenario(), wrong, "with {bug}");
    drop(planted);
    assert_eq!(scenario(), right, "after {bug}");
}

/// What a sector reads after a read that was to fill a cache, and was overtaken by `change`.
fn overtaken_fill(change: impl AsyncFn(&Disk)) -> u8 {
    let lower = base();
    let disk = disk([cache(ram()), plain(lower.clone())]);
    let gate = lower.script().hold(Operation::Read, When::After);
    let mut bytes = [0; SECTOR_BYTES];
    let mut filling = pin!(read_bytes(&disk, 0, &mut bytes));
    assert!(block_on(poll_once(filling.as_mut())).is_none());
    block_on(change(&disk));
    gate.open();
    block_on(filling).unwrap();
    block_on(read(&disk, 0)).unwrap()
}

#[test]
fn a_fill_overwrites_what_is_newer() {
    let scenario = || overtaken_fill(async |disk| write(disk, 0, 99).await.unwrap());
    acts(Bug::CacheFillOverNewerWrite, scenario, 99, 1);
}

#[test]
fn a_fill_revives_what_was_unmapped() {
    let scenario = || overtaken_fill(async |disk| disk.unmap(0, 1, false).await.unwrap());
    acts(Bug::CacheFillAfterUnmap, scenario, 0, 1);
}

#[test]
fn sectors_that_come_back_show_what_lies_below() {
    let scenario = || {
        let disk = ram_over_base();
        block_on(disk.resize(SECTORS / 2)).unwrap();
        block_on(disk.resize(SECTORS)).unwrap();
        block_on(read(&disk, 10)).unwrap()
    };
    acts(Bug::LostResize, scenario, 0, 11);
}

#[test]
fn half_a_sector_is_stored_before_others_run() {
    let scenario = || {
        let disk = ram_over_base();
        block_on(write(&disk, 0, 1)).unwrap();
        drop(block_on(poll_once(write(&disk, 0, 2))));
        let mut bytes = [0; SECTOR_BYTES];
        block_on(read_bytes(&disk, 0, &mut bytes)).unwrap();
        (bytes[0], bytes[SECTOR_BYTES - 1])
    };
    acts(Bug::TornSector, scenario, (2, 2), (2, 1));
}

#[test]
fn what_was_written_to_a_layer_that_had_nothing_is_left_out() {
    let scenario = || {
        let disk = disk([plain(ram()), plain(ram()), plain(ram()), plain(base())]);
        let before = block_on(read(&disk, 10)).unwrap();
        block_on(write(&disk, 10, 99)).unwrap();
        (before, block_on(read(&disk, 10)).unwrap())
    };
    acts(Bug::StaleIndex, scenario, (11, 99), (11, 11));
}

/// How many images a crash may leave of a store that holds what `requests` wrote to a copy above it.
fn images_after(requests: impl AsyncFn(&Disk) -> Result<(), DiskError>) -> usize {
    let mut sim = Sim::new(1);
    let options = SimOptions {
        is_fua_respected: false,
        ..SimOptions::new(SECTORS, SECTOR_BYTES as u32, 1)
    };
    let store = SimDisk::new(options, sim.clock());
    let lower = DiskLayer::from_disk(Disk::new(store.clone()).unwrap());
    let disk = disk([through(layer()), LayerConfiguration::new(lower)]);
    sim.block_on(requests(&disk)).unwrap().unwrap();
    store.crash().images(10, 1).len()
}

#[test]
fn what_was_flushed_is_not_durable_in_the_lowest_written_layer() {
    let scenario = || {
        images_after(async |disk| {
            write(disk, 0, 9).await?;
            disk.sync_cache().await
        })
    };
    acts(Bug::FlushSkipsALayer, scenario, 1, 2);
}

#[test]
fn what_was_written_with_fua_is_not_durable() {
    let scenario = || images_after(async |disk| write_with(disk, 0, 9, true).await);
    acts(Bug::FuaNotHonoured, scenario, 1, 2);
}

#[test]
fn a_failed_write_stays_in_the_copy() {
    let scenario = || {
        let lower = base();
        let disk = disk([through(layer()), plain(lower.clone())]);
        lower.script().fail_nth(0, Operation::Write, When::Before);
        block_on(write(&disk, 3, 60)).unwrap_err();
        (block_on(read(&disk, 3)).unwrap(), holds(&lower, 3))
    };
    acts(
        Bug::DivergenceAfterError,
        scenario,
        (4, Some(4)),
        (60, Some(4)),
    );
}

#[test]
fn a_dropped_write_stays_in_the_copy() {
    let scenario = || {
        let lower = base();
        let disk = disk([through(layer()), plain(lower.clone())]);
        let gate = lower.script().hold(Operation::Write, When::Before);
        assert!(block_on(poll_once(write(&disk, 3, 60))).is_none());
        gate.open();
        (block_on(read(&disk, 3)).unwrap(), holds(&lower, 3))
    };
    acts(
        Bug::DivergenceAfterDrop,
        scenario,
        (60, Some(60)),
        (60, Some(4)),
    );
}

#[test]
fn two_layers_hold_what_the_memory_held_at_two_times() {
    let scenario = || {
        let (top, lower) = (layer(), base());
        let disk = disk([through(top.clone()), plain(lower.clone())]);
        let memory = GuestMemory::allocate(SECTOR_BYTES);
        memory.fill_at(0, 7, SECTOR_BYTES).unwrap();
        let owned = OwnedRequestBuffers::linear(0, SECTOR_BYTES, false);
        let buffers = owned.buffer(&memory);
        let gate = lower.script().hold(Operation::Write, When::Before);
        let mut writing = pin!(disk.write_vectored(&buffers, 3, false));
        assert!(block_on(poll_once(writing.as_mut())).is_none());
        memory.fill_at(0, 8, SECTOR_BYTES).unwrap();
        gate.open();
        block_on(writing).unwrap();
        (holds(&top, 3), holds(&lower, 3))
    };
    acts(
        Bug::FetchedTwice,
        scenario,
        (Some(7), Some(7)),
        (Some(7), Some(8)),
    );
}

#[test]
fn a_lower_layer_stands_in_for_one_that_fails() {
    let scenario = || {
        let top = layer();
        let disk = disk([plain(top.clone()), plain(base())]);
        block_on(write(&disk, 0, 99)).unwrap();
        top.script().fail_nth(0, Operation::Read, When::Before);
        block_on(read(&disk, 0)).ok()
    };
    acts(Bug::WrongLayerAfterError, scenario, None, Some(1));
}

#[test]
fn an_unmap_shows_what_lies_below() {
    let scenario = || {
        let disk = ram_over_base();
        block_on(disk.unmap(0, 1, false)).unwrap();
        block_on(read(&disk, 0)).unwrap()
    };
    acts(Bug::UnmapUncovers, scenario, 0, 1);
}

/// Behind the check nobody expects such a range: where sums are checked, somebody panics.
#[test]
fn a_range_that_wraps_around_is_not_refused() {
    let scenario = || {
        let disk = ram_over_base();
        let unmapping = || block_on(disk.unmap(u64::MAX - 1, 4, false));
        let result = catch_unwind(AssertUnwindSafe(unmapping));
        matches!(result, Ok(Err(DiskError::IllegalBlock)))
    };
    acts(Bug::RangeOverflow, scenario, true, false);
}

#[test]
fn a_read_waits_for_the_one_who_forgot_a_write() {
    let scenario = || {
        let lower = base();
        let disk = disk([through(layer()), plain(lower.clone())]);
        let gate = lower.script().hold(Operation::Write, When::Before);
        let mut forgotten = pin!(write(&disk, 3, 60));
        assert!(block_on(poll_once(forgotten.as_mut())).is_none());
        gate.open();
        let mut reading = pin!(read(&disk, 3));
        let mut polls = (0..10).map(|_| block_on(poll_once(reading.as_mut())));
        polls.find_map(|polled| polled).transpose().unwrap()
    };
    acts(Bug::WaitsForAnotherCaller, scenario, Some(60), None);
}

#[test]
fn a_durable_layer_loses_what_it_flushed_when_the_power_is_cut() {
    for bug in [
        Bug::RecordBeforeData,
        Bug::MissingFlush,
        Bug::ChecksumNotChecked,
        Bug::TornSuperblock,
    ] {
        acts(bug, durable::survives_power_cuts, true, false);
    }
}

#[test]
fn what_was_flushed_is_older_again_after_a_power_cut() {
    let scenario = durable::survives_power_cuts_after_first_writes;
    acts(Bug::StaleCopy, scenario, true, false);
}

#[test]
fn a_sector_that_a_power_cut_left_as_it_may_fails_its_check() {
    let scenario = durable::survives_power_cuts_of_overwrites;
    acts(Bug::OverwriteBeforeMark, scenario, true, false);
}
