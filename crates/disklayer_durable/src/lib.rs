//! A layer that keeps what it holds on a disk, across crashes.
//!
//! Row 7. It stands on a [`Disk`](disk_backend::Disk), its *store*: a file, a block device, or whatever else is one. For each sector it
//! knows whether it is absent, zero, or data. Above other layers it keeps changes, or is a cache that survives a restart.
//!
//! ```
//! use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, format};
//! # futures_lite::future::block_on(async {
//! let store = disklayer_ram::ram_disk(64 << 20, false)?;
//! format(&store, &FormatOptions::new(2048)).await?;
//! let layer = DurableLayer::open(store, &DurableOptions::default()).await?;
//! # disk_layered::LayerIo::sync_cache(&layer).await?;
//! layer.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! In a stack it is a [`LazyDurableLayer`]: it records what it lies on, and is refused elsewhere. The format is explained byte for byte in
//! `docs/formats/durable-layer.md`.
//!
//! **Guarantees.** What was flushed, or written with FUA, survives a crash, and each sector holds what the contract allows (C5, C6, C11),
//! if the store keeps it too. A write over data is one write of the store; the record of a first write is made durable with others', at a
//! flush. Opening reads the superblocks and the log, and its time does not grow with the data; pages are loaded when they are needed, and
//! memory for them is bounded. Space for a write is had before it is acknowledged (C8). A read-only store is opened by any number of
//! readers, and not written. A layer with [`Verify::Data`] holds what it reads against the checksum it was written with.
//!
//! **Not here.** Who may write a store: its lock is (`disk_file` has one). Sectors larger or smaller than those of the store. Throwing out
//! of what a cache holds when it grows full.
//!
//! **Failure.** Metadata that fails its checksum is an error that names the place, never absence; only a cache is emptied instead. Data
//! that fails it is an error of its sector; in a cache that is absent then, and filled again. A flush
//! that failed is made good by the next one; if the store takes no more changes then, neither does the layer.

mod attach;
mod blank;
mod cache;
mod change;
mod check;
mod copies;
mod core;
mod create;
mod data;
mod emptied;
mod error;
mod format;
mod joint;
mod journal;
mod layer;
mod look;
mod mend;
mod open;
mod page;
mod patches;
mod punch;
mod read;
mod resize;
mod resolve;
mod salvage;
mod snapshot;
mod unreadable;
mod verified;

pub use attach::LazyDurableLayer;
pub use create::{FormatOptions, format, format_with};
pub use error::{FormatError, OpenError};
pub use format::{Binding, LowerDisk, Role, Verify};
pub use layer::DurableLayer;
pub use look::{CheckReport, Condition, Damage, LayerInfo, Run, RunState, check, info, map};
pub use mend::{Compacted, compact, repair, repair_with, resize};
pub use open::DurableOptions;
pub use resolve::{DurableLayerHandle, DurableRole, DurableVerify};
pub use salvage::{Loss, loss, salvage};
