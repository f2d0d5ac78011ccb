//! What the store of a cache cannot read: it is only a copy, so it becomes absent, and is had from below again.

use crate::change::run;
use crate::core::Core;
use crate::format::{Role, State};
use crate::page::{Begun, Clear, Page, Work, Writing};
use disk_backend::{Disk, DiskError};
use scsi_buffers::BounceBuffer;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How it goes on with a sector.
enum Begin {
    /// With a look at it alone, which says whether it was thrown away.
    Look(Begun, Arc<AtomicBool>),
    After(Arc<Work>),
    /// It is no data any more.
    Gone,
    /// Somebody is about to heal it.
    Kept,
}

impl Core {
    /// Throws away those of some sectors, which were data, that the store cannot read, if they are only copies. Whether any of them is no
    /// data any more, so that it is worth reading again.
    pub(crate) async fn drop_unreadable(
        &self,
        page: &Arc<Page>,
        sectors: Range<u32>,
        error: &DiskError,
    ) -> Result<bool, DiskError> {
        let is_lost = matches!(error, DiskError::MediumError(..));
        if !is_lost || self.role() == Role::Overlay {
            return Ok(false);
        }
        let mut is_changed = false;
        for sector in sectors {
            is_changed |= self.drop_if_unreadable(page, sector).await?;
        }
        Ok(is_changed)
    }

    async fn drop_if_unreadable(&self, page: &Arc<Page>, sector: u32) -> Result<bool, DiskError> {
        loop {
            match self.begin_trial(page, sector)? {
                Begin::Look(begun, is_dropped) => {
                    return match run(&begun.work).await {
                        Ok(()) | Err(DiskError::MediumError(..)) => {
                            Ok(is_dropped.load(Ordering::Relaxed))
                        }
                        Err(error) => Err(error),
                    };
                }
                Begin::After(work) => work.finish().await,
                Begin::Gone => return Ok(true),
                Begin::Kept => return Ok(false),
            }
        }
    }

    fn begin_trial(&self, page: &Arc<Page>, sector: u32) -> Result<Begin, DiskError> {
        let copy = BounceBuffer::unpooled(self.layout.sector_size as usize);
        let copy = copy.map_err(|_| DiskError::NoSpace)?;
        let at = self.data_sector(page.stripe, sector);
        let sectors = sector..sector + 1;
        let mut inner = page.lock();
        if let Some(work) = inner.work_on(&sectors) {
            return Ok(Begin::After(work));
        }
        if inner.states.get(sector) != State::Data {
            return Ok(Begin::Gone);
        }
        // A write over data, in a layer that does not verify it: it may end before the look does.
        if inner.idle_run(sector, sector + 1).is_none() {
            return Ok(Begin::Kept);
        }
        let this = self.this.clone();
        let is_dropped = Arc::<AtomicBool>::default();
        let dropped = Arc::clone(&is_dropped);
        let body = async move |store: Disk, writing: Writing| {
            let result = store.read_vectored(&copy.buffers(true), at).await;
            if let (Err(DiskError::MediumError(..)), Some(core)) = (&result, this.upgrade()) {
                dropped.store(core.drop_copy(&writing), Ordering::Relaxed);
            }
            result
        };
        let begun = self.begin_work(page, &mut inner, sectors, body);
        Ok(Begin::Look(begun, is_dropped))
    }

    /// Makes a sector absent whose reading has failed, if it is a copy. Who writes there waits for `writing`, and nobody was at it when that began; a clear,
    /// in a layer that does not verify its data, does not wait: it has healed what it touched, or is about to.
    fn drop_copy(&self, writing: &Writing) -> bool {
        let page = writing.page();
        let sectors = writing.sectors.clone();
        let number = page.stripe * u64::from(self.layout.stripe_sectors) + u64::from(sectors.start);
        let _change = self.journal.begin_change();
        let mut inner = page.lock();
        if number >= self.shown_below() || !inner.is_untouched(writing) {
            return false;
        }
        tracing::warn!(
            sector = number,
            offset = self.layout.data_offset(page.stripe, sectors.start),
            layer = format!("{:032x}", u128::from_be_bytes(self.layer_id)),
            "the store cannot read a sector of a cache: it is filled again"
        );
        inner.clear(sectors, Clear::Evict, true);
        if !self.store.is_read_only() {
            self.note_dirty(&mut inner, page.stripe);
        }
        true
    }
}
