//! Why a layer cannot be made, or not opened.

use crate::format::{Binding, Role};
use disk_backend::{ContentStamp, DiskError};

/// Why a store cannot be made into a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The store's sectors are too large for the format.
    #[error(
        "the store has sectors of {0} bytes: a durable layer needs sectors of 512 to 4096 bytes"
    )]
    SectorSize(u32),
    /// What is wished for is no layout.
    #[error("{field} is {value}, which no durable layer can have: {rule}")]
    Option {
        /// What is wrong.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        rule: &'static str,
    },
    /// A sector of the store may be torn by a crash (C11).
    #[error(
        "the store may tear a sector when the power is cut: put the layer on a store that writes whole sectors"
    )]
    Torn,
    /// The store is too short, and cannot grow.
    #[error(
        "the store has {have} bytes, a layer of this size needs {need}, and the store cannot grow: {source}"
    )]
    TooShort {
        /// The length of the store.
        have: u64,
        /// What is needed.
        need: u64,
        /// Why it cannot grow.
        source: DiskError,
    },
    /// Whoever watched asked for the end.
    #[error("it was stopped before the layer was made: the store holds no layer")]
    Stopped,
    /// The store failed.
    #[error("the store failed while it was formatted: {0}")]
    Store(#[from] DiskError),
}

impl OpenError {
    /// Whether it lies in what the store holds. What a newer program keeps is not ours to throw away, and a store that fails may heal.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Store(DiskError::MediumError(..)) => true,
            Self::Store(_) | Self::Newer(_) => false,
            _ => true,
        }
    }
}

/// Why a store cannot be opened as a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Neither superblock is one of a durable layer.
    #[error(
        "the store holds no durable layer: make one (`platter layer create`, or `create=true`), or give another store"
    )]
    NotALayer,
    /// It was to be made, and the store holds something else.
    #[error(
        "the store holds no durable layer, and is not empty: it has something at byte {0}; name another store, or, if none of that is \
         needed, make the layer with `platter layer create --force`"
    )]
    NotEmpty(u64),
    /// Both superblocks are damaged.
    #[error(
        "both superblocks are damaged, at byte 0: {first}; at byte 4096: {second}. What it holds cannot be had: restore it from a copy, or make \
         a new one (`platter layer create --force`); a cache is emptied when it is used"
    )]
    Superblocks {
        /// What is wrong with the first.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
    /// A newer program wrote it.
    #[error("the layer was written by a newer program: {0}")]
    Newer(String),
    /// The store is not as it was.
    #[error(
        "the layer has sectors of {layer} bytes, and its store of {store}: give it a store as it was formatted on"
    )]
    SectorSize {
        /// The layer's.
        layer: u32,
        /// The store's.
        store: u32,
    },
    /// No layer is made of a store with other sectors than those of what it is to lie on.
    #[error(
        "the store has sectors of {store} bytes, and the layer below of {lower}, which those of the layer must be: give the store a \"sector_size\" of {lower}"
    )]
    SectorSizeBelow {
        /// The store's.
        store: u32,
        /// Those of the layer below.
        lower: u32,
    },
    /// The store has lost its end.
    #[error("the store has {have} bytes, and the layer needs {need}: a part of it is missing")]
    TooShort {
        /// The length of the store.
        have: u64,
        /// What is needed.
        need: u64,
    },
    /// The log names what the layer cannot have.
    #[error(
        "the log is damaged: at byte {0} of the store it has an image of a stripe that the store does not have"
    )]
    Log(u64),
    /// The log says what is true of no layer.
    #[error(
        "the log is damaged: the entry at byte {0} of the store has a size, or a number, that no layer can have"
    )]
    LogEntry(u64),
    /// An entry of the log that was durable is not whole any more.
    #[error(
        "the log is damaged: what begins at byte {0} of the store was durable, and cannot be read; changes that were flushed are lost: \
         restore the layer from a copy, or accept the loss (`platter layer check --repair --accept-loss`)"
    )]
    LogRot(u64),
    /// A sector of the store may be torn by a crash (C11).
    #[error(
        "the store may tear a sector when the power is cut: open it read-only, or copy it to a store that writes whole sectors"
    )]
    Torn,
    /// It lies on something else than it did.
    #[error(
        "the layer was made for another lower disk ({recorded}), and now lies on {found}: {remedy}",
        remedy = remedy(.found)
    )]
    Bound {
        /// What is recorded.
        recorded: String,
        /// What was found.
        found: String,
    },
    /// What it lies on has another content than it had.
    #[error(
        "the disk below was changed since the layer was last used above it: its content stamp was \"{recorded}\", and is \"{found}\". Put the \
         layer above the disk as it was, or begin a new layer. If that was only copied, copy it with its times (`cp --preserve=timestamps`); or, if what the layer \
         holds goes with the disk as it is, force it once (\"force\": true, `force=true`), and it is made for that"
    )]
    Changed {
        /// What is recorded.
        recorded: ContentStamp,
        /// What was found.
        found: ContentStamp,
    },
    /// It is a copy that may be another than what it was written through to.
    #[error("it was not closed, and may hold something else than what it was written through to")]
    NotClosed,
    /// It is used for something else than it was made for.
    #[error(
        "the layer is {recorded}, and was to be used as {asked}: say what it is, or give another store"
    )]
    Role {
        /// What is recorded.
        recorded: Role,
        /// What was asked for.
        asked: Role,
    },
    /// It is a copy, which is not salvaged.
    #[error(
        "the layer is {0}, and whatever is wrong with it, it is emptied and filled again when it is used: there is nothing to salvage"
    )]
    NothingToSalvage(Role),

    /// It was to verify its data, and has no checksums of it.
    #[error(
        "the layer was made without checksums of its data: leave out `verify`, or make another one (`platter layer create --verify data`) \
         and copy what it holds"
    )]
    Unverified,
    /// Whoever watched asked for the end.
    #[error("it was stopped before all was looked at")]
    Stopped,
    /// It would hold the only copy of what is written.
    #[error(
        "the layer is used as {0}, which is a copy and may be emptied, but there is nothing below it: use it as an overlay, or put it \
         above what it is a copy of"
    )]
    CopyOfNothing(Role),
    /// It could not be formatted first.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The store failed.
    #[error("the store failed while the layer was opened: {0}")]
    Store(#[from] DiskError),
}

/// What to do about a layer that lies on `found`, and not on what it was made for.
fn remedy(found: &str) -> &'static str {
    match found == Binding::Nothing.to_string() {
        // Forced, it would read zero wherever it holds nothing.
        true => "layers are named from the top, so name what it was made for behind it",
        false => {
            "give it its own, or, if what it holds goes with this one as well, force it once (\"force\": true, `force=true`), and it is \
             made for this one"
        }
    }
}
