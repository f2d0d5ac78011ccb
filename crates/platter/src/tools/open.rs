//! Opening what an [`Endpoint`] names.

use super::endpoint::{Endpoint, Form};
use super::places;
use crate::exit::Failure;
use crate::transfer::View;
use disk_backend::Disk;
use disk_backend::resolve::DiskHandleKind;
use disk_resolver::{Config, Document};
use futures_lite::future::block_on;
use resource::{ResourceKind, ResourceResolver};
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How many names of exports a message lists.
const NAMES_MAX: usize = 10;

/// A disk that was found, and not opened yet.
pub(crate) struct Found<'a> {
    resolver: &'a ResourceResolver,
    /// As the user wrote it.
    pub(crate) name: String,
    config: Config,
    /// Of the export in the configuration.
    index: usize,
    /// What the paths in the description are relative to.
    base_dir: PathBuf,
}

/// Finds what `endpoint` names. A raw image that is missing or empty, and named by nothing but its path, will be made, so many
/// bytes long, if that is given.
///
/// # Errors
/// If the configuration cannot be read, or it is not clear which export is meant.
pub(crate) fn find<'a>(
    endpoint: &Endpoint,
    resolver: &'a ResourceResolver,
    create_bytes: Option<u64>,
) -> Result<Found<'a>, Failure> {
    let name = endpoint.to_string();
    let description = match endpoint.form() {
        Form::Config { path, export } => {
            let config = Config::read(path).map_err(Failure::configuration)?;
            let index = choose(config.document(), path, export.as_deref())?;
            return Ok(Found {
                resolver,
                name,
                config,
                index,
                base_dir: path.parent().unwrap_or(Path::new("")).to_owned(),
            });
        }
        Form::Spec(spec) => spec.describe(resolver).map_err(Failure::configuration)?,
        Form::Path(path) => json!({ "type": "file", "path": path }),
        Form::Uri(uri) => json!({ "type": "nbd", "uri": uri }),
    };
    let description = as_disk(description, resolver);
    let description = match create_bytes {
        Some(size_bytes) => created_if_missing(description, Path::new(""), size_bytes)?,
        None => description,
    };
    let config = Config::from_description(&name, &description).map_err(Failure::configuration)?;
    Ok(Found {
        resolver,
        name,
        config,
        index: 0,
        base_dir: PathBuf::new(),
    })
}

/// Finds the store of a durable layer: what `endpoint` names, or, if that is a stack with one durable layer, the store of that. A raw
/// image has sectors of this size, if it is given and the description gives none.
///
/// # Errors
/// As for [`find`]; and if there are several durable layers.
pub(crate) fn find_store<'a>(
    endpoint: &Endpoint,
    resolver: &'a ResourceResolver,
    sector_size: Option<u32>,
) -> Result<Found<'a>, Failure> {
    let found = find(endpoint, resolver, None)?;
    let description = found.description();
    let mut stores = Vec::new();
    stores_in(&description, &mut stores);
    let mut store = match &stores[..] {
        [] => description.clone(),
        [store] => (*store).clone(),
        several => {
            return Err(Failure::configuration(format!(
                "{}: {} durable layers are in it; name the store of the one that is meant",
                found.name,
                several.len()
            )));
        }
    };
    if let Some(fields) = store.as_object_mut()
        && fields.get("type").is_some_and(|id| id == "file")
        && let Some(sector_size) = sector_size
    {
        fields.entry("sector_size").or_insert(sector_size.into());
    }
    found.described(store)
}

/// The stores of the durable layers in a description; not those of layers that lie in a store.
fn stores_in<'v>(value: &'v Value, stores: &mut Vec<&'v Value>) {
    match value {
        Value::Object(fields) if fields.get("type").is_some_and(|id| id == "durable") => {
            stores.extend(fields.get("store"));
        }
        Value::Object(fields) => fields.values().for_each(|value| stores_in(value, stores)),
        Value::Array(values) => values.iter().for_each(|value| stores_in(value, stores)),
        _ => {}
    }
}

/// The export that is meant: without a name, the only one, or the one that a client gets that asks for none.
fn choose(document: &Document, path: &Path, wanted: Option<&str>) -> Result<usize, Failure> {
    let exports = &document.exports;
    let names = || {
        let mut names: Vec<String> = exports
            .iter()
            .take(NAMES_MAX)
            .map(|export| format!("{}#{}", path.display(), export.name))
            .collect();
        if exports.len() > NAMES_MAX {
            names.push(format!("and {} more", exports.len() - NAMES_MAX));
        }
        names.join(", ")
    };
    let default = exports.iter().position(|export| export.name.is_empty());
    match (wanted, default) {
        (None, _) if exports.len() == 1 => Ok(0),
        (None, Some(index)) => Ok(index),
        (None, None) => Err(Failure::configuration(format!(
            "{} has {} exports; say which one: {}",
            path.display(),
            exports.len(),
            names()
        ))),
        (Some(name), _) => {
            let index = exports.iter().position(|export| export.name == name);
            index.ok_or_else(|| {
                Failure::configuration(format!(
                    "{} has no export {name:?}; there are: {}",
                    path.display(),
                    names()
                ))
            })
        }
    }
}

/// A layer that is no disk by itself becomes one that has only this layer.
fn as_disk(description: Value, resolver: &ResourceResolver) -> Value {
    let id = description
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("");
    let kinds = resolver.documentation();
    let has = |is_disk: bool| {
        kinds
            .iter()
            .filter(|kind| (kind.name == DiskHandleKind::NAME) == is_disk)
            .any(|kind| kind.types.iter().any(|known| known.id == id))
    };
    match !has(true) && has(false) {
        true => json!({ "type": "layered", "layers": [description] }),
        false => description,
    }
}

/// Lets a raw image be made where there is none. Where the description says more about that, it has its way.
fn created_if_missing(
    mut description: Value,
    base_dir: &Path,
    size_bytes: u64,
) -> Result<Value, Failure> {
    let Some(fields) = description.as_object_mut() else {
        return Ok(description);
    };
    if let Some(path) = path_of_image(fields)
        && is_missing_or_empty(&base_dir.join(path))?
    {
        fields.insert("create".to_owned(), true.into());
        fields.insert("size".to_owned(), size_bytes.into());
    }
    Ok(description)
}

fn path_of_image(fields: &Map<String, Value>) -> Option<PathBuf> {
    let says_more = ["create", "size"]
        .iter()
        .any(|key| fields.contains_key(*key));
    if says_more || fields.get("type")? != "file" {
        return None;
    }
    Some(fields.get("path")?.as_str()?.into())
}

fn is_missing_or_empty(path: &Path) -> Result<bool, Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => match path.parent() {
            Some(folder) if folder != Path::new("") && !folder.exists() => {
                Err(Failure::configuration(format!(
                    "{}: there is no folder {}: make its folder first, or choose another path",
                    path.display(),
                    folder.display()
                )))
            }
            _ => Ok(true),
        },
        Err(error) => Err(Failure::configuration(format!(
            "{}: cannot be looked at: {error}",
            path.display()
        ))),
    }
}

impl<'a> Found<'a> {
    /// The same, described in another way.
    fn described(self, description: Value) -> Result<Self, Failure> {
        // Without a document there is no line to name.
        let config = match self.base_dir == Path::new("") {
            true => Config::from_description(&*self.name, &description),
            false => Config::from_text(&*self.name, description.to_string(), &*self.base_dir),
        };
        Ok(Self {
            config: config.map_err(Failure::configuration)?,
            index: 0,
            ..self
        })
    }

    /// The same; a raw image that is missing or empty will be made, so many bytes long.
    ///
    /// # Errors
    /// If it cannot be told whether there is one.
    pub(crate) fn made_if_missing(self, size_bytes: u64) -> Result<Found<'a>, Failure> {
        let description = created_if_missing(self.description(), &self.base_dir, size_bytes)?;
        self.described(description)
    }

    /// The size of a sector, where the description says so.
    pub(crate) fn sector_size(&self) -> Option<u64> {
        self.description().get("sector_size")?.as_u64()
    }

    /// What is written in the description: that the disk takes no writes.
    pub(crate) fn is_described_as_read_only(&self) -> bool {
        let says_so = |value: &Value| value.get("read_only") == Some(&Value::Bool(true));
        let export = &self.config.document().exports[self.index];
        export.read_only || says_so(places::top(&self.description()))
    }

    /// Opens it; read-only, it is neither changed nor made.
    ///
    /// # Errors
    /// If the configuration is wrong, or the disk cannot be opened.
    pub(crate) fn open(&self, read_only: bool) -> Result<Disk, Failure> {
        let opened = self
            .config
            .open_export(self.resolver, self.index, read_only);
        let disk = block_on(opened).map_err(Failure::configuration)?.disk;
        let sectors_max = View::SIZE_BYTES_MAX >> disk.sector_shift();
        match disk.sector_count() > sectors_max {
            true => Err(Failure::configuration(format!(
                "{}: the disk is larger than 4 EiB, which the tools do not handle",
                self.name
            ))),
            false => Ok(disk),
        }
    }

    /// Whether something that is read as a part of this disk is written through `destination`.
    pub(crate) fn shares_with(&self, destination: &Found<'_>) -> bool {
        let read = places::all(&self.description(), &self.base_dir);
        let target = destination.description();
        let written = places::all(places::top(&target), &destination.base_dir);
        written.iter().any(|place| read.contains(place))
    }

    /// The description of the disk, as JSON.
    fn description(&self) -> Value {
        let disk = &self.config.document().exports[self.index].disk;
        let mut fields = disk.fields().clone();
        fields.insert("type".to_owned(), disk.id().into());
        Value::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(names: &[&str]) -> Document {
        let exports: Vec<Value> = names
            .iter()
            .map(|name| json!({ "name": name, "disk": { "type": "ram" } }))
            .collect();
        Document::from_json(&json!({ "exports": exports }).to_string()).unwrap()
    }

    fn message(chosen: Result<usize, Failure>) -> String {
        chosen.unwrap_err().to_string()
    }

    #[test]
    fn an_export_is_chosen_by_its_name_or_by_being_the_only_one() {
        let path = Path::new("d.json");
        let (one, two) = (document(&["vm"]), document(&["", "b"]));
        assert_eq!(choose(&one, path, None).unwrap(), 0);
        assert_eq!(choose(&two, path, Some("b")).unwrap(), 1);
        assert_eq!(choose(&two, path, Some("")).unwrap(), 0);
        assert_eq!(choose(&two, path, None).unwrap(), 0);
        let unclear = message(choose(&document(&["a", "b"]), path, None));
        assert!(
            unclear.ends_with("2 exports; say which one: d.json#a, d.json#b"),
            "{unclear}"
        );
        let missing = message(choose(&one, path, Some("x")));
        assert!(
            missing.contains("no export \"x\"; there are: d.json#vm"),
            "{missing}"
        );
        let names: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = message(choose(&document(&names), path, None));
        assert!(many.ends_with("d.json#9, and 990 more"), "{many}");
    }

    #[test]
    fn a_layer_alone_becomes_a_disk_and_a_disk_stays_one() {
        let resolver = disk_resolver::resolver();
        let ram = as_disk(json!({ "type": "ram" }), &resolver);
        assert_eq!(ram["layers"][0]["type"], "ram");
        let file = json!({ "type": "file", "path": "x" });
        assert_eq!(as_disk(file.clone(), &resolver), file);
    }

    #[test]
    fn only_an_image_that_is_missing_or_empty_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| json!({ "type": "file", "path": dir.path().join(name) });
        std::fs::write(dir.path().join("full"), "x").unwrap();
        std::fs::write(dir.path().join("empty"), "").unwrap();
        for (name, is_made) in [("missing", true), ("empty", true), ("full", false)] {
            let made = created_if_missing(at(name), Path::new(""), 1024).unwrap();
            assert_eq!(
                made["create"] == true && made["size"] == 1024,
                is_made,
                "{name}"
            );
        }
        let mut own_way = at("missing");
        own_way["create"] = false.into();
        assert_eq!(
            created_if_missing(own_way.clone(), Path::new(""), 1024).unwrap(),
            own_way
        );
    }
}
