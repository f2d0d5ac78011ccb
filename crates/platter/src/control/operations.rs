//! What each request does. Everything here may wait for disks, and holds up nobody but its client.

use crate::control::protocol::{
    AddExport, Inspect, Operation, PROTOCOL_VERSION, Refusal, RemoveExport, Resize, Set,
};
use crate::daemon::Daemon;
use ::inspect::InspectError;
use futures_lite::future::block_on;
use serde_json::{Value, json};

/// Does what is asked for.
pub(crate) fn answer(daemon: &Daemon, operation: Operation) -> Result<Value, Refusal> {
    match operation {
        Operation::Version(_) => Ok(version()),
        Operation::Inspect(Inspect { path, depth }) => {
            let shown = block_on(::inspect::inspect(&path, depth, daemon));
            shown.map_err(about_the_tree)
        }
        Operation::Set(set) => change(daemon, set),
        Operation::ListExports(_) => {
            let exports = daemon.exports().into_iter();
            Ok(exports.map(|facts| facts.to_json()).collect())
        }
        Operation::AddExport(add) => add_export(daemon, *add),
        Operation::RemoveExport(RemoveExport { name }) => {
            daemon.remove_export(&name)?;
            Ok(Value::Null)
        }
        Operation::Resize(resize) => resize_export(daemon, resize),
        Operation::Handover(_) => unreachable!("its replies are not one value: see the server"),
    }
}

fn version() -> Value {
    json!({ "protocol": PROTOCOL_VERSION, "platter": env!("CARGO_PKG_VERSION") })
}

fn change(daemon: &Daemon, Set { path, value }: Set) -> Result<Value, Refusal> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => {
            let message = "a value is a string, a number, or true or false";
            return Err(Refusal::at("value", message));
        }
    };
    let changed = block_on(::inspect::update(&path, &text, daemon)).map_err(about_the_tree)?;
    tracing::info!(path, value = text, "changed over the control socket");
    Ok(changed)
}

/// Which key of the request an error is about.
fn about_the_tree(error: InspectError) -> Refusal {
    let key = match error {
        InspectError::Update { .. } => "value",
        _ => "path",
    };
    Refusal::at(key, error.to_string())
}

fn add_export(daemon: &Daemon, AddExport { export, base }: AddExport) -> Result<Value, Refusal> {
    if !base.is_absolute() {
        let message = "is the absolute path of the folder that other paths are relative to";
        return Err(Refusal::at("base", message));
    }
    let facts = daemon.add_export(&export, &base)?;
    Ok(facts.to_json())
}

fn resize_export(daemon: &Daemon, Resize { export, size }: Resize) -> Result<Value, Refusal> {
    let facts = daemon.resize(&export, size.bytes())?;
    Ok(facts.to_json())
}
