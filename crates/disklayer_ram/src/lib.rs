//! A layer, or a whole disk, in memory.
//!
//! On top of other layers a [`RamDiskLayer`] is a throw-away copy of what lies below: it holds what was written since. Alone
//! it is a RAM disk ([`ram_disk`]).
//!
//! ```
//! let disk = disklayer_ram::ram_disk(1 << 30, false)?;
//! assert_eq!(disk.sector_count(), (1 << 30) / 512);
//! # Ok::<(), disklayer_ram::RamDiskError>(())
//! ```
//!
//! **Guarantees.** Memory is taken by the 4 KiB page as sectors are written, and goes back to the system when they are
//! unmapped, zeroed or cut off; a sector written with zeros takes memory like any other. An empty disk costs a few KiB,
//! whatever its size. An unmapped sector becomes an explicit zero that hides the layers below, always. There is no lock over
//! the disk: requests meet only in the chunk of 2 MiB that they share. Every request completes when first polled, unless it is
//! longer than a chunk.
//!
//! **Not here.** Nothing survives the process. A limit on memory is the operator's, by the size of the disk.
//!
//! **Failure.** A write for which the system has no memory fails with `NoSpace`. The system may promise more memory than it
//! has; running out later is the out-of-memory killer's affair.

mod bits;
mod chunk;
mod emptied;
mod error;
mod layer;
mod place;
mod resolve;
mod store;
mod table;

pub use error::RamDiskError;
pub use layer::{LazyRamDiskLayer, RamDiskLayer};
pub use resolve::RamLayerHandle;

use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};

/// A disk of `size` bytes in memory, with sectors of 512 bytes.
///
/// # Errors
/// As for [`RamDiskLayer::new`].
pub fn ram_disk(size: u64, read_only: bool) -> Result<Disk, RamDiskError> {
    let layer = LayerConfiguration::new(DiskLayer::new(RamDiskLayer::new(size)?));
    // A RAM layer attaches without waiting, and alone it is a legal stack.
    let disk = futures_lite::future::block_on(LayeredDisk::new(read_only, vec![layer]))
        .expect("a RAM layer alone is a legal stack");
    Ok(Disk::new(disk).expect("the layer's sector sizes were checked"))
}

/// Pages of the project whose examples are compiled and run together with ours.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/embedding.md")]
    mod embedding {}
    #[doc = include_str!("../../../README.md")]
    mod readme {}
}
