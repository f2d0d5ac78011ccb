//! Throttled disks in worlds.

use disk_backend::Disk;
use disk_contract::{Suite, Violation};
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};

#[test]
fn a_throttle_breaks_no_promise() -> Result<(), Violation> {
    for per_second in [1, 1000] {
        Suite::new()
            .fixed_seed_count(1)
            .check_worlds(async |stores| {
                let below = Disk::new(stores.disk(24, |_| ())).expect("a legal disk");
                let mut limits = Limits::default();
                limits.operations_per_second = Some(per_second);
                limits.bytes_per_second = Some(per_second * 4096);
                let group = ThrottleGroup::new(limits, stores.clock()).expect("legal limits");
                Disk::new(ThrottleDisk::new(below, &group)).expect("a legal disk")
            })?;
    }
    Ok(())
}
