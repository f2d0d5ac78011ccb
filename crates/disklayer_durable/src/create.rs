//! Making a store into a layer.
//!
//! What was there before is made unreadable first, so that no crash leaves an old layer with a part of its bytes gone; the superblocks
//! come last.

use crate::core::write_bytes;
use crate::error::FormatError;
use crate::format::{
    BLOCK_BYTES, Binding, LOG_OFFSET, Layout, Role, SUPERBLOCK_OFFSETS, Superblock, Verify,
};
use disk_backend::{Disk, DiskError, Persistence, UnmapBehavior};
use scsi_buffers::RequestBuffers;
use std::ops::ControlFlow;

/// How much is zeroed in one request, in bytes.
const ZEROED_BYTES: u64 = 1 << 30;

/// How a new layer is laid out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FormatOptions {
    /// The size in sectors, at least one. The sectors are those of the store.
    pub sector_count: u64,
    /// How many sectors share a page: a power of two, at most 8192, or 512 if the data is verified, and at least as many as a page is
    /// long. The most, if not given.
    pub stripe_sectors: Option<u32>,
    /// The length of the log in blocks of 4096 bytes, from 2 to 16384; if not given, 1024, or fewer for a small layer.
    pub log_blocks: Option<u32>,
    /// What it keeps checksums of.
    pub verify: Verify,
    /// What the layer may be used for.
    pub role: Role,
    /// Its identity; a random one, if not given.
    pub layer_id: Option<[u8; 16]>,
    /// What it will lie on. Unknown: that is recorded when it is first attached.
    pub binding: Binding,
    /// Whether its log may have copies of data, so that a flush after few first writes takes one flush of the store and not two. Yes, if not
    /// said otherwise, where it can have them: in an overlay that does not verify its data.
    pub logs_data: bool,
}

impl FormatOptions {
    /// A layer of so many sectors that keeps changes.
    pub fn new(sector_count: u64) -> Self {
        Self {
            sector_count,
            stripe_sectors: None,
            log_blocks: None,
            verify: Verify::Metadata,
            role: Role::Overlay,
            layer_id: None,
            binding: Binding::Unknown,
            logs_data: true,
        }
    }

    /// How long a store with such sectors has to be, in bytes.
    ///
    /// # Errors
    /// If no layer can be like this.
    pub fn store_bytes(&self, sector_size: u32) -> Result<u64, FormatError> {
        let layout = self.layout(sector_size)?;
        layout
            .store_bytes(self.sector_count)
            .ok_or(FormatError::Option {
                field: "sector_count",
                value: self.sector_count,
                rule: "its bytes can be numbered",
            })
    }

    fn layout(&self, sector_size: u32) -> Result<Layout, FormatError> {
        if !(512..=BLOCK_BYTES as u32).contains(&sector_size) {
            return Err(FormatError::SectorSize(sector_size));
        }
        let bytes = self.sector_count.saturating_mul(u64::from(sector_size));
        let log_blocks = self.log_blocks.unwrap_or_else(|| {
            let proportional = bytes / 256 / BLOCK_BYTES as u64;
            proportional.clamp(16, 1024) as u32
        });
        let stripe_sectors_max = Layout::stripe_sectors_max(self.verify);
        let stripe_sectors = self.stripe_sectors.unwrap_or(stripe_sectors_max);
        let option = |field, value, rule| FormatError::Option { field, value, rule };
        if self.sector_count == 0 {
            return Err(option(
                "sector_count",
                0,
                "it has at least one sector; give it a size, or put it above a disk",
            ));
        }
        Layout::new(sector_size, stripe_sectors, log_blocks, self.verify).map_err(|bad| match bad.name() {
            "log_blocks" => option("log_blocks", log_blocks.into(), "it is from 2 to 16384"),
            name => option(
                name,
                stripe_sectors.into(),
                match self.verify {
                    Verify::Metadata => {
                        "it is a power of two, at most 8192, and of at least 4096 bytes"
                    }
                    Verify::Data => {
                        "it is a power of two, at most 512 where data is verified, and of at least 4096 bytes"
                    }
                },
            ),
        })
    }
}

/// Makes a store into an empty layer. Whatever it held is lost.
///
/// # Errors
/// [`FormatError`]; the store then holds no layer.
pub async fn format(store: &Disk, options: &FormatOptions) -> Result<(), FormatError> {
    format_with(store, options, |_, _| ControlFlow::Continue(())).await
}

/// The same, watched: `progress` is told how many parts of how many are cleared, and may end it.
///
/// # Errors
/// As for [`format()`].
pub async fn format_with(
    store: &Disk,
    options: &FormatOptions,
    progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), FormatError> {
    let layout = options.layout(store.sector_size())?;
    if may_tear(store) {
        return Err(FormatError::Torn);
    }
    let need = options.store_bytes(store.sector_size())?;
    let have = store.sector_count() << store.sector_shift();
    if have < need {
        let grown = store.resize(layout.store_sector(need)).await;
        grown.map_err(|source| FormatError::TooShort { have, need, source })?;
    }
    write_zeros(store, 0..LOG_OFFSET).await?;
    store.sync_cache().await?;
    write_zeros(store, LOG_OFFSET..layout.log_offset(layout.log_blocks)).await?;
    zero_pages(store, &layout, progress).await?;
    store.sync_cache().await?;
    let id = options
        .layer_id
        .unwrap_or_else(|| fastrand::u128(..).to_be_bytes());
    let superblock = Superblock {
        generation: 1,
        epoch: u64::from_be_bytes(*id.last_chunk().expect("it is longer")),
        layer_id: id,
        layout,
        sector_count: options.sector_count,
        shown_below: options.sector_count,
        log_generation: 1,
        log_sequence: 0,
        is_in_use: false,
        role: options.role,
        binding: options.binding,
        sums_after: 0,
        logs_data: options.logs_data
            && options.role == Role::Overlay
            && options.verify == Verify::Metadata,
    };
    for offset in SUPERBLOCK_OFFSETS {
        write_bytes(store, offset, &superblock.encode()).await?;
        store.sync_cache().await?;
    }
    Ok(())
}

/// Whether a crash may tear a sector of the store (C11).
pub(crate) fn may_tear(store: &Disk) -> bool {
    store.persistence() == Persistence::Persistent && store.atomic_write_sectors() == 0
}

/// Writes zeros as data, so that there is room for what comes there.
async fn write_zeros(store: &Disk, range: std::ops::Range<u64>) -> Result<(), DiskError> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(1 << 20);
        let zeros = RequestBuffers::zeros(len as usize).expect("as short as that");
        store
            .write_vectored(&zeros, at >> store.sector_shift(), false)
            .await?;
        at += len;
    }
    Ok(())
}

/// Lets every page of the store be one that was never written, to the end of the store: the layer may grow.
async fn zero_pages(
    store: &Disk,
    layout: &Layout,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), FormatError> {
    let shift = store.sector_shift();
    let (begin, end) = (layout.page_offset(0) >> shift, store.sector_count());
    let mut at = begin;
    if store.unmap_behavior() == UnmapBehavior::Zeroes {
        while at < end {
            if progress(at - begin, end - begin).is_break() {
                return Err(FormatError::Stopped);
            }
            let count = (end - at).min(ZEROED_BYTES >> shift);
            match store.write_zeroes(at, count, false, true, true).await {
                Ok(()) => at += count,
                Err(DiskError::Unsupported) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    if at >= end {
        return Ok(());
    }
    // The slow way, a page at a time: what is zero already stays a hole.
    let stripes = layout.stripe_count(layout.sectors_within(end << shift));
    for stripe in 0..stripes {
        if progress(stripe, stripes).is_break() {
            return Err(FormatError::Stopped);
        }
        let offset = layout.page_offset(stripe);
        let page_end = (offset + BLOCK_BYTES as u64).min(end << shift);
        let mut bytes = vec![0; (page_end - offset) as usize];
        let host = scsi_buffers::HostBuffers::from_mut(&mut bytes);
        store
            .read_vectored(&host.buffers(), offset >> shift)
            .await?;
        drop(host);
        if bytes.iter().any(|byte| *byte != 0) {
            write_zeros(store, offset..page_end).await?;
        }
    }
    Ok(())
}
