//! The commands that ask a running daemon.

use crate::cli::{
    AddExportArgs, ExportAction, ExportArgs, InspectArgs, RemoveExportArgs, ResizeArgs, SetArgs,
};
use crate::connect::ExportFacts;
use crate::control::client::Connection;
use crate::exit::Failure;
use crate::{output, tree};
use disk_resolver::{CONFIG_LEN_MAX, LayerSpec};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `platter inspect`.
pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let fields = json!({ "path": args.path, "depth": args.depth });
    let shown = Connection::open(&args.control)?.call("inspect", fields)?;
    match args.json {
        true => print_json(&shown),
        false => output::print(&tree::text(&shown)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// `platter set`.
pub(crate) fn set(args: &SetArgs) -> Result<ExitCode, Failure> {
    let fields = json!({ "path": args.path, "value": args.value });
    let value = Connection::open(&args.control)?.call("set", fields)?;
    match args.json {
        true => print_json(&value),
        false => output::print(&tree::text(&value)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// `platter export`.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode, Failure> {
    match &args.action {
        ExportAction::Add(args) => add(args),
        ExportAction::Remove(args) => remove(args),
        ExportAction::List(args) => {
            let exports = Connection::open(&args.control)?.call("list_exports", json!({}))?;
            print_facts(&exports, args.json)
        }
    }
}

fn add(args: &AddExportArgs) -> Result<ExitCode, Failure> {
    let (disk, base) = match &args.disk {
        Some(path) => described_disk(path)?,
        None => (layered_disk(&args.layers)?, working_directory()?),
    };
    let export = json!({ "name": args.name, "disk": disk, "read_only": args.read_only });
    let fields = json!({ "export": export, "base": text_of_path(&base)? });
    let facts = Connection::open(&args.control)?.call("add_export", fields)?;
    print_facts(&facts, args.json)
}

fn remove(args: &RemoveExportArgs) -> Result<ExitCode, Failure> {
    Connection::open(&args.control)?.call("remove_export", json!({ "name": args.name }))?;
    Ok(ExitCode::SUCCESS)
}

/// `platter resize`.
pub(crate) fn resize(args: &ResizeArgs) -> Result<ExitCode, Failure> {
    let fields = json!({ "export": args.export, "size": args.size });
    let facts = Connection::open(&args.control)?.call("resize", fields)?;
    print_facts(&facts, args.json)
}

/// A disk made of layers, as a document writes it.
fn layered_disk(layers: &[LayerSpec]) -> Result<Value, Failure> {
    let resolver = disk_resolver::resolver();
    let layers: Result<Vec<Value>, _> = layers
        .iter()
        .map(|layer| layer.describe(&resolver))
        .collect();
    let layers = layers.map_err(Failure::configuration)?;
    Ok(json!({ "type": "layered", "layers": layers }))
}

/// The disk that a file describes, and the folder that paths in it are relative to.
fn described_disk(path: &Path) -> Result<(Value, PathBuf), Failure> {
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::configuration(format_args!("{}: {what}", path.display()))
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_LEN_MAX as u64).read_to_string(&mut text))
        .map_err(|error| wrong(&error))?;
    let disk = resource::parse(&text).map_err(|error| {
        Failure::configuration(error.located(&path.display().to_string(), &text))
    })?;
    if disk.get("type").is_none() {
        return Err(wrong(&"a disk is an object with the key \"type\""));
    }
    let path = std::path::absolute(path).map_err(|error| wrong(&error))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    Ok((disk, base.to_owned()))
}

fn working_directory() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::running(format!("cannot find the working directory: {error}")))
}

fn text_of_path(path: &Path) -> Result<&str, Failure> {
    let text = path.to_str();
    text.ok_or_else(|| Failure::running(format!("{}: is not text in UTF-8", path.display())))
}

/// One export, or a list of them.
fn print_facts(facts: &Value, as_json: bool) -> Result<ExitCode, Failure> {
    if as_json {
        print_json(facts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    let all = facts
        .as_array()
        .map_or(std::slice::from_ref(facts), Vec::as_slice);
    for one in all {
        let facts = ExportFacts::deserialize(one).map_err(|error| {
            Failure::running(format!(
                "the daemon describes an export in another way: {error}"
            ))
        })?;
        writeln!(text, "{facts}").expect("writing to a string succeeds");
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &Value) -> Result<(), Failure> {
    output::print(&format!("{value:#}\n"))
}
