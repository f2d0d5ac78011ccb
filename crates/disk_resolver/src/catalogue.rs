//! Every built-in type, and what holds between kinds.

// A crate that nothing names is not linked, and registers nothing.
use disk_delay as _;
use disk_fault as _;
use disk_file as _;
use disk_layered as _;
use disk_nbd as _;
use disk_throttle as _;
use disklayer_durable as _;
use disklayer_ram as _;

use crate::document::Document;
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use disk_layered::resolve::DiskLayerHandleKind;
use resource::{ResolveError, Resource, ResourceResolver};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::path::PathBuf;

/// Knows every built-in type, and those of any other crate that is linked and registers its own.
pub fn resolver() -> ResourceResolver {
    let mut resolver = ResourceResolver::linked();
    resolver
        .add_stand_in::<DiskLayerHandleKind, DiskHandleKind>(Into::into, Into::into)
        .add_hint::<DiskHandleKind, DiskLayerHandleKind>(
            "write {\"type\": \"layered\", \"layers\": [...]} with the layer in it",
        );
    resolver
}

/// Opens the disk that `json` describes. Paths in it are relative to `base_dir`; empty: to the working directory.
///
/// With `read_only` nothing is opened for writing, and the disk refuses writes. A dropped future closes what it has opened.
///
/// # Errors
///
/// A [`ResolveError`] with the path in `json`; [`ResolveError::located`] adds the line.
pub async fn open_disk(
    json: &str,
    base_dir: impl Into<PathBuf>,
    read_only: bool,
) -> Result<Disk, ResolveError> {
    let disk: Resource<DiskHandleKind> = resource::from_str(json)?;
    let resolver = resolver();
    let ResolvedDisk(disk) = resolver
        .context(base_dir)
        .resolve(disk, ResolveDiskParameters::new(read_only))
        .await?;
    Ok(disk)
}

/// The JSON schema of a [`Config`](crate::Config)'s text: a [`Document`], or one disk.
pub fn schema(resolver: &ResourceResolver) -> Schema {
    resolver.schema_of::<Root>()
}

struct Root;

impl JsonSchema for Root {
    fn schema_name() -> Cow<'static, str> {
        "configuration".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "title": "Configuration of Platter",
            "description": "What to serve: a document with exports, or one disk, which is then the export with the empty name.",
            "anyOf": [
                generator.subschema_for::<Document>(),
                generator.subschema_for::<Resource<DiskHandleKind>>(),
            ],
        })
    }
}
