//! `platter check`: says what is wrong with a configuration, or what it would serve.

use crate::cli::CheckArgs;
use crate::connect;
use crate::exit::Failure;
use crate::plan::Plan;
use std::process::ExitCode;

/// Opens every disk read-only, and says what it is.
#[expect(clippy::print_stdout, reason = "this is what the user asked for")]
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let plan = Plan::for_checking(&args.config)?;
    for export in plan.open()? {
        println!("{}", connect::describe(&export.name, &export.disk));
    }
    println!("{}: good", args.config.display());
    Ok(ExitCode::SUCCESS)
}
