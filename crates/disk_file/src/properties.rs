//! What is found out about an open file: its size, and what can be done with it.

use crate::OpenError;
use crate::block_device::queue_attribute;
use rustix::fs::{FallocateFlags, SeekFrom, Timespec, Timestamps, UTIME_OMIT};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The largest sector that a disk in a file has.
pub(crate) const SECTOR_SIZE_MAX: u32 = 64 * 1024;
/// What a file is advised to be written in, where the file system's advice is of no use.
const PHYSICAL_SECTOR_SIZE_DEFAULT: u64 = 4096;

/// File systems that live in memory, by the numbers in `statfs(2)`: tmpfs, ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
/// File systems whose files others change without this kernel's knowledge: NFS, SMB (old and new), FUSE, 9p, Ceph.
const CHANGED_ELSEWHERE: [i64; 6] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, inspect::Inspect)]
pub(crate) enum ImageKind {
    /// A regular file on a medium.
    File,
    /// A regular file whose file system lives in memory: nothing ever waits for a device.
    MemoryFile,
    BlockDevice,
}

/// What differs from file to file. None of it changes while the disk exists.
#[derive(Debug)]
pub(crate) struct Properties {
    pub(crate) kind: ImageKind,
    /// When it was opened.
    pub(crate) size_bytes: u64,
    /// Whether the kernel hears of all changes, as it does not of those that are made to a device, or elsewhere on a network.
    pub(crate) can_be_watched: bool,
    /// Whether a write waits for nobody but this machine's kernel and its devices, as far as can be seen.
    pub(crate) is_local: bool,
    pub(crate) physical_sector_size: u32,
    /// What space is given to a file in.
    pub(crate) block_bytes: u32,
    /// What the medium writes all or nothing.
    pub(crate) untorn_bytes: u32,
    /// Whether holes can be punched, which is what unmap does; not in a file that is only read.
    pub(crate) can_punch: bool,
    /// Whether zeroing a range with its space kept is worth a try.
    pub(crate) may_zero_range: bool,
    /// The smallest piece whose unmapping gives space back.
    pub(crate) unmap_granularity_bytes: u64,
}

impl Properties {
    pub(crate) fn find_out(
        file: &File,
        path: &Path,
        sector_size: u32,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let metadata = file.metadata().map_err(OpenError::io(path, "look at it"))?;
        if metadata.file_type().is_block_device() {
            Self::of_device(file, path, &metadata, sector_size, read_only)
        } else {
            Self::of_file(file, path, &metadata, sector_size, read_only)
        }
    }

    fn of_device(
        file: &File,
        path: &Path,
        metadata: &Metadata,
        sector_size: u32,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let failed = |error: rustix::io::Errno| {
            OpenError::io(path, "ask for its sector sizes")(error.into())
        };
        let logical = rustix::fs::ioctl_blksszget(file).map_err(failed)?;
        let physical = rustix::fs::ioctl_blkpbszget(file).map_err(failed)?;
        if sector_size < logical {
            return Err(OpenError::SectorSmallerThanDevice {
                path: path.to_owned(),
                device: logical,
                asked: sector_size,
            });
        }
        // The kernel punches and zeroes by this command of the device; without it, it would write zeros.
        let can_zero =
            queue_attribute(metadata.rdev(), "write_zeroes_max_bytes").is_some_and(|max| max > 0);
        let granularity = queue_attribute(metadata.rdev(), "discard_granularity").unwrap_or(0);
        Ok(Self {
            kind: ImageKind::BlockDevice,
            size_bytes: device_size(file).map_err(OpenError::io(path, "find its size"))?,
            can_be_watched: false,
            // It may be served by this very thread (NBD, iSCSI, ublk), or lie on a device, or in a file, that is (loop, LVM).
            is_local: false,
            physical_sector_size: sane_physical_size(physical.into(), sector_size),
            // All its space is there.
            block_bytes: u32::MAX,
            untorn_bytes: physical,
            can_punch: can_zero && !read_only,
            may_zero_range: can_zero,
            unmap_granularity_bytes: granularity,
        })
    }

    fn of_file(
        file: &File,
        path: &Path,
        metadata: &Metadata,
        sector_size: u32,
        read_only: bool,
    ) -> Result<Self, OpenError> {
        let file_system = rustix::fs::fstatfs(file)
            .map_err(|error| OpenError::io(path, "look at its file system")(error.into()))?;
        let magic = file_system.f_type as i64;
        let is_memory = IN_MEMORY.contains(&magic);
        let untorn = queue_attribute(metadata.dev(), "physical_block_size").unwrap_or(512);
        Ok(Self {
            kind: if is_memory {
                ImageKind::MemoryFile
            } else {
                ImageKind::File
            },
            size_bytes: metadata.len(),
            can_be_watched: !CHANGED_ELSEWHERE.contains(&magic),
            is_local: !CHANGED_ELSEWHERE.contains(&magic),
            physical_sector_size: sane_physical_size(metadata.blksize(), sector_size),
            // None if it does not say: then each sector is reserved.
            block_bytes: u32::try_from(file_system.f_bsize).unwrap_or(0),
            untorn_bytes: if is_memory {
                u32::MAX
            } else {
                u32::try_from(untorn).unwrap_or(512)
            },
            can_punch: !read_only && probe_punch(file, metadata),
            may_zero_range: true,
            unmap_granularity_bytes: metadata.blksize(),
        })
    }
}

/// Files on some file systems report the best size of a transfer instead, which is no sector's size.
fn sane_physical_size(reported: u64, sector_size: u32) -> u32 {
    let is_sane = reported.is_power_of_two() && reported <= SECTOR_SIZE_MAX.into();
    let size = if is_sane {
        reported
    } else {
        PHYSICAL_SECTOR_SIZE_DEFAULT
    };
    // At most SECTOR_SIZE_MAX, so nothing is cut off.
    (size as u32).max(sector_size)
}

/// Punches a hole beyond the end of the file, where there is nothing: only the answer matters. The kernel takes it for a change of the
/// content all the same, which it is not, and for whoever tells by its time that it was (a [content stamp](disk_backend::ContentStamp))
/// must not become: so the time is set back.
fn probe_punch(file: &File, metadata: &Metadata) -> bool {
    let size_bytes = metadata.len();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let can_punch = i64::try_from(size_bytes.saturating_add(PHYSICAL_SECTOR_SIZE_DEFAULT)).is_ok()
        && rustix::fs::fallocate(file, flags, size_bytes, PHYSICAL_SECTOR_SIZE_DEFAULT).is_ok();
    if can_punch {
        let keep = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: keep,
            last_modification: Timespec {
                tv_sec: metadata.mtime(),
                tv_nsec: metadata.mtime_nsec(),
            },
        };
        if let Err(error) = rustix::fs::futimens(file, &times) {
            // Only the owner may. Then a layer above takes it for changed, once.
            tracing::debug!(%error, "the time of an image's last change could not be set back");
        }
    }
    can_punch
}

/// The size of a block device in bytes.
pub(crate) fn device_size(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}
