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
