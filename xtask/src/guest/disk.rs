//! The disks that a guest works on: what they are made of, and where they keep their bytes.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::first_files;
use super::ledger::Found;
use super::machine::EXPORT;

use crate::{Fallible, peers, run};

/// What the guest uses.
pub(crate) const DOCUMENT: &str = "guest.json";
/// The document by which the disk is read once it is no longer served.
pub(crate) const READ_DOCUMENT: &str = "read.json";

/// Where the disk keeps its bytes, in the folder of a round.
pub(crate) const STORE: &str = "store.raw";

/// What a durable layer lies on.
const BASE: &str = "base.raw";

/// Where a cache keeps its bytes.
const CACHE: &str = "cache.plt";

/// The files that a disk with a cache begins with.
const FIRST_FILES: &str = "first";

/// The document by which a durable layer is made.
const MAKE_DOCUMENT: &str = "make.json";

pub(crate) const SIZE_BYTES: u64 = 96 << 20;

/// The store of a durable layer: that, and room for what it knows of it.
const LAYER_BYTES: u64 = 112 << 20;

/// How many changes a store keeps back until they are flushed; then it begins to let some go, by chance.
const KEPT_BACK_COUNT: u64 = 2000;

/// What a disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The store itself
    Raw,
    /// A durable layer, which keeps all changes on the store, over an image that is only read
    Durable,
    /// The same, with a read cache between them that outlives the daemon
    Cache,
    /// The store below a cache that outlives the daemon, and is written through
    Through,
}

/// What the disk keeps its bytes on while it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store<'a> {
    /// A file. What the daemon wrote outlives it, in the page cache.
    File,
    /// A file behind a cache that loses, with the daemon, what was not flushed.
    KeptBack,
    /// The same, where a flush does nothing. Nothing may find this in order.
    Lying,
    /// An export of another server.
    Nbd(&'a Path),
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Raw, Self::Durable, Self::Cache, Self::Through];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Durable => "durable",
            Self::Cache => "cache",
            Self::Through => "through",
        }
    }

    pub(crate) fn has_cache(self) -> bool {
        matches!(self, Self::Cache | Self::Through)
    }

    /// Makes the disk in `folder`, with a file system on it, and both of its documents. What is read again and again where there is a
    /// cache is there from the beginning: its files.
    pub(crate) fn make(
        self,
        platter: &Path,
        folder: &Path,
        store: Store<'_>,
        seed: u64,
    ) -> Fallible<Found> {
        let _ = std::fs::remove_file(folder.join(CACHE));
        let first = folder.join(FIRST_FILES);
        let (files, from) = match self.has_cache() {
            true => (first_files::make(&first, seed)?, Some(first.as_path())),
            false => (Found::new(), None),
        };
        match self {
            Self::Raw | Self::Through => make_file_system(&folder.join(STORE), from)?,
            Self::Durable | Self::Cache => {
                make_file_system(&folder.join(BASE), from)?;
                make_layer(platter, folder)?;
            }
        }
        self.describe(folder, DOCUMENT, store, seed)?;
        self.describe(folder, READ_DOCUMENT, Store::File, seed)?;
        Ok(files)
    }

    /// Writes a document with the disk as its only export.
    pub(crate) fn describe(
        self,
        folder: &Path,
        document: &str,
        store: Store<'_>,
        seed: u64,
    ) -> Fallible {
        let cache_store = store.description(CACHE, !seed);
        let store = store.description(STORE, seed);
        let layers = match self {
            Self::Raw => return write_document(&folder.join(document), &store),
            Self::Durable => json!([durable(&store, false), base()]),
            Self::Cache => {
                let cache = json!({ "type": "durable", "role": "read_cache", "read_cache": true, "create": true, "store": cache_store });
                json!([durable(&store, false), cache, base()])
            }
            Self::Through => {
                let cache = json!({
                    "type": "durable", "role": "write_through", "write_through": true, "read_cache": true, "create": true,
                    "store": cache_store,
                });
                json!([cache, store])
            }
        };
        let disk = json!({ "type": "layered", "layers": layers });
        write_document(&folder.join(document), &disk)
    }
}

/// Fills the cache of the disk with all that the disk holds, and closes it. A cache that is cut off in its work has next to nothing on
/// record: what it is filled with is made durable when it is closed.
pub(crate) fn fill_cache(platter: &Path, folder: &Path) -> Fallible {
    let mut command = Command::new(platter);
    let copy = "\"$PLATTER\" copy --quiet --force \"$PLATTER_URI\" filling.raw";
    command.env("PLATTER", platter).current_dir(folder);
    run::output(command.args(["serve", READ_DOCUMENT, "--run", copy])).map(drop)
}

/// Changes a byte of a file that the disk began with, where the cache has it. Nothing may find this in order.
pub(crate) fn spoil_cache(folder: &Path) -> Fallible {
    let path = folder.join(CACHE);
    let failed = |error| format!("cannot spoil {}: {error}", path.display());
    let mut bytes = std::fs::read(&path).map_err(failed)?;
    let file = first_files::any(&folder.join(FIRST_FILES))?;
    let start = &file[..512];
    let sectors = bytes.chunks_exact_mut(start.len());
    let sector = { sectors }.find(|sector| *sector == start);
    sector.ok_or("the cache does not hold what was read")?[7] ^= 1;
    std::fs::write(&path, bytes).map_err(failed)
}

/// A durable layer, which is made on the store if it may.
fn durable(store: &Value, may_create: bool) -> Value {
    json!({ "type": "durable", "store": store, "create": may_create })
}

fn base() -> Value {
    json!({ "type": "file", "path": BASE, "read_only": true })
}

fn write_document(document: &Path, disk: &Value) -> Fallible {
    let text = json!({ "exports": [{ "name": EXPORT, "disk": disk }] }).to_string();
    std::fs::write(document, text)
        .map_err(|error| format!("cannot write {}: {error}", document.display()))
}

/// With the files of a folder on it, if there is one.
fn make_file_system(image: &Path, files: Option<&Path>) -> Fallible {
    let _ = std::fs::remove_file(image);
    let mke2fs = peers::find("mke2fs").ok_or("there is no mke2fs")?;
    let mut command = Command::new(mke2fs);
    command.args(["-q", "-t", "ext4", "-J", "size=8"]);
    if let Some(files) = files {
        command.arg("-d").arg(files);
    }
    command.arg(image).arg(format!("{}k", SIZE_BYTES / 1024));
    run::output(&mut command).map(drop)
}

/// Makes an empty layer on the store: a daemon does, which then has nothing to do. No layer is made later, whatever becomes of this one.
fn make_layer(platter: &Path, folder: &Path) -> Fallible {
    let store = folder.join(STORE);
    File::create(&store)
        .and_then(|file| file.set_len(LAYER_BYTES))
        .map_err(|error| format!("cannot make {}: {error}", store.display()))?;
    let layer = durable(&Store::File.description(STORE, 0), true);
    let disk = json!({ "type": "layered", "layers": [layer, base()] });
    write_document(&folder.join(MAKE_DOCUMENT), &disk)?;
    let mut command = Command::new(platter);
    command.current_dir(folder);
    run::output(command.args(["serve", MAKE_DOCUMENT, "--run", "true"])).map(drop)
}

impl Store<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::KeptBack => "a file that loses what was not flushed",
            Self::Lying => "a file that flushes nothing",
            Self::Nbd(_) => "another server",
        }
    }

    /// With its bytes in the file `path`, if they are in a file.
    fn description(self, path: &str, seed: u64) -> Value {
        let file = json!({ "type": "file", "path": path });
        let keep_back = json!({ "action": { "reorder": KEPT_BACK_COUNT } });
        let lie = json!({ "action": "skip_flush" });
        let fault = |rules: Value| json!({ "type": "fault", "disk": file, "seed": seed & 0xffff_ffff, "rules": rules });
        match self {
            Self::File => file,
            Self::KeptBack => fault(json!([keep_back])),
            Self::Lying => fault(json!([keep_back, lie])),
            Self::Nbd(socket) => {
                let uri = format!("nbd+unix:///{EXPORT}?socket={}", socket.display());
                json!({ "type": "nbd", "uri": uri })
            }
        }
    }
}
