//! One contiguous range of guest addresses, and what backs it.

use crate::BackingMemory;
use crate::Segment;
use std::fmt;
use thiserror::Error;

/// A contiguous range of guest addresses with the host memory behind it.
pub struct GuestRegion {
    pub(crate) address: u64,
    /// All of the region's memory. Lends what `_memory` owns: it is handed out only with the lifetime of a borrow of the `GuestMemory`.
    pub(crate) segment: Segment<'static>,
    pub(crate) is_writable: bool,
    /// Dropped last of all: it unmaps what `segment` points to.
    _memory: Box<dyn BackingMemory>,
}

impl GuestRegion {
    /// `memory` at guest address `address`; writable if the memory is.
    pub fn new(address: u64, memory: impl BackingMemory) -> Self {
        let mut memory = Box::new(memory);
        let (base, len) = memory.range();
        GuestRegion {
            address,
            // SAFETY: `BackingMemory` promises that these bytes stay mapped and readable, and are accessed without conflict, until `memory` is dropped, which this region outlives by owning it.
            segment: unsafe { Segment::from_raw_parts(base.as_ptr(), len) },
            is_writable: memory.is_writable(),
            _memory: memory,
        }
    }

    /// The same region, refusing writes (a ROM).
    pub fn read_only(mut self) -> Self {
        self.is_writable = false;
        self
    }

    /// Where it is, how long it is, and whether it may be written.
    pub fn info(&self) -> RegionInfo {
        RegionInfo {
            address: self.address,
            len: self.segment.len() as u64,
            is_writable: self.is_writable,
        }
    }

    /// The first address after the region. Checked when the `GuestMemory` was built.
    pub(crate) fn end(&self) -> u64 {
        self.address + self.segment.len() as u64
    }
}

impl fmt::Debug for GuestRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// The place of one region in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The first guest address.
    pub address: u64,
    /// How many bytes.
    pub len: u64,
    /// Whether writes are allowed.
    pub is_writable: bool,
}

/// Why a list of regions is no guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidGuestMemory {
    /// Two regions share addresses.
    #[error(
        "guest memory regions at {first:#x} and {second:#x} overlap: give each address to one region"
    )]
    Overlap {
        /// Where the lower one begins.
        first: u64,
        /// Where the higher one begins.
        second: u64,
    },
    /// A region does not end at or below `u64::MAX`.
    #[error(
        "guest memory region at {address:#x}, {len} bytes long, ends beyond the address space: move it down"
    )]
    BeyondAddressSpace {
        /// Where it begins.
        address: u64,
        /// How many bytes.
        len: u64,
    },
}
