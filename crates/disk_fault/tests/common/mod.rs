//! A disk that writes down what reaches it, and requests that are short to write.

#![allow(dead_code, reason = "each test uses some of it")]

use disk_backend::{Disk, DiskError};
use disk_contract::{DiskSpec, ProbeDisk, ProbeLog};
use disk_fault::{FaultControl, FaultDisk, FaultOptions, Operation, Rule};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

pub(crate) const SECTOR: usize = 512;
pub(crate) const SECTORS: u64 = 16;

/// A disk that writes down what reaches it.
pub(crate) fn probe(log: &ProbeLog) -> ProbeDisk {
    ProbeDisk::new(DiskSpec::new(SECTORS, SECTOR as u32), log)
}

/// A disk under rules, and what reaches the disk below.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) control: FaultControl,
    pub(crate) below: Disk,
    pub(crate) log: ProbeLog,
}

impl World {
    pub(crate) fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::with(FaultOptions::new(1, clock::Clock::real()), rules)
    }

    pub(crate) fn with(mut options: FaultOptions, rules: impl IntoIterator<Item = Rule>) -> Self {
        let log = ProbeLog::default();
        let below = Disk::new(probe(&log)).unwrap();
        options.rules = rules.into_iter().collect();
        let (disk, control) = FaultDisk::new(below.clone(), options).unwrap();
        Self {
            disk: Disk::new(disk).unwrap(),
            control,
            below,
            log,
        }
    }

    /// Sectors below, by their first byte.
    pub(crate) fn stamps(&self) -> Vec<u8> {
        let stamps = stamps(&self.below, 0, SECTORS);
        self.log.take();
        stamps
    }

    pub(crate) fn struck(&self, index: usize) -> u64 {
        self.control.list()[index].struck
    }
}

/// Writes sectors whose bytes are all `stamp`.
pub(crate) async fn write(
    disk: &Disk,
    sector: u64,
    count: u64,
    stamp: u8,
) -> Result<(), DiskError> {
    let data = vec![stamp; count as usize * SECTOR];
    disk.write_vectored(&HostBuffers::from_ref(&data).buffers(), sector, false)
        .await
}

pub(crate) async fn read(disk: &Disk, sector: u64, count: u64) -> Result<Vec<u8>, DiskError> {
    let mut data = vec![0xee; count as usize * SECTOR];
    disk.read_vectored(&HostBuffers::from_mut(&mut data).buffers(), sector)
        .await?;
    Ok(data)
}

/// The first byte of each sector.
pub(crate) fn stamps(disk: &Disk, sector: u64, count: u64) -> Vec<u8> {
    let data = block_on(read(disk, sector, count)).unwrap();
    data.chunks(SECTOR).map(|sector| sector[0]).collect()
}

/// A request of each kind, for sectors 2 and 3.
pub(crate) async fn request(disk: &Disk, operation: Operation) -> Result<(), DiskError> {
    match operation {
        Operation::Read => read(disk, 2, 2).await.map(drop),
        Operation::Write => write(disk, 2, 2, 9).await,
        Operation::WriteZeroes => disk.write_zeroes(2, 2, false, true, false).await,
        Operation::Unmap => disk.unmap(2, 2, false).await,
        Operation::Flush => disk.sync_cache().await,
        Operation::BlockStatus => disk.block_status(2, 2).await.map(drop),
        Operation::Resize => disk.resize(SECTORS).await,
    }
}

/// What `request` is below, if nothing is done to it.
pub(crate) fn plain(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read 2+2",
        Operation::Write => "write 2+2",
        Operation::WriteZeroes => "zero 2+2 false true false",
        Operation::Unmap => "unmap 2+2 false",
        Operation::Flush => "flush",
        Operation::BlockStatus => "status 2+2",
        Operation::Resize => "resize 16",
    }
}
