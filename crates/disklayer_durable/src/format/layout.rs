//! Where everything lies.

use super::{BLOCK_BYTES, LOG_OFFSET};
use std::ops::Range;

/// What a layer keeps checksums of, and verifies when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verify {
    /// What it records: its superblocks, its log and its pages.
    #[default]
    Metadata,
    /// That, and the data.
    Data,
}

impl Verify {
    /// As configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Data => "data",
        }
    }
}

/// How a layer is laid out on its store. Fixed when it is formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The length of a sector in bytes, of the layer and of its store.
    pub(crate) sector_size: u32,
    /// How many sectors share a page.
    pub(crate) stripe_sectors: u32,
    /// The length of the log, in blocks.
    pub(crate) log_blocks: u32,
    /// Whether its pages have checksums of the data.
    pub(crate) verify: Verify,
}

/// What is wrong with a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadLayout {
    SectorSize,
    StripeSectors,
    LogBlocks,
}

impl BadLayout {
    /// The field of the superblock.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SectorSize => "sector_size",
            Self::StripeSectors => "stripe_sectors",
            Self::LogBlocks => "log_blocks",
        }
    }
}

/// The sectors of a request that lie in one stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) stripe: u64,
    /// Counted from the beginning of the stripe.
    pub(crate) sectors: Range<u32>,
    /// Counted from the beginning of the layer.
    pub(crate) first: u64,
}

impl Layout {
    /// The most sectors that a page can speak of.
    pub(crate) const STRIPE_SECTORS_MAX: u32 = 8192;

    /// The most sectors that a page with checksums can speak of.
    pub(crate) const SUMMED_SECTORS_MAX: u32 = 512;

    /// The longest log, in blocks: 64 MiB.
    pub(crate) const LOG_BLOCKS_MAX: u32 = 16384;

    pub(crate) fn new(
        sector_size: u32,
        stripe_sectors: u32,
        log_blocks: u32,
        verify: Verify,
    ) -> Result<Self, BadLayout> {
        let block = BLOCK_BYTES as u32;
        if !sector_size.is_power_of_two() || !(512..=block).contains(&sector_size) {
            return Err(BadLayout::SectorSize);
        }
        let stripe_sectors_min = block / sector_size;
        if !stripe_sectors.is_power_of_two()
            || !(stripe_sectors_min..=Self::stripe_sectors_max(verify)).contains(&stripe_sectors)
        {
            return Err(BadLayout::StripeSectors);
        }
        if !(2..=Self::LOG_BLOCKS_MAX).contains(&log_blocks) {
            return Err(BadLayout::LogBlocks);
        }
        Ok(Self {
            sector_size,
            stripe_sectors,
            log_blocks,
            verify,
        })
    }

    /// The most sectors that can share a page.
    pub(crate) fn stripe_sectors_max(verify: Verify) -> u32 {
        match verify {
            Verify::Metadata => Self::STRIPE_SECTORS_MAX,
            Verify::Data => Self::SUMMED_SECTORS_MAX,
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.verify == Verify::Data
    }

    pub(crate) fn sector_shift(&self) -> u32 {
        self.sector_size.trailing_zeros()
    }

    /// The offset of a block of the log, in bytes.
    pub(crate) fn log_offset(&self, block: u32) -> u64 {
        LOG_OFFSET + u64::from(block) * BLOCK_BYTES as u64
    }

    fn stripe_bytes(&self) -> u64 {
        BLOCK_BYTES as u64 + (u64::from(self.stripe_sectors) << self.sector_shift())
    }

    /// The offset of a stripe's page, in bytes. Only for stripes of a layer whose size [`store_bytes`](Self::store_bytes) knows.
    pub(crate) fn page_offset(&self, stripe: u64) -> u64 {
        self.log_offset(self.log_blocks) + stripe * self.stripe_bytes()
    }

    /// The offset of the data of a sector of a stripe, in bytes.
    pub(crate) fn data_offset(&self, stripe: u64, sector: u32) -> u64 {
        self.page_offset(stripe) + BLOCK_BYTES as u64 + (u64::from(sector) << self.sector_shift())
    }

    /// How many sectors of the store an offset or a length in bytes is.
    pub(crate) fn store_sector(&self, bytes: u64) -> u64 {
        bytes >> self.sector_shift()
    }

    /// The length of a store for so many sectors, in bytes; none if there is no number for it.
    pub(crate) fn store_bytes(&self, sector_count: u64) -> Option<u64> {
        let stripes = sector_count / u64::from(self.stripe_sectors);
        let rest = sector_count % u64::from(self.stripe_sectors);
        let begin = self.log_offset(self.log_blocks);
        let whole = stripes.checked_mul(self.stripe_bytes())?;
        let last = match rest {
            0 => 0,
            _ => BLOCK_BYTES as u64 + (rest << self.sector_shift()),
        };
        begin.checked_add(whole)?.checked_add(last)
    }

    /// How many sectors have their page, as a whole or in part, in a store of this length in bytes.
    pub(crate) fn sectors_within(&self, store_bytes: u64) -> u64 {
        let stripes = store_bytes
            .saturating_sub(self.log_offset(self.log_blocks))
            .div_ceil(self.stripe_bytes());
        stripes.saturating_mul(u64::from(self.stripe_sectors))
    }

    /// How many stripes have all of their page in a store of this length in bytes.
    pub(crate) fn stripes_with_pages(&self, store_bytes: u64) -> u64 {
        let behind = store_bytes.saturating_sub(self.log_offset(self.log_blocks));
        let rest = behind % self.stripe_bytes();
        behind / self.stripe_bytes() + u64::from(rest >= BLOCK_BYTES as u64)
    }

    /// How many stripes so many sectors have.
    pub(crate) fn stripe_count(&self, sector_count: u64) -> u64 {
        sector_count.div_ceil(u64::from(self.stripe_sectors))
    }

    /// The parts of a range of sectors, stripe by stripe.
    pub(crate) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + use<> {
        let length = u64::from(self.stripe_sectors);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let stripe = at / length;
            let begin = stripe * length;
            let end = range.end.min(begin.saturating_add(length));
            let part = Part {
                stripe,
                sectors: (at - begin) as u32..(end - begin) as u32,
                first: at,
            };
            at = end;
            Some(part)
        })
    }
}
