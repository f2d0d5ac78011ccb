//! Many threads in real time: all get through, whatever others drop and change meanwhile.

use clock::Clock;
use disk_backend::Disk;
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::ram_disk;
use fastrand::Rng;
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;

fn limits(operations_per_second: u64) -> Limits {
    let mut limits = Limits::default();
    limits.operations_per_second = Some(operations_per_second);
    limits.burst_operations = Some(1);
    limits
}

#[test]
fn all_threads_get_through_while_others_drop_requests_and_change_limits() {
    let group = ThrottleGroup::new(limits(100_000), Clock::real()).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let ram = ram_disk(1 << 20, false).unwrap();
            let disk = Disk::new(ThrottleDisk::new(ram, &group)).unwrap();
            let group = group.clone();
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                for _ in 0..1000 {
                    match rng.u8(..10) {
                        0 => group.set_limits(limits(rng.u64(50_000..200_000))).unwrap(),
                        1..4 => drop(block_on(poll_once(pin!(disk.unmap(0, 1, false))))),
                        _ => block_on(disk.unmap(0, 1, false)).unwrap(),
                    }
                }
            });
        }
    });
    let status = group.status();
    assert_eq!((status.waiting, status.disks), (0, 0));
}
