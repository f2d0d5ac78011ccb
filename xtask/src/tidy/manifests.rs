//! What is declared once, in the workspace, is inherited by every crate: lints, package fields, and the
//! versions of dependencies.

use toml::{Table, Value};

use crate::Fallible;

/// Package fields that no crate may set for itself.
const INHERITED: &[&str] = &[
    "version",
    "edition",
    "rust-version",
    "license",
    "repository",
    "publish",
];

/// Tables of dependencies, at the top of a manifest or below a target.
const DEPENDENCIES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// What is wrong with a crate's manifest. The error is for one that is not TOML.
pub(crate) fn check(manifest: &str) -> Fallible<Vec<String>> {
    let manifest: Table = manifest
        .parse()
        .map_err(|error| format!("a manifest is wrong: {error}"))?;
    let mut findings = Vec::new();
    let package = table(&manifest, "package");
    let own = INHERITED
        .iter()
        .filter(|field| !package.is_some_and(|package| inherits(package.get(**field))));
    findings.extend(own.map(|field| format!("[package] lacks `{field}.workspace = true`")));
    if !inherits(manifest.get("lints")) {
        findings.push("lacks `[lints] workspace = true`".to_owned());
    }
    if !package.is_some_and(|package| package.contains_key("description")) {
        findings.push("[package] lacks a `description`".to_owned());
    }
    let targets = table(&manifest, "target")
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    for holder in std::iter::once(&manifest).chain(targets) {
        findings.extend(own_versions(holder));
    }
    Ok(findings)
}

fn own_versions(holder: &Table) -> impl Iterator<Item = String> {
    let tables = DEPENDENCIES
        .iter()
        .filter_map(|kind| Some((*kind, table(holder, kind)?)));
    tables.flat_map(|(kind, dependencies)| {
        let own = dependencies
            .iter()
            .filter(|(_, value)| !inherits(Some(value)));
        own.map(move |(name, _)| {
            format!(
                "[{kind}] `{name}`: declare it in the workspace and write `{name}.workspace = true`"
            )
        })
    })
}

/// Whether a value is a table that says `workspace = true`.
fn inherits(value: Option<&Value>) -> bool {
    value
        .and_then(|value| value.get("workspace"))
        .and_then(Value::as_bool)
        == Some(true)
}

fn table<'a>(holder: &'a Table, key: &str) -> Option<&'a Table> {
    holder.get(key)?.as_table()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [package]
        name = "shelf"
        description = "A shelf"
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        repository.workspace = true
        publish.workspace = true
        [dependencies]
        clap.workspace = true
        serde = { workspace = true, features = ["rc"] }
        [lints]
        workspace = true
    "#;

    fn found(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "nothing to replace");
        check(&GOOD.replace(from, to)).unwrap()
    }

    #[test]
    fn a_manifest_that_inherits_everything_passes() {
        assert_eq!(check(GOOD).unwrap(), [""; 0]);
    }

    #[test]
    fn a_field_of_its_own_is_found() {
        for field in INHERITED {
            let findings = found(
                &format!(" {field}.workspace = true"),
                &format!(" {field} = \"1\""),
            );
            assert_eq!(findings.len(), 1, "{field}: {findings:?}");
            assert!(findings[0].contains(field), "{findings:?}");
        }
    }

    #[test]
    fn lints_that_are_not_inherited_are_found() {
        assert_eq!(
            found("[lints]\n        workspace = true", ""),
            ["lacks `[lints] workspace = true`"]
        );
        assert_eq!(
            found(
                "[lints]\n        workspace = true",
                "[lints]\n workspace = false"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_version_outside_the_workspace_is_found() {
        assert!(found("clap.workspace = true", "clap = \"4\"")[0].contains("`clap`"));
        assert_eq!(
            found(
                "[dependencies]",
                "[dev-dependencies]\nx = \"1\"\n[dependencies]"
            )
            .len(),
            1
        );
        assert_eq!(
            found(
                "[lints]",
                "[target.'cfg(unix)'.dependencies]\nx = \"1\"\n[lints]"
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_missing_description_is_found() {
        assert_eq!(found("description = \"A shelf\"", "").len(), 1);
    }

    #[test]
    fn what_is_no_manifest_is_an_error() {
        assert!(check("[package").is_err());
    }
}
