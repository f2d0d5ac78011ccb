//! Delayed disks in worlds.

use disk_backend::Disk;
use disk_contract::{Suite, Violation};
use disk_delay::DelayDisk;
use std::time::Duration;

#[test]
fn a_delay_breaks_no_promise() -> Result<(), Violation> {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        Suite::new()
            .fixed_seed_count(1)
            .check_worlds(async |stores| {
                let below = Disk::new(stores.disk(24, |_| ())).expect("a legal disk");
                let (disk, _) =
                    DelayDisk::new(below, delay, stores.clock()).expect("a short delay");
                Disk::new(disk).expect("a legal disk")
            })?;
    }
    Ok(())
}
