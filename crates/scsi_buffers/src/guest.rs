//! A request over ranges of guest memory.

use crate::RequestBuffers;
use crate::source::Direction;
use crate::source::GuestList;
use crate::source::Source;
use guestmem::GuestMemory;
use guestmem::PAGE_SIZE_BYTES;
use smallvec::SmallVec;

/// A range of guest addresses. It need not be memory: that is found out when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// The first guest address.
    pub address: u64,
    /// How many bytes.
    pub len: usize,
}

/// The one address that is never memory: it stands for a page whose address cannot be written down.
const NEVER_MEMORY: u64 = u64::MAX;

/// Owns the description of a request in guest memory: the ranges, and the direction allowed.
///
/// Making one never fails. A range that is no memory, or wraps around the address space, is an `AccessError` when the buffers are
/// checked or used.
#[derive(Clone, Debug)]
pub struct OwnedRequestBuffers {
    ranges: SmallVec<[GuestRange; 4]>,
    /// Running totals of the lengths.
    ends: SmallVec<[usize; 4]>,
    direction: Direction,
}

impl OwnedRequestBuffers {
    /// `len` bytes at guest address `offset`. With `is_write` the request may write the memory (a disk read).
    pub fn linear(offset: u64, len: usize, is_write: bool) -> Self {
        Self::from_ranges(
            [GuestRange {
                address: offset,
                len,
            }],
            is_write,
        )
    }

    /// Whole guest pages of 4096 bytes, by page number, to write or to read.
    pub fn new(gpns: &[u64]) -> Self {
        Self::new_unaligned(gpns, 0, gpns.len().saturating_mul(PAGE_SIZE_BYTES))
    }

    /// `len` bytes from `offset` on in the guest pages of 4096 bytes with these numbers laid end to end, to write or
    /// to read. Bytes that the pages do not cover are out of range when they are used.
    pub fn new_unaligned(gpns: &[u64], offset: usize, len: usize) -> Self {
        let mut rest = len;
        let mut page_offset = offset % PAGE_SIZE_BYTES;
        let mut ranges = SmallVec::<[GuestRange; 4]>::new();
        for gpn in gpns.iter().skip(offset / PAGE_SIZE_BYTES) {
            if rest == 0 {
                break;
            }
            let address = gpn
                .checked_mul(PAGE_SIZE_BYTES as u64)
                .map_or(NEVER_MEMORY, |page| page + page_offset as u64);
            let len = rest.min(PAGE_SIZE_BYTES - page_offset);
            push_joined(&mut ranges, GuestRange { address, len });
            rest -= len;
            page_offset = 0;
        }
        if rest > 0 {
            ranges.push(GuestRange {
                address: NEVER_MEMORY,
                len: rest,
            });
        }
        Self::from_ranges(ranges, true)
    }

    /// Ranges in this order; they may have any lengths, overlap, and repeat. With `is_write` the request may write the memory (a disk read).
    ///
    /// A total beyond `usize::MAX` (more than could be memory) is cut there.
    pub fn from_ranges(ranges: impl IntoIterator<Item = GuestRange>, is_write: bool) -> Self {
        let mut total = 0_usize;
        let mut owned = OwnedRequestBuffers {
            ranges: SmallVec::new(),
            ends: SmallVec::new(),
            direction: if is_write {
                Direction::ReadWrite
            } else {
                Direction::ReadOnly
            },
        };
        for range in ranges {
            total = total.saturating_add(range.len);
            owned.ranges.push(range);
            owned.ends.push(total);
        }
        owned
    }

    /// How many bytes in all.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The request's view of the ranges in `memory`.
    pub fn buffer<'a>(&'a self, memory: &'a GuestMemory) -> RequestBuffers<'a> {
        let list = GuestList {
            ranges: &self.ranges,
            ends: &self.ends,
        };
        RequestBuffers::new(Source::Guest(memory, list), 0, self.len(), self.direction)
    }
}

/// Appends `range`, or lengthens the last one when `range` begins where that ends: fewer pieces for all who follow.
fn push_joined(ranges: &mut SmallVec<[GuestRange; 4]>, range: GuestRange) {
    if let Some(last) = ranges.last_mut()
        && last.address.checked_add(last.len as u64) == Some(range.address)
    {
        last.len += range.len;
    } else {
        ranges.push(range);
    }
}
