//! What closing a disk does to its layers.

mod common;

use common::{SECTOR_BYTES, SECTORS, disk, layer};
use disk_backend::{Disk, DiskError};
use disk_contract::{DiskSpec, Operation, ProbeDisk, ProbeLog, When};
use disk_layered::{DiskLayer, LayerConfiguration};
use futures_lite::future::block_on;

fn probe(log: &ProbeLog) -> LayerConfiguration {
    let disk = ProbeDisk::new(DiskSpec::new(SECTORS, SECTOR_BYTES as u32), log);
    LayerConfiguration::new(DiskLayer::from_disk(Disk::new(disk).unwrap()))
}

#[test]
fn every_layer_is_closed_also_below_one_that_fails() {
    let logs = [ProbeLog::default(), ProbeLog::default()];
    let top = layer();
    let disk = disk(vec![
        common::plain(top.clone()),
        probe(&logs[0]),
        probe(&logs[1]),
    ]);
    logs.iter().for_each(|log| drop(log.take()));
    block_on(disk.close()).unwrap();
    for log in &logs {
        assert_eq!(log.take().last().map(String::as_str), Some("close"));
    }
    // The flush before the closing; then the closing itself, because a volatile layer is flushed no more.
    for _ in 0..2 {
        block_on(common::write(&disk, 0, &[1])).unwrap();
        top.script().fail_nth(0, Operation::Flush, When::Before);
        let closed = block_on(disk.close());
        assert!(matches!(closed, Err(DiskError::Io(_))), "{closed:?}");
        for log in &logs {
            assert_eq!(log.take().last().map(String::as_str), Some("close"));
        }
    }
}
