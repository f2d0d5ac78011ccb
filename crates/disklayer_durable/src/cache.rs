//! Pages in memory, up to a bound.
//!
//! Invariants:
//! - H1: a page that is used, dirty, open (V4) or on its way into the log stays. So there is never more than one of a stripe.
//! - H2: whoever loads a page puts it here only if no page was thrown out of its shard since the load began: what was loaded may
//!   otherwise be older than what was thrown out.

use crate::page::Page;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

const SHARD_COUNT: usize = 16;

/// What a page takes, in bytes, about: the states of 8192 sectors, and what stands beside them.
pub(crate) const PAGE_COST_BYTES: usize = 2048 + 320;

/// The same of one with the checksums of 512 sectors.
pub(crate) const SUMMED_PAGE_COST_BYTES: usize = 128 + 4 * 512 + 2 * 64 + 448;

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARD_COUNT],
    shard_pages_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<u64, Arc<Page>>,
    /// In the order in which they are looked at for room.
    ring: VecDeque<u64>,
    /// How many were thrown out.
    evictions: u64,
}

/// What the cache has of a stripe.
pub(crate) enum Found {
    Page(Arc<Page>),
    /// Nothing, and so many pages were thrown out so far.
    Missing(u64),
}

impl Cache {
    /// Of pages that take so many bytes each.
    pub(crate) fn new(bytes_max: usize, page_bytes: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            shard_pages_max: (bytes_max / page_bytes / SHARD_COUNT).max(1),
        }
    }

    /// How many pages there may be.
    pub(crate) fn pages_max(&self) -> usize {
        self.shard_pages_max * SHARD_COUNT
    }

    pub(crate) fn page_count(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().pages.len())
            .sum()
    }

    pub(crate) fn find(&self, stripe: u64) -> Found {
        let shard = self.shard(stripe).lock();
        match shard.pages.get(&stripe) {
            Some(page) => {
                page.note_use();
                Found::Page(Arc::clone(page))
            }
            None => Found::Missing(shard.evictions),
        }
    }

    /// Takes in a page that was loaded since the cache had nothing of it, and so many pages had been thrown out (H2). None if it must be
    /// loaded again.
    pub(crate) fn insert(&self, page: Page, evictions: u64) -> Option<Arc<Page>> {
        let mut shard = self.shard(page.stripe).lock();
        if let Some(there) = shard.pages.get(&page.stripe) {
            return Some(Arc::clone(there));
        }
        if shard.evictions != evictions {
            return None;
        }
        shard.make_room(self.shard_pages_max);
        let page = Arc::new(page);
        shard.ring.push_back(page.stripe);
        shard.pages.insert(page.stripe, Arc::clone(&page));
        Some(page)
    }

    /// Whether nothing of the stripe came or went since so many pages had been thrown out.
    pub(crate) fn is_unchanged(&self, stripe: u64, evictions: u64) -> bool {
        let shard = self.shard(stripe).lock();
        shard.evictions == evictions && !shard.pages.contains_key(&stripe)
    }

    /// All pages, a shard at a time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Page>)) {
        for shard in &self.shards {
            let pages: Vec<_> = shard.lock().pages.values().cloned().collect();
            pages.iter().for_each(&mut visit);
        }
    }

    fn shard(&self, stripe: u64) -> &Mutex<Shard> {
        &self.shards[(stripe % SHARD_COUNT as u64) as usize]
    }
}

impl Shard {
    fn make_room(&mut self, pages_max: usize) {
        // Each is looked at twice: once it may have been used.
        for _ in 0..2 * self.ring.len() {
            if self.pages.len() < pages_max {
                return;
            }
            let Some(stripe) = self.ring.pop_front() else {
                return;
            };
            match self.pages.get(&stripe).is_some_and(can_go) {
                true => {
                    self.pages.remove(&stripe);
                    self.evictions += 1;
                }
                false => self.ring.push_back(stripe),
            }
        }
    }
}

/// H1: nobody else can come to hold it, because its shard is locked.
fn can_go(page: &Arc<Page>) -> bool {
    if page.take_use() || Arc::strong_count(page) > 1 {
        return false;
    }
    !page.lock().must_stay()
}
