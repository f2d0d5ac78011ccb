//! Disks under names.

use crate::limits::OptionalCount;
use crate::protocol::REQUEST_BYTES_MAX;
use disk_backend::{Disk, UnmapBehavior};
use inspect::Inspect;
use nbd_protocol::{BlockSizes, Framing, STRING_LEN_MAX, check_string, transmission_flag as flag};
use range_lock::RangeLock;

/// The largest sector that can be served, in bytes: what is not whole sectors is read, changed and written through a
/// connection's memory, which is bounded.
pub const SECTOR_SIZE_MAX: u32 = 256 * 1024;

/// A disk that clients can choose by a name.
///
/// Serve a disk under one writable name only: writes of less than a sector are protected from others of the same export,
/// not from those of another.
#[derive(Debug, Inspect)]
pub struct Export {
    #[inspect(skip)]
    name: String,
    description: String,
    read_only: bool,
    disk: Disk,
    #[inspect(skip)]
    connections_max: OptionalCount,
    /// Held exclusively, in bytes, while a part of a sector is changed; shared by every other change.
    #[inspect(skip)]
    changes: RangeLock,
}

/// Why a disk cannot be served, or not together with the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidExport {
    /// The name or the description cannot be sent.
    #[error(
        "export {}: the {part} must be at most {STRING_LEN_MAX} bytes long and contain no zero byte",
        shortened(.name)
    )]
    Text {
        /// The export's name.
        name: String,
        /// `name` or `description`.
        part: &'static str,
    },
    /// The sectors are larger than [`SECTOR_SIZE_MAX`].
    #[error(
        "export {}: sectors of {sector_size} bytes cannot be served, at most {SECTOR_SIZE_MAX}",
        shortened(.name)
    )]
    SectorSize {
        /// The export's name.
        name: String,
        /// The size of a sector, in bytes.
        sector_size: u32,
    },
    /// Two exports have the same name.
    #[error("there are two exports named {}: each needs its own name", shortened(.name))]
    DuplicateName {
        /// The name.
        name: String,
    },
}

/// A name as it is shown: whole, unless nobody would read it.
pub(crate) fn shortened(name: &str) -> String {
    const SHOWN_LEN_MAX: usize = 64;
    let shown = &name[..name.floor_char_boundary(SHOWN_LEN_MAX)];
    match shown.len() == name.len() {
        true => format!("{name:?}"),
        false => format!("{shown:?}... ({} bytes)", name.len()),
    }
}

impl Export {
    /// A disk under a name. The empty name is that of the default export.
    ///
    /// # Errors
    /// [`InvalidExport::Text`], [`InvalidExport::SectorSize`].
    pub fn new(name: impl Into<String>, disk: Disk) -> Result<Self, InvalidExport> {
        let name = name.into();
        if check_string(name.as_bytes()).is_err() {
            return Err(InvalidExport::Text { name, part: "name" });
        }
        if disk.sector_size() > SECTOR_SIZE_MAX {
            let sector_size = disk.sector_size();
            return Err(InvalidExport::SectorSize { name, sector_size });
        }
        Ok(Self {
            name,
            description: String::new(),
            read_only: disk.is_read_only(),
            disk,
            connections_max: OptionalCount::new(None),
            changes: RangeLock::new(),
        })
    }

    /// Describes the export to people who list it.
    ///
    /// # Errors
    /// [`InvalidExport::Text`].
    pub fn with_description(mut self, text: impl Into<String>) -> Result<Self, InvalidExport> {
        self.description = text.into();
        if check_string(self.description.as_bytes()).is_err() {
            let name = self.name;
            return Err(InvalidExport::Text {
                name,
                part: "description",
            });
        }
        Ok(self)
    }

    /// Refuses every change, whatever the disk allows.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Lets only so many connections use it at once, whatever [`Limits::connections_per_export_max`](crate::Limits) says. It can
    /// be changed while the export is served, in the inspection tree, as `exports/NAME/connections_max`.
    #[must_use]
    pub fn with_connections_max(mut self, count: usize) -> Self {
        self.connections_max = OptionalCount::new(Some(count));
        self
    }

    /// The name that clients choose it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether changes are refused: by choice, or because the disk takes none.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    pub(crate) fn connections_max(&self) -> &OptionalCount {
        &self.connections_max
    }

    pub(crate) fn changes(&self) -> &RangeLock {
        &self.changes
    }

    /// The size now, in bytes: whole sectors, and never more than 2^63 - 1, which is what clients can count.
    pub(crate) fn size_bytes(&self) -> u64 {
        let shift = self.disk.sector_shift();
        let sectors_max = i64::MAX as u64 >> shift;
        self.disk.sector_count().min(sectors_max) << shift
    }

    pub(crate) fn supports_trim(&self) -> bool {
        self.disk.unmap_behavior() != UnmapBehavior::Ignored
    }

    /// What clients are told that they may send.
    ///
    /// Several connections may always be used together (C5): they share the disk, and a flush of one covers what any of them
    /// had completed.
    pub(crate) fn transmission_flags(&self, framing: Framing) -> u16 {
        let always = flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::SEND_CACHE;
        let mut flags = always | flag::CAN_MULTI_CONN;
        if framing.has_chunks() {
            flags |= flag::SEND_DF;
        }
        if self.read_only {
            return flags | flag::READ_ONLY;
        }
        if self.supports_trim() {
            flags |= flag::SEND_TRIM;
        }
        flags | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO
    }

    /// The smallest, the best and the largest request, in bytes.
    pub(crate) fn block_sizes(&self) -> BlockSizes {
        BlockSizes {
            minimum: 1,
            preferred: self.disk.physical_sector_size().min(REQUEST_BYTES_MAX),
            maximum: REQUEST_BYTES_MAX,
        }
    }
}
