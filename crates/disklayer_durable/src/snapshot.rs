//! The dirty pages of one instant, on their way into the log.

use crate::core::Core;
use crate::emptied::Ranges;
use crate::format::PageImage;
use crate::page::Page;
use std::collections::VecDeque;
use std::sync::Arc;

/// Pages on their way into the log. Those not confirmed are dirty again when this is dropped.
pub(crate) struct Snapshot<'a> {
    core: &'a Core,
    pub(crate) pages: VecDeque<Snapped>,
}

pub(crate) struct Snapped {
    pub(crate) page: Arc<Page>,
    pub(crate) image: PageImage,
    pub(crate) emptied: Ranges,
}

impl<'a> Snapshot<'a> {
    /// Takes the dirty pages as they are now.
    pub(crate) fn take(core: &'a Core) -> Self {
        let stripes = core.journal.take_dirty();
        let pages = stripes.into_iter().map(|stripe| {
            let page = core.page_in_memory(stripe).expect("H1: dirty pages stay");
            let mut inner = page.lock();
            inner.is_dirty = false;
            inner.is_logging = true;
            let snapped = Snapped {
                image: inner.take_image(),
                emptied: std::mem::take(&mut inner.emptied),
                page: Arc::clone(&page),
            };
            drop(inner);
            snapped
        });
        Self {
            core,
            pages: pages.collect(),
        }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        for snapped in self.pages.drain(..) {
            let mut inner = snapped.page.lock();
            inner.is_logging = false;
            inner.emptied.add_all(snapped.emptied);
            self.core.note_dirty(&mut inner, snapped.page.stripe);
        }
    }
}
