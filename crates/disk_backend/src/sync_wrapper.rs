//! A disk as a file of bytes, for code that blocks: partition and file system libraries, loaders, tools.

use crate::{Disk, DiskError};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// [`Read`], [`Write`] and [`Seek`] over a [`Disk`], at any byte.
///
/// Whole sectors go straight to and from the caller's memory; of the rest one sector is kept here. A sector that was changed
/// in part is written when another one is needed, on [`flush`](Write::flush), and on drop.
///
/// At the end of the disk reads and writes return `Ok(0)`, and never go beyond it. Seeking beyond it is allowed, as with files.
///
/// Two of these on one disk do not see what the other keeps, and may see what they kept themselves: flush both, the one that
/// wrote first, before the other reads.
///
/// **Failure.** A changed sector that cannot be written stays here, and the next call tries again. Dropping has nobody to tell:
/// flush first to know. Calls block the thread: not for async code.
#[derive(Debug)]
pub struct BlockingDisk {
    disk: Disk,
    /// In bytes.
    position: u64,
    kept: Kept,
}

/// The sector that is kept.
///
/// Invariants: I1, without a number the content means nothing and nothing is changed; I2, unless changed, the content is what
/// the disk held when it was read or written.
#[derive(Debug)]
struct Kept {
    sector: Option<u64>,
    content: Vec<u8>,
    is_changed: bool,
}

/// The part of a call that one step does.
enum Step {
    /// The call is done: there is nothing to move, or the disk ends here.
    End,
    /// Bytes inside one sector, from `offset` on.
    Part { sector: u64, bytes: Range<usize> },
    /// So many bytes that are whole sectors.
    Whole { sector: u64, len: usize },
}

impl BlockingDisk {
    /// Starts at the beginning of `disk`.
    pub fn new(disk: Disk) -> Self {
        let content = vec![0; disk.sector_size() as usize];
        Self {
            disk,
            position: 0,
            kept: Kept {
                sector: None,
                content,
                is_changed: false,
            },
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The size of the disk in bytes, now; what lies beyond 2^64 - 1 has no position.
    fn len(&self) -> u64 {
        let sector_size = u64::from(self.disk.sector_size());
        self.disk.sector_count().saturating_mul(sector_size)
    }

    fn step(&self, wanted: usize) -> Step {
        let shift = self.disk.sector_shift();
        let left = self.len().saturating_sub(self.position);
        let wanted = usize::try_from(left).map_or(wanted, |left| wanted.min(left));
        let sector = self.position >> shift;
        let offset = (self.position - (sector << shift)) as usize;
        let sector_size = self.kept.content.len();
        if wanted == 0 {
            Step::End
        } else if offset == 0 && wanted >= sector_size {
            let len = wanted / sector_size * sector_size;
            Step::Whole { sector, len }
        } else {
            let end = sector_size.min(offset + wanted);
            let bytes = offset..end;
            Step::Part { sector, bytes }
        }
    }

    /// Writes the kept sector if it was changed.
    fn write_back(&mut self) -> io::Result<()> {
        if let (Some(sector), true) = (self.kept.sector, self.kept.is_changed) {
            let host = HostBuffers::from_ref(&self.kept.content);
            block_on(self.disk.write_vectored(&host.buffers(), sector, false))?;
            self.kept.is_changed = false;
        }
        Ok(())
    }

    /// Keeps `sector` instead of another.
    fn keep(&mut self, sector: u64) -> io::Result<()> {
        if self.kept.sector == Some(sector) {
            return Ok(());
        }
        self.write_back()?;
        self.kept.sector = None;
        let host = HostBuffers::from_mut(&mut self.kept.content);
        block_on(self.disk.read_vectored(&host.buffers(), sector))?;
        drop(host);
        self.kept.sector = Some(sector);
        Ok(())
    }
}

impl Read for BlockingDisk {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let len = match self.step(data.len()) {
            Step::End => return Ok(0),
            Step::Part { sector, bytes } => {
                self.keep(sector)?;
                data[..bytes.len()].copy_from_slice(&self.kept.content[bytes.clone()]);
                bytes.len()
            }
            Step::Whole { sector, len } => {
                self.write_back()?;
                let host = HostBuffers::from_mut(&mut data[..len]);
                block_on(self.disk.read_vectored(&host.buffers(), sector))?;
                len
            }
        };
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for BlockingDisk {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.disk.is_read_only() && !data.is_empty() {
            return Err(DiskError::ReadOnly.into());
        }
        let len = match self.step(data.len()) {
            Step::End => return Ok(0),
            Step::Part { sector, bytes } => {
                self.keep(sector)?;
                self.kept.content[bytes.clone()].copy_from_slice(&data[..bytes.len()]);
                self.kept.is_changed = true;
                bytes.len()
            }
            Step::Whole { sector, len } => {
                // The kept sector may lie in this range: written first, it does not come back over what is written now.
                self.write_back()?;
                self.kept.sector = None;
                let host = HostBuffers::from_ref(&data[..len]);
                block_on(self.disk.write_vectored(&host.buffers(), sector, false))?;
                len
            }
        };
        self.position += len as u64;
        Ok(len)
    }

    /// Writes what is kept, keeps it no longer, and flushes the disk.
    fn flush(&mut self) -> io::Result<()> {
        self.write_back()?;
        self.kept.sector = None;
        Ok(block_on(self.disk.sync_cache())?)
    }
}

impl Seek for BlockingDisk {
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a place before the beginning or beyond 2^64 bytes; the position then stays.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seeking to a place before the beginning of the disk, or beyond 2^64 bytes",
            )
        })?;
        Ok(self.position)
    }
}

impl Drop for BlockingDisk {
    fn drop(&mut self) {
        // There is nobody to tell; the type's documentation says so.
        drop(self.write_back());
    }
}
