//! `platter check`: says what is wrong with a configuration, or what it would serve.

use crate::cli::CheckArgs;
use crate::connect::ExportFacts;
use crate::exit::Failure;
use crate::plan::Plan;
use crate::{output, serve};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Opens every disk read-only, and says what it is.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let plan = Plan::for_checking(&args.config)?;
    let disks = plan.open()?;
    // Listens nowhere: only to see whether clients could be offered these disks under these names.
    serve::offer(&disks)?;
    let mut text = String::new();
    for export in &disks {
        let described = ExportFacts::new(&export.name, &export.disk);
        writeln!(text, "{described}").expect("writing to a string succeeds");
    }
    output::print(&format!("{text}{}: good\n", args.config.display()))?;
    Ok(ExitCode::SUCCESS)
}
