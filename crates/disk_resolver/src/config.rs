//! A configuration, where it came from, and how its disks are opened.

use crate::document::{Document, Export};
use crate::error::ConfigError;
use crate::groups;
use crate::layer_spec::{InvalidLayerSpec, LayerSpec};
use disk_backend::Disk;
use disk_throttle::GroupCheck;
use futures_util::future::join_all;
use resource::{JsonPath, MISTAKES_MAX, ResolveError, ResourceResolver, Segment};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How long the text of a configuration may be, in bytes.
pub const CONFIG_LEN_MAX: usize = 16 << 20;

/// What to serve, and enough about its origin to say where a mistake is.
#[derive(Debug, Clone)]
pub struct Config {
    document: Document,
    origin: Origin,
    base_dir: PathBuf,
}

#[derive(Debug, Clone)]
enum Origin {
    Text {
        name: String,
        text: String,
    },
    Layers(Vec<LayerSpec>),
    /// One disk, described without a text to point into.
    Disk(String),
}

/// A disk of a configuration, open.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenExport {
    /// The name that clients ask for.
    pub name: String,
    /// The disk.
    pub disk: Disk,
}

impl Config {
    /// Reads the file at `path`. Paths in it are relative to its directory. Disks are not opened yet.
    ///
    /// Reads at most [`CONFIG_LEN_MAX`] bytes. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is no [document](Document::from_json).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(CONFIG_LEN_MAX as u64 + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        let text = text_of(bytes).map_err(|reason| ConfigError::NotText {
            path: path.to_owned(),
            reason,
        })?;
        let base_dir = path.parent().unwrap_or(Path::new(""));
        Self::from_text(path.display().to_string(), text, base_dir)
    }

    /// The document `text`, which messages call `name`. Paths in it are relative to `base_dir`; empty: to the working
    /// directory.
    ///
    /// # Errors
    ///
    /// As [`Document::from_json`].
    pub fn from_text(
        name: impl Into<String>,
        text: impl Into<String>,
        base_dir: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let (name, text) = (name.into(), text.into());
        let document = Document::from_json(&text);
        Self::new(document, Origin::Text { name, text }, base_dir.into())
    }

    /// One disk made of layers, top first, as the export with the empty name. Paths are relative to the working directory.
    ///
    /// # Errors
    ///
    /// If there are no layers, or one is not written as its type wants.
    pub fn from_layers(
        resolver: &ResourceResolver,
        layers: Vec<LayerSpec>,
    ) -> Result<Self, ConfigError> {
        let descriptions = layers
            .iter()
            .map(|layer| layer.describe(resolver))
            .collect::<Result<Vec<Value>, InvalidLayerSpec>>()?;
        let disk = json!({ "type": "layered", "layers": descriptions });
        let document = resource::from_value(&disk).map(Document::of_disk);
        Self::new(document, Origin::Layers(layers), PathBuf::new())
    }

    /// One disk, which messages call `name`, as the export with the empty name. Paths are relative to the working directory.
    ///
    /// # Errors
    ///
    /// If `description` is not an object with a `type`.
    pub fn from_description(
        name: impl Into<String>,
        description: &Value,
    ) -> Result<Self, ConfigError> {
        let document = resource::from_value(description).map(Document::of_disk);
        Self::new(document, Origin::Disk(name.into()), PathBuf::new())
    }

    fn new(
        document: Result<Document, ResolveError>,
        origin: Origin,
        base_dir: PathBuf,
    ) -> Result<Self, ConfigError> {
        match document {
            Ok(document) => Ok(Self {
                document,
                origin,
                base_dir,
            }),
            Err(error) => Err(origin.explain(error)),
        }
    }

    /// What it says.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What can be said against it without opening anything: the first [`MISTAKES_MAX`] mistakes. With `read_only` it is
    /// asked as for [`open`](Self::open).
    pub fn check(&self, resolver: &ResourceResolver, read_only: bool) -> Vec<ConfigError> {
        let exports = self.document.exports.iter();
        let mistakes = exports.flat_map(|export| export.check(resolver, read_only));
        mistakes
            .chain(self.groups_that_disagree())
            .take(MISTAKES_MAX)
            .map(|error| self.explain(error))
            .collect()
    }

    fn groups_that_disagree(&self) -> Vec<ResolveError> {
        let (mut seen, mut found) = (GroupCheck::new(), Vec::new());
        for export in &self.document.exports {
            let path = export.disk.origin().cloned();
            let path = path.unwrap_or_else(JsonPath::root);
            let disk = serde_json::to_value(&export.disk).unwrap_or_default();
            groups::check(&path, &disk, &mut seen, &mut found);
        }
        found
    }

    /// Opens every disk, all at the same time; read-only, if `read_only` or the export says so.
    ///
    /// A dropped future closes what it has opened.
    ///
    /// # Errors
    ///
    /// What is wrong with the first export that cannot be opened. Then nothing stays open.
    pub async fn open(
        &self,
        resolver: &ResourceResolver,
        read_only: bool,
    ) -> Result<Vec<OpenExport>, ConfigError> {
        let exports = self.document.exports.iter();
        // To the end, also after an error: what one of them still has open would lock the next attempt out.
        let opened = join_all(exports.map(|export| self.open_one(resolver, export, read_only)));
        opened.await.into_iter().collect()
    }

    /// Opens the disk of the export `exports[index]` alone; otherwise as [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    ///
    /// # Panics
    ///
    /// If there is no such export.
    pub async fn open_export(
        &self,
        resolver: &ResourceResolver,
        index: usize,
        read_only: bool,
    ) -> Result<OpenExport, ConfigError> {
        let export = &self.document.exports[index];
        self.open_one(resolver, export, read_only).await
    }

    async fn open_one(
        &self,
        resolver: &ResourceResolver,
        export: &Export,
        read_only: bool,
    ) -> Result<OpenExport, ConfigError> {
        match export.open(resolver, &self.base_dir, read_only).await {
            Ok(disk) => Ok(OpenExport {
                name: export.name.clone(),
                disk,
            }),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Says where in this configuration an error is.
    pub fn explain(&self, error: ResolveError) -> ConfigError {
        self.origin.explain(error)
    }

    /// An error about the address `listen[index]` of the document.
    pub fn wrong_address(&self, index: usize, message: impl Into<String>) -> ConfigError {
        let path = JsonPath::root().key("listen").index(index);
        self.explain(ResolveError::bad_value(path, message))
    }
}

impl Origin {
    fn explain(&self, error: ResolveError) -> ConfigError {
        let message = match self {
            Origin::Text { name, text } => error.located(name, text),
            Origin::Layers(layers) => in_layers(layers, &error),
            Origin::Disk(name) if error.path().is_root() => format!("{name}: {}", error.problem()),
            Origin::Disk(name) => format!("{name}: {error}"),
        };
        ConfigError::Wrong {
            message,
            source: error,
        }
    }
}

/// The message for an error in the disk that was made of `layers`, in terms of the command line.
fn in_layers(layers: &[LayerSpec], error: &ResolveError) -> String {
    let (index, rest) = match error.path().segments() {
        [Segment::Key(_), Segment::Index(index), rest @ ..] => (*index, rest),
        [Segment::Key(_)] => return format!("the layers: {}", error.problem()),
        _ => return error.to_string(),
    };
    let rest: JsonPath = rest.iter().cloned().collect();
    let colon = if rest.is_root() { "" } else { ": " };
    match layers.get(index) {
        Some(layer) => format!("layer {layer}: {rest}{colon}{}", error.problem()),
        None => error.to_string(),
    }
}

/// The text of a file, or why it is none.
fn text_of(bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.len() > CONFIG_LEN_MAX {
        return Err("this is longer than 16 MiB");
    }
    if bytes.contains(&0) {
        return Err("this is not text");
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err("the file is empty"),
        Ok(text) => Ok(text),
        Err(_) => Err("this is not text in UTF-8"),
    }
}
