//! `platter layer info` and `map`: what a layer is, and what it holds.

use super::{Store, failed, role_name, size_bytes};
use crate::cli::{LayerInfoArgs, LayerMapArgs};
use crate::connect::Bytes;
use crate::exit::Failure;
use crate::output;
use disklayer_durable::{Binding, LayerInfo, Run, RunState, Verify, map as runs_of};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

/// The length of a block of the log in bytes.
const LOG_BLOCK_BYTES: u64 = 4096;

/// Describes a layer.
pub(super) fn info(args: &LayerInfoArgs) -> Result<ExitCode, Failure> {
    let store = Store::open(&args.store.store, true)?;
    let info = store.layer()?;
    output::print(&match args.json {
        true => format!("{:#}\n", as_json(&store, info)),
        false => as_text(&store, info),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A layer's identity, as everywhere.
pub(super) fn id(info: &LayerInfo) -> String {
    format!("{:032x}", u128::from_be_bytes(info.layer_id))
}

fn binding(binding: &Binding) -> Value {
    match binding {
        Binding::Unknown => Value::Null,
        Binding::Nothing => json!({ "kind": "nothing" }),
        Binding::Disk(lower) => json!({
            "kind": "disk",
            "disk_id": lower.disk_id.map(|id| format!("{:032x}", u128::from_be_bytes(id))),
            "sector_count": lower.sector_count,
            "sector_size": lower.sector_size,
            "content_stamp": lower.stamp.map(|stamp| stamp.to_string()),
        }),
    }
}

fn as_json(store: &Store, info: &LayerInfo) -> Value {
    json!({
        "store": store.name,
        "layer_id": id(info),
        "role": role_name(info.role),
        "verify": info.verify.name(),
        "closed": !info.is_in_use,
        "size_bytes": size_bytes(info),
        "sector_count": info.sector_count,
        "sector_size": info.sector_size,
        "shown_below_bytes": info.shown_below.saturating_mul(info.sector_size.into()),
        "made_for": binding(&info.binding),
        "stripe_bytes": u64::from(info.stripe_sectors) * u64::from(info.sector_size),
        "log_bytes": u64::from(info.log_blocks) * LOG_BLOCK_BYTES,
        "log_used_bytes": u64::from(info.log_blocks_used) * LOG_BLOCK_BYTES,
        "needed_bytes": info.store_bytes,
        "store_bytes": store.size_bytes(),
    })
}

fn as_text(store: &Store, info: &LayerInfo) -> String {
    let mut text = format!("{}\n", store.name);
    let mut line = |key: &str, value: &str| {
        writeln!(text, "  {key:<18} {value}").expect("writing to a string succeeds");
    };
    let (size, sectors) = (size_bytes(info), info.sector_count);
    line("role", &info.role.to_string());
    line(
        "size",
        &format!("{} ({size} bytes, {sectors} sectors)", Bytes(size)),
    );
    line("sectors", &format!("{} bytes", info.sector_size));
    line(
        "verifies",
        match info.verify {
            Verify::Metadata => "what it records",
            Verify::Data => "what it records, and its data",
        },
    );
    line("made for", &info.binding.to_string());
    line(
        "closed",
        &match info.is_in_use {
            true => format!("no: {}", store.why_not_closed()),
            false => "yes".to_owned(),
        },
    );
    let shown = info.shown_below.saturating_mul(info.sector_size.into());
    if shown < size {
        let what = "of what lies below shows, and zeros beyond";
        line("lower disk", &format!("{} {what}", Bytes(shown)));
    }
    line("identity", &id(info));
    let blocks = |count: u32| Bytes(u64::from(count) * LOG_BLOCK_BYTES);
    let (used, log) = (blocks(info.log_blocks_used), blocks(info.log_blocks));
    line("log", &format!("{used} of {log} used"));
    let (need, have) = (Bytes(info.store_bytes), Bytes(store.size_bytes()));
    line("store", &format!("{have}, of which {need} are needed"));
    text
}

/// Lists what a layer holds, as it is read: memory does not grow with it.
pub(super) fn map(args: &LayerMapArgs) -> Result<ExitCode, Failure> {
    let store = Store::open(&args.store.store, true)?;
    let sector_size = u64::from(store.layer()?.sector_size);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut taken = begin(&mut out, args.json);
    let mut is_first = true;
    let listed = block_on(runs_of(&store.disk, |run| {
        let is_first = std::mem::replace(&mut is_first, false);
        if taken.is_ok() {
            taken = one(&mut out, args.json, is_first, &run, sector_size);
        }
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }));
    let ended = taken.and_then(|()| match args.json {
        true => out.write_all(b"\n]\n").and_then(|()| out.flush()),
        false => out.flush(),
    });
    ended.map_err(output::not_taken)?;
    listed.map_err(|error| failed(&store.name, &error))?;
    Ok(ExitCode::SUCCESS)
}

fn begin(out: &mut dyn Write, json: bool) -> io::Result<()> {
    match json {
        true => out.write_all(b"["),
        false => writeln!(out, "{:>20} {:>20}  state", "offset", "length"),
    }
}

fn one(
    out: &mut dyn Write,
    json: bool,
    is_first: bool,
    run: &Run,
    sector_size: u64,
) -> io::Result<()> {
    let state = match run.state {
        RunState::Absent => "absent",
        RunState::Zero => "zero",
        RunState::Data => "data",
    };
    let (offset, length) = (run.sector * sector_size, run.sector_count * sector_size);
    match json {
        false => writeln!(out, "{offset:>20} {length:>20}  {state}"),
        true => {
            let separator = if is_first { "" } else { "," };
            let run = json!({ "offset": offset, "length": length, "state": state });
            write!(out, "{separator}\n{run}")
        }
    }
}
