//! Looking at a layer on its store, without changing it.

use crate::core::read_block;
use crate::error::OpenError;
use crate::format::{
    BLOCK_BYTES, Binding, PageContent, PageImage, Role, SUPERBLOCK_OFFSETS, State, States, Sums,
    Superblock, Verify, decode_page, sums_of,
};
use crate::journal::Recovered;
use crate::open::{read_superblock, recover, superblock};
use disk_backend::{Disk, DiskError};
use scsi_buffers::HostBuffers;
use std::ops::ControlFlow;

/// How a layer was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It was closed: everything is in its place.
    Clean,
    /// It was not closed, or is in use. Nothing is wrong with that.
    Crashed,
    /// Something of it cannot be read any more.
    Damaged,
}

/// Something that is wrong with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where it is on the store, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The sectors of the layer that cannot be read: the first, and how many. None if it costs no sector.
    pub sectors: Option<(u64, u64)>,
    /// Whether it is data that is lost, and the record of it is not: then a [salvage](crate::salvage()) has nothing to do with it.
    pub is_data: bool,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// How the layer was left.
    pub condition: Condition,
    /// What is wrong, in the order of the store.
    pub damage: Vec<Damage>,
    /// How many sectors hold data.
    pub data_sectors: u64,
    /// How many are zero, and take no space.
    pub zero_sectors: u64,
    /// How many are absent.
    pub absent_sectors: u64,
    /// Of a layer that verifies its data, how many sectors of data are what their checksums say.
    pub verified_sectors: u64,
    /// Of how many no checksum is on record: in a layer that verifies its data those that were written over not long before it was left
    /// without being closed; otherwise all.
    pub unverified_sectors: u64,
    /// How many are not what their checksums say, or cannot be read: `damage` has them.
    pub bad_sectors: u64,
}

/// What a layer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInfo {
    /// Its identity.
    pub layer_id: [u8; 16],
    /// Its size in sectors.
    pub sector_count: u64,
    /// The size of a sector in bytes.
    pub sector_size: u32,
    /// From this sector on, what is absent reads zero.
    pub shown_below: u64,
    /// How many sectors share a page.
    pub stripe_sectors: u32,
    /// The length of the log in blocks of 4096 bytes.
    pub log_blocks: u32,
    /// How many of them are used.
    pub log_blocks_used: u32,
    /// What it keeps checksums of.
    pub verify: Verify,
    /// What it is used for.
    pub role: Role,
    /// What it lies on.
    pub binding: Binding,
    /// Whether it is in use, or was not closed.
    pub is_in_use: bool,
    /// How long the store must be, in bytes.
    pub store_bytes: u64,
}

/// What a run of sectors is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Absent: what lies below shows.
    Absent,
    /// Zero.
    Zero,
    /// Data.
    Data,
}

/// Sectors of which the same is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The first.
    pub sector: u64,
    /// How many.
    pub sector_count: u64,
    /// What they are.
    pub state: RunState,
}

/// A layer as it lies on its store.
struct Found {
    superblock: Superblock,
    recovered: Recovered,
}

impl Found {
    async fn on(store: &Disk) -> Result<Self, OpenError> {
        let (superblock, _) = superblock(store).await?;
        let recovered = recover(store, &superblock).await?;
        Ok(Self {
            superblock,
            recovered,
        })
    }

    fn stripe_count(&self) -> u64 {
        let sizes = self.recovered.sizes;
        self.superblock.layout.stripe_count(sizes.sector_count)
    }

    /// The page of a stripe, and where it is.
    async fn page(&self, store: &Disk, stripe: u64) -> Result<(u64, PageContent), DiskError> {
        let layout = &self.superblock.layout;
        let offset = match self.recovered.images.get(&stripe) {
            Some(image) => layout.log_offset(image.block),
            None => layout.page_offset(stripe),
        };
        let block = read_block(store, offset).await?;
        let epoch = self.superblock.epoch;
        let content = decode_page(&block, epoch, stripe, layout);
        let content = content.believed(&block, self.superblock.sums_after);
        Ok(match self.recovered.images.contains_key(&stripe) {
            true => (offset, content.in_log()),
            false => (offset, content),
        })
    }

    /// The sectors of a stripe that the layer has: the first, and how many.
    fn sectors(&self, stripe: u64) -> (u64, u64) {
        let length = u64::from(self.superblock.layout.stripe_sectors);
        let first = stripe * length;
        let count = self.recovered.sizes.sector_count - first;
        (first, count.min(length))
    }

    /// The runs of a stripe.
    fn runs(&self, stripe: u64, states: &States, mut each: impl FnMut(Run)) {
        let (first, count) = self.sectors(stripe);
        let shown = self.recovered.sizes.shown_below.saturating_sub(first);
        let mut at = 0;
        while u64::from(at) < count {
            let (state, mut end) = states.run(at, count as u32);
            let is_shown = u64::from(at) < shown;
            if state == State::Absent && is_shown {
                end = u64::from(end).min(shown) as u32;
            }
            each(Run {
                sector: first + u64::from(at),
                sector_count: u64::from(end - at),
                state: match state {
                    State::Data => RunState::Data,
                    State::Absent if is_shown => RunState::Absent,
                    State::Absent | State::Zero => RunState::Zero,
                },
            });
            at = end;
        }
    }
}

/// What a layer says of itself: its superblocks and its log, and nothing else is read.
///
/// # Errors
/// As for opening it.
pub async fn info(store: &Disk) -> Result<LayerInfo, OpenError> {
    let Found {
        superblock,
        recovered,
    } = Found::on(store).await?;
    let sizes = recovered.sizes;
    Ok(LayerInfo {
        layer_id: superblock.layer_id,
        sector_count: sizes.sector_count,
        sector_size: superblock.layout.sector_size,
        shown_below: sizes.shown_below,
        stripe_sectors: superblock.layout.stripe_sectors,
        log_blocks: superblock.layout.log_blocks,
        log_blocks_used: recovered.position,
        verify: superblock.layout.verify,
        role: superblock.role,
        binding: superblock.binding,
        is_in_use: superblock.is_in_use,
        store_bytes: superblock
            .layout
            .store_bytes(sizes.sector_count)
            .unwrap_or(u64::MAX),
    })
}

/// Reads every page, and of a layer that verifies its data all of that, and says what is wrong. `progress` is told how many stripes of how many have been looked at, and may
/// end it. Nothing is written.
///
/// # Errors
/// If there is no layer to look at, or the store cannot be read.
pub async fn check(
    store: &Disk,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<CheckReport, OpenError> {
    let found = Found::on(store).await?;
    let mut report = CheckReport {
        condition: match found.superblock.is_in_use {
            true => Condition::Crashed,
            false => Condition::Clean,
        },
        damage: superblock_damage(store, &found.superblock).await?,
        data_sectors: 0,
        zero_sectors: 0,
        absent_sectors: 0,
        verified_sectors: 0,
        unverified_sectors: 0,
        bad_sectors: 0,
    };
    let have = store.sector_count() << store.sector_shift();
    for stripe in 0..found.stripe_count() {
        if progress(stripe, found.stripe_count()).is_break() {
            return Err(OpenError::Stopped);
        }
        let end = found.superblock.layout.page_offset(stripe) + BLOCK_BYTES as u64;
        if end > have {
            let what = "the store ends before this page".to_owned();
            let (first, _) = found.sectors(stripe);
            let lost = found.recovered.sizes.sector_count - first;
            report.damage.push(Damage {
                offset: end - BLOCK_BYTES as u64,
                what,
                sectors: Some((first, lost)),
                is_data: false,
            });
            break;
        }
        match found.page(store, stripe).await? {
            (offset, PageContent::Damaged(why)) => report.damage.push(Damage {
                offset,
                what: format!("the page of stripe {stripe} is damaged: {why}"),
                sectors: Some(found.sectors(stripe)),
                is_data: false,
            }),
            (_, content) => {
                let image = image_of(content, &found);
                let mut data = Vec::new();
                found.runs(stripe, &image.states, |run| {
                    *match run.state {
                        RunState::Absent => &mut report.absent_sectors,
                        RunState::Zero => &mut report.zero_sectors,
                        RunState::Data => &mut report.data_sectors,
                    } += run.sector_count;
                    data.extend((run.state == RunState::Data).then_some(run));
                });
                let sums = image.sums.as_ref();
                for run in data {
                    verify_run(store, &found, sums, &run, &mut report).await?;
                }
            }
        }
    }
    _ = progress(found.stripe_count(), found.stripe_count());
    let need = found
        .superblock
        .layout
        .store_bytes(found.recovered.sizes.sector_count);
    if report.damage.is_empty() && need.is_none_or(|need| have < need) {
        let what = "the store ends before the last sector".to_owned();
        report.damage.push(Damage {
            offset: have,
            what,
            sectors: Some(found.sectors(found.stripe_count() - 1)),
            is_data: false,
        });
    }
    if !report.damage.is_empty() {
        report.condition = Condition::Damaged;
    }
    Ok(report)
}

/// Copies of the superblock that are of no use. One is enough; but a crash may have torn one that was being written.
async fn superblock_damage(store: &Disk, used: &Superblock) -> Result<Vec<Damage>, DiskError> {
    let mut damage = Vec::new();
    for offset in SUPERBLOCK_OFFSETS {
        match read_superblock(store, offset).await? {
            // Torn by the crash of a program that was writing it: the next superblock is written there.
            Err(_) if used.is_in_use => {}
            Err(bad) => damage.push(Damage {
                offset,
                what: format!("a copy of the superblock is of no use: {bad}"),
                sectors: None,
                is_data: false,
            }),
            Ok(_) => {}
        }
    }
    Ok(damage)
}

/// Tells `each` what every sector is, in order, until it wants no more.
///
/// # Errors
/// As for opening it; and the first page that is damaged.
pub async fn map(
    store: &Disk,
    mut each: impl FnMut(Run) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let found = Found::on(store).await?;
    let mut last: Option<Run> = None;
    for stripe in 0..found.stripe_count() {
        let (offset, content) = found.page(store, stripe).await?;
        if let PageContent::Damaged(why) = content {
            return Err(OpenError::Store(crate::core::damaged(stripe, offset, why)));
        }
        let states = image_of(content, &found).states;
        let mut ready = Vec::new();
        found.runs(stripe, &states, |run| match &mut last {
            Some(last) if last.state == run.state => last.sector_count += run.sector_count,
            _ => ready.extend(last.replace(run)),
        });
        if ready.into_iter().try_for_each(&mut each).is_break() {
            return Ok(());
        }
    }
    _ = last.into_iter().try_for_each(each);
    Ok(())
}

fn image_of(content: PageContent, found: &Found) -> PageImage {
    match content {
        PageContent::Image(image) => image,
        PageContent::Never { .. } | PageContent::Damaged(_) => {
            PageImage::absent(&found.superblock.layout)
        }
    }
}

/// Holds a run of data, which lies in one stripe, against its checksums.
async fn verify_run(
    store: &Disk,
    found: &Found,
    sums: Option<&Sums>,
    run: &Run,
    report: &mut CheckReport,
) -> Result<(), DiskError> {
    let Some(sums) = sums else {
        report.unverified_sectors += run.sector_count;
        return Ok(());
    };
    let layout = &found.superblock.layout;
    let stripe = run.sector / u64::from(layout.stripe_sectors);
    let begin = stripe * u64::from(layout.stripe_sectors);
    let within = (run.sector - begin) as u32;
    let first = layout.store_sector(layout.data_offset(stripe, within));
    let mut data = vec![0; (run.sector_count << layout.sector_shift()) as usize];
    let lost = read_all(store, first, &mut data).await?;
    let size = layout.sector_size as usize;
    let host = HostBuffers::from_ref(&data);
    let made = sums_of(&host.buffers(), run.sector, size).map_err(DiskError::from)?;
    for (index, sum) in (0..).zip(made) {
        let sector = within + index;
        let what = match sums.get(sector) {
            _ if lost.contains(&u64::from(index)) => "the store cannot read data",
            Some(known) if known != sum => "data is not what was written: its checksum is wrong",
            Some(_) => {
                report.verified_sectors += 1;
                continue;
            }
            None => {
                report.unverified_sectors += 1;
                continue;
            }
        };
        report.bad_sectors += 1;
        let sector = begin + u64::from(sector);
        let last = report.damage.last_mut().filter(|last| last.what == what);
        match last.and_then(|last| last.sectors.as_mut()) {
            Some((first, count)) if *first + *count == sector => *count += 1,
            _ => report.damage.push(Damage {
                offset: layout.data_offset(stripe, (sector - begin) as u32),
                what: what.to_owned(),
                sectors: Some((sector, 1)),
                is_data: true,
            }),
        }
    }
    Ok(())
}

/// Reads from a sector of the store on; returns which sectors the store has lost, counted from there.
async fn read_all(store: &Disk, first: u64, data: &mut [u8]) -> Result<Vec<u64>, DiskError> {
    let host = HostBuffers::from_mut(data);
    match store.read_vectored(&host.buffers(), first).await {
        Ok(()) => return Ok(Vec::new()),
        Err(DiskError::MediumError(..)) => {}
        Err(error) => return Err(error),
    }
    drop(host);
    let mut lost = Vec::new();
    let size = store.sector_size() as usize;
    for (index, sector) in (0..).zip(data.chunks_mut(size)) {
        let host = HostBuffers::from_mut(sector);
        match store.read_vectored(&host.buffers(), first + index).await {
            Ok(()) => {}
            Err(DiskError::MediumError(..)) => lost.push(index),
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}
