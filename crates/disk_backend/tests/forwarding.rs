//! Every method of the handle reaches the backend, with what it was called with, and nothing else does.

mod recording;

use disk_backend::pr::ReservationType;
use disk_backend::{BlockState, ContentStamp, DiskError, Persistence, UnmapBehavior};
use futures_lite::future::block_on;
use recording::{Record, RecordingDisk};
use scsi_buffers::HostBuffers;
use serde_json::json;
use std::sync::atomic::Ordering;

#[test]
fn each_request_reaches_the_backend_as_it_is() {
    let (disk, record) = RecordingDisk::disk(Record {
        is_fua_respected: true,
        ..Default::default()
    });
    let mut bytes = [0; 2048];
    block_on(async {
        let host = HostBuffers::from_mut(&mut bytes);
        disk.read_vectored(&host.buffers(), 98).await.unwrap();
        disk.write_vectored(&host.buffers(), 3, true).await.unwrap();
        disk.write_vectored(&host.buffers(), 4, false)
            .await
            .unwrap();
        disk.write_zeroes(1, 2, true, false, true).await.unwrap();
        disk.write_zeroes(1, 2, false, true, false).await.unwrap();
        disk.unmap(5, 95, true).await.unwrap();
        disk.sync_cache().await.unwrap();
        let status = disk.block_status(6, 7).await.unwrap();
        assert_eq!(status.extents()[0].state, BlockState::Hole);
        disk.eject().await.unwrap();
        disk.resize(50).await.unwrap();
        assert_eq!(disk.wait_resize(100).await, 50);
        disk.close().await.unwrap();
        disk.drain().await;
    });
    let calls = [
        "read 98",
        "write 3 true",
        "write 4 false",
        "zero 1 2 true false true",
        "zero 1 2 false true false",
        "unmap 5 95 true",
        "flush",
        "status 6 7",
        "eject",
        "resize 50",
        "wait_resize 100",
        "close",
        "drain",
    ];
    assert_eq!(record.take(), calls);
    assert_eq!(disk.sector_count(), 50);
}

#[test]
fn each_reservation_command_reaches_the_backend_as_it_is() {
    use ReservationType::{ExclusiveAccess, WriteExclusive};
    let (disk, record) = RecordingDisk::disk(Record {
        has_pr: true,
        ..Default::default()
    });
    let pr = disk.pr().expect("it has reservations");
    assert_eq!(pr.capabilities().types, ReservationType::ALL);
    block_on(async {
        assert_eq!(pr.report().await.unwrap().generation, 7);
        pr.register(Some(0), 1, Some(true)).await.unwrap();
        pr.register(None, 2, None).await.unwrap();
        assert!(matches!(
            pr.reserve(2, WriteExclusive).await,
            Err(DiskError::ReservationConflict)
        ));
        pr.release(2, ExclusiveAccess).await.unwrap();
        pr.preempt(2, 3, WriteExclusive, true).await.unwrap();
        pr.clear(2).await.unwrap();
    });
    let calls = [
        "report",
        "register Some(0) 1 Some(true)",
        "register None 2 None",
        "reserve 2 WriteExclusive",
        "release 2 ExclusiveAccess",
        "preempt 2 3 WriteExclusive true",
        "clear 2",
    ];
    assert_eq!(record.take(), calls);
}

#[test]
fn most_disks_have_no_reservations() {
    let (disk, _) = RecordingDisk::disk(Record::default());
    assert!(disk.pr().is_none());
}

#[test]
fn the_metadata_is_the_backends() {
    let (disk, _) = RecordingDisk::disk(Record {
        is_fua_respected: true,
        is_read_only: true,
        ..Default::default()
    });
    assert_eq!(disk.disk_type(), "recording");
    assert_eq!(disk.sector_count(), 100);
    assert_eq!(disk.sector_size(), 1024);
    assert_eq!(disk.sector_shift(), 10);
    assert_eq!(disk.physical_sector_size(), 8192);
    assert_eq!(disk.disk_id(), Some([0xab; 16]));
    assert_eq!(disk.content_stamp(), ContentStamp::from_text("recorded"));
    assert!(disk.is_read_only());
    assert!(disk.is_fua_respected());
    assert_eq!(disk.persistence(), Persistence::Persistent);
    assert_eq!(disk.atomic_write_sectors(), 4);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Unspecified);
    assert_eq!(disk.optimal_unmap_sectors(), 16);
}

/// Whatever its backend says.
#[test]
fn a_disk_that_may_be_written_has_no_content_stamp() {
    let (disk, _) = RecordingDisk::disk(Record::default());
    assert_eq!(disk.content_stamp(), None);
}

#[test]
fn the_inspection_tree_shows_the_handle_then_the_backend() {
    let (disk, _) = RecordingDisk::disk(Record {
        has_pr: true,
        ..Default::default()
    });
    let tree = block_on(inspect::inspect("", None, &disk)).unwrap();
    let expected = json!({
        "sector_count": 100,
        "requests_in_flight": 0,
        "disk_type": "recording",
        "sector_size": 1024,
        "physical_sector_size": 8192,
        "disk_id": "ab".repeat(16),
        "content_stamp": null,
        "is_read_only": false,
        "is_fua_respected": false,
        "unmap_behavior": "unspecified",
        "optimal_unmap_sectors": 16,
        "persistence": "persistent",
        "atomic_write_sectors": 4,
        "supports_pr": true,
        "of_the_backend": true,
    });
    assert_eq!(tree, expected);
}

#[test]
fn fua_is_a_flush_where_the_backend_does_not_respect_it() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let bytes = [0; 1024];
    let host = HostBuffers::from_ref(&bytes);
    block_on(async {
        disk.write_vectored(&host.buffers(), 0, true).await.unwrap();
        disk.write_zeroes(1, 1, true, false, false).await.unwrap();
        disk.write_vectored(&host.buffers(), 2, false)
            .await
            .unwrap();
        disk.write_zeroes(3, 1, false, false, false).await.unwrap();
    });
    let calls = [
        "write 0 true",
        "flush",
        "zero 1 1 true false false",
        "flush",
        "write 2 false",
        "zero 3 1 false false false",
    ];
    assert_eq!(record.take(), calls);
}

#[test]
fn a_flush_that_fails_for_an_emulated_fua_is_the_writes_error() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    record.does_flush_fail.store(true, Ordering::Relaxed);
    let bytes = [0; 1024];
    let host = HostBuffers::from_ref(&bytes);
    let is_the_flushs = |result: Result<(), DiskError>| match result {
        Err(DiskError::Io(error)) => error.to_string() == "the flush failed",
        _ => false,
    };
    block_on(async {
        assert!(is_the_flushs(
            disk.write_vectored(&host.buffers(), 0, true).await
        ));
        assert!(is_the_flushs(
            disk.write_zeroes(0, 1, true, true, false).await
        ));
        disk.write_vectored(&host.buffers(), 0, false)
            .await
            .unwrap();
    });
}

#[test]
fn a_read_only_disk_is_not_resized_but_may_be_ejected() {
    let (disk, record) = RecordingDisk::disk(Record {
        is_read_only: true,
        ..Default::default()
    });
    assert!(matches!(
        block_on(disk.resize(50)),
        Err(DiskError::ReadOnly)
    ));
    block_on(disk.eject()).unwrap();
    assert_eq!(record.take(), ["eject"]);
}
