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
//! A layer may be a **read cache**: it keeps what is read from below. Layers from the top on may **write through**: what is
//! written goes to the layer below as well, and they hold copies.
//!
//! A read asks the layers that may have what it wants: a stack remembers which of its lower layers have nothing of a region, if these say
//! when that changes ([`LayerIo::watch`]). So its cost does not grow with their number.
//!
//! **Guarantees.** The stack is legal before the first request ([`InvalidLayeredDisk`]); no unmap uncovers what a lower layer
//! holds (L3); sectors beyond the smallest size a lower layer has had read zero (L5); a flush reaches every layer that took
//! writes since its last good one (C5). No cache revives what a write, zeroing or unmap has replaced (L2); copies never
//! differ for longer than a request that nobody can see half-way (L4), whatever becomes of the future that began it (C9).
//! A read's reply waits for a cache only as long as a copy takes; no request waits for what another caller would have to poll (C4).
//!
//! **Not here.** Eviction from caches that grow full; write-back.
//!
//! **Failure.** An error of a layer is the request's error; nothing is retried, and no lower layer stands in for a failed one.
//! A cache that cannot be filled fails nobody: that is counted.

mod attach;
mod change;
mod configuration;
mod copies;
mod current;
mod disk_as_layer;
mod erased;
mod flush;
mod index;
mod layer;
mod layered;
mod marker;
mod operation;
mod order;
mod read;
pub mod resolve;
mod stack;
mod stacked;

pub use attach::{DiskLayer, DiskLayerMetadata, LayerAttach};
pub use configuration::{InvalidLayer, InvalidLayeredDisk, LayerConfiguration};
pub use index::{LayerChange, LayerWatch};
pub use layer::{LayerIo, LayerStatus, NoOverwriteUnsupported, TryRead, WriteNoOverwrite};
pub use layered::LayeredDisk;
pub use marker::{SectorBitmap, SectorMarker};
