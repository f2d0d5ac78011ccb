//! What the layer holds.
//!
//! I1: a sector with data is present. I2: nothing is present at or beyond the end.
//! I3: no request takes what is held beyond the limit.

use disk_backend::{BlockExtent, BlockState, BlockStatus, DiskError};
use disk_layered::{LayerStatus, SectorMarker};
use guestmem::MemoryWrite;
use rangemap::RangeSet;
use scsi_buffers::BufferWriter;
use std::collections::BTreeMap;
use std::ops::Range;

/// What an entry of a map costs besides the bytes of a sector, about.
const ENTRY_BYTES: u64 = 64;

/// How many entries are looked at before others may run.
const STEP_ENTRIES: usize = 256;

#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) sector_count: u64,
    pub(crate) sector_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// The sectors that this layer answers for.
    present: RangeSet<u64>,
    /// Those of them that are not zero.
    data: BTreeMap<u64, Box<[u8]>>,
}

impl Content {
    pub(crate) fn new(sector_count: u64, sector_bytes: u64, limit_bytes: u64) -> Self {
        Self {
            sector_count,
            sector_bytes,
            limit_bytes,
            present: RangeSet::new(),
            data: BTreeMap::new(),
        }
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.data.len() as u64 * self.data_cost() + self.present.len() as u64 * ENTRY_BYTES
    }

    /// Puts what the layer has into its places, and says so; leaves the other places alone.
    pub(crate) fn read(
        &self,
        range: Range<u64>,
        writer: &mut BufferWriter<'_>,
        marker: &mut SectorMarker<'_>,
    ) -> Result<(), DiskError> {
        self.check_end(&range)?;
        for sector in range {
            match self.data.get(&sector) {
                Some(bytes) => writer.write(bytes)?,
                None if self.present.contains(&sector) => {
                    writer.zero(self.sector_bytes as usize)?;
                }
                None => {
                    writer.skip(self.sector_bytes as usize)?;
                    continue;
                }
            }
            marker.set(sector);
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_end(&range)?;
        let new = (range.end - range.start) - self.data.range(range.clone()).count() as u64;
        self.reserve(new * self.data_cost() + self.run_cost(&range), 0)?;
        self.put(range.start, range.clone(), bytes);
        Ok(())
    }

    /// Writes those sectors that are absent.
    pub(crate) fn fill(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_end(&range)?;
        let absent: Vec<_> = self.present.gaps(&range).collect();
        let new: u64 = absent.iter().map(|gap| gap.end - gap.start).sum();
        self.reserve(new * self.data_cost() + self.run_cost(&range), 0)?;
        for gap in absent {
            self.put(range.start, gap, bytes);
        }
        Ok(())
    }

    /// Takes the content of the first sectors of `range` away: they become explicit zeros if `hide`, else absent. Returns the first
    /// sector of the rest.
    pub(crate) fn clear_some(&mut self, range: Range<u64>, hide: bool) -> Result<u64, DiskError> {
        self.check_end(&range)?;
        let next_data = self.data.range(range.clone()).nth(STEP_ENTRIES);
        let next_run = self.present.overlapping(&range).nth(STEP_ENTRIES);
        let end = next_data.map_or(range.end, |(sector, _)| *sector);
        let end = next_run.map_or(end, |run| run.start.min(end));
        let done = range.start..end;
        let freed = self.data.range(done.clone()).count() as u64;
        let run = match hide {
            true => self.run_cost(&done),
            // A hole in the middle of a run makes two of it.
            false => ENTRY_BYTES - self.run_cost(&done),
        };
        self.reserve(run, freed * self.data_cost())?;
        self.data
            .extract_if(done.clone(), |_, _| true)
            .for_each(drop);
        match hide {
            true => self.present.insert(done),
            false => self.present.remove(done),
        }
        Ok(end)
    }

    /// What is known of the first sectors of `range`: a bounded look.
    pub(crate) fn status(&self, range: Range<u64>) -> Result<LayerStatus, DiskError> {
        self.check_end(&range)?;
        let Some(run) = self.present.get(&range.start) else {
            let next = self.present.overlapping(&range).next();
            let end = next.map_or(range.end, |run| run.start);
            return Ok(LayerStatus::Absent {
                sector_count: end - range.start,
            });
        };
        let end = run.end.min(range.end);
        let mut at = range.start;
        let mut status = BlockStatus::default();
        for _ in 0..STEP_ENTRIES {
            let next_data = self.data.range(at..end).next();
            let next_data = next_data.map_or(end, |(sector, _)| *sector);
            let (state, run_end) = match next_data == at {
                true => (BlockState::Data, at + 1),
                false => (BlockState::Hole, next_data),
            };
            let extent = BlockExtent {
                sector_count: run_end - at,
                state,
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
            at = run_end;
            if at == end {
                break;
            }
        }
        Ok(LayerStatus::Present(status))
    }

    /// Cuts off, or adds sectors that are present and read zero.
    pub(crate) fn resize(&mut self, sector_count: u64) -> Result<(), DiskError> {
        let old = self.sector_count;
        if sector_count > old {
            self.reserve(ENTRY_BYTES, 0)?;
            self.present.insert(old..sector_count);
        } else if sector_count < old {
            self.data.split_off(&sector_count);
            self.present.remove(sector_count..old);
        }
        self.sector_count = sector_count;
        Ok(())
    }

    /// Stores `sectors`, whose bytes are in `bytes`, which begin with sector `origin`.
    fn put(&mut self, origin: u64, sectors: Range<u64>, bytes: &[u8]) {
        // What is in memory has a length and offsets that are usizes.
        let skip = ((sectors.start - origin) * self.sector_bytes) as usize;
        let sectors_bytes = bytes[skip..].chunks_exact(self.sector_bytes as usize);
        let entries = sectors.clone().zip(sectors_bytes);
        self.data
            .extend(entries.map(|(sector, bytes)| (sector, bytes.into())));
        self.present.insert(sectors);
    }

    /// Whether so many bytes more may be held when others are given up. What makes the total no larger always may (I3).
    fn reserve(&self, needed_bytes: u64, freed_bytes: u64) -> Result<(), DiskError> {
        let fits = needed_bytes <= freed_bytes
            || self.held_bytes() - freed_bytes + needed_bytes <= self.limit_bytes;
        match fits {
            true => Ok(()),
            false => Err(DiskError::NoSpace),
        }
    }

    /// What it costs, at most, to find sectors that become present, besides their data.
    fn run_cost(&self, sectors: &Range<u64>) -> u64 {
        match self.present.overlaps(sectors) {
            // They join a run that is there, or several.
            true => 0,
            false => ENTRY_BYTES,
        }
    }

    fn data_cost(&self) -> u64 {
        self.sector_bytes + ENTRY_BYTES
    }

    /// The size may have changed since the stack looked.
    fn check_end(&self, range: &Range<u64>) -> Result<(), DiskError> {
        match range.end <= self.sector_count {
            true => Ok(()),
            false => Err(DiskError::IllegalBlock),
        }
    }
}
