//! Long work on a layer that nobody else uses.

use crate::core::Core;
use crate::error::OpenError;
use crate::format::State;
use crate::journal;
use crate::layer::DurableLayer;
use crate::open::DurableOptions;
use crate::page::Clear;
use disk_backend::{Disk, DiskError};
use disk_layered::LayerIo;
use scsi_buffers::HostBuffers;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// How much is read at once, in bytes.
const READ_BYTES_MAX: u64 = 1 << 20;

/// What [`compact`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compacted {
    /// How many sectors held data that was zero, and take no space any more.
    pub zeroed_sectors: u64,
    /// How many bytes shorter the store is.
    pub store_bytes_less: u64,
    /// Whether all was done; otherwise it was stopped.
    pub is_complete: bool,
}

/// Makes a layer take no more space than it needs: data that is zero becomes zeros, what holds no data is given back to the store, and
/// the store becomes as short as it can be. `progress` is told how many steps of how many are done, and may end it.
///
/// A crash does no harm. Nobody else may use the layer meanwhile.
///
/// # Errors
/// As for opening it, and those of the store.
pub async fn compact(
    store: Disk,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Compacted, OpenError> {
    let layer = DurableLayer::open(store.clone(), &DurableOptions::default()).await?;
    let core = layer.core();
    // The log may have images of stripes beyond the end: they need their places, which the store loses below.
    journal::begin_use(core).await?;
    let mut done = Compacted::default();
    let stripes = core.layout.stripe_count(core.sector_count());
    for stripe in 0..stripes {
        if progress(stripe, 2 * stripes).is_break() {
            layer.close().await?;
            return Ok(done);
        }
        done.zeroed_sectors += zero_stripe(core, stripe).await?;
    }
    layer.close().await?;
    for stripe in 0..stripes {
        if progress(stripes + stripe, 2 * stripes).is_break() {
            layer.close().await?;
            return Ok(done);
        }
        core.punch(
            stripe,
            0..core.layout.stripe_sectors.min(sectors_of(core, stripe)),
        )
        .await;
    }
    layer.close().await?;
    _ = progress(2 * stripes, 2 * stripes);
    done.is_complete = true;
    let need = core
        .layout
        .store_bytes(core.sector_count())
        .unwrap_or(u64::MAX);
    let have = store.sector_count() << store.sector_shift();
    drop(layer);
    if need < have {
        match store.resize(need >> store.sector_shift()).await {
            Ok(()) => {
                store.sync_cache().await?;
                done.store_bytes_less = have - need;
            }
            Err(DiskError::Unsupported) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Puts everything in its place, and writes both superblocks: after a crash, or if one of them is damaged. What is damaged otherwise
/// stays so, and loses nothing more. In a layer that verifies its data, what is there of data without a checksum is taken for right.
///
/// # Errors
/// As for opening it, and those of the store.
pub async fn repair(store: Disk) -> Result<(), OpenError> {
    repair_with(store, |_, _| ControlFlow::Continue(())).await
}

/// The same, watched: `progress` is told how many stripes of how many are done, and may end it. What is done stays so.
///
/// # Errors
/// As for [`repair()`], and [`OpenError::Stopped`].
pub async fn repair_with(
    store: Disk,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let layer = DurableLayer::open(store, &DurableOptions::default()).await?;
    let core = layer.core();
    journal::begin_use(core).await?;
    if core.layout.is_verified() {
        let stripes = core.layout.stripe_count(core.sector_count());
        for stripe in 0..stripes {
            if progress(stripe, stripes).is_break() {
                layer.close().await?;
                return Err(OpenError::Stopped);
            }
            core.learn(stripe).await?;
        }
        _ = progress(stripes, stripes);
    }
    layer.close().await?;
    Ok(())
}

/// Gives a layer another size. What it gains is zero, and what it loses is lost. Nobody else may use it meanwhile.
///
/// # Errors
/// As for opening it, and those of [`LayerIo::resize`].
pub async fn resize(store: Disk, sector_count: u64) -> Result<(), OpenError> {
    let layer = DurableLayer::open(store, &DurableOptions::default()).await?;
    let resized = LayerIo::resize(&layer, sector_count).await;
    layer.close().await?;
    Ok(resized?)
}

/// How many sectors of a stripe the layer has.
fn sectors_of(core: &Core, stripe: u64) -> u32 {
    core.within(stripe, core.sector_count())
}

/// Makes zeros of the data of a stripe that is zero; returns how many sectors that were.
async fn zero_stripe(core: &Arc<Core>, stripe: u64) -> Result<u64, DiskError> {
    let page = core.page(stripe).await?;
    let begin = stripe * u64::from(core.layout.stripe_sectors);
    let (mut at, end) = (0, sectors_of(core, stripe));
    let mut zeroed = 0;
    while at < end {
        let (state, run_end) = page.lock().states.run(at, end);
        let sectors_max = (READ_BYTES_MAX >> core.layout.sector_shift()) as u32;
        let run_end = match state {
            State::Data => run_end.min(at + sectors_max),
            State::Zero | State::Absent => run_end,
        };
        if state == State::Data {
            for zeros in zero_runs(core, stripe, at..run_end).await? {
                zeroed += u64::from(zeros.end - zeros.start);
                let range = begin + u64::from(zeros.start)..begin + u64::from(zeros.end);
                let clear = Clear::Zero {
                    next_is_zero: false,
                };
                core.clear(range, clear, true).await?;
            }
        }
        at = run_end;
    }
    Ok(zeroed)
}

/// The runs of sectors whose data is zero.
async fn zero_runs(
    core: &Core,
    stripe: u64,
    sectors: Range<u32>,
) -> Result<Vec<Range<u32>>, DiskError> {
    let size = core.layout.sector_size as usize;
    let mut data = vec![0; sectors.len() * size];
    let host = HostBuffers::from_mut(&mut data);
    let first = core.data_sector(stripe, sectors.start);
    core.store.read_vectored(&host.buffers(), first).await?;
    let wrong = core.wrong(stripe, &sectors, &host.buffers()).await?;
    drop(host);
    let mut runs: Vec<Range<u32>> = Vec::new();
    for (sector, bytes) in (sectors.start..).zip(data.chunks_exact(size)) {
        // Zeros that were not written are the trace of what was lost, and stay an error.
        if bytes.iter().any(|byte| *byte != 0) || wrong.contains(&sector) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == sector => last.end += 1,
            _ => runs.push(sector..sector + 1),
        }
    }
    Ok(runs)
}
