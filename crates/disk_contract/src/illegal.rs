//! Requests that a disk must refuse, many of them wrong in several ways at once, and the error that each must get (C1).

use disk_backend::DiskError;

/// The errors of a request that is not well formed, the first that applies being the one to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    InvalidInput,
    ReadOnly,
    IllegalBlock,
    MemoryAccess,
}

impl Refusal {
    pub(crate) fn of(error: &DiskError) -> Option<Self> {
        match error {
            DiskError::InvalidInput => Some(Self::InvalidInput),
            DiskError::ReadOnly => Some(Self::ReadOnly),
            DiskError::IllegalBlock => Some(Self::IllegalBlock),
            DiskError::MemoryAccess(_) => Some(Self::MemoryAccess),
            _ => None,
        }
    }
}

/// What is wrong with the memory of a request with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryFault {
    Sound,
    /// A read into memory that may only be read.
    NotWritable,
    /// The last byte is nowhere.
    PartlyMissing,
}

/// A request that is wrong in at least one way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Illegal {
    Data {
        is_write: bool,
        sector: u64,
        bytes: usize,
        memory: MemoryFault,
    },
    Unmap {
        sector: u64,
        count: u64,
    },
    WriteZeroes {
        sector: u64,
        count: u64,
    },
    BlockStatus {
        sector: u64,
        count: u64,
    },
}

/// The disk that has to refuse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) sector_count: u64,
    pub(crate) sector_size: u32,
    pub(crate) is_read_only: bool,
}

impl Bounds {
    /// The error that a request must get; none if it is legal.
    pub(crate) fn refusal(&self, request: &Illegal) -> Option<Refusal> {
        let size = self.sector_size as usize;
        let (is_change, is_whole, is_inside, is_memory_sound) = match *request {
            Illegal::Data {
                is_write,
                sector,
                bytes,
                memory,
            } => (
                is_write,
                bytes % size == 0,
                self.contains(sector, (bytes / size) as u64),
                memory == MemoryFault::Sound,
            ),
            Illegal::Unmap { sector, count } | Illegal::WriteZeroes { sector, count } => {
                (true, true, self.contains(sector, count), true)
            }
            Illegal::BlockStatus { sector, count } => {
                (false, true, self.contains(sector, count), true)
            }
        };
        let faults = [
            (!is_whole, Refusal::InvalidInput),
            (is_change && self.is_read_only, Refusal::ReadOnly),
            (!is_inside, Refusal::IllegalBlock),
            (!is_memory_sound, Refusal::MemoryAccess),
        ];
        let first = faults.into_iter().find(|(applies, _)| *applies);
        first.map(|(_, refusal)| refusal)
    }

    /// Every kind of illegal request, and every combination of what can be wrong with it.
    pub(crate) fn illegal_requests(&self) -> Vec<Illegal> {
        let mut requests = Vec::new();
        for bytes in self.lengths() {
            let count = (bytes as u64).div_ceil(u64::from(self.sector_size));
            for sector in self.sectors(count) {
                requests.extend(data_requests(sector, bytes));
            }
        }
        for count in [0, 1, self.sector_count, u64::MAX - 1, u64::MAX] {
            for sector in self.sectors(count) {
                requests.push(Illegal::Unmap { sector, count });
                requests.push(Illegal::WriteZeroes { sector, count });
                requests.push(Illegal::BlockStatus { sector, count });
            }
        }
        requests.retain(|request| self.refusal(request).is_some());
        requests
    }

    fn lengths(&self) -> [usize; 6] {
        let size = self.sector_size as usize;
        [0, 1, size - 1, size, size + 1, 2 * size]
    }

    /// Inside, across the end, beyond it, and where sums or products of 64 bits wrap around.
    fn sectors(&self, count: u64) -> Vec<u64> {
        let end = self.sector_count;
        // The first sector whose position in bytes does not fit.
        let wrap = 1 << (u64::BITS - self.sector_size.trailing_zeros());
        let mut sectors = vec![
            0,
            end.saturating_sub(count),
            (end + 1).saturating_sub(count),
            end - 1,
            end,
            end + 1,
            wrap - 1,
            wrap,
            wrap + 1,
            i64::MAX as u64,
            u64::MAX - count,
            (u64::MAX - count).saturating_add(1),
            u64::MAX,
        ];
        sectors.sort_unstable();
        sectors.dedup();
        sectors
    }

    fn contains(&self, sector: u64, count: u64) -> bool {
        sector
            .checked_add(count)
            .is_some_and(|end| end <= self.sector_count)
    }
}

fn data_requests(sector: u64, bytes: usize) -> impl Iterator<Item = Illegal> {
    let kinds = [
        (false, MemoryFault::Sound),
        (false, MemoryFault::NotWritable),
        (false, MemoryFault::PartlyMissing),
        (true, MemoryFault::Sound),
        (true, MemoryFault::PartlyMissing),
    ];
    // Whether no bytes at all may be of the wrong kind is nobody's concern.
    let kinds = kinds
        .into_iter()
        .filter(move |(_, memory)| bytes > 0 || *memory == MemoryFault::Sound);
    kinds.map(move |(is_write, memory)| Illegal::Data {
        is_write,
        sector,
        bytes,
        memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_demanded_alone_and_together_with_those_after_it() {
        for is_read_only in [false, true] {
            let bounds = Bounds {
                sector_count: 8,
                sector_size: 512,
                is_read_only,
            };
            let requests = bounds.illegal_requests();
            for refusal in [
                Refusal::InvalidInput,
                Refusal::IllegalBlock,
                Refusal::MemoryAccess,
            ] {
                let of_it = requests
                    .iter()
                    .filter(|request| bounds.refusal(request) == Some(refusal));
                assert!(of_it.count() > 3, "{refusal:?}");
            }
            let refuses_as_read_only = requests
                .iter()
                .any(|request| bounds.refusal(request) == Some(Refusal::ReadOnly));
            assert_eq!(refuses_as_read_only, is_read_only);
            let worst = Illegal::Data {
                is_write: true,
                sector: u64::MAX,
                bytes: 1,
                memory: MemoryFault::PartlyMissing,
            };
            assert_eq!(bounds.refusal(&worst), Some(Refusal::InvalidInput));
        }
    }
}
