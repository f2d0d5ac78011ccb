//! A disk that implements no more than it must: what the trait does for it keeps the contract too.

use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_contract::{DiskSpec, ReferenceDisk, Suite, Violation};
use inspect::Inspect;
use scsi_buffers::RequestBuffers;

#[derive(Debug, Inspect)]
struct PlainDisk {
    inner: ReferenceDisk,
    unmap_behavior: UnmapBehavior,
}

impl DiskIo for PlainDisk {
    fn disk_type(&self) -> &str {
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

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    /// Unspecified: the first half becomes zero, the rest stays.
    async fn unmap(&self, sector: u64, count: u64, hint: bool) -> Result<(), DiskError> {
        match self.unmap_behavior {
            UnmapBehavior::Zeroes => self.inner.unmap(sector, count, hint).await,
            UnmapBehavior::Unspecified => self.inner.unmap(sector, count / 2, hint).await,
            UnmapBehavior::Ignored => panic!("the handle leaves out an unmap that is ignored"),
        }
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.unmap_behavior
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.inner.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.inner.write_vectored(buffers, sector, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }
}

fn check(unmap_behavior: UnmapBehavior) -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512, 65536])
        .sector_counts([1, 9])
        .check_disks(async |spec: DiskSpec| {
            let inner = ReferenceDisk::new(spec);
            Disk::new(PlainDisk {
                inner,
                unmap_behavior,
            })
            .unwrap()
        })
}

#[test]
fn a_plain_disk_that_zeroes_what_it_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Zeroes)
}

#[test]
fn a_plain_disk_that_ignores_unmaps_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Ignored)
}

#[test]
fn a_plain_disk_whose_unmap_is_unspecified_keeps_the_contract() -> Result<(), Violation> {
    check(UnmapBehavior::Unspecified)
}
