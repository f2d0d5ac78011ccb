//! Guest memory: guest addresses resolved to host memory.

use crate::AccessError;
use crate::GuestRegion;
use crate::InvalidGuestMemory;
use crate::Pages;
use crate::RegionInfo;
use crate::Segment;
use crate::copy;
use crate::plain;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

/// The memory of a guest: disjoint regions at guest addresses. Cheap to clone; each clone keeps all of it alive.
///
/// Everyone who holds a clone, and the guest, may read and write at the same time; accesses that meet may mix byte by byte.
///
/// An access may cross from one region into another that begins right after it. An access of no bytes succeeds at any address.
///
/// Invariants: (I1) regions are sorted by address and not empty; (I2) they are disjoint; (I3) each ends at or below `u64::MAX`,
/// so the last address of all is never memory and `address + len` never overflows inside a region.
#[derive(Clone)]
pub struct GuestMemory {
    regions: Arc<[GuestRegion]>,
}

/// What an access is going to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl GuestMemory {
    /// One region of `len` zeroed bytes at guest address 0; with `len` 0, memory without any address.
    ///
    /// # Panics
    /// If the system has no memory to map, as any allocation does. Use [`Pages::new`] with [`from_regions`](Self::from_regions) to handle that.
    pub fn allocate(len: usize) -> Self {
        let pages = match Pages::new(len) {
            Ok(pages) => pages,
            Err(error) => panic!("cannot allocate {len} bytes of guest memory: {error}"),
        };
        Self::from_regions(vec![GuestRegion::new(0, pages)])
            .expect("one mapped region at address 0 always fits")
    }

    /// Memory made of `regions`, given in any order. Empty ones are left out.
    ///
    /// # Errors
    /// If two of them overlap, or one does not fit the address space.
    pub fn from_regions(mut regions: Vec<GuestRegion>) -> Result<Self, InvalidGuestMemory> {
        regions.retain(|region| !region.segment.is_empty());
        regions.sort_by_key(|region| region.address);
        for region in &regions {
            let RegionInfo { address, len, .. } = region.info();
            if address.checked_add(len).is_none() {
                return Err(InvalidGuestMemory::BeyondAddressSpace { address, len });
            }
        }
        for pair in regions.windows(2) {
            if pair[0].end() > pair[1].address {
                return Err(InvalidGuestMemory::Overlap {
                    first: pair[0].address,
                    second: pair[1].address,
                });
            }
        }
        Ok(GuestMemory {
            regions: regions.into(),
        })
    }

    /// How many bytes of memory there are in all regions together.
    pub fn len(&self) -> u64 {
        self.regions.iter().map(|region| region.info().len).sum()
    }

    /// Whether there is no memory at all.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// The regions, lowest address first.
    pub fn regions(&self) -> impl ExactSizeIterator<Item = RegionInfo> + '_ {
        self.regions.iter().map(GuestRegion::info)
    }

    /// Fills `data` from guest address `address` on.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if not all of it is memory; `data` is untouched then.
    pub fn read_at(&self, address: u64, data: &mut [u8]) -> Result<(), AccessError> {
        self.transfer(address, data.len(), Access::Read, |segment, range| {
            copy::read(segment, &mut data[range]);
        })
    }

    /// Writes `data` from guest address `address` on.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`] if not all of it is memory, [`AccessError::ReadOnly`] if some of it may not be written; nothing is written then.
    pub fn write_at(&self, address: u64, data: &[u8]) -> Result<(), AccessError> {
        self.transfer(address, data.len(), Access::Write, |segment, range| {
            // SAFETY: `transfer` with `Access::Write` gives only segments of regions whose backing promised to be writable.
            unsafe { copy::write(segment, &data[range]) };
        })
    }

    /// Sets `len` bytes from guest address `address` on to `byte`.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn fill_at(&self, address: u64, byte: u8, len: usize) -> Result<(), AccessError> {
        self.transfer(address, len, Access::Write, |segment, _| {
            // SAFETY: as in `write_at`.
            unsafe { copy::fill(segment, byte) };
        })
    }

    /// Reads a `T` at guest address `address`, which need not be aligned.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub fn read_plain<T: FromBytes>(&self, address: u64) -> Result<T, AccessError> {
        plain::read(|bytes| self.read_at(address, bytes))
    }

    /// Writes the bytes of `value` at guest address `address`, which need not be aligned.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn write_plain<T: IntoBytes + Immutable>(
        &self,
        address: u64,
        value: &T,
    ) -> Result<(), AccessError> {
        self.write_at(address, value.as_bytes())
    }

    /// Checks that `len` bytes from guest address `address` on are memory.
    ///
    /// # Errors
    /// [`AccessError::OutOfRange`].
    pub fn check_readable(&self, address: u64, len: usize) -> Result<(), AccessError> {
        self.check(address, len, Access::Read)
    }

    /// Checks that `len` bytes from guest address `address` on are memory that may be written.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn check_writable(&self, address: u64, len: usize) -> Result<(), AccessError> {
        self.check(address, len, Access::Write)
    }

    /// The host memory behind `len` bytes from guest address `address` on, one segment for each region crossed.
    ///
    /// After an error the iterator ends. Segments yielded before it are good.
    #[inline]
    pub fn segments(&self, address: u64, len: usize) -> Segments<'_> {
        self.walk(address, len, Access::Read)
    }

    /// As [`segments`](Self::segments), and an error where memory may not be written.
    #[inline]
    pub fn writable_segments(&self, address: u64, len: usize) -> Segments<'_> {
        self.walk(address, len, Access::Write)
    }

    #[inline]
    fn walk(&self, address: u64, len: usize, access: Access) -> Segments<'_> {
        Segments {
            memory: self,
            address,
            len,
            done: 0,
            access,
        }
    }

    fn check(&self, address: u64, len: usize, access: Access) -> Result<(), AccessError> {
        self.walk(address, len, access)
            .try_for_each(|segment| segment.map(|_| ()))
    }

    /// Calls `each` with the memory of a range, piece by piece, and the place of the piece in the range; not at all
    /// unless every piece may be accessed.
    fn transfer<'a>(
        &'a self,
        address: u64,
        len: usize,
        access: Access,
        mut each: impl FnMut(Segment<'a>, Range<usize>),
    ) -> Result<(), AccessError> {
        if len == 0 {
            return Ok(());
        }
        // Nearly every access lies in one region: then one lookup is check and answer.
        let first = self.first_segment(address, len, access)?;
        if first.len() == len {
            each(first, 0..len);
            return Ok(());
        }
        self.check(address, len, access)?;
        let mut done = 0;
        for segment in self.walk(address, len, access) {
            let segment = segment?;
            each(segment, done..done + segment.len());
            done += segment.len();
        }
        Ok(())
    }

    /// The first piece, at least one byte long, of a range that is not empty.
    #[inline]
    fn first_segment(
        &self,
        address: u64,
        len: usize,
        access: Access,
    ) -> Result<Segment<'_>, AccessError> {
        let after = match &*self.regions {
            [_] => 1,
            regions => regions.partition_point(|region| region.address <= address),
        };
        if let Some(region) = self.regions[..after].last()
            && let Some(offset) = address.checked_sub(region.address)
            && offset < region.segment.len() as u64
        {
            if access == Access::Write && !region.is_writable {
                return Err(AccessError::ReadOnly);
            }
            // It fits: it is below a length of host memory.
            let offset = offset as usize;
            let len = len.min(region.segment.len() - offset);
            return Ok(region.segment.subsegment(offset, len));
        }
        Err(AccessError::OutOfRange {
            address,
            len: len as u64,
        })
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions()).finish()
    }
}

/// The host memory behind a range of guest addresses; see [`GuestMemory::segments`].
#[derive(Clone)]
pub struct Segments<'a> {
    memory: &'a GuestMemory,
    address: u64,
    len: usize,
    /// How many bytes were yielded; `len` after an error.
    done: usize,
    access: Access,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, AccessError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.len {
            return None;
        }
        // By I3 this cannot overflow: after a piece, the sum is at most the end of its region.
        let address = self.address + self.done as u64;
        let segment = self
            .memory
            .first_segment(address, self.len - self.done, self.access)
            .map_err(|error| match error {
                AccessError::ReadOnly => error,
                // The caller knows the range it asked for, not the piece where that broke.
                AccessError::OutOfRange { .. } => AccessError::OutOfRange {
                    address: self.address,
                    len: self.len as u64,
                },
            });
        match &segment {
            Ok(segment) => self.done += segment.len(),
            Err(_) => self.done = self.len,
        }
        Some(segment)
    }
}

impl std::iter::FusedIterator for Segments<'_> {}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Segments({:#x}, {} of {} bytes left)",
            self.address,
            self.len - self.done,
            self.len
        )
    }
}
