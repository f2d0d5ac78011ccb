//! Another size.
//!
//! Invariants:
//! - Z1: one resize at a time; who begins one finishes those before it.
//! - Z2: nothing beyond the end is cleared before the end is on record: otherwise a crash could bring back the sectors without what they
//!   held.
//! - Z3: before the layer grows, everything that it gains is absent, whatever a larger layer left there, and so reads zero: the mark is
//!   never beyond a size that the layer has had (C10).

use crate::core::{Core, other};
use crate::journal::{begin_use, flush};
use crate::page::Clear;
use disk_backend::DiskError;
use operation::Operation;
use std::sync::Arc;

/// Changes the size to so many sectors.
pub(crate) async fn resize(core: &Arc<Core>, sector_count: u64) -> Result<(), DiskError> {
    if core.store.is_read_only() {
        return Err(DiskError::ReadOnly);
    }
    if sector_count == 0 {
        return Err(DiskError::InvalidInput);
    }
    if core.layout.store_bytes(sector_count).is_none() {
        return Err(DiskError::NoSpace);
    }
    let _change = core.journal.begin_change();
    begin_use(core).await?;
    let work = {
        let mut last = core.resizing.lock();
        let core = Arc::clone(core);
        let body = async move { resize_now(&core, sector_count).await };
        // Z1
        let work = Operation::new(last.take().into_iter().collect(), Box::pin(body));
        *last = Some(Arc::clone(&work));
        work
    };
    let result = work.run().await;
    result.unwrap_or_else(|| Err(other("the resize panicked in another request")))
}

async fn resize_now(core: &Arc<Core>, sector_count: u64) -> Result<(), DiskError> {
    // Whoever began it may have gone away.
    let _change = core.journal.begin_change();
    let old = core.sector_count();
    match sector_count < old {
        true => {
            core.set_sector_count(sector_count);
            core.resized.notify(usize::MAX);
            // Z2. Otherwise the space comes back when the layer grows.
            if flush(core).await.is_ok() {
                let _ = core.clear(sector_count..old, Clear::Cut, true).await;
            }
            Ok(())
        }
        false => grow(core, old, sector_count).await,
    }
}

async fn grow(core: &Arc<Core>, old: u64, new: u64) -> Result<(), DiskError> {
    let needed = core.layout.store_bytes(new).ok_or(DiskError::NoSpace)?;
    let needed = core.layout.store_sector(needed);
    let had = core.store.sector_count();
    if had < needed {
        core.store.resize(needed).await?;
    }
    // Z2
    if core.journal.logged() != core.sizes() {
        flush(core).await?;
    }
    // Z3. What the store has gained is zero, and so are the pages there.
    let had_sectors = core
        .layout
        .sectors_within(had << core.layout.sector_shift());
    let end = new.min(had_sectors);
    if old < end {
        core.clear(old..end, Clear::Cut, true).await?;
    }
    core.set_sector_count(new);
    core.resized.notify(usize::MAX);
    Ok(())
}
