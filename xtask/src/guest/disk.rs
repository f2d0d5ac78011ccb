//! The disks that a guest works on: what they are made of, and where they keep their bytes.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::machine::EXPORT;
use crate::soak::daemon;
use crate::{Fallible, peers, run};

/// The document by which the disk is read once it is no longer served.
pub(crate) const READ_DOCUMENT: &str = "read.json";

/// Where the disk keeps its bytes, in the folder of a round.
pub(crate) const STORE: &str = "store.raw";

const SIZE_BYTES: u64 = 96 << 20;

/// How many changes a store keeps back until they are flushed; then it begins to let some go, by chance.
const KEPT_BACK_COUNT: u64 = 2000;

/// What a disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The store itself
    Raw,
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
    pub(crate) const ALL: [Self; 1] = [Self::Raw];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
        }
    }

    fn over(self, store: Value) -> Value {
        match self {
            Self::Raw => store,
        }
    }

    /// Makes the disk in `folder`, with an empty file system on it, and both of its documents.
    pub(crate) fn make(self, folder: &Path, store: Store<'_>, seed: u64) -> Fallible {
        let image = folder.join(STORE);
        let _ = std::fs::remove_file(&image);
        let mke2fs = peers::find("mke2fs").ok_or("there is no mke2fs")?;
        run::output(
            Command::new(mke2fs)
                .args(["-q", "-t", "ext4", "-J", "size=8"])
                .arg(&image)
                .arg(format!("{}k", SIZE_BYTES / 1024)),
        )?;
        self.describe(folder, daemon::DOCUMENT, store, seed)?;
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
        let disk = self.over(store.description(seed));
        let document = folder.join(document);
        let text = json!({ "exports": [{ "name": EXPORT, "disk": disk }] }).to_string();
        std::fs::write(&document, text)
            .map_err(|error| format!("cannot write {}: {error}", document.display()))
    }
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
