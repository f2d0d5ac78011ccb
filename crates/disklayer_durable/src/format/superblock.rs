//! The superblock: what the layer is, and where its log begins to count.

use super::table::SuperblockBytes;
use super::{
    Block, INCOMPATIBLE_KNOWN, LOGS_DATA, Layout, MAGIC, VERIFY_DATA, VERSION, Verify, is_sealed,
    seal,
};
use disk_backend::ContentStamp;
use std::fmt;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Kinds of lower disks, as stored.
const LOWER_UNKNOWN: u32 = 0;
const LOWER_NONE: u32 = 1;
const LOWER_DISK: u32 = 2;
const LOWER_DISK_WITH_ID: u32 = 3;

/// Generations and sequence numbers count from 1; none comes to this.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

/// Whether a layer can have this size and mark.
pub(crate) fn are_sizes(layout: &Layout, sector_count: u64, shown_below: u64) -> bool {
    let has_bytes = layout.store_bytes(sector_count).is_some();
    has_bytes && sector_count > 0 && shown_below <= sector_count
}

/// What a layer may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It keeps changes: nothing of it may be lost.
    #[default]
    Overlay,
    /// It keeps what was read from below, and may be emptied at any time.
    ReadCache,
    /// It keeps copies of what is written through it, and may be emptied at any time.
    WriteThrough,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "an overlay",
            Self::ReadCache => "a read cache",
            Self::WriteThrough => "a write-through cache",
        })
    }
}

/// A lower disk, by what is recorded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerDisk {
    /// Its identity, if it has one.
    pub disk_id: Option<[u8; 16]>,
    /// Its size in sectors.
    pub sector_count: u64,
    /// Its sector size in bytes.
    pub sector_size: u32,
    /// Stands for its content, where the lower disk can say.
    pub stamp: Option<ContentStamp>,
}

/// What a layer lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binding {
    /// Not known yet: it was never attached.
    #[default]
    Unknown,
    /// Nothing.
    Nothing,
    /// A disk.
    Disk(LowerDisk),
}

/// See the head of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) layer_id: [u8; 16],
    pub(crate) layout: Layout,
    pub(crate) sector_count: u64,
    pub(crate) shown_below: u64,
    pub(crate) log_generation: u64,
    pub(crate) log_sequence: u64,
    pub(crate) is_in_use: bool,
    pub(crate) role: Role,
    pub(crate) binding: Binding,
    /// Checksums of data in pages of this sequence number, or before, are not believed.
    pub(crate) sums_after: u64,
    /// Whether entries of the log may have copies of data.
    pub(crate) logs_data: bool,
}

/// Why a block is no superblock that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSuperblock {
    #[error("it does not begin with the magic of a durable layer")]
    Magic,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("the store cannot read it")]
    Unreadable,
    #[error(
        "version {0} of the format is not known to this program, which knows version {VERSION}"
    )]
    Version(u32),
    #[error("it uses features that this program does not know: bits {0:#x}")]
    Features(u64),
    #[error("its {0} is none that a layer can have")]
    Field(&'static str),
}

impl BadSuperblock {
    /// Whether the block is whole, and of a program that knew more.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Features(_))
    }
}

impl Superblock {
    pub(crate) fn encode(&self) -> Block {
        let mut bytes = SuperblockBytes::new_zeroed();
        bytes.magic = MAGIC;
        bytes.version = VERSION.into();
        bytes.sector_size = self.layout.sector_size.into();
        let features = [
            (VERIFY_DATA, self.layout.is_verified()),
            (LOGS_DATA, self.logs_data),
        ];
        let used = features.iter().filter(|(_, is_used)| *is_used);
        bytes.incompatible = used.map(|(bit, _)| bit).sum::<u64>().into();
        bytes.generation = self.generation.into();
        bytes.epoch = self.epoch.into();
        bytes.layer_id = self.layer_id;
        bytes.sector_count = self.sector_count.into();
        bytes.shown_below = self.shown_below.into();
        bytes.stripe_sectors = self.layout.stripe_sectors.into();
        bytes.log_blocks = self.layout.log_blocks.into();
        bytes.log_generation = self.log_generation.into();
        bytes.log_sequence = self.log_sequence.into();
        bytes.state = u32::from(self.is_in_use).into();
        bytes.role = (self.role as u32).into();
        bytes.sums_after = self.sums_after.into();
        match &self.binding {
            Binding::Unknown => bytes.lower_kind = LOWER_UNKNOWN.into(),
            Binding::Nothing => bytes.lower_kind = LOWER_NONE.into(),
            Binding::Disk(lower) => {
                bytes.lower_kind = match lower.disk_id {
                    Some(_) => LOWER_DISK_WITH_ID,
                    None => LOWER_DISK,
                }
                .into();
                bytes.lower_id = lower.disk_id.unwrap_or_default();
                bytes.lower_sector_size = lower.sector_size.into();
                bytes.lower_sector_count = lower.sector_count.into();
                bytes.lower_stamp = lower.stamp.map_or([0; 32], |stamp| *stamp.as_bytes());
            }
        }
        let mut block = [0; super::BLOCK_BYTES];
        block.copy_from_slice(bytes.as_bytes());
        seal(&mut block);
        block
    }

    pub(crate) fn decode(block: &Block) -> Result<Self, BadSuperblock> {
        let bytes = SuperblockBytes::ref_from_bytes(block).expect("a block has this length");
        if bytes.magic != MAGIC {
            return Err(BadSuperblock::Magic);
        }
        // Before the version: a version is believed only from a block that is whole.
        if !is_sealed(block) {
            return Err(BadSuperblock::Checksum);
        }
        if bytes.version.get() != VERSION {
            return Err(BadSuperblock::Version(bytes.version.get()));
        }
        let unknown = bytes.incompatible.get() & !INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            return Err(BadSuperblock::Features(unknown));
        }
        if bytes.incompatible.get() == VERIFY_DATA | LOGS_DATA {
            return Err(BadSuperblock::Field("incompatible"));
        }
        let layout = Layout::new(
            bytes.sector_size.get(),
            bytes.stripe_sectors.get(),
            bytes.log_blocks.get(),
            match bytes.incompatible.get() & VERIFY_DATA {
                0 => Verify::Metadata,
                _ => Verify::Data,
            },
        );
        let superblock = Self {
            generation: bytes.generation.get(),
            epoch: bytes.epoch.get(),
            layer_id: bytes.layer_id,
            layout: layout.map_err(|what| BadSuperblock::Field(what.name()))?,
            sector_count: bytes.sector_count.get(),
            shown_below: bytes.shown_below.get(),
            log_generation: bytes.log_generation.get(),
            log_sequence: bytes.log_sequence.get(),
            is_in_use: match bytes.state.get() {
                0 => false,
                1 => true,
                _ => return Err(BadSuperblock::Field("state")),
            },
            role: match bytes.role.get() {
                0 => Role::Overlay,
                1 => Role::ReadCache,
                2 => Role::WriteThrough,
                _ => return Err(BadSuperblock::Field("role")),
            },
            binding: binding(bytes)?,
            sums_after: bytes.sums_after.get(),
            logs_data: bytes.incompatible.get() & LOGS_DATA != 0,
        };
        match superblock.wrong_field() {
            None => Ok(superblock),
            Some(field) => Err(BadSuperblock::Field(field)),
        }
    }

    /// A field with a number that no layer comes to.
    fn wrong_field(&self) -> Option<&'static str> {
        let counters = [
            ("generation", self.generation),
            ("log_generation", self.log_generation),
            ("log_sequence", self.log_sequence),
            ("sums_after", self.sums_after),
        ];
        let too_high = counters.iter().find(|(_, count)| *count > COUNT_MAX);
        let is_size = are_sizes(&self.layout, self.sector_count, self.shown_below);
        let sizes = (!is_size).then_some(match self.shown_below > self.sector_count {
            true => "shown_below",
            false => "sector_count",
        });
        too_high.map(|(field, _)| *field).or(sizes)
    }
}

fn binding(bytes: &SuperblockBytes) -> Result<Binding, BadSuperblock> {
    let disk_id = match bytes.lower_kind.get() {
        LOWER_UNKNOWN => return Ok(Binding::Unknown),
        LOWER_NONE => return Ok(Binding::Nothing),
        LOWER_DISK => None,
        LOWER_DISK_WITH_ID => Some(bytes.lower_id),
        _ => return Err(BadSuperblock::Field("lower_kind")),
    };
    Ok(Binding::Disk(LowerDisk {
        disk_id,
        sector_count: bytes.lower_sector_count.get(),
        sector_size: bytes.lower_sector_size.get(),
        stamp: ContentStamp::new(bytes.lower_stamp),
    }))
}
