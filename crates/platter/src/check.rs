//! `platter check`: says what is wrong with a configuration, or what it would serve.

use crate::cli::CheckArgs;
use crate::connect::ExportFacts;
use crate::exit::Failure;
use crate::plan::{Plan, Tried};
use crate::{connect, output, serve};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Opens every disk read-only, and says what it is. As JSON it is also said that the configuration is wrong, and how: that is
/// an answer, not only a failure.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let checked = exports(args);
    let name = args.config.display().to_string();
    let text = match args.json {
        true => as_json(&name, &checked),
        false => checked.as_ref().ok().map(|exports| as_text(&name, exports)),
    };
    if let Some(text) = text {
        output::print(&format!("{text}\n"))?;
    }
    checked.map(|_| ExitCode::SUCCESS)
}

/// What would be served.
#[derive(Default)]
struct Checked {
    exports: Vec<ExportFacts>,
    /// Names of exports, and the images that would be made for them.
    to_create: Vec<(String, PathBuf)>,
}

fn exports(args: &CheckArgs) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let mut disks = Vec::new();
    for tried in Plan::for_checking(&args.config)?.try_open()? {
        match tried {
            Tried::Open(export) => disks.push(export),
            Tried::ToBeCreated { name, path } => checked.to_create.push((name, path)),
        }
    }
    // Listens nowhere: only to see whether clients could be offered these disks under these names.
    serve::offer(&disks)?;
    let facts = disks
        .iter()
        .map(|export| ExportFacts::new(&export.name, &export.disk));
    checked.exports = facts.collect();
    Ok(checked)
}

fn as_text(name: &str, checked: &Checked) -> String {
    let mut text = String::new();
    for export in &checked.exports {
        writeln!(text, "{export}").expect("writing to a string succeeds");
    }
    for (name, path) in &checked.to_create {
        let (name, path) = (connect::shown_name(name), path.display());
        writeln!(text, "{name}: {path} would be created").expect("writing to a string succeeds");
    }
    format!("{text}{name}: good")
}

/// None if the check itself failed, which says nothing about the configuration.
fn as_json(name: &str, checked: &Result<Checked, Failure>) -> Option<String> {
    let nothing = Checked::default();
    let (checked, mistakes) = match checked {
        Ok(checked) => (checked, &[][..]),
        Err(Failure::Configuration(mistakes)) => (&nothing, &**mistakes),
        Err(Failure::Running(_)) => return None,
    };
    let exports: Vec<Value> = checked.exports.iter().map(ExportFacts::to_json).collect();
    let to_create = checked.to_create.iter();
    let to_create: Vec<Value> = to_create
        .map(|(name, path)| json!({ "name": name, "path": path.display().to_string() }))
        .collect();
    let answer = json!({
        "configuration": name,
        "good": mistakes.is_empty(),
        "exports": exports,
        "to_create": to_create,
        "mistakes": mistakes,
    });
    Some(format!("{answer:#}"))
}
