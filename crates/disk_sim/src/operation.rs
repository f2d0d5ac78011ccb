//! What a request does to a store, step by step.

use crate::image::{Cell, Piece};
use crate::store::{Purpose, Store};
use disk_backend::{DiskError, UnmapBehavior};
use guestmem::{MemoryRead, MemoryWrite};
use scsi_buffers::RequestBuffers;
use std::collections::VecDeque;
use std::ops::Range;

/// A change under way. Dropped before its end, it leaves the rest to the dice (C9).
struct Change<'a> {
    store: &'a Store,
    request: u64,
    has_ended: bool,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.store.state().abandon(self.request);
        }
    }
}

impl Change<'_> {
    fn end(mut self, fua: bool) {
        self.has_ended = true;
        let mut state = self.store.state();
        if fua {
            state.make_request_durable(self.request);
        }
        state.end(self.request);
    }
}

impl Store {
    /// Carries out a change piece by piece, while others run in between. What fails was done in part, or not at all.
    pub(crate) async fn change(
        &self,
        range: Range<u64>,
        pieces: VecDeque<Piece>,
        fua: bool,
        is_known: bool,
    ) -> Result<(), DiskError> {
        let request = {
            let mut state = self.state();
            state.settle(range);
            state.begin(pieces, is_known)
        };
        let change = Change {
            store: self,
            request,
            has_ended: false,
        };
        let result = self.steps(request).await;
        // Nothing of a failed change happens after its end.
        change.end(fua && self.options.is_fua_respected && result.is_ok());
        result
    }

    async fn steps(&self, request: u64) -> Result<(), DiskError> {
        self.pause().await;
        self.fail(Purpose::Change)?;
        while self.state().step(request)? {
            self.pause().await;
            if self.state().rng.u8(0..4) == 0 {
                self.fail(Purpose::Change)?;
            }
        }
        Ok(())
    }

    /// Reads sector by sector, while others run in between; `absent` is told what there is nothing of.
    pub(crate) async fn read(
        &self,
        buffers: &RequestBuffers<'_>,
        range: Range<u64>,
        mut present: impl FnMut(u64),
    ) -> Result<(), DiskError> {
        self.state().settle(range.clone());
        self.pause().await;
        self.fail(Purpose::Read)?;
        let size = self.options.sector_size as usize;
        let mut writer = buffers.writer();
        for sector in range {
            {
                let state = self.state();
                if sector >= state.current.sector_count() {
                    return Err(DiskError::IllegalBlock);
                }
                match state.current.cell(sector) {
                    Cell::Absent => writer.skip(size)?,
                    Cell::Zero => writer.zero(size)?,
                    Cell::Data(bytes) => writer.write(bytes)?,
                }
                if *state.current.cell(sector) != Cell::Absent {
                    present(sector);
                }
            }
            if self.state().rng.u8(0..4) == 0 {
                self.pause().await;
            }
        }
        Ok(())
    }

    /// Makes durable what was done before the call.
    pub(crate) async fn flush(&self) -> Result<(), DiskError> {
        let point = {
            let mut state = self.state();
            state.settle(0..u64::MAX);
            state.step_count()
        };
        self.pause().await;
        self.fail(Purpose::Flush)?;
        self.state().make_durable(point);
        self.pause().await;
        Ok(())
    }

    /// Changes the size.
    pub(crate) async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        if self.options.is_read_only {
            return Err(DiskError::ReadOnly);
        }
        let pieces = VecDeque::from([Piece::Size(sector_count)]);
        self.change(0..u64::MAX, pieces, false, true).await
    }

    /// The sectors that the caller's memory holds, copied (C3).
    pub(crate) fn fetch(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<Vec<(u64, Cell)>, DiskError> {
        let size = self.options.sector_size as usize;
        let count = (buffers.len() / size) as u64;
        let mut reader = buffers.reader();
        let fetched = (sector..sector + count).map(|sector| {
            let mut bytes = vec![0; size];
            reader.read(&mut bytes)?;
            Ok((sector, Cell::Data(bytes.into())))
        });
        fetched.collect()
    }
}

impl Store {
    /// What an unmap does to these sectors, where `zero` stands for zeros.
    pub(crate) fn unmapped(&self, range: Range<u64>, zero: &Cell) -> Vec<(u64, Cell)> {
        match self.options.unmap_behavior {
            UnmapBehavior::Zeroes => all(range, zero),
            UnmapBehavior::Ignored => Vec::new(),
            UnmapBehavior::Unspecified => {
                let rng = &mut self.state().rng;
                all(range.filter(|_| rng.bool()), zero)
            }
        }
    }
}

/// These sectors, all holding the same.
pub(crate) fn all(range: impl Iterator<Item = u64>, cell: &Cell) -> Vec<(u64, Cell)> {
    range.map(|sector| (sector, cell.clone())).collect()
}
