//! Each program is run, and prints what its page shows.

use std::process::Command;

const PAGE: &str = include_str!("../../../docs/cookbook/from-a-program.md");

#[track_caller]
fn prints_what_the_page_shows(name: &str, program: &str) {
    let output = Command::new(program).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    let shown = format!("```console\n$ cargo run -q -p programs --bin {name}\n{printed}```\n");
    assert!(
        !printed.is_empty() && PAGE.contains(&shown),
        "the page does not show\n{shown}"
    );
}

#[test]
fn the_tokio_program_prints_what_the_page_shows() {
    prints_what_the_page_shows("with_tokio", env!("CARGO_BIN_EXE_with_tokio"));
}

#[test]
fn the_smol_program_prints_what_the_page_shows() {
    prints_what_the_page_shows("with_smol", env!("CARGO_BIN_EXE_with_smol"));
}
