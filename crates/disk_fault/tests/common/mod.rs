//! A disk that writes down what reaches it, and requests that are short to write.

#![allow(dead_code, reason = "each test uses some of it")]

use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use disk_contract::{DiskSpec, ReferenceDisk};
use disk_fault::{FaultControl, FaultDisk, FaultOptions, Operation, Rule};
use futures_lite::future::block_on;
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::{HostBuffers, RequestBuffers};
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

/// A disk under rules, and what reaches the disk below.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) control: FaultControl,
    pub(crate) below: Disk,
    pub(crate) log: Log,
}

impl World {
    pub(crate) fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::with(FaultOptions::new(1, clock::Clock::real()), rules)
    }

    pub(crate) fn with(mut options: FaultOptions, rules: impl IntoIterator<Item = Rule>) -> Self {
        let log = Log::default();
        let below = Disk::new(Probe::new(&log)).unwrap();
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
