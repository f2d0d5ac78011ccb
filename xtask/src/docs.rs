//! The generated pages of the documentation: one table says which file is made by which command of
//! the daemon. `cargo xtask docs` writes them; `cargo xtask tidy` compares.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Workspace, read};
use crate::{Fallible, run};

/// A page, and what makes it.
struct Page {
    /// From the root of the checkout.
    file: &'static str,
    /// What stands above the generated part.
    header: &'static str,
    make: fn(&Path) -> Fallible<String>,
}

const PAGES: &[Page] = &[
    Page {
        file: "docs/reference/cli.md",
        header: "# The command line\n\nWhat `platter --help` and the help of each of its commands say.\n",
        make: |platter| help_tree(|arguments| output(platter, arguments)),
    },
    Page {
        file: "docs/reference/configuration.md",
        header: "# Types and keys\n\nWhat `platter schema --markdown` prints; [schema.json](schema.json) is the same for programs.\n\n",
        make: |platter| output(platter, &["schema", "--markdown"]),
    },
    Page {
        file: "docs/reference/schema.json",
        header: "",
        make: |platter| output(platter, &["schema"]),
    },
];

/// Writes every generated page.
pub(crate) fn run(workspace: &Workspace) -> Fallible {
    let platter = build(workspace)?;
    for page in PAGES {
        let path = workspace.root.join(page.file);
        let text = page.text(&platter)?;
        let failed = |error| format!("cannot write {}: {error}", path.display());
        std::fs::create_dir_all(path.parent().expect("a page lies in a folder")).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
        println!("wrote {}", page.file);
    }
    Ok(())
}

/// What is wrong with the generated pages as they lie in the checkout: a line for each.
pub(crate) fn stale(workspace: &Workspace) -> Fallible<Vec<String>> {
    let platter = build(workspace)?;
    let mut stale = Vec::new();
    for page in PAGES {
        let fresh = page.text(&platter)?;
        let kept = read(&workspace.root.join(page.file)).unwrap_or_default();
        stale.extend(difference(page.file, &kept, &fresh));
    }
    Ok(stale)
}

/// `cargo doc` over the workspace; a warning is an error.
pub(crate) fn check_rustdoc(workspace: &Workspace) -> Fallible {
    let mut command = run::cargo(workspace);
    run::run(
        command
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    )
}

fn build(workspace: &Workspace) -> Fallible<PathBuf> {
    run::run(run::cargo(workspace).args(["build", "--workspace", "--bin", "platter"]))?;
    Ok(workspace.target.join("debug/platter"))
}

impl Page {
    fn text(&self, platter: &Path) -> Fallible<String> {
        let made =
            (self.make)(platter).map_err(|why| format!("cannot make {}: {why}", self.file))?;
        Ok(format!("{}{}\n", self.header, made.trim_end()))
    }
}

/// The first line where a page in the checkout is not what would be generated now.
fn difference(file: &str, kept: &str, fresh: &str) -> Option<String> {
    if kept == fresh {
        return None;
    }
    let first = kept
        .lines()
        .zip(fresh.lines())
        .take_while(|(old, new)| old == new)
        .count();
    let now = fresh.lines().nth(first).unwrap_or("the end of the page");
    Some(format!(
        "{file}:{}: is not current (would be `{now}`); run `cargo xtask docs`",
        first + 1
    ))
}

fn output(platter: &Path, arguments: &[&str]) -> Fallible<String> {
    let mut command = Command::new(platter);
    // The help is wrapped to the terminal's width: to every machine the same one.
    command
        .args(arguments)
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1");
    let text = run::output(&mut command)?;
    if text.trim().is_empty() {
        return Err(format!("`{}` printed nothing", run::as_line(&command)));
    }
    Ok(text)
}

/// The help of the program and of each command below it, in the order in which the help names them.
fn help_tree(run: impl Fn(&[&str]) -> Fallible<String>) -> Fallible<String> {
    let mut page = String::new();
    let mut pending = vec![vec![]];
    while let Some(command) = pending.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let title = [&["platter"], arguments.as_slice()].concat().join(" ");
        arguments.push("--help");
        let help = run(&arguments)?;
        let below: Vec<_> = subcommands(&help)
            .map(|name| [&command[..], &[name]].concat())
            .collect();
        pending.extend(below.into_iter().rev());
        page += &format!("\n## `{title}`\n\n```text\n{}\n```\n", trim_lines(&help));
    }
    Ok(page)
}

/// The names below a help text's `Commands:`, but not `help` itself.
fn subcommands(help: &str) -> impl Iterator<Item = String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // A name is indented by two; the lines that go on with a description are indented further.
    list.take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
}

fn trim_lines(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Disks\n\nUsage: platter <COMMAND>\n\nCommands:\n  serve  Serve a disk: a line that \
                        \n         goes on\n  check  Check a document\n  help   Print this message\n\n\
                        Options:\n  -h, --help  Print help\n";

    #[test]
    fn commands_are_found_in_the_help_and_nothing_else_is() {
        assert_eq!(subcommands(HELP).collect::<Vec<_>>(), ["serve", "check"]);
        assert_eq!(subcommands("Usage: x\n\nOptions:\n  -h\n").count(), 0);
    }

    #[test]
    fn a_changed_a_missing_and_a_longer_page_are_stale() {
        assert_eq!(difference("a.md", "one\ntwo\n", "one\ntwo\n"), None);
        let changed = difference("a.md", "one\ntwo\n", "one\n2\n").unwrap();
        assert!(
            changed.starts_with("a.md:2: ") && changed.contains("`2`"),
            "{changed}"
        );
        assert!(difference("a.md", "", "one\n").is_some());
        assert!(difference("a.md", "one\ntwo\n", "one\n").is_some());
    }

    #[test]
    fn a_page_that_cannot_be_made_is_an_error_that_names_page_and_command() {
        let error = PAGES[0].text(Path::new("/bin/false")).unwrap_err();
        assert!(
            error.contains("cli.md") && error.contains("false --help"),
            "{error}"
        );
    }

    #[test]
    fn a_page_of_nothing_is_an_error_that_names_the_command() {
        let error = output(Path::new("sh"), &["-c", ":"]).unwrap_err();
        assert!(error.contains("printed nothing"), "{error}");
    }

    #[test]
    fn the_help_tree_shows_every_command_below() {
        let page = help_tree(|arguments| match arguments {
            ["--help"] => Ok(HELP.to_owned()),
            [command, "--help"] => Ok(format!("help of {command}")),
            other => Err(format!("asked for {other:?}")),
        });
        let page = page.unwrap();
        let titles: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(
            titles,
            ["## `platter`", "## `platter serve`", "## `platter check`"]
        );
        assert!(page.contains("help of check"), "{page}");
    }
}
