//! What a layered disk is made from, and what makes it illegal.

use crate::DiskLayer;
use disk_backend::InvalidDisk;

/// A layer and the way it is used.
#[derive(Debug)]
pub struct LayerConfiguration {
    /// The layer.
    pub layer: DiskLayer,
    /// What users write also goes to the layer below: this one only has a copy. Begins at the top, and leaves out no layer.
    pub write_through: bool,
    /// What is read from below is kept in this layer. Without effect in the lowest one.
    pub read_cache: bool,
}

impl LayerConfiguration {
    /// A layer that is neither write-through nor a read cache.
    pub fn new(layer: DiskLayer) -> Self {
        Self {
            layer,
            write_through: false,
            read_cache: false,
        }
    }
}

/// Why a list of layers is not a disk. Layers are counted from the top, from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLayeredDisk {
    /// There are no layers.
    #[error("a layered disk needs at least one layer")]
    NoLayers,
    /// A layer cannot be used where it stands.
    #[error("layer {index} (0 is the top)")]
    Layer {
        /// Which one.
        index: usize,
        /// Why not.
        #[source]
        error: InvalidLayer,
    },
}

/// Why a layer cannot be used where it stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLayer {
    /// It could not become a layer above the one below.
    #[error("cannot attach the layer")]
    AttachFailed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// One of its sector sizes is invalid.
    #[error("invalid sector size")]
    InvalidSectorSize(#[source] InvalidDisk),
    /// Its sector size is not that of the layer below.
    #[error(
        "its sectors are {found} bytes, but those of the layer below are {lower} bytes: all layers need the same"
    )]
    SectorSizeMismatch {
        /// Its sector size, in bytes.
        found: u32,
        /// The sector size of the layer below, in bytes.
        lower: u32,
    },
    /// The layer above it, or the top, is not write-through.
    #[error(
        "write_through must begin at the top and leave out no layer: the layer above does not have it"
    )]
    WriteThroughNotContiguous,
    /// It is the lowest layer, so there is nothing to write through to.
    #[error("write_through needs a layer below to write to")]
    NothingToWriteThrough,
    /// It has no way to be filled as a cache.
    #[error("read_cache needs a layer that can be filled without overwriting; this type cannot")]
    ReadCacheUnsupported,
    /// It would have to take writes, and does not.
    #[error(
        "the layer is read-only, but the disk would write to it: make the disk read-only, or put a writable layer on top"
    )]
    ReadOnly,
    /// It may be emptied at any time, and would be the last to take what is written.
    #[error(
        "the layer may be emptied at any time, and here it would hold the only copy of what is written: give it \"write_through\": true above a \
         layer that keeps what is written, put such a layer above it, or make the disk read-only"
    )]
    OnlyCopy,
    /// It may be emptied at any time, as a copy of what lies below, and nothing does.
    #[error(
        "the layer may be emptied at any time because it is a copy, and there is nothing below it that it could be a copy of: put it above \
         that, or use a layer that keeps what it holds"
    )]
    CopyOfNothing,
    /// It would be written through, and is shorter than the disk.
    #[error(
        "it has {found} sectors, but the disk that would be written through to it has {needed}: what lies beyond would have no place in it"
    )]
    TooShortToWriteThrough {
        /// Its size in sectors.
        found: u64,
        /// The size of the disk, which is that of its top layer, in sectors.
        needed: u64,
    },
}
