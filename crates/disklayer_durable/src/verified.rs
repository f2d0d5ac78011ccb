//! What is known of the checksums of a stripe, in a layer that verifies its data.
//!
//! A write in place and its record are two things, and a crash may come between them. So a record vouches for data only while nobody
//! writes there. Invariants:
//! - V1: a checksum is *known* from the end of a write that was alone on its sector, and that succeeded, to the beginning of the next one.
//!   What is known is true of the store, and a reader demands it.
//! - V2: a sector is *sealed* if an image that the store may show after a crash has a checksum of it. Nothing is written to a sealed
//!   sector. What is sealed is sealed before such an image is written, and opened when one without the checksum is durable.
//! - V3: so an image that has a checksum of a sector is true of each state that a crash can leave, of old, new and torn data: no crash
//!   makes a sector fail.
//! - V4: a stripe of which sealed data is to be written over is *open* from then on: its images vouch for nothing of its data. It is
//!   closed with a flush, when nobody writes there and nobody wants to; that flush takes the checksums that are known on record. What is
//!   known of an open stripe is known in memory only, so its page stays there. A write opens all its stripes at once, and as many behind them
//!   as are open before: so a long write in order takes a flush for some MiB, and not for each stripe.
//! - V5: all that is written to the data of such a layer is work (P2) from memory of its own (C3): so the order of two writes is known,
//!   and with it the checksum. A clear waits for the work on data.

use crate::core::Core;
use crate::format::{Marks, PageImage, State, Sums};
use crate::journal::flush;
use crate::page::{Inner, Page};
use disk_backend::DiskError;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) sums: Sums,
    sealed: Marks,
    is_open: bool,
    /// How many want to write to what is sealed.
    openers: usize,
    /// How many flushes there had been when it was last written.
    written_at: u64,
}

impl Verified {
    /// Of an image that lies on the store.
    pub(crate) fn found(sums: Sums) -> Self {
        Self {
            sealed: sums.known().clone(),
            sums,
            is_open: false,
            openers: 0,
            written_at: 0,
        }
    }

    pub(crate) fn is_sealed(&self, sectors: Range<u32>) -> bool {
        self.sealed.has_any(sectors)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// A write begins: it waits for nothing any more.
    pub(crate) fn begin(&mut self, sectors: Range<u32>, flushes: u64) {
        debug_assert!(
            !self.is_sealed(sectors.clone())
                || planted::is_active(planted::Bug::OverwriteBeforeMark),
            "V2"
        );
        self.sums.forget(sectors);
        self.written_at = flushes;
    }

    /// What its next image says, which is about to be written (V2).
    pub(crate) fn seal(&mut self) -> Sums {
        let mut said = self.sums.clone();
        if self.is_open {
            said = Sums::new_like(&said);
        }
        self.sealed.add_all(said.known());
        said
    }

    /// An image is durable that says this.
    pub(crate) fn confirm(&mut self, said: &Sums) {
        self.sealed = said.known().clone();
    }
}

/// Somebody wants to write to what is sealed: the stripe stays open until this is dropped (V4).
pub(crate) struct Opening {
    page: Arc<Page>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(verified) = &mut self.page.lock().verified {
            verified.openers -= 1;
        }
    }
}

/// So many stripes of a write are opened with one flush, at the most, and so many ahead of it.
pub(crate) const OPENED_STRIPES_MAX: u64 = 64;

/// An open stripe is closed after so many flushes for so many open ones, if that is more than for one: then few of those that are written
/// at random, with a flush after each write, are closed before their turn comes again.
const STRIPES_PER_WAIT: u64 = 4;

impl Core {
    /// Opens what is sealed of these sectors, which are about to be written, with one flush (V4).
    pub(crate) async fn open_all(
        self: &Arc<Self>,
        sectors: Range<u64>,
    ) -> Result<Vec<Opening>, DiskError> {
        let mut openings = Vec::new();
        let mut last = 0;
        for part in self.layout.parts(sectors) {
            let page = self.page(part.stripe).await?;
            last = part.stripe;
            openings.extend(self.open_sealed(&page, part.sectors));
        }
        let Some(first) = openings.first() else {
            return Ok(openings);
        };
        let ahead = self.open_before(first.page.stripe);
        let stripes = self.layout.stripe_count(self.sector_count());
        let mut opened_ahead = Vec::new();
        for stripe in (last + 1..stripes).take(ahead) {
            // It is only a guess: what is wrong there is no concern of this write.
            let Ok(page) = self.page(stripe).await else {
                break;
            };
            opened_ahead.extend(self.open_sealed(&page, 0..self.layout.stripe_sectors));
        }
        flush(self).await?;
        Ok(openings)
    }

    /// How many stripes are open right before one, as far as that matters.
    fn open_before(&self, stripe: u64) -> usize {
        let open = self.journal.open.lock();
        let max = self.opened_stripes_max();
        let before = (stripe.saturating_sub(max)..stripe).rev();
        before.take_while(|stripe| open.contains(stripe)).count()
    }

    /// So many stripes are opened at once.
    pub(crate) fn opened_stripes_max(&self) -> u64 {
        OPENED_STRIPES_MAX.min(self.cache.pages_max() as u64 / 4)
    }

    fn open_sealed(&self, page: &Arc<Page>, sectors: Range<u32>) -> Option<Opening> {
        let mut inner = page.lock();
        let has_sealed_data = sectors.into_iter().any(|sector| {
            inner.states.get(sector) == State::Data && self.is_sealed(&inner, &(sector..sector + 1))
        });
        match has_sealed_data {
            true => self.open(page, &mut inner),
            false => None,
        }
    }

    /// Opens a stripe, with its page locked: sealed sectors of it can be written after a flush that begins later.
    pub(crate) fn open(&self, page: &Arc<Page>, inner: &mut Inner) -> Option<Opening> {
        let verified = inner.verified.as_mut()?;
        verified.openers += 1;
        verified.is_open = true;
        verified.written_at = self.journal.flushes.load(Ordering::Relaxed);
        self.journal.open.lock().insert(page.stripe);
        self.note_dirty(inner, page.stripe);
        Some(Opening {
            page: Arc::clone(page),
        })
    }

    /// Closes stripes at the beginning of a flush: now and then those that were not written for long, or all of them.
    pub(crate) fn close_some_stripes(&self) {
        if !self.layout.is_verified() {
            return;
        }
        let after = self.journal.close_after_flushes;
        let count = self.journal.flushes.fetch_add(1, Ordering::Relaxed) + 1;
        if self.journal.closes_all.swap(false, Ordering::Relaxed) {
            self.close_stripes(0);
        } else if count.is_multiple_of(after) {
            let open = self.journal.open.lock().len() as u64;
            self.close_stripes(after.saturating_mul((open / STRIPES_PER_WAIT).max(1)));
        }
    }

    /// Closes stripes that were not written during the last `flushes` flushes, before the dirty pages are taken (V4).
    fn close_stripes(&self, flushes: u64) {
        let now = self.journal.flushes.load(Ordering::Relaxed);
        let open: Vec<u64> = self.journal.open.lock().iter().copied().collect();
        for stripe in open {
            let page = self.page_in_memory(stripe).expect("H1: open pages stay");
            let mut inner = page.lock();
            let is_idle = inner.is_idle();
            let Some(verified) = &mut inner.verified else {
                continue;
            };
            let is_wanted = verified.openers > 0 || now - verified.written_at < flushes;
            if !is_idle || is_wanted {
                continue;
            }
            verified.is_open = false;
            self.journal.open.lock().remove(&stripe);
            self.note_dirty(&mut inner, stripe);
        }
    }
}

impl Inner {
    /// What an image says that is about to be written.
    pub(crate) fn take_image(&mut self) -> PageImage {
        PageImage {
            states: self.states.clone(),
            sums: self.verified.as_mut().map(|verified| verified.seal()),
        }
    }
}
