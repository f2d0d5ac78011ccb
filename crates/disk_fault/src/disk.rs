//! The disk.

use crate::control::FaultControl;
use crate::error::RuleError;
use crate::operation::{Operation, Request};
use crate::rule::Rule;
use crate::rules::{Rules, Verdict};
use crate::store::Store;
use clock::Clock;
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockStatus, ContentStamp, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A disk that is another one, but for what rules do to its requests.
///
/// It declares what the other one declares: a disk that loses writes or lies about flushes does not say so.
pub struct FaultDisk {
    pub(crate) core: Arc<Core>,
}

/// What the disk and its control share.
pub(crate) struct Core {
    pub(crate) rules: Rules,
    pub(crate) store: Store,
}

/// How a [`FaultDisk`] begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FaultOptions {
    /// What all chance comes from: the same seed and the same requests in the same order give the same faults.
    pub seed: u64,
    /// The time of delays.
    pub clock: Clock,
    /// The rules, in the order in which requests meet them.
    pub rules: Vec<Rule>,
}

impl FaultOptions {
    /// No rules yet.
    pub fn new(seed: u64, clock: Clock) -> Self {
        Self {
            seed,
            clock,
            rules: Vec::new(),
        }
    }
}

impl FaultDisk {
    /// Puts `disk` under rules. They do not see what reaches it by other clones of the handle.
    ///
    /// # Errors
    /// A rule that makes no sense, or too many rules.
    pub fn new(disk: Disk, options: FaultOptions) -> Result<(Self, FaultControl), RuleError> {
        let core = Arc::new(Core {
            rules: Rules::new(options.seed, options.clock, options.rules)?,
            store: Store::new(disk, options.seed),
        });
        let control = FaultControl(Arc::clone(&core));
        Ok((Self { core }, control))
    }

    fn below(&self) -> &Disk {
        &self.core.store.disk
    }

    /// What becomes of a request; none if it is done as if there were no rules.
    fn judge(&self, operation: Operation, sectors: Range<u64>, fua: bool) -> Option<Verdict> {
        if self.core.rules.are_none() {
            return None;
        }
        self.core.rules.judge(&Request {
            operation,
            sectors,
            fua,
            sector_count: self.below().sector_count(),
        })
    }

    fn sectors_of(&self, buffers: &RequestBuffers<'_>, sector: u64) -> Range<u64> {
        sector..sector + (buffers.len() as u64 >> self.below().sector_shift())
    }

    /// Whether the disk below is to make a write durable. Where it does not do that by itself, the handle above this disk
    /// flushes, and rules about flushes see that; the handle below must not do it too.
    fn fua_below(&self, fua: bool) -> bool {
        fua && self.below().is_fua_respected()
    }
}

// Where a rule strikes, the future is boxed: without rules, requests cost what a nested disk costs.
#[deny(clippy::missing_trait_methods)]
impl DiskIo for FaultDisk {
    fn disk_type(&self) -> &str {
        "fault"
    }

    fn sector_count(&self) -> u64 {
        self.below().sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.below().sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.below().disk_id()
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.below().content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.below().physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        self.below().is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.below().is_read_only()
    }

    /// What the disk below says. One that lies about flushes, by a rule that may come and go, says the same.
    fn persistence(&self) -> Persistence {
        self.below().persistence()
    }

    /// What the disk below says: a write of some of its sectors is a fault, and still tears no sector.
    fn atomic_write_sectors(&self) -> u32 {
        self.below().atomic_write_sectors()
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        match self.judge(Operation::Unmap, sector..sector + count, false) {
            None => {
                self.core
                    .store
                    .unmap(sector..sector + count, block_level_only)
                    .await
            }
            Some(verdict) => {
                Box::pin(self.faulty_unmap(verdict, sector, count, block_level_only)).await
            }
        }
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.below().unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.below().optimal_unmap_sectors()
    }

    /// Reservations are not under rules.
    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.below().pr()
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.below().eject().await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// A rule may be about any request.
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
        match self.judge(Operation::Read, self.sectors_of(buffers, sector), false) {
            None => self.core.store.read(buffers, sector).await,
            Some(verdict) => Box::pin(self.faulty_read(verdict, buffers, sector)).await,
        }
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let verdict = self.judge(Operation::Write, self.sectors_of(buffers, sector), fua);
        let fua = self.fua_below(fua);
        match verdict {
            None => self.core.store.write(buffers, sector, fua).await,
            Some(verdict) => Box::pin(self.faulty_write(verdict, buffers, sector, fua)).await,
        }
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        let verdict = self.judge(Operation::WriteZeroes, sector..sector + count, fua);
        let options = ZeroOptions {
            fua: self.fua_below(fua),
            may_unmap,
            no_fallback,
        };
        match verdict {
            None => self.zero(sector..sector + count, options).await,
            Some(verdict) => {
                Box::pin(self.faulty_zeroes(verdict, sector..sector + count, options)).await
            }
        }
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        match self.judge(Operation::Flush, 0..0, false) {
            None => self.core.store.flush().await,
            Some(verdict) => Box::pin(self.faulty_flush(verdict)).await,
        }
    }

    /// What was kept back goes below first; rules see it as a flush.
    async fn close(&self) -> Result<(), DiskError> {
        self.sync_cache().await?;
        self.core.store.disk.close().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        if let Some(verdict) = self.judge(Operation::BlockStatus, sector..sector + count, false) {
            self.wait_or_fail(verdict).await?;
        }
        self.core.store.status(sector, count).await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if let Some(verdict) = self.judge(Operation::Resize, 0..0, false) {
            self.wait_or_fail(verdict).await?;
        }
        self.core.store.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.below().wait_resize(sector_count).await
    }

    /// A request that waits for a rule has not begun below, and ends with its future; one that writes what was kept back goes on.
    async fn drain(&self) {
        self.core.store.drain().await;
    }
}

/// How zeros are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZeroOptions {
    pub(crate) fua: bool,
    pub(crate) may_unmap: bool,
    pub(crate) no_fallback: bool,
}

impl FaultDisk {
    pub(crate) async fn zero(
        &self,
        sectors: Range<u64>,
        options: ZeroOptions,
    ) -> Result<(), DiskError> {
        let ZeroOptions {
            fua,
            may_unmap,
            no_fallback,
        } = options;
        let zeroed = self.core.store.zero(sectors, fua, may_unmap, no_fallback);
        zeroed.await
    }
}

impl Inspect for FaultDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request
            .respond()
            .merge(&*self.core)
            .field("disk", self.below());
    }
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultDisk")
            .field("disk", self.below())
            .field("control", &FaultControl(Arc::clone(&self.core)))
            .finish()
    }
}
