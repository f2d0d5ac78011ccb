//! A resize of the disk that falls into a look at a layer's size.

mod common;

use common::{disk, plain, read, through, write};
use disk_backend::{DiskError, Persistence, UnmapBehavior};
use disk_layered::{LayerIo, LayerStatus, NoOverwriteUnsupported, SectorMarker, WriteNoOverwrite};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use inspect::Inspect;
use parking_lot::Mutex;
use scsi_buffers::RequestBuffers;
use std::sync::Arc;

type Interruption = Box<dyn FnOnce() + Send>;

/// A layer of which each look at its size can be interrupted once, after the answer is known.
#[derive(Clone)]
struct Interrupted {
    inner: Arc<RamDiskLayer>,
    interruption: Arc<Mutex<Option<Interruption>>>,
}

impl Inspect for Interrupted {
    fn inspect(&self, request: inspect::Request<'_>) {
        self.inner.inspect(request);
    }
}

impl LayerIo for Interrupted {
    fn layer_type(&self) -> &str {
        "interrupted"
    }

    fn sector_count(&self) -> u64 {
        let answer = self.inner.sector_count();
        let interruption = self.interruption.lock().take();
        if let Some(interruption) = interruption {
            interruption();
        }
        answer
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

    async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        marker: SectorMarker<'_>,
    ) -> Result<(), DiskError> {
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
        self.inner.sync_cache().await
    }

    async fn unmap(
        &self,
        sector: u64,
        count: u64,
        block_level_only: bool,
        next_is_zero: bool,
    ) -> Result<(), DiskError> {
        self.inner
            .unmap(sector, count, block_level_only, next_is_zero)
            .await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.inner.unmap_behavior()
    }

    async fn layer_status(&self, sector: u64, count: u64) -> Result<LayerStatus, DiskError> {
        self.inner.layer_status(sector, count).await
    }

    fn write_no_overwrite(&self) -> Option<impl WriteNoOverwrite> {
        None::<NoOverwriteUnsupported>
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.inner.resize(sector_count).await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

/// Who learnt the old size before a resize, and goes on after it, must not take it for one that the layer has had since: then
/// what was added would never show again (L5).
#[test]
fn a_look_that_a_resize_overtakes_does_not_hide_what_was_added() {
    let ram = || RamDiskLayer::new(8 * 512).unwrap();
    let lower = Interrupted {
        inner: Arc::new(ram()),
        interruption: Arc::default(),
    };
    let disk = disk(vec![through(ram()), plain(lower.clone())]);
    let resizing = disk.clone();
    *lower.interruption.lock() = Some(Box::new(move || {
        block_on(resizing.resize(16)).unwrap();
    }));
    block_on(read(&disk, 0, 8)).unwrap();
    assert_eq!(disk.sector_count(), 16);
    block_on(write(&disk, 12, &[9])).unwrap();
    assert_eq!(block_on(read(&disk, 11, 3)).unwrap(), [0, 9, 0]);
}
