//! What the kit asks a factory for.

use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;
use std::ops::Range;

/// The longest write by which [`DiskSpec::fill`] puts content onto a disk, in bytes.
const FILL_BYTES_MAX: usize = 1 << 20;

/// The disk that a factory is asked to make: a fresh one, shared with no other.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiskSpec {
    /// The size of the disk in sectors; never 0.
    pub sector_count: u64,
    /// The size of a sector in bytes: one of those that the [`Suite`](crate::Suite) was told.
    pub sector_size: u32,
    /// Whether the disk is to refuse changes.
    pub is_read_only: bool,
    /// What the disk is to hold: as many bytes as it has. Often all zero, as on a new disk.
    pub content: Vec<u8>,
    /// For a factory that makes choices of its own: the same for the same disk of a replayed run.
    pub seed: u64,
}

impl DiskSpec {
    /// A disk of zeros that takes changes, for those who ask a factory themselves.
    ///
    /// # Panics
    /// If so many bytes do not fit into memory.
    pub fn new(sector_count: u64, sector_size: u32) -> Self {
        let len = usize::try_from(sector_count)
            .ok()
            .and_then(|count| count.checked_mul(sector_size as usize))
            .expect("the content of a disk under test fits into memory");
        Self {
            sector_count,
            sector_size,
            is_read_only: false,
            content: vec![0; len],
            seed: 0,
        }
    }

    /// Writes [`content`](Self::content) to a disk, and leaves alone what is zero: on a new disk it is never written.
    ///
    /// A factory that can prepare its disk by other means (before it is opened, or as layers) had better do so: that is then
    /// tested too.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn fill(&self, disk: &Disk) -> Result<(), DiskError> {
        for range in self.nonzero_runs() {
            let bytes = &self.content[self.bytes(&range)];
            disk.write_vectored(&HostBuffers::from_ref(bytes).buffers(), range.start, false)
                .await?;
        }
        Ok(())
    }

    /// The runs of sectors that are not zero, cut so that one write takes each.
    fn nonzero_runs(&self) -> impl Iterator<Item = Range<u64>> {
        let sectors_max = (FILL_BYTES_MAX / self.sector_size as usize).max(1) as u64;
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = (at..self.sector_count).find(|sector| !self.is_zero(*sector))?;
            at = (start + 1..self.sector_count.min(start + sectors_max))
                .find(|sector| self.is_zero(*sector))
                .unwrap_or(self.sector_count.min(start + sectors_max));
            Some(start..at)
        })
    }

    /// Whether a sector of the content is zero.
    ///
    /// # Panics
    /// If the disk has no such sector.
    pub fn is_zero(&self, sector: u64) -> bool {
        is_zero(&self.content[self.bytes(&(sector..sector + 1))])
    }

    fn bytes(&self, sectors: &Range<u64>) -> Range<usize> {
        // The content is in memory, so its length is a usize.
        let size = self.sector_size as usize;
        sectors.start as usize * size..sectors.end as usize * size
    }
}

/// The layer that a factory is asked to make: a fresh one in which every sector is absent.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LayerSpec {
    /// The size of the layer in sectors; never 0.
    pub sector_count: u64,
    /// The size of a sector in bytes.
    pub sector_size: u32,
}

impl LayerSpec {
    /// An empty layer, for those who ask a factory themselves.
    pub fn new(sector_count: u64, sector_size: u32) -> Self {
        Self {
            sector_count,
            sector_size,
        }
    }
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}
