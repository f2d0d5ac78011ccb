//! Opening a layer, whatever a crash has left.

use crate::core::{Core, Sizes, read_block};
use crate::create::may_tear;
use crate::error::OpenError;
use crate::format::{
    BLOCK_BYTES, BadSuperblock, COUNT_MAX, Entry, Layout, SUPERBLOCK_OFFSETS, Superblock,
    are_sizes, blocks,
};
use crate::journal::{ImagePlace, Journal, Recovered};
use crate::layer::DurableLayer;
use crate::patches::Patches;
use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;
use std::collections::HashMap;

/// What the pages in memory may take in bytes, unless it is said.
const CACHE_BYTES: usize = 16 << 20;

/// After how many flushes without a write a stripe is closed, unless it is said.
const CLOSE_AFTER_FLUSHES: u64 = 64;

/// How many entries may have been written that recovery does not find: more than anybody writes before a layer is closed, and few enough that
/// numbers do not run out.
const FORGOTTEN_MAX: u64 = 1 << 32;

/// How a layer is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DurableOptions {
    /// What the pages in memory may take, about, in bytes. All of 1 TiB in sectors of 512 bytes would be 592 MiB, and of a
    /// layer that verifies its data 10.8 GiB.
    pub cache_bytes: usize,
    /// Of a layer that verifies its data: after how many flushes without a write to a stripe the checksums of what was written over there
    /// are put on record, or a quarter as many for each such stripe if that is more. Until then a crash lets them be forgotten, and afterwards the next write over data there takes a flush. 64, and
    /// 1 at the least.
    pub close_after_flushes: u64,
}

impl Default for DurableOptions {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            close_after_flushes: CLOSE_AFTER_FLUSHES,
        }
    }
}

impl DurableLayer {
    /// Opens the layer on a store: reads the superblocks and the log, and nothing else.
    ///
    /// # Errors
    /// [`OpenError`], which says what is wrong where.
    pub async fn open(store: Disk, options: &DurableOptions) -> Result<Self, OpenError> {
        let (superblock, copy) = superblock(&store).await?;
        if !store.is_read_only() && may_tear(&store) {
            return Err(OpenError::Torn);
        }
        let mut recovered = recover(&store, &superblock).await?;
        if superblock.is_in_use {
            // Entries that have rotted as a whole cannot be told from none, and pages of theirs may be in their places: what is written from now on
            // is later than those.
            recovered.sequence += FORGOTTEN_MAX;
            if recovered.sequence > COUNT_MAX {
                let end = superblock.layout.log_offset(recovered.position);
                return Err(OpenError::LogEntry(end));
            }
        }
        let sizes = recovered.sizes;
        let need = superblock.layout.store_bytes(sizes.sector_count);
        let have = store.sector_count() << store.sector_shift();
        let need = need.unwrap_or(u64::MAX);
        if have < need {
            return Err(OpenError::TooShort { have, need });
        }
        let journal = Journal::new(superblock, 1 - copy, recovered, options.close_after_flushes);
        let core = Core::new(store, journal, sizes, options.cache_bytes);
        Ok(Self::new(core))
    }
}

/// The newer of the right superblocks, and which copy it is, of a layer on a store that has its sectors.
pub(crate) async fn superblock(store: &Disk) -> Result<(Superblock, usize), OpenError> {
    let (superblock, copy) = newest(store).await?;
    let (layer, store) = (superblock.layout.sector_size, store.sector_size());
    match layer == store {
        true => Ok((superblock, copy)),
        false => Err(OpenError::SectorSize { layer, store }),
    }
}

/// The newer of the right superblocks, and which copy it is.
pub(crate) async fn newest(store: &Disk) -> Result<(Superblock, usize), OpenError> {
    let have = store.sector_count() << store.sector_shift();
    let need = 2 * BLOCK_BYTES as u64;
    if store.sector_size() as usize > BLOCK_BYTES || have < need {
        return Err(OpenError::NotALayer);
    }
    let mut copies = Vec::new();
    for offset in SUPERBLOCK_OFFSETS {
        copies.push(read_superblock(store, offset).await?);
    }
    let newer = copies.iter().filter_map(|copy| copy.as_ref().err());
    if let Some(newer) = newer.clone().find(|bad| bad.is_newer()) {
        return Err(OpenError::Newer(newer.to_string()));
    }
    let right = (0..).zip(&copies);
    let right = right.filter_map(|(copy, one)| one.as_ref().ok().map(|one| (*one, copy)));
    let Some((superblock, copy)) = right.max_by_key(|(one, copy)| (one.generation, 1 - copy))
    else {
        let mut bad = newer.cloned();
        let (first, second) = (bad.next(), bad.next());
        return Err(match (first, second) {
            (Some(BadSuperblock::Magic), Some(BadSuperblock::Magic)) => OpenError::NotALayer,
            (first, second) => OpenError::Superblocks {
                first: first.map(|bad| bad.to_string()).unwrap_or_default(),
                second: second.map(|bad| bad.to_string()).unwrap_or_default(),
            },
        });
    };
    Ok((superblock, copy))
}

/// A copy of the superblock, or what is wrong with it: one that the medium has lost is not worse than one that is damaged.
pub(crate) async fn read_superblock(
    store: &Disk,
    offset: u64,
) -> Result<Result<Superblock, BadSuperblock>, DiskError> {
    match read_block(store, offset).await {
        Ok(block) => Ok(Superblock::decode(&block)),
        Err(DiskError::MediumError(..)) => Ok(Err(BadSuperblock::Unreadable)),
        Err(error) => Err(error),
    }
}

/// What the log says.
pub(crate) async fn recover(store: &Disk, superblock: &Superblock) -> Result<Recovered, OpenError> {
    let layout = superblock.layout;
    let begin = layout.log_offset(0);
    let have = store.sector_count() << store.sector_shift();
    let need = layout.log_offset(layout.log_blocks);
    if have < need {
        return Err(OpenError::TooShort { have, need });
    }
    let mut log = vec![0; layout.log_blocks as usize * BLOCK_BYTES];
    let host = HostBuffers::from_mut(&mut log);
    store
        .read_vectored(&host.buffers(), layout.store_sector(begin))
        .await?;
    drop(host);
    let mut recovered = scan(&log, superblock)?;
    if was_durable(&log, superblock, recovered.position, recovered.sequence) {
        return Err(OpenError::LogRot(layout.log_offset(recovered.position)));
    }
    keep_places(&mut recovered, &layout, have)?;
    Ok(recovered)
}

/// Every image has its place in a store of so many bytes, or is let go: that of a stripe which neither the layer nor the store has any
/// more. Beyond the end of the layer the store may be of any length (F8).
fn keep_places(recovered: &mut Recovered, layout: &Layout, have: u64) -> Result<(), OpenError> {
    let stripes_max = layout.stripes_with_pages(have);
    let stripes = layout.stripe_count(recovered.sizes.sector_count);
    let mut images = recovered.images.iter();
    if let Some((_, image)) = images.find(|(stripe, _)| (stripes_max..stripes).contains(stripe)) {
        return Err(OpenError::Log(layout.log_offset(image.block)));
    }
    recovered.images.retain(|stripe, _| *stripe < stripes_max);
    Ok(())
}

/// The entries of the log, from the beginning to the first that is not whole, of another log, or older than the one before it (D5).
fn scan(log: &[u8], superblock: &Superblock) -> Result<Recovered, OpenError> {
    let mut recovered = Recovered {
        images: HashMap::new(),
        position: 0,
        sequence: superblock.log_sequence,
        sizes: Sizes {
            sector_count: superblock.sector_count,
            shown_below: superblock.shown_below,
        },
        patches: Patches::default(),
    };
    let mut rest = log;
    let mut last = None;
    while let Some(whole) = Entry::decode(rest) {
        let entry = &whole.entry;
        if !is_later(entry, superblock, recovered.sequence) {
            break;
        }
        // Copies count no more if a later entry is there: it knows that this one was durable (D8).
        if whole.copies.is_none()
            && !was_durable(log, superblock, recovered.position, entry.sequence)
        {
            break;
        }
        if !is_possible(entry, superblock) {
            let begin = superblock.layout.log_offset(recovered.position);
            return Err(OpenError::LogEntry(begin));
        }
        for (index, stripe) in (1..).zip(&entry.stripes) {
            let place = ImagePlace {
                log_generation: entry.log_generation,
                block: recovered.position + index,
            };
            recovered.images.insert(*stripe, place);
        }
        let begin = recovered.position;
        recovered.position += entry.block_count() as u32;
        recovered.sequence = entry.sequence;
        recovered.sizes = Sizes {
            sector_count: entry.sector_count,
            shown_below: entry.shown_below,
        };
        rest = whole.rest;
        last = Some((begin, whole));
    }
    // What was durable is in its place, and may have been written over since (D11).
    recovered.patches = match last {
        Some((begin, whole)) if !was_durable(log, superblock, begin, whole.entry.sequence) => {
            Patches::of(&whole, superblock)
        }
        _ => Patches::default(),
    };
    Ok(recovered)
}

/// Whether an entry, which is whole, says what can be of a layer like this.
pub(crate) fn is_possible(entry: &Entry, superblock: &Superblock) -> bool {
    let layout = &superblock.layout;
    let has_data = !entry.copies.is_empty();
    let are_sectors = |len: u32| len > 0 && len.is_multiple_of(layout.sector_size);
    entry.sequence <= COUNT_MAX
        && are_sizes(layout, entry.sector_count, entry.shown_below)
        && (!has_data || superblock.logs_data && !layout.is_verified())
        && entry.copies.iter().all(|copy| are_sectors(copy.len))
}

/// Whether an entry was written into this log after one with this sequence number.
pub(crate) fn is_later(entry: &Entry, superblock: &Superblock, sequence: u64) -> bool {
    entry.log_generation == superblock.log_generation
        && entry.epoch == superblock.epoch
        && entry.sequence > sequence
}

/// Whether what begins at a block, and was written after an entry with this sequence number or is that entry, was durable: a later one knows it (D8). So
/// what is not whole there is damage, and not what a crash has torn.
fn was_durable(log: &[u8], superblock: &Superblock, block: u32, sequence: u64) -> bool {
    let rest = &log[block as usize * BLOCK_BYTES..];
    let later = blocks(rest).skip(1).filter_map(Entry::decode_header);
    let mut later = later.filter(|entry| is_later(entry, superblock, sequence));
    later.any(|entry| entry.durable_blocks > block)
}
