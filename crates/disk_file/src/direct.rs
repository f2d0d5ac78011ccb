//! Direct I/O, past the page cache: what the file demands of the memory of a request, and what is done where it has none such.
//!
//! A request goes in stretches of whole sectors: straight where its memory suits the kernel, by a copy where it does not.

use crate::block_device::queue_attribute;
use crate::disk::FileDisk;
use crate::properties::{ImageKind, Properties};
use crate::transfer::{Claim, Intent, byte_range};
use crate::work::Transfer;
use crate::{FileDiskOptions, OpenError};
use disk_backend::DiskError;
use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags};
use scsi_buffers::RequestBuffers;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is asked for where the system does not tell: no medium asks for more.
const ALIGNMENT_DEFAULT: u32 = 4096;

/// What direct I/O on a file demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Of each segment's address.
    memory_bytes: usize,
    /// Of offsets in the file, and of each segment's length.
    block_bytes: usize,
}

impl Alignment {
    /// Any memory, anywhere: where nothing is direct.
    pub(crate) const NONE: Self = Self {
        memory_bytes: 1,
        block_bytes: 1,
    };

    /// Turns direct I/O on, and finds out what it demands.
    pub(crate) fn turn_on(
        file: &File,
        path: &Path,
        options: &FileDiskOptions,
        properties: &Properties,
    ) -> Result<Self, OpenError> {
        if properties.kind == ImageKind::MemoryFile {
            // It has no medium that could be spoken to directly: memory is where it is.
            return Ok(Self::NONE);
        }
        let unsupported = || OpenError::DirectUnsupported(path.to_owned());
        let flags = rustix::fs::fcntl_getfl(file)
            .map_err(|error| OpenError::io(path, "look at it")(error.into()))?;
        rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).map_err(|_| unsupported())?;
        let alignment = demanded(file).unwrap_or_else(|| {
            let device = file.metadata().map(|found| match properties.kind {
                ImageKind::BlockDevice => found.rdev(),
                ImageKind::File | ImageKind::MemoryFile => found.dev(),
            });
            guessed(device.ok())
        });
        if alignment.block_bytes == 0 {
            return Err(unsupported());
        }
        if (options.sector_size as usize) < alignment.block_bytes {
            return Err(OpenError::SectorSmallerThanDirect {
                path: path.to_owned(),
                block: alignment.block_bytes,
                asked: options.sector_size,
            });
        }
        Ok(alignment)
    }

    fn suits(&self, buffers: &RequestBuffers<'_>) -> bool {
        let suits = |address: usize, len: usize| {
            address & (self.memory_bytes - 1) == 0 && len & (self.block_bytes - 1) == 0
        };
        if *self == Self::NONE {
            return true;
        }
        match buffers.one_segment(false) {
            Ok(Some(one)) => suits(one.as_ptr().addr(), one.len()),
            // What is no memory is found out when it is copied.
            _ => buffers.segments().all(|segment| {
                segment.is_ok_and(|segment| suits(segment.as_ptr().addr(), segment.len()))
            }),
        }
    }

    /// How many bytes at the beginning of `buffers`, which are whole sectors, go the same way, and whether that is straight.
    fn first_stretch(&self, buffers: &RequestBuffers<'_>, sector_size: usize) -> (usize, bool) {
        if self.suits(buffers) {
            return (buffers.len(), true);
        }
        let mut sectors = (0..buffers.len())
            .step_by(sector_size)
            .map(|at| self.suits(&buffers.subrange(at, sector_size.min(buffers.len() - at))));
        let is_straight = sectors.next().unwrap_or(true);
        let more = sectors.take_while(|suits| *suits == is_straight).count();
        (((1 + more) * sector_size).min(buffers.len()), is_straight)
    }
}

/// What the system says; zero blocks if it says that there is no direct I/O on this file; none if it does not say.
fn demanded(file: &File) -> Option<Alignment> {
    let found: Statx =
        rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let is_told = found.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let (memory, block) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
    let is_sane = block == 0 || (memory.is_power_of_two() && block.is_power_of_two());
    (is_told && is_sane).then_some(Alignment {
        memory_bytes: memory as usize,
        block_bytes: block as usize,
    })
}

fn guessed(device: Option<u64>) -> Alignment {
    let block = device.and_then(|device| queue_attribute(device, "logical_block_size"));
    let block = block.filter(|block| block.is_power_of_two());
    let block = block.unwrap_or(ALIGNMENT_DEFAULT.into()) as usize;
    Alignment {
        memory_bytes: block,
        block_bytes: block,
    }
}

impl FileDisk {
    /// Reads what could not be read at once.
    pub(crate) async fn read_rest(
        &self,
        claim: Claim,
        buffers: &RequestBuffers<'_>,
        offset: u64,
    ) -> Result<(), DiskError> {
        let mut claim = Some(claim);
        let mut done = 0;
        while done < buffers.len() {
            let (stretch, offset, memory) = self.next_stretch(buffers, offset, done);
            let claim = claim
                .take()
                .unwrap_or_else(|| Claim::Wanted(byte_range(offset, &stretch), Intent::Read));
            match memory {
                Some(memory) => {
                    let transfer = Transfer {
                        intent: Intent::Read,
                        memory,
                        offset,
                    };
                    self.begin(claim, transfer).await?;
                }
                None => self.read_bounced(claim, &stretch, offset).await?,
            }
            done += stretch.len();
        }
        Ok(())
    }

    /// Writes what could not be written at once. If the request `is_begun`, this may start inside a sector, and only together with what
    /// is written already the sector is whole: then it happens also if the future is dropped (C2).
    pub(crate) async fn write_rest(
        &self,
        claim: Claim,
        buffers: &RequestBuffers<'_>,
        offset: u64,
        is_begun: bool,
    ) -> Result<(), DiskError> {
        let mut claim = Some(claim);
        let mut done = 0;
        while done < buffers.len() {
            let (stretch, offset, memory) = self.next_stretch(buffers, offset, done);
            let claim = claim
                .take()
                .unwrap_or_else(|| Claim::Wanted(byte_range(offset, &stretch), Intent::Change));
            match memory {
                Some(memory) => {
                    let transfer = Transfer {
                        intent: Intent::Change,
                        memory,
                        offset,
                    };
                    self.begin(claim, transfer).wait(is_begun).await?;
                }
                None => {
                    self.write_bounced(claim, &stretch, offset, is_begun)
                        .await?;
                }
            }
            done += stretch.len();
        }
        Ok(())
    }

    /// What comes after the first `done` bytes of a request at `offset`, where that is in the file, and its owner, if it needs no copy.
    fn next_stretch<'a>(
        &self,
        buffers: &RequestBuffers<'a>,
        offset: u64,
        done: usize,
    ) -> (RequestBuffers<'a>, u64, Option<scsi_buffers::PinnedBuffers>) {
        let image = &self.shared.image;
        let rest = buffers.subrange(done, buffers.len() - done);
        let (len, is_straight) = image
            .alignment
            .first_stretch(&rest, image.sector_size as usize);
        let stretch = match len == rest.len() {
            true => rest,
            false => rest.subrange(0, len),
        };
        let memory = if is_straight { stretch.pin() } else { None };
        (stretch, offset + done as u64, memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::GuestMemory;
    use scsi_buffers::{GuestRange, OwnedRequestBuffers};

    const DEMANDING: Alignment = Alignment {
        memory_bytes: 512,
        block_bytes: 512,
    };

    /// The stretches of a request whose memory are these ranges of a guest, which is mapped page by page.
    fn stretches(alignment: Alignment, ranges: &[(u64, usize)]) -> Vec<(usize, bool)> {
        let memory = GuestMemory::allocate(1 << 20);
        let ranges = ranges
            .iter()
            .map(|&(address, len)| GuestRange { address, len });
        let request = OwnedRequestBuffers::from_ranges(ranges, true);
        let buffers = request.buffer(&memory);
        let (mut found, mut done) = (Vec::new(), 0);
        while done < buffers.len() {
            let rest = buffers.subrange(done, buffers.len() - done);
            let (len, is_straight) = alignment.first_stretch(&rest, 1024);
            found.push((len, is_straight));
            done += len;
        }
        found
    }

    #[test]
    fn what_suits_goes_straight_and_whole() {
        let list = [(0, 4096), (9216, 512), (16896, 1536)];
        assert_eq!(stretches(DEMANDING, &list), [(6144, true)]);
    }

    #[test]
    fn only_the_sectors_that_do_not_suit_are_copied() {
        // A segment that lies askew, one that ends askew with what follows it, and good ones around.
        let list = [
            (0, 2048),
            (4097, 1024),
            (8192, 1024),
            (16384, 1000),
            (20480, 24),
            (32768, 4096),
        ];
        let expected = [
            (2048, true),
            (1024, false),
            (1024, true),
            (1024, false),
            (4096, true),
        ];
        assert_eq!(stretches(DEMANDING, &list), expected);
    }

    #[test]
    fn where_addresses_may_be_odd_only_lengths_decide() {
        let lenient = Alignment {
            memory_bytes: 4,
            block_bytes: 512,
        };
        assert_eq!(stretches(lenient, &[(4, 2048)]), [(2048, true)]);
        assert_eq!(stretches(lenient, &[(2, 2048)]), [(2048, false)]);
        assert_eq!(
            stretches(lenient, &[(4, 2000), (4096, 48)]),
            [(1024, true), (1024, false)]
        );
    }

    #[test]
    fn where_nothing_is_demanded_everything_goes_straight() {
        assert_eq!(
            stretches(Alignment::NONE, &[(1, 1023), (7, 1)]),
            [(1024, true)]
        );
    }

    #[test]
    fn memory_that_is_none_is_left_to_the_copy_to_find() {
        assert_eq!(stretches(DEMANDING, &[(1 << 40, 1024)]), [(1024, false)]);
    }
}
