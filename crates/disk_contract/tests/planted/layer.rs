//! A right layer, and the ways in which it can be made wrong.

use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError, Persistence, UnmapBehavior};
use disk_contract::{LayerSpec, ReferenceLayer};
use disk_layered::{LayerIo, LayerStatus, SectorMarker};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// What is wrong with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerFault {
    None,
    /// Forgets a sector that is unmapped, whatever lies below.
    UnmapUncovers,
    ZeroingUncovers,
    /// Leaves a sector alone that it does not have, so that the one below shows.
    UnmapSkipsAbsent,
    /// Says that it has what it does not have.
    AnswersForAbsent,
    /// Says that it does not have the last sector of what it was asked for.
    DeniesLastSector,
    /// Says that what it does not have is zero.
    AbsentIsZero,
    /// Says that what it has is not there, so that the layers below are asked.
    PresentIsAbsent,
    /// Sectors that are added are absent.
    GrowingUncovers,
}

/// See [`LayerFault`].
#[derive(Debug)]
pub(crate) struct PlantedLayer {
    fault: LayerFault,
    inner: ReferenceLayer,
}

impl PlantedLayer {
    pub(crate) fn new(spec: LayerSpec, fault: LayerFault) -> Self {
        Self {
            fault,
            inner: ReferenceLayer::new(spec),
        }
    }

    fn has(&self, fault: LayerFault) -> bool {
        self.fault == fault
    }
}

impl LayerIo for PlantedLayer {
    fn layer_type(&self) -> &str {
        "planted"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.inner.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_logically_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        mut marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        let size = self.sector_size() as usize;
        match self.fault {
            LayerFault::AnswersForAbsent => {
                marker.set_all();
                self.inner.read(buffers, sector, marker).await
            }
            LayerFault::DeniesLastSector if buffers.len() > size => {
                let part = buffers.subrange(0, buffers.len() - size);
                self.inner.read(&part, sector, marker).await
            }
            _ => self.inner.read(buffers, sector, marker).await,
        }
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.inner.write(buffers, sector, fua).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        let next_is_zero = next_is_zero || self.has(LayerFault::ZeroingUncovers);
        self.inner
            .write_zeroes(sector, count, fua, may_unmap, no_fallback, next_is_zero)
            .await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        hint: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        if self.has(LayerFault::UnmapSkipsAbsent) {
            for sector in sector..sector + count {
                if matches!(
                    self.inner.layer_status(sector, 1).await?,
                    LayerStatus::Present(_)
                ) {
                    self.inner.unmap(sector, 1, hint, next_is_zero).await?;
                }
            }
            return Ok(());
        }
        let next_is_zero = next_is_zero || self.has(LayerFault::UnmapUncovers);
        self.inner.unmap(sector, count, hint, next_is_zero).await
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        let status = self.inner.layer_status(sector, count).await?;
        Ok(match (self.fault, status) {
            (LayerFault::AbsentIsZero, LayerStatus::Absent { sector_count }) => {
                LayerStatus::Present(BlockStatus::one(BlockExtent {
                    sector_count,
                    state: BlockState::Zero,
                    layer: None,
                }))
            }
            (LayerFault::PresentIsAbsent, LayerStatus::Present(status)) => LayerStatus::Absent {
                sector_count: status.sector_count(),
            },
            (_, status) => status,
        })
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let before = self.sector_count();
        self.inner.resize(sector_count).await?;
        if self.has(LayerFault::GrowingUncovers) && sector_count > before {
            self.inner
                .unmap(before, sector_count - before, false, true)
                .await?;
        }
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

impl Inspect for PlantedLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
