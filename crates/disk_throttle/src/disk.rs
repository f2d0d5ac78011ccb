//! The disk.

use crate::group::{Core, ThrottleGroup};
use crate::schedule::{Cost, Member};
use disk_backend::pr::PersistentReservation;
use disk_backend::{
    BlockStatus, ContentStamp, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

/// A disk that is another one, but that requests begin when the limits of its group allow it.
///
/// | Request | Takes |
/// | --- | --- |
/// | read, write | its bytes and an operation |
/// | zeroing | its bytes and an operation; with `no_fallback` an operation only, because nothing is written then |
/// | unmap | an operation |
/// | flush, status of blocks, resize, reservations, eject | nothing |
#[derive(Debug)]
pub struct ThrottleDisk {
    below: Disk,
    group: ThrottleGroup,
    member: Membership,
}

/// A place in a group, until it is dropped.
struct Membership {
    core: Arc<Core>,
    member: Member,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.core.leave(self.member);
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.member.fmt(f)
    }
}

impl ThrottleDisk {
    /// Puts `disk` into a group. What reaches the disk by other clones of the handle is not limited.
    pub fn new(disk: Disk, group: &ThrottleGroup) -> Self {
        let core = Arc::clone(&group.0);
        let member = core.join();
        Self {
            below: disk,
            group: group.clone(),
            member: Membership { core, member },
        }
    }

    /// The group that it is in.
    pub fn group(&self) -> &ThrottleGroup {
        &self.group
    }

    async fn admit(&self, bytes: u64) {
        let cost = Cost {
            bytes,
            operations: 1,
        };
        self.group.0.admit(self.member.member, cost).await;
    }

    /// How many bytes of a range the disk has. More than that no request can move; a range that leaves the disk is refused below, and must
    /// not put the group into a debt of centuries before that.
    fn bytes_within(&self, sector: u64, count: u64) -> u64 {
        let sectors = self.below.sector_count().saturating_sub(sector).min(count);
        sectors.saturating_mul(self.below.sector_size().into())
    }

    /// Whether the disk below is to make a write durable. Where it does not do that by itself, the handle above this disk flushes;
    /// the handle below must not do it too.
    fn fua_below(&self, fua: bool) -> bool {
        fua && self.below.is_fua_respected()
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for ThrottleDisk {
    fn disk_type(&self) -> &str {
        "throttle"
    }

    fn sector_count(&self) -> u64 {
        self.below.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.below.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        self.below.disk_id()
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        self.below.content_stamp()
    }

    fn physical_sector_size(&self) -> u32 {
        self.below.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        self.below.is_fua_respected()
    }

    fn is_read_only(&self) -> bool {
        self.below.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        self.below.persistence()
    }

    fn atomic_write_sectors(&self) -> u32 {
        self.below.atomic_write_sectors()
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
    ) -> Result<(), DiskError> {
        self.admit(0).await;
        self.below.unmap(sector, count, block_level_only).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.below.unmap_behavior()
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        self.below.optimal_unmap_sectors()
    }

    /// Commands of reservations are free.
    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.below.pr()
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.below.eject().await
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// Every request may have to wait for its turn.
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
        self.admit(buffers.len() as u64).await;
        self.below.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.admit(buffers.len() as u64).await;
        let fua = self.fua_below(fua);
        self.below.write_vectored(buffers, sector, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        let bytes = if no_fallback {
            0
        } else {
            self.bytes_within(sector, count)
        };
        self.admit(bytes).await;
        let fua = self.fua_below(fua);
        self.below
            .write_zeroes(sector, count, fua, may_unmap, no_fallback)
            .await
    }

    /// Free: what it makes durable has been paid for, and who may not write much is to lose little.
    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.below.sync_cache().await
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.below.close().await
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.below.block_status(sector, count).await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.below.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.below.wait_resize(sector_count).await
    }

    /// A request that waits has not begun below, and ends with its future.
    async fn drain(&self) {
        self.below.drain().await;
    }
}

impl Inspect for ThrottleDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request
            .respond()
            .merge(&self.group)
            .field("disk", &self.below);
    }
}
