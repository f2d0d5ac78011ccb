//! `platter layer create`: makes a store into an empty layer.

use super::{Store, failed, role_name};
use crate::cli::LayerCreateArgs;
use crate::connect::Bytes;
use crate::exit::{Failure, chain};
use crate::output;
use crate::tools::open::{find, find_store};
use crate::tools::watching::{self, EffortArgs, Watching};
use crate::transfer::{Comparison, Effort};
use disk_backend::{Disk, Persistence};
use disklayer_durable::{
    Binding, FormatError, FormatOptions, LowerDisk, OpenError, Verify, format_with,
};
use futures_lite::future::block_on;
use serde_json::json;
use std::process::ExitCode;

/// How the content of a store is looked at.
const EFFORT: Effort = EffortArgs::DEFAULT;

/// Makes it.
pub(super) fn run(args: &LayerCreateArgs) -> Result<ExitCode, Failure> {
    let resolver = disk_resolver::resolver();
    // Opened first, so that nothing is made for a disk that is not there.
    let lower = args
        .lower
        .as_ref()
        .map(|lower| find(lower, &resolver, None));
    let lower = lower.transpose()?;
    let lower_disk = lower.as_ref().map(|lower| lower.open(true)).transpose()?;
    let sector_size = lower_disk.as_ref().map(Disk::sector_size);
    let found = find_store(&args.store.store, &resolver, sector_size)?;
    let name = &*found.name.clone();
    if lower.is_some_and(|lower| lower.shares_with(&found)) {
        return Err(Failure::configuration(format!(
            "{name}: the layer would be made where the disk is that it is to lie on: give another store"
        )));
    }
    let assumed = found
        .sector_size()
        .and_then(|size| u32::try_from(size).ok());
    let assumed = assumed.or(sector_size).unwrap_or(512);
    // Before a file is made for what cannot be.
    let planned = options(args, lower_disk.as_ref(), assumed, name)?;
    let planned = planned
        .store_bytes(assumed)
        .map_err(|error| Failure::configuration(format!("{name}: {error}")))?;
    let store = found.made_if_missing(planned)?;
    let disk = store.open(false)?;
    if disk.is_read_only() {
        return Err(Failure::configuration(format!(
            "{name}: the store is read-only: leave out `ro` or `read_only`, or give another one"
        )));
    }
    let options = options(args, lower_disk.as_ref(), disk.sector_size(), name)?;
    let watching = Watching::start(args.answer.quiet)?;
    let info = block_on(disklayer_durable::info(&disk));
    let mut store = Store {
        name: name.to_owned(),
        disk,
        info,
    };
    if !args.force {
        refuse_content(&store, &watching)?;
    }
    if store.disk.persistence() == Persistence::Volatile {
        tracing::warn!("{name} keeps nothing: the layer is gone when the command ends");
    }
    watching.begin_steps("making the layer");
    let made = block_on(format_with(&store.disk, &options, |done, all| {
        watching.step(done, all)
    }));
    watching.end();
    match made {
        Err(FormatError::Stopped) => {
            let code = watching.exit_code();
            return Ok(code.unwrap_or(ExitCode::FAILURE));
        }
        Err(error) => return Err(failed(name, &OpenError::Format(error))),
        Ok(()) => {}
    }
    store.info = block_on(disklayer_durable::info(&store.disk));
    block_on(store.disk.close()).map_err(|error| failed(name, &OpenError::Store(error)))?;
    answer(args, &store)?;
    Ok(ExitCode::SUCCESS)
}

fn options(
    args: &LayerCreateArgs,
    lower: Option<&Disk>,
    sector_size: u32,
    name: &str,
) -> Result<FormatOptions, Failure> {
    let wrong = |message: String| Failure::configuration(format!("{name}: {message}"));
    let sector_count = match (lower, args.size) {
        (Some(lower), _) if lower.sector_size() != sector_size => {
            return Err(wrong(format!(
                "its sectors have {sector_size} bytes, and those of the lower disk {}: give a store with the same",
                lower.sector_size()
            )));
        }
        (Some(lower), _) => lower.sector_count(),
        (None, size) => {
            let bytes = size.map_or(0, |size| size.bytes());
            if bytes == 0 {
                return Err(wrong(format!(
                    "--size is 0: give the layer at least one sector, of {sector_size} bytes"
                )));
            }
            if !bytes.is_multiple_of(u64::from(sector_size)) {
                return Err(wrong(format!(
                    "--size is {bytes} bytes, which are no whole sectors of {sector_size} bytes: give a multiple"
                )));
            }
            bytes / u64::from(sector_size)
        }
    };
    let mut options = FormatOptions::new(sector_count);
    options.role = args.role.into();
    options.verify = args.verify.into();
    if let Some(lower) = lower {
        options.binding = Binding::Disk(LowerDisk {
            disk_id: lower.disk_id(),
            sector_count: lower.sector_count(),
            sector_size: lower.sector_size(),
            stamp: lower.content_stamp(),
        });
    }
    match options.store_bytes(sector_size) {
        Ok(_) => Ok(options),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// A store that holds anything is not overwritten without being asked to.
fn refuse_content(store: &Store, watching: &Watching) -> Result<(), Failure> {
    let name = &store.name;
    let refuse = |what: String| {
        Err(Failure::running(format!(
            "{name} is not empty: {what}; with --force it is made anew, and what it holds is lost"
        )))
    };
    match &store.info {
        Ok(info) => {
            let (size, role) = (Bytes(super::size_bytes(info)), info.role);
            return refuse(format!("it holds a durable layer of {size}, {role}"));
        }
        Err(error @ OpenError::Store(_)) => return Err(failed(name, error)),
        Err(OpenError::NotALayer) => {}
        Err(error) => return refuse(chain(error)),
    }
    let content = Comparison {
        first: &store.disk,
        second: None,
        end: store.size_bytes(),
        only_first: true,
    };
    watching.begin("looking at the store", content.end);
    let found = block_on(content.run(EFFORT, watching));
    watching.end();
    let found = found.map_err(|fault| watching::failed(&fault, [name, ""]))?;
    match found.first_offset {
        Some(offset) => refuse(format!("there is data at offset {offset}")),
        None => Ok(()),
    }
}

fn answer(args: &LayerCreateArgs, store: &Store) -> Result<(), Failure> {
    let info = store.layer()?;
    let size = super::size_bytes(info);
    let text = match (args.answer.json, args.answer.quiet) {
        (true, _) => format!(
            "{:#}\n",
            json!({
                "store": store.name,
                "layer_id": super::look::id(info),
                "role": role_name(info.role),
                "verify": info.verify.name(),
                "size_bytes": size,
                "sector_size": info.sector_size,
                "store_bytes": info.store_bytes,
            })
        ),
        (false, true) => return Ok(()),
        (false, false) => format!(
            "made {}, of {}, for {}{}\n",
            info.role,
            Bytes(size),
            info.binding,
            match info.verify {
                Verify::Metadata => "",
                Verify::Data => ", which verifies its data",
            }
        ),
    };
    output::print(&text)
}
