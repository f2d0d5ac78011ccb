//! File disks keep the contract, on a medium and in memory.

mod common;

use common::{Place, open, places};
use disk_backend::Disk;
use disk_contract::{DiskSpec, Suite, Violation};
use disk_file::FileDiskOptions;
use std::sync::atomic::{AtomicU64, Ordering};

/// A new image of its own for each disk. Its name is gone once it is open, so that nothing piles up.
fn make(place: &Place, spec: &DiskSpec) -> Disk {
    static IMAGES_MADE: AtomicU64 = AtomicU64::new(0);
    let path = place.path(&format!(
        "{}.raw",
        IMAGES_MADE.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::write(&path, &spec.content).expect("an image");
    let options = FileDiskOptions {
        read_only: spec.is_read_only,
        sector_size: spec.sector_size,
        ..Default::default()
    };
    let disk = open(&path, &options).expect("it opens");
    std::fs::remove_file(&path).expect("it is there");
    disk
}

#[test]
fn a_file_disk_keeps_the_contract() -> Result<(), Violation> {
    for place in places() {
        Suite::new()
            .sector_sizes([512, 4096])
            .check_disks(async |spec| make(&place, &spec))?;
    }
    Ok(())
}

#[test]
fn a_file_disk_of_large_sectors_keeps_the_contract() -> Result<(), Violation> {
    for place in places() {
        Suite::new()
            .sector_sizes([65536])
            .fixed_seed_count(1)
            .check_disks(async |spec| make(&place, &spec))?;
    }
    Ok(())
}
