//! A disk that writes down what reaches it.

#![allow(dead_code, reason = "each test uses some of it")]

use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use disk_contract::{DiskSpec, ReferenceDisk};
use futures_lite::future::poll_once;
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(crate) const SECTOR: usize = 512;
pub(crate) const SECTORS: u64 = 16;

/// What reached a disk, in words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, entry: String) {
        self.0.lock().push(entry);
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A disk that writes down what reaches it.
pub(crate) struct Probe {
    inner: ReferenceDisk,
    log: Log,
    pub(crate) respects_fua: bool,
}

impl Probe {
    pub(crate) fn new(log: &Log) -> Self {
        Self {
            inner: ReferenceDisk::new(DiskSpec::new(SECTORS, SECTOR as u32)),
            log: log.clone(),
            respects_fua: true,
        }
    }
}

impl Inspect for Probe {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.respond().field("probed", &true);
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for Probe {
    fn disk_type(&self) -> &str {
        "probe"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        SECTOR as u32
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        Some([7; 16])
    }

    fn physical_sector_size(&self) -> u32 {
        4096
    }

    fn is_fua_respected(&self) -> bool {
        self.respects_fua
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        8
    }

    async fn unmap(&self, sector: u64, count: u64, hint: bool) -> Result<(), DiskError> {
        self.log.add(format!("unmap {sector}+{count} {hint}"));
        self.inner.unmap(sector, count, hint).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        4
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        None
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.log.add("eject".to_owned());
        Ok(())
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let count = buffers.len() / SECTOR;
        self.log.add(format!("read {sector}+{count}"));
        self.inner.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let count = buffers.len() / SECTOR;
        let fua_text = if fua { " fua" } else { "" };
        self.log.add(format!("write {sector}+{count}{fua_text}"));
        self.inner.write_vectored(buffers, sector, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.log.add(format!(
            "zero {sector}+{count} {fua} {may_unmap} {no_fallback}"
        ));
        self.inner
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.log.add("flush".to_owned());
        Ok(())
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.log.add(format!("status {sector}+{count}"));
        Ok(BlockStatus::one(BlockExtent {
            sector_count: count,
            state: BlockState::Zero,
            layer: None,
        }))
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.log.add(format!("resize {sector_count}"));
        self.inner.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.log.add(format!("wait_resize {sector_count}"));
        self.inner.wait_resize(sector_count).await
    }

    async fn drain(&self) {
        self.log.add("drain".to_owned());
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
