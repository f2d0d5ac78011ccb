//! `platter layer`: durable layers on their stores, where nobody uses them.

mod change;
mod check;
mod create;
mod look;

use super::endpoint::Endpoint;
use super::open::find_store;
use crate::cli::{LayerAction, LayerArgs};
use crate::exit::Failure;
use disk_backend::{Disk, DiskError};
use disklayer_durable::{FormatError, LayerInfo, OpenError, Role};
use futures_lite::future::block_on;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Does what is asked for.
pub(crate) fn run(args: &LayerArgs) -> Result<ExitCode, Failure> {
    match &args.action {
        LayerAction::Create(args) => create::run(args),
        LayerAction::Info(args) => look::info(args),
        LayerAction::Check(args) => check::run(args),
        LayerAction::Map(args) => look::map(args),
        LayerAction::Compact(args) => change::compact(args),
        LayerAction::Resize(args) => change::resize(args),
    }
}

/// A store, open.
struct Store {
    /// As the user wrote it.
    name: String,
    disk: Disk,
    /// What the layer on it says of itself.
    info: Result<LayerInfo, OpenError>,
}

impl Store {
    /// Opens a store with the sectors of its layer, where it can have several.
    fn open(endpoint: &Endpoint, read_only: bool) -> Result<Self, Failure> {
        let first = Self::open_with(endpoint, read_only, None)?;
        let sector_size = match &first.info {
            Err(OpenError::SectorSize { layer, .. }) => *layer,
            _ => return Ok(first),
        };
        // Its lock would be in the way.
        drop(first);
        Self::open_with(endpoint, read_only, Some(sector_size))
    }

    fn open_with(
        endpoint: &Endpoint,
        read_only: bool,
        sector_size: Option<u32>,
    ) -> Result<Self, Failure> {
        let resolver = disk_resolver::resolver();
        let found = find_store(endpoint, &resolver, sector_size)?;
        let disk = found.open(read_only)?;
        let info = block_on(disklayer_durable::info(&disk));
        let name = found.name.clone();
        if !read_only && disk.is_read_only() {
            return Err(Failure::configuration(format!(
                "{name}: the store is read-only, and would have to be written: leave out `ro` or `read_only`, or give another one"
            )));
        }
        Ok(Self { name, disk, info })
    }

    /// The layer, which has to be there.
    fn layer(&self) -> Result<&LayerInfo, Failure> {
        self.info
            .as_ref()
            .map_err(|error| failed(&self.name, error))
    }

    /// What is known of a layer that was not closed. A file is locked by whoever uses it, so it would not have been opened.
    fn why_not_closed(&self) -> &'static str {
        match self.disk.disk_type() {
            "file" => "it was in use when its program ended",
            _ => "it is in use, or was when its program ended",
        }
    }

    fn size_bytes(&self) -> u64 {
        self.disk.sector_count() << self.disk.sector_shift()
    }
}

/// The failure that a layer's error is.
fn failed(name: &str, error: &OpenError) -> Failure {
    let message = match error {
        // What was damaged says so itself, wherever it was met; what the store cannot read does not.
        OpenError::Store(DiskError::MediumError(cause, _)) => match cause.kind() {
            ErrorKind::InvalidData => format!("{name}: {cause}"),
            _ => format!(
                "{name}: damaged: the store cannot read some of it: {cause}; check the layer (`platter layer check`)"
            ),
        },
        error => format!("{name}: {}", crate::exit::chain(error)),
    };
    match error {
        OpenError::Store(_) | OpenError::Format(FormatError::Store(_)) => Failure::running(message),
        _ => Failure::configuration(message),
    }
}

/// A role as configurations write it.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Overlay => "overlay",
        Role::ReadCache => "read_cache",
        Role::WriteThrough => "write_through",
    }
}

fn size_bytes(info: &LayerInfo) -> u64 {
    info.sector_count.saturating_mul(info.sector_size.into())
}
