//! A disk that writes down what reaches it.

#![allow(dead_code, reason = "each test uses some of it")]

use disk_backend::{Disk, DiskError};
use disk_contract::{DiskSpec, ProbeDisk, ProbeLog};
use futures_lite::future::poll_once;
use scsi_buffers::HostBuffers;
use std::future::Future;
use std::pin::Pin;

pub(crate) const SECTOR: usize = 512;
pub(crate) const SECTORS: u64 = 16;

/// A disk that writes down what reaches it.
pub(crate) fn probe(log: &ProbeLog) -> ProbeDisk {
    ProbeDisk::new(DiskSpec::new(SECTORS, SECTOR as u32), log)
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

/// A request of each kind that may wait, for sectors 2 and 3, and what it is below.
pub(crate) const REQUESTS: [(Request, &str); 5] = [
    (Request::Read, "read 2+2"),
    (Request::Write, "write 2+2"),
    (Request::WriteZeroes, "zero 2+2 false true false"),
    (Request::Unmap, "unmap 2+2 false"),
    (Request::Flush, "flush"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Read,
    Write,
    WriteZeroes,
    Unmap,
    Flush,
}

pub(crate) async fn request(disk: &Disk, request: Request) -> Result<(), DiskError> {
    match request {
        Request::Read => read(disk, 2, 2).await.map(drop),
        Request::Write => write(disk, 2, 2, 9).await,
        Request::WriteZeroes => disk.write_zeroes(2, 2, false, true, false).await,
        Request::Unmap => disk.unmap(2, 2, false).await,
        Request::Flush => disk.sync_cache().await,
    }
}

/// A request that can be left alone.
pub(crate) struct Running(Pin<Box<dyn Future<Output = Result<(), DiskError>>>>);

impl Running {
    /// Begins a request: polls it once.
    pub(crate) fn begin(disk: &Disk, kind: Request) -> Self {
        let disk = disk.clone();
        let mut running = Self(Box::pin(async move { request(&disk, kind).await }));
        running.expect_waiting();
        running
    }

    #[track_caller]
    pub(crate) fn expect_waiting(&mut self) {
        let polled = futures_lite::future::block_on(poll_once(&mut self.0));
        assert!(polled.is_none(), "the request waits");
    }

    #[track_caller]
    pub(crate) fn expect_done(mut self) {
        let polled = futures_lite::future::block_on(poll_once(&mut self.0));
        polled.expect("the request is done").unwrap();
    }

    /// Never polls it again, and does not drop it either.
    pub(crate) fn forget(self) {
        std::mem::forget(self.0);
    }
}
