//! What the options of simulated storage promise, and which of them are refused.

use clock::Clock;
use disk_backend::{DiskError, DiskIo};
use disk_layered::{LayerIo, LayerStatus, WriteNoOverwrite};
use disk_sim::{SimDisk, SimLayer, SimOptions};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

const SECTORS: u64 = 4;

fn read_only() -> SimOptions {
    SimOptions {
        is_read_only: true,
        latency_max: std::time::Duration::ZERO,
        ..SimOptions::new(SECTORS, 512, 1)
    }
}

fn is_refused(result: Result<(), DiskError>) -> bool {
    matches!(result, Err(DiskError::ReadOnly))
}

#[test]
fn a_read_only_disk_refuses_what_would_change_it() {
    let disk = SimDisk::new(read_only(), Clock::simulated().0);
    let host = HostBuffers::from_ref(&[1; 512]);
    block_on(async {
        assert!(is_refused(
            disk.write_vectored(&host.buffers(), 0, false).await
        ));
        assert!(is_refused(
            disk.write_zeroes(0, 1, false, true, false).await
        ));
        assert!(is_refused(disk.unmap(0, 1, false).await));
        assert!(is_refused(disk.resize(SECTORS + 1).await));
    });
    assert_eq!(disk.crash().step_count(), 0);
}

#[test]
fn a_read_only_layer_refuses_what_would_change_it() {
    let layer = SimLayer::new(read_only(), Clock::simulated().0);
    let host = HostBuffers::from_ref(&[1; 512]);
    block_on(async {
        // Beyond the end too: that it is read-only comes first (C1).
        for sector in [0, SECTORS] {
            assert!(is_refused(
                layer.write(&host.buffers(), sector, false).await
            ));
            assert!(is_refused(
                layer
                    .write_zeroes(sector, 1, false, true, false, true)
                    .await
            ));
            assert!(is_refused(layer.unmap(sector, 1, false, true).await));
        }
        assert!(is_refused(layer.resize(SECTORS + 1).await));
    });
    assert_eq!(layer.crash().step_count(), 0);
}

#[test]
fn a_read_only_layer_can_be_filled_and_emptied_as_a_cache() {
    let layer = SimLayer::new(read_only(), Clock::simulated().0);
    let absent_from = |sector| block_on(layer.layer_status(sector, 1)).expect("it never fails");
    let is_absent = |sector| matches!(absent_from(sector), LayerStatus::Absent { .. });
    let host = HostBuffers::from_ref(&[1; 512]);
    let fill = layer.write_no_overwrite().expect("it can be filled");
    block_on(fill.write_no_overwrite(&host.buffers(), 1)).expect("it never fails");
    assert_eq!([0, 1].map(is_absent), [true, false]);
    block_on(layer.evict(1, 1)).expect("it never fails");
    assert!(is_absent(1));
}

fn make(change: impl FnOnce(&mut SimOptions)) {
    let mut options = SimOptions::new(SECTORS, 512, 1);
    change(&mut options);
    drop(SimDisk::new(options, Clock::simulated().0));
}

#[test]
#[should_panic(expected = "atomic_write_sectors is 0")]
fn an_atomic_unit_of_no_sectors_is_refused() {
    make(|options| options.atomic_write_sectors = 0);
}

#[test]
#[should_panic(expected = "sector_size is 1536")]
fn a_sector_size_that_is_no_power_of_two_is_refused() {
    make(|options| options.sector_size = 1536);
}

#[test]
#[should_panic(expected = "sector_size is 256")]
fn a_sector_size_below_512_is_refused() {
    make(|options| options.sector_size = 256);
}

#[test]
#[should_panic(expected = "failure_percent is 101")]
fn more_failures_than_requests_are_refused() {
    make(|options| options.failure_percent = 101);
}

#[test]
#[should_panic(expected = "failure_percent is 101")]
fn they_are_refused_later_too() {
    let options = SimOptions::new(SECTORS, 512, 1);
    SimLayer::new(options, Clock::simulated().0).set_failure_percent(101);
}

#[test]
fn the_ends_of_the_ranges_are_legal() {
    for failure_percent in [0, 100] {
        make(|options| {
            options.sector_size = 512;
            options.atomic_write_sectors = u32::MAX;
            options.failure_percent = failure_percent;
        });
    }
}
