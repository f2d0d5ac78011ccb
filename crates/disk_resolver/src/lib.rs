//! The catalogue: the one place that knows every built-in type, and builds disks from their descriptions.
//!
//! Row 9: above all disks and layers, below the daemon. A program that links this crate can open every disk that Platter can.
//!
//! ```
//! # futures_lite::future::block_on(async {
//! let json = r#"{ "type": "layered", "layers": [{ "type": "ram", "size": "64M" }] }"#;
//! let disk = disk_resolver::open_disk(json, "", false).await?;
//! assert_eq!(disk.sector_count() * u64::from(disk.sector_size()), 64 << 20);
//! # Ok::<(), resource::ResolveError>(())
//! # }).unwrap();
//! ```
//!
//! [`Config`] is what a daemon is told to serve: a [`Document`] from a file, one disk, or layers from a command line
//! ([`LayerSpec`]). Types of other crates join by `use their_crate as _;`, or by hand on what [`resolver`] returns.
//!
//! It guarantees that a wrong configuration is refused with the file, the line, the path and what to do, and that nothing
//! stays open of a configuration of which one disk cannot be opened. A bare disk may stand where a layer is expected.
//!
//! It deliberately never looks into an image to find out its format, nor follows a path that is written inside of an image:
//! what is opened is what the configuration names. It serves nothing; the frontends do.
//!
//! On failure a [`ConfigError`] is one complete line of text.

mod catalogue;
mod config;
mod document;
mod error;
mod groups;
mod layer_spec;
mod written;

pub use catalogue::{open_disk, resolver, schema};
pub use config::{CONFIG_LEN_MAX, Config, OpenExport};
pub use document::{Document, Export};
pub use error::ConfigError;
pub use layer_spec::{InvalidLayerSpec, LayerSpec, layer_spec_forms};
