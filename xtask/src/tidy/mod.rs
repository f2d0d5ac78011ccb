//! `cargo xtask tidy`: the house rules that the compiler does not hold us to. Each rule is one module:
//! a function from plain values to findings, with tests that plant what it must find.

mod door_sign;
mod excerpts;
mod links;
mod manifests;
mod named_tests;
mod rows;
mod switches;
mod unsafe_code;

use crate::workspace::{Root, RootKind, Workspace, files_below, read};
use crate::{Fallible, docs};

/// Runs every rule, prints all that they find, and fails if they found anything.
pub(crate) fn run(workspace: &Workspace) -> Fallible {
    let mut findings = rows::check(&workspace.crates);
    findings.extend(door_signs(workspace)?);
    findings.extend(unsafe_attributes(workspace)?);
    findings.extend(manifests(workspace)?);
    findings.extend(fuzz_crate(workspace)?);
    findings.extend(switches(workspace)?);
    findings.extend(links::check(&workspace.root)?);
    findings.extend(excerpts::check(&workspace.root)?);
    findings.extend(named_tests::check(&workspace.root)?);
    // A daemon that cannot be built or asked must not hide what the other rules found.
    findings.extend(docs::stale(workspace).unwrap_or_else(|why| vec![why]));
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} crates, nothing found", workspace.crates.len());
        return Ok(());
    }
    Err(format!("tidy found {}", counted(findings.len())))
}

fn counted(count: usize) -> String {
    if count == 1 {
        "1 thing".to_owned()
    } else {
        format!("{count} things")
    }
}

fn door_signs(workspace: &Workspace) -> Fallible<Vec<String>> {
    let mut findings = Vec::new();
    for Root { file, kind } in workspace.crates.iter().flat_map(|one| &one.roots) {
        let needs_example = *kind == RootKind::Library;
        if let Err(problem) = door_sign::check(&read(file)?, needs_example) {
            findings.push(format!("{}: {problem}", workspace.relative(file)));
        }
    }
    Ok(findings)
}

fn unsafe_attributes(workspace: &Workspace) -> Fallible<Vec<String>> {
    let mut findings = Vec::new();
    for one in &workspace.crates {
        for file in files_below(one.folder(), ".rs")? {
            let place = workspace.relative(&file);
            let found = unsafe_code::check(&one.name, &read(&file)?);
            findings.extend(found.map(|problem| format!("{place}:{problem}")));
        }
    }
    Ok(findings)
}

/// The fuzz targets are a workspace of their own, which declares its own versions; the other rules hold for them too.
fn fuzz_crate(workspace: &Workspace) -> Fallible<Vec<String>> {
    let folder = workspace.root.join("fuzz");
    let library = folder.join("src/lib.rs");
    let mut findings = Vec::new();
    if let Err(problem) = door_sign::check(&read(&library)?, true) {
        findings.push(format!("{}: {problem}", workspace.relative(&library)));
    }
    for file in files_below(&folder, ".rs")? {
        let place = workspace.relative(&file);
        let found = unsafe_code::check("fuzz", &read(&file)?);
        findings.extend(found.map(|problem| format!("{place}:{problem}")));
    }
    Ok(findings)
}

/// Every manifest there is: whichever turns a switch on has it in its build.
fn switches(workspace: &Workspace) -> Fallible<Vec<String>> {
    let own = ["Cargo.toml", "fuzz/Cargo.toml"].map(|place| workspace.root.join(place));
    let crates = workspace.crates.iter().map(|one| one.manifest.clone());
    let all = own.into_iter().chain(crates).map(|manifest| {
        let place = workspace.relative(&manifest).to_string();
        Ok((place, read(&manifest)?))
    });
    switches::check(&all.collect::<Fallible<Vec<_>>>()?)
}

fn manifests(workspace: &Workspace) -> Fallible<Vec<String>> {
    let mut findings = Vec::new();
    for one in &workspace.crates {
        let place = workspace.relative(&one.manifest);
        let found = manifests::check(&read(&one.manifest)?);
        findings.extend(
            found?
                .into_iter()
                .map(|problem| format!("{place}: {problem}")),
        );
    }
    Ok(findings)
}
