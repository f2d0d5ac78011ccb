//! Disks composed of layers.
//!
//! A [`LayeredDisk`] is a list of layers, top first. Each layer knows, sector by sector, what it holds: a read takes every
//! sector from the topmost layer that has it and zeros where none has (L1); a write lands on the top. The result is a
//! [`DiskIo`](disk_backend::DiskIo), so it can be wrapped into a [`Disk`](disk_backend::Disk), or serve as a layer itself.
//!
//! ```
//! use disk_layered::{DiskLayer, InvalidLayeredDisk, LayerConfiguration, LayeredDisk};
//!
//! async fn throw_away_copy(base: disk_backend::Disk, top: DiskLayer) -> Result<LayeredDisk, InvalidLayeredDisk> {
//!     let layers = [top, DiskLayer::from_disk(base)].map(LayerConfiguration::new);
//!     LayeredDisk::new(false, layers.into()).await
//! }
//! ```
//!
//! A layer implements [`LayerIo`]; what becomes a layer only once the one below is known (its size, its sector size)
//! implements [`LayerAttach`]. Layers that store live in the `disklayer_*` crates; this crate only composes.
//!
//! **Guarantees.** The stack is legal before the first request ([`InvalidLayeredDisk`]); no unmap uncovers what a lower layer
//! holds (L3); sectors beyond the smallest size a lower layer has had read zero (L5); a flush reaches every layer that took
//! writes since its last good one (C5).
//!
//! **Not here.** Read caches and write-through are refused when the stack is built: this version does not have them.
//!
//! **Failure.** An error of a layer is the request's error; nothing is retried, and no lower layer stands in for a failed one.

mod attach;
mod configuration;
mod disk_as_layer;
mod erased;
mod flush;
mod layer;
mod layered;
mod marker;
pub mod resolve;
mod stacked;

pub use attach::{DiskLayer, DiskLayerMetadata, LayerAttach};
pub use configuration::{InvalidLayer, InvalidLayeredDisk, LayerConfiguration};
pub use layer::{LayerIo, LayerStatus, NoOverwriteUnsupported, WriteNoOverwrite};
pub use layered::LayeredDisk;
pub use marker::{SectorBitmap, SectorMarker};
