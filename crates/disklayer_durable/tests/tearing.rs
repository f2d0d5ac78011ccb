//! A store that may tear a sector when the power is cut holds no layer that is written (C11).

mod common;

use common::{store, tight};
use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use disklayer_durable::{DurableLayer, DurableOptions, FormatError, OpenError, format};
use futures_lite::future::block_on;
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

/// A disk, and whether it may be written.
struct Tearing(Disk, bool);

impl Inspect for Tearing {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.0.inspect(req);
    }
}

impl DiskIo for Tearing {
    fn disk_type(&self) -> &str {
        "tearing"
    }

    fn sector_count(&self) -> u64 {
        self.0.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.0.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.0.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        !self.1
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        0
    }

    async fn unmap(&self, sector: u64, count: u64, level: bool) -> Result<(), DiskError> {
        self.0.unmap(sector, count, level).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.unmap_behavior()
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.0.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.0.write_vectored(buffers, sector, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.sync_cache().await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.wait_resize(sector_count).await
    }
}

#[test]
fn a_store_that_may_tear_a_sector_is_neither_formatted_nor_opened_but_to_read() {
    block_on(async {
        let whole = store(1, 512).await;
        format(&whole, &tight(10, 512)).await.unwrap();
        let torn = |may_write| Disk::new(Tearing(whole.clone(), may_write)).unwrap();
        let error = format(&torn(true), &tight(10, 512)).await.unwrap_err();
        assert!(matches!(error, FormatError::Torn), "{error}");
        let options = DurableOptions::default();
        let error = DurableLayer::open(torn(true), &options).await.unwrap_err();
        assert!(matches!(error, OpenError::Torn), "{error}");
        DurableLayer::open(torn(false), &options).await.unwrap();
    });
}
