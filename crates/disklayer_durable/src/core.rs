//! What the layer and its operations share, and how pages come into memory.

use crate::cache::{Cache, Found, PAGE_COST_BYTES, SUMMED_PAGE_COST_BYTES};
use crate::copies::Copies;
use crate::format::{
    BLOCK_BYTES, Block, Layout, PageContent, PageImage, Role, State, Verify, decode_page,
};
use crate::joint::Joint;
use crate::journal::Journal;
use crate::page::{Inner, Page, Work};
use disk_backend::{Disk, DiskError, MediumErrorDetails};
use event_listener::Event;
use operation::Operation;
use parking_lot::Mutex;
use scsi_buffers::{BounceBuffer, HostBuffers, RequestBuffers};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A size, and the mark that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) sector_count: u64,
    /// From this sector on, what is absent reads zero whatever lies below (L5, C10).
    pub(crate) shown_below: u64,
}

/// A layer on its store.
pub(crate) struct Core {
    pub(crate) store: Disk,
    pub(crate) layout: Layout,
    pub(crate) epoch: u64,
    pub(crate) layer_id: [u8; 16],
    /// Only a salvage changes it.
    sums_after: u64,
    role: Role,
    /// Both are changed with `sizing` locked; what is absent is looked at before the mark.
    sector_count: AtomicU64,
    shown_below: AtomicU64,
    sizing: Mutex<()>,
    pub(crate) cache: Cache,
    pub(crate) journal: Journal,
    pub(crate) copies: Copies,
    /// How many sectors failed their check when they were read.
    pub(crate) mismatches: AtomicU64,
    /// The last resize.
    pub(crate) resizing: Mutex<Option<Arc<Work>>>,
    pub(crate) resized: Event,
    /// For operations, which must not keep it.
    pub(crate) this: Weak<Self>,
}

impl Core {
    pub(crate) fn new(
        store: Disk,
        journal: Journal,
        sizes: Sizes,
        cache_bytes: usize,
    ) -> Arc<Self> {
        let superblock = journal.superblock();
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            store,
            layout: superblock.layout,
            epoch: superblock.epoch,
            layer_id: superblock.layer_id,
            sums_after: superblock.sums_after,
            role: superblock.role,
            sector_count: AtomicU64::new(sizes.sector_count),
            shown_below: AtomicU64::new(sizes.shown_below),
            sizing: Mutex::new(()),
            cache: Cache::new(
                cache_bytes,
                match superblock.layout.verify {
                    Verify::Metadata => PAGE_COST_BYTES,
                    Verify::Data => SUMMED_PAGE_COST_BYTES,
                },
            ),
            mismatches: AtomicU64::new(0),
            journal,
            copies: Copies::new(superblock.logs_data && superblock.role == Role::Overlay),
            resizing: Mutex::new(None),
            resized: Event::new(),
        })
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn sector_count(&self) -> u64 {
        self.sector_count.load(Ordering::Acquire)
    }

    pub(crate) fn shown_below(&self) -> u64 {
        self.shown_below.load(Ordering::Acquire)
    }

    /// Both, of one instant.
    pub(crate) fn sizes(&self) -> Sizes {
        let _sizing = self.sizing.lock();
        Sizes {
            sector_count: self.sector_count(),
            shown_below: self.shown_below(),
        }
    }

    /// Changes the size; the mark never goes up. It goes down first.
    pub(crate) fn set_sector_count(&self, sector_count: u64) {
        let _sizing = self.sizing.lock();
        self.shown_below.fetch_min(sector_count, Ordering::AcqRel);
        self.sector_count.store(sector_count, Ordering::Release);
    }

    /// What the layer below does not have now, and may have later, is not to be seen (L5). On record with the next flush.
    pub(crate) fn lower_mark(&self, sector_count: u64) {
        let _sizing = self.sizing.lock();
        self.shown_below.fetch_min(sector_count, Ordering::AcqRel);
    }

    /// Whether sectors lie inside of the layer: to be asked with a page of theirs locked.
    pub(crate) fn check_end(&self, end: u64) -> Result<(), DiskError> {
        match end <= self.sector_count() {
            true => Ok(()),
            false => Err(DiskError::IllegalBlock),
        }
    }

    /// How many sectors of a stripe lie before `sector`.
    pub(crate) fn within(&self, stripe: u64, sector: u64) -> u32 {
        let begin = stripe * u64::from(self.layout.stripe_sectors);
        let within = sector.saturating_sub(begin);
        within.min(u64::from(self.layout.stripe_sectors)) as u32
    }

    /// What a sector of a stripe is to those who read, and where the run of that ends: absent ones beyond the mark are zeros.
    pub(crate) fn run(&self, inner: &Inner, stripe: u64, at: u32, end: u32) -> (State, u32) {
        let (state, run_end) = inner.states.run(at, end);
        if state != State::Absent {
            return (state, run_end);
        }
        // Looked at after the states, which a shrink clears when the mark is down.
        let shown = self.within(stripe, self.shown_below());
        match at < shown {
            true => (State::Absent, run_end.min(shown)),
            false => (State::Zero, run_end),
        }
    }

    /// The first sector of the store that holds the data of a sector of a stripe.
    pub(crate) fn data_sector(&self, stripe: u64, sector: u32) -> u64 {
        self.layout
            .store_sector(self.layout.data_offset(stripe, sector))
    }

    /// The page of a stripe. What it is loaded from may change while it is read: then it is read again.
    pub(crate) async fn page(&self, stripe: u64) -> Result<Arc<Page>, DiskError> {
        loop {
            let evictions = match self.cache.find(stripe) {
                Found::Page(page) => return Ok(page),
                Found::Missing(evictions) => evictions,
            };
            let image = self.journal.image_of(stripe);
            let offset = match image {
                Some(image) => self.layout.log_offset(image.block),
                None => self.layout.page_offset(stripe),
            };
            let content = match self.read_block(offset).await {
                Ok(block) => {
                    let content = decode_page(&block, self.epoch, stripe, &self.layout);
                    let content = content.believed(&block, self.sums_after);
                    match image {
                        Some(_) => content.in_log(),
                        None => content,
                    }
                }
                Err(DiskError::MediumError(..)) if self.is_copy(stripe) => {
                    PageContent::Damaged("the store cannot read it")
                }
                Err(error) => return Err(error),
            };
            if self.journal.image_of(stripe) != image {
                continue;
            }
            let absent = || PageImage::absent(&self.layout);
            let (image, has_place) = match content {
                PageContent::Image(image) => (image, true),
                PageContent::Never { is_blank } => (absent(), !is_blank),
                // It may have been half of what somebody else was writing.
                PageContent::Damaged(_) if !self.cache.is_unchanged(stripe, evictions) => continue,
                // A copy that cannot be read is none.
                PageContent::Damaged(why) if self.is_copy(stripe) => {
                    tracing::warn!(
                        stripe,
                        offset,
                        why,
                        "a page of a cache is damaged: it is emptied"
                    );
                    (absent(), true)
                }
                PageContent::Damaged(why) => return Err(damaged(stripe, offset, why)),
            };
            let page = Page::new(stripe, image, has_place);
            if let Some(page) = self.cache.insert(page, evictions) {
                return Ok(page);
            }
        }
    }

    /// Whether all that a stripe may hold, up to the end of the layer, are copies of what lies below.
    fn is_copy(&self, stripe: u64) -> bool {
        let end = (stripe + 1).saturating_mul(u64::from(self.layout.stripe_sectors));
        // The size first: a shrink that comes between lowers the mark before it.
        let end = end.min(self.sector_count());
        self.role != Role::Overlay && end <= self.shown_below()
    }

    /// The page of a stripe, if it is in memory.
    pub(crate) fn page_in_memory(&self, stripe: u64) -> Option<Arc<Page>> {
        match self.cache.find(stripe) {
            Found::Page(page) => Some(page),
            Found::Missing(_) => None,
        }
    }

    /// Makes room for a page in its place on the store, before it becomes dirty for the first time (P4): zeros, which say what nothing
    /// there says. Nobody writes there meanwhile, because that needs a dirty page.
    pub(crate) async fn reserve(&self, page: &Arc<Page>) -> Result<(), DiskError> {
        let placing = {
            let mut inner = page.lock();
            if inner.has_place {
                return Ok(());
            }
            match &inner.placing {
                Some(placing) if !placing.work.is_done() => Arc::clone(placing),
                _ => {
                    let placing = self.placing(page);
                    inner.placing = Some(Arc::clone(&placing));
                    placing
                }
            }
        };
        let result = placing.finish().await;
        if page.lock().has_place_now() {
            return Ok(());
        }
        match result {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => Err(other("no room could be made for a page")),
        }
    }

    fn placing(&self, page: &Arc<Page>) -> Arc<Joint> {
        let (store, weak) = (self.store.clone(), Arc::downgrade(page));
        let offset = self.layout.page_offset(page.stripe);
        let sector = self.layout.store_sector(offset);
        Joint::new(|outcome| {
            let body = async move {
                let zeros = RequestBuffers::zeros(BLOCK_BYTES).expect("as short as that");
                let result = store.write_vectored(&zeros, sector, false).await;
                if let (Ok(()), Some(page)) = (&result, weak.upgrade()) {
                    page.lock().has_place = true;
                }
                *outcome.lock() = Some(result);
                Ok(())
            };
            Operation::new(Vec::new(), Box::pin(body))
        })
    }

    /// The states of a page have changed, with its `inner` locked.
    pub(crate) fn note_dirty(&self, inner: &mut Inner, stripe: u64) {
        debug_assert!(inner.has_place, "P4: stripe {stripe}");
        if !inner.is_dirty {
            inner.is_dirty = true;
            self.journal.note_dirty(stripe);
        }
    }

    pub(crate) async fn read_block(&self, offset: u64) -> Result<Box<Block>, DiskError> {
        read_block(&self.store, offset).await
    }

    /// Finishes every operation that has begun.
    pub(crate) async fn drain(&self) {
        for work in self.all_work() {
            work.finish().await;
        }
        // What begins meanwhile, and is left by whoever began it, is in flight in the store: it must get on as well (C4).
        let mut drained = pin!(self.store.drain());
        poll_fn(|cx| {
            let is_drained = drained.as_mut().poll(cx);
            if is_drained.is_pending() {
                for work in self.all_work() {
                    let _ = work.poll(cx);
                }
            }
            is_drained
        })
        .await;
    }

    /// All operations that are not over, and some that are.
    fn all_work(&self) -> Vec<Arc<Work>> {
        let mut work = Vec::new();
        self.cache.for_each(|page| page.lock().add_work(&mut work));
        work.extend(self.resizing.lock().clone());
        work.extend(self.journal.unfinished());
        work
    }

    /// Lets go of all operations, which own this.
    pub(crate) fn abandon(&self) {
        let mut work = self.journal.abandon();
        work.extend(self.resizing.lock().take());
        self.cache
            .for_each(|page| work.extend(page.lock().abandon()));
        drop(work);
    }
}

/// Reads a block at a byte offset.
pub(crate) async fn read_block(store: &Disk, offset: u64) -> Result<Box<Block>, DiskError> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    let host = HostBuffers::from_mut(&mut block[..]);
    let sector = offset >> store.sector_shift();
    store.read_vectored(&host.buffers(), sector).await?;
    drop(host);
    Ok(block)
}

/// Writes bytes at a byte offset, from memory of their own (C9).
pub(crate) async fn write_bytes(store: &Disk, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
    let mut copy = BounceBuffer::unpooled(bytes.len()).map_err(|_| DiskError::NoSpace)?;
    copy.as_mut_slice()
        .expect("nobody else has it")
        .copy_from_slice(bytes);
    let sector = offset >> store.sector_shift();
    store
        .write_vectored(&copy.buffers(false), sector, false)
        .await
}

pub(crate) fn other(message: &'static str) -> DiskError {
    DiskError::Io(io::Error::other(message))
}

/// The error for a page that was there, and cannot be read any more.
pub(crate) fn damaged(stripe: u64, offset: u64, why: &str) -> DiskError {
    let message = format!(
        "the page of stripe {stripe}, at byte {offset} of the store, is damaged: {why}; check the layer (`platter layer check`)"
    );
    let error = io::Error::new(io::ErrorKind::InvalidData, message);
    DiskError::MediumError(error, MediumErrorDetails::UnrecoveredReadError)
}
