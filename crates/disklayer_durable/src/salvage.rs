//! Opening what cannot be opened any more, at the price of what is lost.
//!
//! Of a log with a durable entry that is no longer whole, everything else is true of the data, and is kept: what came before, later entries,
//! images of the entry itself that are whole, and pages in their places that are later. Pages that were in the lost part alone are as
//! they were before. A page that is lost in its
//! place, and nowhere else, is made anew from what its data looks like.
//!
//! Invariants: S1, what is written in the place of a page is its latest image that is whole, which the log keeps, or, only if no image and no page is left, what
//! is guessed: never is the only copy of a page written over. S2, the superblocks follow one after the other when the pages are durable, and only then the log is written over. So a crash
//! leaves a layer that is to be salvaged again, with the same content then, or one that has been. S3, if anything of the log was lost, no checksum of data from before is believed
//! any more: data may have been written over since, in an order that nobody remembers. That is a number in the superblocks (`sums_after`), and changes no page.

use crate::core::{Sizes, read_block, write_bytes};
use crate::create::may_tear;
use crate::error::OpenError;
use crate::format::{
    BLOCK_BYTES, Block, Entry, Layout, PageContent, PageImage, Role, SUPERBLOCK_OFFSETS, State,
    Superblock, decode_page, encode_page, sequence_of,
};
use crate::open::{is_later, is_possible, superblock};
use crate::patches::Patches;
use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

/// How much data is looked at in one request, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;

/// What a layer loses, or has lost, by being salvaged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Loss {
    /// Where what is lost of the log begins on the store, in bytes; none if nothing is.
    pub log_offset: Option<u64>,
    /// Sectors of which it may be forgotten that they were written, zeroed or unmapped since some earlier flush, though a later one succeeded: what was
    /// written first then is missing, and what was given up is back. What was written over older data is there, but for what the last entry of the log has a
    /// copy of: that is as it was when the copy was made.
    pub old: Vec<Range<u64>>,
    /// Sectors of which nothing is known any more: they are taken for data where their place holds anything but zeros, or cannot be read, and
    /// for absent elsewhere. Zeros that hid what lies below are lost, and what had been given up may be back.
    pub guessed: Vec<Range<u64>>,
}

impl Loss {
    /// Whether it is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What salvaging an overlay would cost. Nothing is written. `progress` is told how many stripes of how many have been looked at, and may end it.
///
/// # Errors
/// [`OpenError`], if it cannot be salvaged: it has no superblock, is longer than its store, or is a cache, which is emptied by itself.
pub async fn loss(
    store: &Disk,
    progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Loss, OpenError> {
    Salvage::plan(store, progress).await.map(|plan| plan.loss)
}

/// Makes of an overlay one that can be opened, and is clean, and says what that costs. Nobody else may use it meanwhile. A crash leaves
/// it to be salvaged again.
///
/// # Errors
/// As for [`loss`], and those of the store.
pub async fn salvage(
    store: &Disk,
    progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Loss, OpenError> {
    if store.is_read_only() {
        return Err(DiskError::ReadOnly.into());
    }
    if may_tear(store) {
        return Err(OpenError::Torn);
    }
    let plan = Salvage::plan(store, progress).await?;
    plan.carry_out(store).await?;
    Ok(plan.loss)
}

struct Salvage {
    superblock: Superblock,
    /// Which copy of the superblock that is.
    copy: usize,
    log: Found,
    /// The stripes whose pages are lost.
    lost_pages: Vec<u64>,
    /// No page has a higher sequence number, those beyond the end included.
    sequence: u64,
    loss: Loss,
}

/// What there is in a log.
struct Found {
    /// The latest whole image of each page that has one that is later than the page in its place, and the sequence number of its entry.
    images: BTreeMap<u64, (u64, Box<Block>)>,
    sizes: Sizes,
    sequence: u64,
    /// The first block of what is lost.
    lost_from: Option<u32>,
    /// By stripe, the sequence number of the last entry whose image of its page is lost.
    lost_images: BTreeMap<u64, u64>,
    /// If entries are lost of which it is not known whose images they had: the sequence number before the last of those. Each page may have been
    /// among them, but for those that are later.
    unknown_after: Option<u64>,
    /// The blocks that the store cannot read.
    unreadable: Vec<u32>,
    /// The copies of the last entry, if they are whole and no later one knows that it was durable.
    patches: Patches,
}

impl Salvage {
    async fn plan(
        store: &Disk,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Self, OpenError> {
        let (superblock, copy) = superblock(store).await?;
        if superblock.role != Role::Overlay {
            return Err(OpenError::NothingToSalvage(superblock.role));
        }
        let layout = superblock.layout;
        let log = Found::in_log(&read_log(store, &layout).await?, &superblock);
        let have = store.sector_count() << store.sector_shift();
        let need = layout.store_bytes(log.sizes.sector_count);
        let need = need.unwrap_or(u64::MAX);
        if have < need {
            return Err(OpenError::TooShort { have, need });
        }
        let stripes = layout.stripe_count(log.sizes.sector_count);
        let pages = stripes.max(layout.stripes_with_pages(have));
        let mut plan = Self {
            loss: Loss {
                log_offset: log.lost_from.map(|block| layout.log_offset(block)),
                ..Loss::default()
            },
            superblock,
            copy,
            sequence: log.sequence,
            log,
            lost_pages: Vec::new(),
        };
        let mut all_placed = Vec::new();
        for stripe in 0..pages {
            if progress(stripe, pages).is_break() {
                return Err(OpenError::Stopped);
            }
            let placed = plan.placed(store, stripe).await?;
            // Of a page beyond the end no more is wanted than its number: what is written there when the layer has grown is later.
            plan.sequence = plan.sequence.max(placed.unwrap_or(0));
            all_placed.extend((stripe < stripes).then_some(placed));
        }
        let patches = &mut plan.log.patches;
        // A page of a later entry is in its place: so this one was durable.
        if plan.sequence > plan.log.sequence {
            *patches = Patches::default();
        }
        // If something is lost behind the entry, what it has copies of may have been written over, and flushed.
        let patched = match plan.log.lost_from {
            Some(_) => patches.stripes(&layout),
            None => BTreeSet::new(),
        };
        for (stripe, placed) in (0..).zip(all_placed) {
            // Emptying the log may have begun, and then the page in its place is the latest.
            let logged = plan.log.images.get(&stripe).map(|(sequence, _)| *sequence);
            let sectors = plan.sectors(stripe);
            match placed.max(logged) {
                None => {
                    plan.lost_pages.push(stripe);
                    add(&mut plan.loss.guessed, sectors);
                }
                Some(sequence)
                    if plan.log.may_be_old(stripe, sequence) || patched.contains(&stripe) =>
                {
                    add(&mut plan.loss.old, sectors);
                }
                Some(_) => {}
            }
            if placed > logged {
                plan.log.images.remove(&stripe);
            }
        }
        _ = progress(pages, pages);
        Ok(plan)
    }

    /// The sectors of a stripe that the layer has.
    fn sectors(&self, stripe: u64) -> Range<u64> {
        let length = u64::from(self.superblock.layout.stripe_sectors);
        let first = stripe * length;
        first..(first + length).min(self.log.sizes.sector_count)
    }

    /// Which entry the page in its place was an image in, if there is a right one; 0 if it was never written.
    async fn placed(&self, store: &Disk, stripe: u64) -> Result<Option<u64>, OpenError> {
        let layout = &self.superblock.layout;
        let block = match read_block(store, layout.page_offset(stripe)).await {
            Ok(block) => block,
            Err(DiskError::MediumError(..)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let epoch = self.superblock.epoch;
        Ok(match decode_page(&block, epoch, stripe, layout) {
            PageContent::Damaged(_) => None,
            PageContent::Never { .. } => Some(0),
            PageContent::Image(_) => Some(sequence_of(&block)),
        })
    }

    /// S1, S2, S3
    async fn carry_out(&self, store: &Disk) -> Result<(), OpenError> {
        let layout = &self.superblock.layout;
        // What was found may be what a program wrote that was killed before its flush.
        store.sync_cache().await?;
        for (offset, bytes) in self.log.patches.places(layout) {
            write_bytes(store, offset, bytes).await?;
        }
        let have = layout.stripes_with_pages(store.sector_count() << store.sector_shift());
        for (stripe, (_, image)) in self.log.images.range(..have) {
            write_bytes(store, layout.page_offset(*stripe), &image[..]).await?;
        }
        // Before a page of a higher number is in its place, which says of the copies that they are in theirs.
        store.sync_cache().await?;
        let sequence = self.sequence + 1;
        for stripe in &self.lost_pages {
            let guessed = self.guess(store, *stripe).await?;
            let page = encode_page(self.superblock.epoch, *stripe, sequence, &guessed);
            write_bytes(store, layout.page_offset(*stripe), &page).await?;
        }
        store.sync_cache().await?;
        let generation = self.superblock.generation + 1;
        let superblock = Superblock {
            generation,
            log_generation: generation,
            log_sequence: sequence,
            sector_count: self.log.sizes.sector_count,
            shown_below: self.log.sizes.shown_below,
            is_in_use: false,
            sums_after: match self.log.lost_from {
                Some(_) if layout.is_verified() => self.sequence,
                _ => self.superblock.sums_after,
            },
            ..self.superblock
        };
        for copy in [1 - self.copy, self.copy] {
            write_bytes(store, SUPERBLOCK_OFFSETS[copy], &superblock.encode()).await?;
            store.sync_cache().await?;
        }
        // Opening reads all of the log, and what is written can be read again.
        for block in &self.log.unreadable {
            write_bytes(store, layout.log_offset(*block), &[0; BLOCK_BYTES]).await?;
        }
        Ok(store.sync_cache().await?)
    }

    /// What the sectors of a stripe are by the look of them. Of none the checksum is known.
    async fn guess(&self, store: &Disk, stripe: u64) -> Result<PageImage, OpenError> {
        let layout = &self.superblock.layout;
        let mut image = PageImage::absent(layout);
        let states = &mut image.states;
        let sectors = self.sectors(stripe);
        let end = (sectors.end - sectors.start) as u32;
        let sectors_max = (READ_BYTES_MAX / layout.sector_size as usize) as u32;
        let mut at = 0;
        while at < end {
            let run = at..end.min(at + sectors_max);
            at = run.end;
            match holds_data(store, layout, stripe, run.clone()).await {
                Ok(found) => found
                    .iter()
                    .zip(run)
                    .filter(|(is_data, _)| **is_data)
                    .for_each(|(_, sector)| states.set(sector, State::Data)),
                // One by one. What cannot be read is an error for whoever reads it, and not what lies below.
                Err(DiskError::MediumError(..)) => {
                    for sector in run {
                        let found = holds_data(store, layout, stripe, sector..sector + 1).await;
                        match found {
                            Ok(found) if !found[0] => {}
                            Ok(_) | Err(DiskError::MediumError(..)) => {
                                states.set(sector, State::Data);
                            }
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(image)
    }
}

/// Of each sector of a run in a stripe, whether its place holds anything but zeros.
async fn holds_data(
    store: &Disk,
    layout: &Layout,
    stripe: u64,
    sectors: Range<u32>,
) -> Result<Vec<bool>, DiskError> {
    let size = layout.sector_size as usize;
    let mut data = vec![0; sectors.len() * size];
    let first = layout.store_sector(layout.data_offset(stripe, sectors.start));
    let host = HostBuffers::from_mut(&mut data);
    store.read_vectored(&host.buffers(), first).await?;
    drop(host);
    let sectors = data.chunks_exact(size);
    Ok(sectors
        .map(|bytes| bytes.iter().any(|byte| *byte != 0))
        .collect())
}

/// The blocks of the log; none where the store cannot read one.
async fn read_log(store: &Disk, layout: &Layout) -> Result<Vec<Option<Box<Block>>>, OpenError> {
    let have = store.sector_count() << store.sector_shift();
    let need = layout.log_offset(layout.log_blocks);
    if have < need {
        return Err(OpenError::TooShort { have, need });
    }
    let mut blocks = Vec::new();
    for block in 0..layout.log_blocks {
        blocks.push(match read_block(store, layout.log_offset(block)).await {
            Ok(block) => Some(block),
            Err(DiskError::MediumError(..)) => None,
            Err(error) => return Err(error.into()),
        });
    }
    Ok(blocks)
}

/// A log as it lies on the store.
struct Log<'a> {
    blocks: &'a [Option<Box<Block>>],
    superblock: &'a Superblock,
}

impl Log<'_> {
    /// The entry that begins here by its header, if it is later than this sequence number, and possible.
    fn entry(&self, at: usize, sequence: u64) -> Option<Entry> {
        let header = self.blocks.get(at)?.as_deref()?;
        let entry = Entry::decode_header(header)?;
        let counts =
            is_possible(&entry, self.superblock) && is_later(&entry, self.superblock, sequence);
        counts.then_some(entry)
    }

    /// An image of an entry that begins here, if it is the one that was written.
    fn image(&self, at: usize, entry: &Entry, index: usize) -> Option<&Block> {
        let header = self.blocks[at].as_deref()?;
        let image = self.blocks.get(at + 1 + index)?.as_deref()?;
        let (epoch, stripe) = (self.superblock.epoch, entry.stripes[index]);
        let is_page = || {
            let content = decode_page(image, epoch, stripe, &self.superblock.layout);
            matches!(content, PageContent::Image(_))
        };
        (Entry::is_image(header, index, image) && is_page()).then_some(image)
    }

    fn is_whole(&self, at: usize, entry: &Entry) -> bool {
        (0..entry.stripes.len()).all(|index| self.image(at, entry, index).is_some())
            && self.is_true(at, entry)
    }

    /// Whether what the images of an entry say is there is so: its copies are, or it was durable.
    fn is_true(&self, at: usize, entry: &Entry) -> bool {
        entry.copies.is_empty()
            || self.has_copies(at, entry)
            || self.was_durable(at, entry.sequence)
    }

    fn has_copies(&self, at: usize, entry: &Entry) -> bool {
        let bytes = self.bytes(at, entry).unwrap_or_default();
        Entry::decode(&bytes).is_some_and(|whole| whole.copies.is_some())
    }

    /// All of an entry, if the store can read it.
    fn bytes(&self, at: usize, entry: &Entry) -> Option<Vec<u8>> {
        let blocks = self.blocks.get(at..at + entry.block_count())?;
        let blocks: Option<Vec<_>> = blocks.iter().map(Option::as_deref).collect();
        Some(blocks?.into_iter().flatten().copied().collect())
    }

    /// What an entry has copies of, if they are needed.
    fn patches(&self, at: usize, entry: &Entry) -> Patches {
        if self.was_durable(at, entry.sequence) {
            return Patches::default();
        }
        let bytes = self.bytes(at, entry).unwrap_or_default();
        let whole = Entry::decode(&bytes);
        whole.map_or_else(Patches::default, |whole| {
            Patches::of(&whole, self.superblock)
        })
    }

    /// Whether an entry that was written later knows that what begins here was durable.
    fn was_durable(&self, at: usize, sequence: u64) -> bool {
        let mut behind = at + 1..self.blocks.len();
        behind.any(|later| {
            let entry = self.entry(later, sequence);
            entry.is_some_and(|entry| entry.durable_blocks as usize > at)
        })
    }

    /// Whether what begins where the whole entries end is more than what a crash has torn: it was durable, or says what none can, or cannot
    /// be read, so that nobody knows.
    fn is_lost(&self, at: usize, sequence: u64) -> bool {
        let Some(block) = self.blocks.get(at) else {
            return false;
        };
        let Some(block) = block else {
            return true;
        };
        let header = Entry::decode_header(block);
        let header = header.filter(|entry| is_later(entry, self.superblock, sequence));
        let is_bad = header.is_some_and(|entry| {
            let there = self.blocks[at..].iter().take(entry.block_count());
            let is_unreadable = there.into_iter().any(Option::is_none);
            let was_written = self.has_copies(at, &entry);
            was_written || is_unreadable || self.entry(at, sequence).is_none()
        });
        is_bad || self.was_durable(at, sequence)
    }
}

impl Found {
    /// Everything in a log that is whole.
    ///
    /// Entries lie one behind the other. Behind the first that is lost one counts if it knows that what lies there was durable: it was written
    /// later. What a failed write has left may be taken for one, if what replaced it is lost: it is older, and true of the data as well.
    fn in_log(blocks: &[Option<Box<Block>>], superblock: &Superblock) -> Self {
        let log = Log { blocks, superblock };
        let unreadable = (0..).zip(blocks).filter(|(_, block)| block.is_none());
        let mut found = Self {
            images: BTreeMap::new(),
            sizes: Sizes {
                sector_count: superblock.sector_count,
                shown_below: superblock.shown_below,
            },
            sequence: superblock.log_sequence,
            lost_from: None,
            lost_images: BTreeMap::new(),
            unknown_after: None,
            unreadable: unreadable.map(|(at, _)| at).collect(),
            patches: Patches::default(),
        };
        let mut end = 0;
        while let Some(entry) = log
            .entry(end, found.sequence)
            .filter(|one| log.is_whole(end, one))
        {
            end = found.take(&log, end, &entry);
        }
        if !log.is_lost(end, found.sequence) {
            return found;
        }
        found.lost_from = Some(end as u32);
        let (first, mut at) = (end, end);
        while at < blocks.len() {
            let entry = log.entry(at, found.sequence);
            let entry = entry.filter(|one| at == first || one.durable_blocks as usize > first);
            let Some(entry) = entry else {
                at += 1;
                continue;
            };
            let is_torn = !log.is_whole(at, &entry) && !log.was_durable(at, entry.sequence);
            if is_torn && at != first {
                break;
            }
            if at > end {
                found.unknown_after = Some(found.sequence);
            }
            at = found.take(&log, at, &entry);
            end = at;
        }
        // What cannot be read where the entries end may have been one more.
        let may_go_on = found.unreadable.iter().any(|block| *block as usize >= end);
        if end == first || may_go_on {
            found.unknown_after = Some(found.sequence);
        }
        found
    }

    /// Takes what is whole of an entry, and returns where it ends.
    fn take(&mut self, log: &Log<'_>, at: usize, entry: &Entry) -> usize {
        let is_true = log.is_true(at, entry);
        for (index, stripe) in entry.stripes.iter().enumerate() {
            match log.image(at, entry, index).filter(|_| is_true) {
                Some(image) => {
                    let image = Box::new(*image);
                    self.images.insert(*stripe, (entry.sequence, image));
                }
                None => _ = self.lost_images.insert(*stripe, entry.sequence),
            }
        }
        self.sequence = entry.sequence;
        self.sizes = Sizes {
            sector_count: entry.sector_count,
            shown_below: entry.shown_below.min(self.sizes.shown_below),
        };
        self.patches = log.patches(at, entry);
        at + entry.block_count()
    }

    /// Whether the page of a stripe that was written with an entry of this number may be older than one that was durable.
    fn may_be_old(&self, stripe: u64, sequence: u64) -> bool {
        let is_unknown = self.unknown_after.is_some_and(|after| sequence <= after);
        let is_lost = self
            .lost_images
            .get(&stripe)
            .is_some_and(|lost| sequence < *lost);
        is_unknown || is_lost
    }
}

/// Adds a range behind others.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
