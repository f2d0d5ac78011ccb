//! A disk that writes down what reaches it.

use crate::{DiskSpec, ReferenceDisk};
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, ContentStamp, DiskError, DiskIo, Persistence,
    UnmapBehavior,
};
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

/// What reached a [`ProbeDisk`], in words such as `write 2+3 fua`: the operation, its first sector and their number, and its
/// parameters. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct ProbeLog(Arc<Mutex<Vec<String>>>);

impl ProbeLog {
    fn add(&self, entry: String) {
        self.0.lock().push(entry);
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A [`ReferenceDisk`] that writes down each call of a method that does something: for the tests of a wrapper, which must hand on
/// every one of them. Where a trait has a default, its metadata is something else.
#[derive(Debug)]
pub struct ProbeDisk {
    inner: ReferenceDisk,
    log: ProbeLog,
    is_fua_respected: bool,
    is_read_only: bool,
}

impl ProbeDisk {
    /// The disk that a specification asks for; what reaches it is in `log`.
    pub fn new(spec: DiskSpec, log: &ProbeLog) -> Self {
        Self {
            inner: ReferenceDisk::new(spec),
            log: log.clone(),
            is_fua_respected: true,
            is_read_only: false,
        }
    }

    /// One that does not respect FUA, so that its handle flushes.
    #[must_use]
    pub fn without_fua(mut self) -> Self {
        self.is_fua_respected = false;
        self
    }

    /// One that takes no writes, and so has a content stamp.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }
}

impl Inspect for ProbeDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.respond().field("probed", &true);
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for ProbeDisk {
    fn disk_type(&self) -> &str {
        "probe"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        Some([7; 16])
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        ContentStamp::from_text("probed")
    }

    fn physical_sector_size(&self) -> u32 {
        self.inner.sector_size() * 8
    }

    fn is_fua_respected(&self) -> bool {
        self.is_fua_respected
    }

    fn is_read_only(&self) -> bool {
        self.is_read_only
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

    fn expect_read(&self, _: u64, _: usize) {}

    /// What a wrapper forwards is logged in the other way.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> bool {
        false
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let count = buffers.len() / self.inner.sector_size() as usize;
        self.log.add(format!("read {sector}+{count}"));
        self.inner.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let count = buffers.len() / self.inner.sector_size() as usize;
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

    async fn close(&self) -> Result<(), DiskError> {
        self.log.add("close".to_owned());
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
