//! `platter completions` and `platter man`: what an installation needs besides the program, made from the command line's own
//! definition.

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Failure;
use crate::output;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "platter", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages.
pub(crate) fn pages(args: &ManArgs) -> Result<ExitCode, Failure> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| write_pages(folder))
        .map_err(|error| {
            let folder = folder.display();
            Failure::running(format!(
                "cannot write the manual pages to {folder}: {error}"
            ))
        })?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(folder: &Path) -> io::Result<()> {
    let mut platter = Cli::command().disable_help_subcommand(true);
    // Gives each command the options that all of them have, and its full name.
    platter.build();
    write_page(folder, &platter, "platter")
}

/// The page of a command, and those of the commands below it.
fn write_page(folder: &Path, command: &Command, name: &str) -> io::Result<()> {
    let page = Man::new(command.clone().display_name(name.to_owned()))
        .title(name.to_uppercase())
        .source(concat!("platter ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    std::fs::write(folder.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands() {
        write_page(folder, below, &format!("{name}-{}", below.get_name()))?;
    }
    Ok(())
}
