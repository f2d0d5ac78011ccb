//! The document that a daemon serves.

use crate::written::read_only_but_written;
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{JsonPath, ResolveError, Resource, ResourceResolver, parse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// What a daemon serves, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The disks, each under a name of its own.
    pub exports: Vec<Export>,
    /// Where clients connect: `unix:PATH` or `tcp:HOST:PORT`. The daemon's default, if none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<String>,
}

/// One disk under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The name that clients ask for. The empty name is what a client gets that asks for none.
    #[serde(default)]
    pub name: String,
    /// The disk.
    pub disk: Resource<DiskHandleKind>,
    /// Refuse writes, and open everything the disk is made of for reading alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl Document {
    /// One disk, as the export with the empty name.
    pub fn of_disk(disk: Resource<DiskHandleKind>) -> Self {
        let export = Export {
            name: String::new(),
            disk,
            read_only: false,
        };
        Self {
            exports: vec![export],
            listen: Vec::new(),
        }
    }

    /// Reads a document, or one disk. Nothing is opened.
    ///
    /// # Errors
    ///
    /// What is wrong in the document outside of the descriptions of disks, with its path.
    pub fn from_json(text: &str) -> Result<Self, ResolveError> {
        let value = parse(text)?;
        match Form::of(&value)? {
            Form::Disk => resource::from_value(&value).map(Self::of_disk),
            Form::Document => {
                let document: Self = resource::from_value(&value)?;
                document.check_names()?;
                Ok(document)
            }
        }
    }

    fn check_names(&self) -> Result<(), ResolveError> {
        let exports = JsonPath::root().key("exports");
        if self.exports.is_empty() {
            let message = "there is nothing to serve: name at least one export";
            return Err(ResolveError::bad_value(exports, message));
        }
        let mut index_of = HashMap::new();
        for (index, export) in self.exports.iter().enumerate() {
            if let Some(first) = index_of.insert(&*export.name, index) {
                let message = format!(
                    "exports[{first}] has this name too; clients choose an export by its name"
                );
                return Err(ResolveError::bad_value(
                    exports.index(index).key("name"),
                    message,
                ));
            }
        }
        Ok(())
    }
}

impl Export {
    /// What can be said against it without opening anything. With `read_only` it is asked as for [`open`](Self::open).
    pub fn check(&self, resolver: &ResourceResolver, read_only: bool) -> Vec<ResolveError> {
        let is_written = !read_only && !self.read_only;
        let mut mistakes = resolver.check(&self.disk);
        if is_written {
            mistakes.extend(read_only_but_written(&self.disk));
        }
        mistakes
    }

    /// Opens its disk; read-only, if `read_only` or the export says so. Paths in it are relative to `base_dir`; empty: to the
    /// working directory.
    ///
    /// A dropped future closes what it has opened.
    ///
    /// # Errors
    ///
    /// What is wrong, with its path in what the export was read from.
    pub async fn open(
        &self,
        resolver: &ResourceResolver,
        base_dir: impl Into<PathBuf>,
        read_only: bool,
    ) -> Result<Disk, ResolveError> {
        let parameters = ResolveDiskParameters::new(read_only || self.read_only);
        let context = resolver.context(base_dir);
        let ResolvedDisk(disk) = context.resolve(self.disk.clone(), parameters).await?;
        Ok(disk)
    }
}

/// What a JSON text is, going by its keys.
enum Form {
    Disk,
    Document,
}

impl Form {
    fn of(value: &Value) -> Result<Self, ResolveError> {
        let refuse = |message: &str| Err(ResolveError::bad_value(JsonPath::root(), message));
        let Value::Object(object) = value else {
            return refuse(
                "a configuration is an object: a disk, which has the key \"type\", or a document with \"exports\"",
            );
        };
        if object.contains_key("type") {
            return Ok(Self::Disk);
        }
        if object.contains_key("layers") {
            return refuse(
                "the key \"type\" is missing; a disk made of layers is written {\"type\": \"layered\", \"layers\": [...]}",
            );
        }
        let is_document = ["exports", "export", "listen"]
            .iter()
            .any(|&key| object.contains_key(key));
        if is_document {
            return Ok(Self::Document);
        }
        refuse(
            "this is neither a disk, which has the key \"type\", nor a document, which has the key \"exports\"",
        )
    }
}
