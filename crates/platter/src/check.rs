//! `platter check`: says what is wrong with a configuration, or what it would serve.

use crate::cli::CheckArgs;
use crate::connect::ExportFacts;
use crate::exit::Failure;
use crate::plan::Plan;
use crate::{output, serve};
use serde_json::{Value, json};
use std::fmt::Write as _;
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

fn exports(args: &CheckArgs) -> Result<Vec<ExportFacts>, Failure> {
    let disks = Plan::for_checking(&args.config)?.open()?;
    // Listens nowhere: only to see whether clients could be offered these disks under these names.
    serve::offer(&disks)?;
    let facts = disks
        .iter()
        .map(|export| ExportFacts::new(&export.name, &export.disk));
    Ok(facts.collect())
}

fn as_text(name: &str, exports: &[ExportFacts]) -> String {
    let mut text = String::new();
    for export in exports {
        writeln!(text, "{export}").expect("writing to a string succeeds");
    }
    format!("{text}{name}: good")
}

/// None if the check itself failed, which says nothing about the configuration.
fn as_json(name: &str, checked: &Result<Vec<ExportFacts>, Failure>) -> Option<String> {
    let (exports, mistakes) = match checked {
        Ok(exports) => (&**exports, &[][..]),
        Err(Failure::Configuration(mistakes)) => (&[][..], &**mistakes),
        Err(Failure::Running(_)) => return None,
    };
    let exports: Vec<Value> = exports.iter().map(ExportFacts::to_json).collect();
    let answer = json!({
        "configuration": name,
        "good": mistakes.is_empty(),
        "exports": exports,
        "mistakes": mistakes,
    });
    Some(format!("{answer:#}"))
}
