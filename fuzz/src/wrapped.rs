//! Disks behind wrappers whose rules, limits and delays are changed by hostile texts.
//!
//! Two disks are in one throttled group; one of them is delayed as well, and may be faulty. Time passes only while a request waits, and
//! a request that nothing lets go is dropped. Whatever was changed: once it is taken back, every sector keeps what is written there.

use clock::{Clock, SimulatedTime};
use disk_backend::{Disk, DiskError};
use disk_delay::{DelayControl, DelayDisk};
use disk_fault::{FaultControl, FaultDisk, FaultOptions};
use disk_throttle::{Limits, ThrottleDisk, ThrottleGroup};
use disklayer_ram::ram_disk;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

const SIZE_BYTES: u64 = 64 << 10;
/// How often a request may wait. What waits longer waits for the fuzzer.
const WAITS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Wrapped {
    /// Throttled, delayed and faulty.
    pub(crate) disk: Disk,
    /// Throttled together with it.
    pub(crate) other: Disk,
    time: SimulatedTime,
    group: ThrottleGroup,
    delay: DelayControl,
    faults: FaultControl,
}

impl Wrapped {
    pub(crate) fn new() -> Self {
        let (clock, time) = Clock::simulated();
        let ram = || ram_disk(SIZE_BYTES, false).expect("a disk");
        let legal = "a wrapper of a legal disk is one";
        let (disk, faults) =
            FaultDisk::new(ram(), FaultOptions::new(1, clock.clone())).expect("no rules are legal");
        let disk = Disk::new(disk).expect(legal);
        let (disk, delay) =
            DelayDisk::new(disk, Duration::from_millis(1), clock.clone()).expect("a short delay");
        let disk = Disk::new(disk).expect(legal);
        let group =
            ThrottleGroup::named("both", Limits::default(), clock).expect("nothing is limited");
        Self {
            disk: Disk::new(ThrottleDisk::new(disk, &group)).expect(legal),
            other: Disk::new(ThrottleDisk::new(ram(), &group)).expect(legal),
            time,
            group,
            delay,
            faults,
        }
    }

    /// Requests of all kinds, on both disks at once. What becomes of them is what was asked for.
    pub(crate) fn try_requests(&self) {
        let last = self.disk.sector_count() - 1;
        let mut read = vec![0; self.disk.sector_size() as usize];
        let host = HostBuffers::from_mut(&mut read);
        self.drive(self.disk.read_vectored(&host.buffers(), last));
        drop(host);
        self.drive(async {
            let one = write(&self.disk, last, 0x11);
            let other = write(&self.other, 0, 0x22);
            let (one, other) = futures_lite::future::zip(one, other).await;
            one.and(other)
        });
        self.drive(self.disk.write_zeroes(0, 1, false, true, false));
        self.drive(self.disk.unmap(0, last + 1, false));
        self.drive(self.other.unmap(0, 1, false));
        self.drive(self.disk.block_status(0, 1));
        self.drive(self.disk.sync_cache());
    }

    /// Takes back what was changed.
    pub(crate) fn set_free(&self) {
        for rule in self.faults.list() {
            self.faults.remove(rule.id).expect("it is in the list");
        }
        self.delay.set(Duration::ZERO).expect("no delay is legal");
        let limits = Limits::default();
        self.group.set_limits(limits).expect("nothing is limited");
        let status = self.group.status();
        assert_eq!(status.waiting, 0, "nobody is there who could wait");
        assert_eq!(self.delay.waiting(), 0, "nobody is there who could wait");
    }

    /// After [`set_free`](Self::set_free): both disks keep what is written, up to their last sectors.
    pub(crate) fn check(&self) {
        for disk in [&self.disk, &self.other] {
            let count = disk.sector_count();
            assert!(count > 0, "the disk is gone");
            for sector in [0, count / 2, count - 1] {
                let written = block_on(write(disk, sector, 0xa5));
                written.expect("nothing is wrong with it any more");
                block_on(disk.sync_cache()).expect("nothing is wrong with it any more");
                let mut data = vec![0xee; disk.sector_size() as usize];
                let host = HostBuffers::from_mut(&mut data);
                let read = block_on(disk.read_vectored(&host.buffers(), sector));
                read.expect("nothing is wrong with it any more");
                drop(host);
                assert!(
                    data.iter().all(|byte| *byte == 0xa5),
                    "sector {sector} lost a write"
                );
            }
        }
    }

    /// Polls a request, lets time pass while it waits, and drops it when it waits for something else.
    fn drive<T>(&self, request: impl Future<Output = Result<T, DiskError>>) {
        let mut request = pin!(request);
        for _ in 0..WAITS_MAX {
            let is_done = block_on(poll_once(request.as_mut())).is_some();
            if is_done || self.time.advance_to_next().is_none() {
                return;
            }
        }
    }
}

async fn write(disk: &Disk, sector: u64, byte: u8) -> Result<(), DiskError> {
    let data = vec![byte; disk.sector_size() as usize];
    let host = HostBuffers::from_ref(&data);
    disk.write_vectored(&host.buffers(), sector, false).await
}
