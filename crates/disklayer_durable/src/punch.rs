//! Giving space back to the store.

use crate::core::Core;
use crate::format::State;
use crate::page::{Begun, Page};
use disk_backend::UnmapBehavior;
use std::ops::Range;
use std::sync::Arc;

/// Of so many stripes is space given back after a flush, or of a part of those that wait for it, if that is more.
const PUNCHED_STRIPES_MIN: usize = 8;
const PUNCHED_PART: usize = 4;

impl Core {
    /// Gives space back to the store whose clearing is on record: in proportion to what there is, so that it never becomes much.
    pub(crate) async fn punch_some(&self) {
        if self.store.unmap_behavior() == UnmapBehavior::Ignored {
            self.journal.emptied.lock().clear();
            return;
        }
        let count = self.journal.emptied.lock().len() / PUNCHED_PART;
        for _ in 0..count.max(PUNCHED_STRIPES_MIN) {
            let next = self.journal.emptied.lock().take();
            let Some((stripe, ranges)) = next else {
                return;
            };
            for range in ranges.into_iter() {
                self.punch(stripe, range).await;
            }
        }
    }

    /// Gives back what holds no data of a range. What cannot be given back now stays: only space is lost.
    pub(crate) async fn punch(&self, stripe: u64, range: Range<u32>) {
        let Ok(page) = self.page(stripe).await else {
            return;
        };
        let mut at = range.start;
        while let Some(begun) = self.begin_punch(&page, &range, &mut at) {
            begun.work.finish().await;
        }
    }

    /// Begins to punch the next run of a range that holds no data, as is on record, and that nothing is under way in.
    fn begin_punch(&self, page: &Arc<Page>, range: &Range<u32>, at: &mut u32) -> Option<Begun> {
        let mut inner = page.lock();
        if inner.is_dirty || inner.is_logging {
            inner.emptied.add(*at..range.end);
            return None;
        }
        while let Some(idle) = inner.idle_run(*at, range.end) {
            let (state, end) = inner.states.run(idle.start, idle.end);
            *at = end;
            if state == State::Data {
                continue;
            }
            let first = self.data_sector(page.stripe, idle.start);
            let count = u64::from(end - idle.start);
            let run = idle.start..end;
            return Some(
                self.begin_work(page, &mut inner, run, async move |store, writing| {
                    let result = store.unmap(first, count, false).await;
                    drop(writing);
                    result
                }),
            );
        }
        None
    }
}
