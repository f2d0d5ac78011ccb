//! A layer for tests.
#![allow(dead_code, reason = "each test program uses its part")]

use disk_backend::{DiskError, Persistence, UnmapBehavior};
use disk_contract::{LayerSpec, ReferenceLayer};
use disk_layered::{LayerIo, LayerStatus, SectorMarker};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// What happens to a layer between the stack's look at its size and the request.
type Interference = Box<dyn Fn(&ReferenceLayer) + Send + Sync>;

/// A layer with as few methods of its own as there may be, and the unmap behaviour that it is given.
pub(crate) struct PlainLayer {
    inner: ReferenceLayer,
    unmap_behavior: UnmapBehavior,
    interference: Option<Interference>,
}

impl PlainLayer {
    pub(crate) fn new(spec: LayerSpec, unmap_behavior: UnmapBehavior) -> Self {
        Self {
            inner: ReferenceLayer::new(spec),
            unmap_behavior,
            interference: None,
        }
    }

    /// Lets something happen before each read and each look at the status.
    pub(crate) fn with_interference(
        mut self,
        interference: impl Fn(&ReferenceLayer) + Send + Sync + 'static,
    ) -> Self {
        self.interference = Some(Box::new(interference));
        self
    }

    fn interfere(&self) {
        if let Some(interference) = &self.interference {
            interference(&self.inner);
        }
    }
}

impl LayerIo for PlainLayer {
    fn layer_type(&self) -> &str {
        "plain"
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
        false
    }

    fn is_logically_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.interfere();
        self.inner.read(buffers, sector, marker).await
    }

    async fn write(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.inner.write(buffers, sector, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    /// Unspecified: the odd sectors become zero, the others keep what they hold.
    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        hint: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        for sector in sector..sector + count {
            let is_kept = match self.unmap_behavior {
                UnmapBehavior::Zeroes => false,
                UnmapBehavior::Unspecified => sector % 2 == 0,
                UnmapBehavior::Ignored => panic!("a stack leaves out an unmap that is ignored"),
            };
            if !is_kept {
                self.inner.unmap(sector, 1, hint, next_is_zero).await?;
            }
        }
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.unmap_behavior
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.interfere();
        self.inner.layer_status(sector, count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

impl Inspect for PlainLayer {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
