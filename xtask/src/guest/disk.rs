//! The disks that a guest works on: what they are made of, and where they keep their bytes.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

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
    pub(crate) const ALL: [Self; 2] = [Self::Raw, Self::Durable];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Durable => "durable",
        }
    }

    /// Makes the disk in `folder`, with an empty file system on it, and both of its documents.
    pub(crate) fn make(
        self,
        platter: &Path,
        folder: &Path,
        store: Store<'_>,
        seed: u64,
    ) -> Fallible {
        match self {
            Self::Raw => make_file_system(&folder.join(STORE))?,
            Self::Durable => {
                make_file_system(&folder.join(BASE))?;
                make_layer(platter, folder)?;
            }
        }
        self.describe(folder, DOCUMENT, store, seed)?;
        self.describe(folder, READ_DOCUMENT, Store::File, seed)
    }

    /// Writes a document with the disk as its only export.
    pub(crate) fn describe(
        self,
        folder: &Path,
        document: &str,
        store: Store<'_>,
        seed: u64,
    ) -> Fallible {
        let store = store.description(seed);
        let disk = match self {
            Self::Raw => store,
            Self::Durable => durable(&store, false),
        };
        write_document(&folder.join(document), &disk)
    }
}

/// A durable layer over the base, which is made on the store if it may.
fn durable(store: &Value, may_create: bool) -> Value {
    let layer = json!({ "type": "durable", "store": store, "create": may_create });
    let base = json!({ "type": "file", "path": BASE });
    json!({ "type": "layered", "layers": [layer, base] })
}

fn write_document(document: &Path, disk: &Value) -> Fallible {
    let text = json!({ "exports": [{ "name": EXPORT, "disk": disk }] }).to_string();
    std::fs::write(document, text)
        .map_err(|error| format!("cannot write {}: {error}", document.display()))
}

fn make_file_system(image: &Path) -> Fallible {
    let _ = std::fs::remove_file(image);
    let mke2fs = peers::find("mke2fs").ok_or("there is no mke2fs")?;
    let mut command = Command::new(mke2fs);
    command.args(["-q", "-t", "ext4", "-J", "size=8"]);
    command.arg(image).arg(format!("{}k", SIZE_BYTES / 1024));
    run::output(&mut command).map(drop)
}

/// Makes an empty layer on the store: a daemon does, which then has nothing to do. No layer is made later, whatever becomes of this one.
fn make_layer(platter: &Path, folder: &Path) -> Fallible {
    let store = folder.join(STORE);
    File::create(&store)
        .and_then(|file| file.set_len(LAYER_BYTES))
        .map_err(|error| format!("cannot make {}: {error}", store.display()))?;
    let disk = durable(&Store::File.description(0), true);
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

    fn description(self, seed: u64) -> Value {
        let file = json!({ "type": "file", "path": STORE });
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
