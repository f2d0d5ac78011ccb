//! `platter layer compact` and `resize`.

use super::{Store, failed, size_bytes};
use crate::cli::{AnswerArgs, LayerCompactArgs, LayerResizeArgs};
use crate::connect::Bytes;
use crate::exit::Failure;
use crate::output;
use crate::tools::watching::Watching;
use disklayer_durable::OpenError;
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Gives back what is not needed.
pub(super) fn compact(args: &LayerCompactArgs) -> Result<ExitCode, Failure> {
    let store = Store::open(&args.store.store, false)?;
    let sector_size = u64::from(store.layer()?.sector_size);
    let watching = Watching::start(args.answer.quiet)?;
    watching.begin_steps("compacting");
    let step = |done, all| watching.step(done, all);
    let compacted = block_on(disklayer_durable::compact(store.disk.clone(), step));
    watching.end();
    let done = compacted.map_err(|error| failed(&store.name, &error))?;
    close(&store)?;
    let zeroed = done.zeroed_sectors * sector_size;
    let json = json!({
        "store": store.name,
        "complete": done.is_complete,
        "zeroed_bytes": zeroed,
        "shortened_bytes": done.store_bytes_less,
        "store_bytes": store.size_bytes(),
    });
    let how = match done.is_complete {
        true => "compacted",
        false => "interrupted; so far",
    };
    let text = format!(
        "{how}: {} of data were zeros, and the store is {} shorter\n",
        Bytes(zeroed),
        Bytes(done.store_bytes_less)
    );
    answer(args.answer, &json, &text)?;
    match done.is_complete {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(watching.exit_code().unwrap_or(ExitCode::FAILURE)),
    }
}

/// Gives a layer another size.
pub(super) fn resize(args: &LayerResizeArgs) -> Result<ExitCode, Failure> {
    let store = Store::open(&args.store.store, false)?;
    let name = &store.name;
    let info = store.layer()?;
    let (old, new) = (size_bytes(info), args.size.bytes());
    let sector_size = u64::from(info.sector_size);
    if new == 0 {
        return Err(Failure::configuration(format!(
            "{name}: a layer cannot have 0 bytes: give it at least one sector, of {sector_size} bytes"
        )));
    }
    if !new.is_multiple_of(sector_size) {
        return Err(Failure::configuration(format!(
            "{name}: a layer cannot have {new} bytes: give a multiple of its sectors of {sector_size} bytes"
        )));
    }
    if new < old && !args.shrink {
        return Err(Failure::running(format!(
            "{name}: the layer has {old} bytes, and {new} are fewer: what it holds beyond them would be lost; --shrink does it"
        )));
    }
    let resized = block_on(disklayer_durable::resize(
        store.disk.clone(),
        new / sector_size,
    ));
    resized.map_err(|error| failed(name, &error))?;
    close(&store)?;
    let json = json!({
        "store": name,
        "old_size_bytes": old,
        "size_bytes": new,
        "store_bytes": store.size_bytes(),
    });
    let text = format!("resized from {} to {}\n", Bytes(old), Bytes(new));
    answer(args.answer, &json, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn close(store: &Store) -> Result<(), Failure> {
    block_on(store.disk.close()).map_err(|error| failed(&store.name, &OpenError::Store(error)))
}

fn answer(args: AnswerArgs, json: &Value, text: &str) -> Result<(), Failure> {
    match (args.json, args.quiet) {
        (true, _) => output::print(&format!("{json:#}\n")),
        (false, false) => output::print(text),
        (false, true) => Ok(()),
    }
}
