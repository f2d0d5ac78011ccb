//! Reads that need no waiting: one layer has every sector, or none has any. Whatever is not so simple is left to the other way.

use super::{MISS_BYTES_MAX, Pass};
use crate::{TryRead, copies};
use guestmem::MemoryWrite;
use planted::Bug;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::ops::Range;

/// What is longer takes too long to be done without letting others run in between.
const AT_ONCE_BYTES_MAX: usize = 2 << 20;

/// Where the sectors of a request were found.
enum Place {
    /// All in this layer, and they have been read.
    Layer(usize),
    /// In no layer, so that they have been zeroed.
    Nowhere,
    /// Not down to this cache, which shows that far, and is to be filled.
    BelowCache(usize, u64),
    Unknown,
}

impl Pass<'_> {
    /// Reads as [`read`](Pass::read) does, if that is simple, and returns whether it did.
    pub(crate) fn try_read(&self, buffers: &RequestBuffers<'_>, sector: u64) -> bool {
        if buffers.len() > AT_ONCE_BYTES_MAX {
            return false;
        }
        let sectors = sector..sector + (buffers.len() as u64 >> self.stack.sector_shift());
        let top = self.stack.top();
        // (A planted index knows of the top as well, and has to be asked.)
        let is_searched = self.stack.is_write_through() || planted::is_active(Bug::StaleIndex);
        let found = match is_searched {
            true => self.search(buffers, &sectors, 0, sectors.end),
            // All of the top shows, and most requests end there.
            false => match top.try_read(buffers, sector) {
                TryRead::Done => {
                    top.count_hit(buffers.len());
                    return true;
                }
                TryRead::Absent if self.fills(0) => Place::BelowCache(0, sectors.end),
                TryRead::Absent => self.search(buffers, &sectors, 1, sectors.end),
                TryRead::WouldBlock => Place::Unknown,
            },
        };
        let asked = match found {
            Place::Layer(index) => Some(index),
            Place::Nowhere => Some(self.stack.layers().len()),
            Place::BelowCache(cache, shown) => self.try_fetch(buffers, &sectors, cache, shown),
            Place::Unknown => None,
        };
        if let Some(end) = asked {
            self.count(&sectors, end, buffers.len());
        }
        asked.is_some()
    }

    /// Looks for sectors in the layers from `first` on, of which `shown` show, and reads them.
    fn search(
        &self,
        buffers: &RequestBuffers<'_>,
        sectors: &Range<u64>,
        first: usize,
        mut shown: u64,
    ) -> Place {
        let mut from = first;
        while let Some(index) = self.stack.try_next(sectors, from) {
            let Some(layer) = self.stack.layers().get(index) else {
                return match buffers.writer().zero(buffers.len()) {
                    Ok(()) => Place::Nowhere,
                    Err(_) => Place::Unknown,
                };
            };
            shown = self.stack.shown_end(index, shown);
            if shown < sectors.end {
                break;
            }
            match layer.try_read(buffers, sectors.start) {
                TryRead::Done => return Place::Layer(index),
                TryRead::Absent if self.fills(index) => return Place::BelowCache(index, shown),
                TryRead::Absent => from = index + 1,
                TryRead::WouldBlock => break,
            }
        }
        Place::Unknown
    }

    /// Reads what a cache missed from the layer below it that has all, and keeps it, through a private copy (C3). Returns that layer,
    /// if all of that was done.
    fn try_fetch(
        &self,
        buffers: &RequestBuffers<'_>,
        sectors: &Range<u64>,
        cache: usize,
        shown: u64,
    ) -> Option<usize> {
        // Changes of several steps would have to be asked whether it still may be kept (R3).
        if buffers.len() > MISS_BYTES_MAX || self.observation.is_some() {
            return None;
        }
        let fetched = copies::with_scratch(buffers.len(), |copy| {
            let host = HostBuffers::from_mut(copy);
            let found = self.search(&host.buffers(), sectors, cache + 1, shown);
            let Place::Layer(index) = found else {
                return None;
            };
            drop(host);
            buffers.writer().write(copy).ok()?;
            let host = HostBuffers::from_ref(copy);
            let is_kept = self.stack.layers()[cache].try_fill(&host.buffers(), sectors.start);
            is_kept.then_some(index)
        });
        fetched.flatten()
    }

    /// Counts that the layers above this one were asked, and had nothing, and that it had all, if there is such a layer.
    fn count(&self, sectors: &Range<u64>, end: usize, len: usize) {
        if let Some(found) = self.stack.layers().get(end) {
            found.count_hit(len);
        }
        let next = |from| self.stack.try_next(sectors, from);
        let mut asked = next(0);
        while let Some(index) = asked.filter(|index| *index < end) {
            self.stack.layers()[index].count_missed(len);
            asked = next(index + 1);
        }
    }
}
