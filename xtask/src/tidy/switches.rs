//! Nothing turns on the bugs that are planted for tests, nor the locks that a test steers: not by a feature that is on by default, and not
//! by the features that a dependency asks for. Cargo gives a crate the features that anybody in the same build wants, so one that does
//! would give them to all. What may turn them on is a `--features` on a command line.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::Fallible;

/// A feature that only an explicit `--features` may turn on.
struct Switch {
    package: &'static str,
    feature: &'static str,
    /// The one crate whose own features may lead to it, if not those of any may.
    by_way_of: Option<&'static str>,
    why: &'static str,
}

const SWITCHES: &[Switch] = &[
    Switch {
        package: "planted",
        feature: "on",
        by_way_of: None,
        why: "a whole build has the bugs if one crate wants them",
    },
    Switch {
        package: "sync",
        feature: "shuttle",
        by_way_of: Some("exploration"),
        why: "the locks of a whole build work only inside of an exploration if one crate wants them so",
    },
];

const DEPENDENCIES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// A manifest: how people call it, and what it says.
pub(crate) type Manifest = (String, String);

/// A crate's feature.
type Feature = (String, String);

/// Whatever turns the switch on without being asked, by the manifest that does it. The error is for one that is not TOML.
pub(crate) fn check(manifests: &[Manifest]) -> Fallible<Vec<String>> {
    let mut enables: BTreeMap<Feature, Vec<Feature>> = BTreeMap::new();
    let mut asked = Vec::new();
    for (place, text) in manifests {
        let manifest: Table = text
            .parse()
            .map_err(|error| format!("{place} is wrong: {error}"))?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"));
        let dependencies = dependencies(&manifest);
        if let Some(name) = name.and_then(Value::as_str) {
            enables.extend(features(name, &manifest, &dependencies));
            let default = (name.to_owned(), "default".to_owned());
            asked.push((format!("{place}: the feature `default`"), default));
        }
        for (key, package, wanted) in dependencies {
            let who = format!("{place}: the dependency `{key}`");
            asked.extend(
                wanted
                    .into_iter()
                    .map(|feature| (who.clone(), (package.clone(), feature))),
            );
        }
    }
    let findings = SWITCHES.iter().flat_map(|switch| {
        let by_itself = turned_on(switch, &asked, &enables);
        by_itself.chain(detours(switch, &enables))
    });
    Ok(findings.collect())
}

/// Who turns a switch on without being asked.
fn turned_on(
    switch: &Switch,
    asked: &[(String, Feature)],
    enables: &BTreeMap<Feature, Vec<Feature>>,
) -> impl Iterator<Item = String> {
    let guilty = asked
        .iter()
        .filter(|(_, feature)| reaches(switch, feature, enables));
    guilty.map(|(who, (_, feature))| {
        let Switch {
            package,
            feature: name,
            why,
            ..
        } = switch;
        format!(
            "{who} turns on `{package}/{name}` by way of `{feature}`: only an explicit `--features` may, since {why}"
        )
    })
}

/// Features of other crates than the one that may have such: also one that must be asked for would be in a build with all features.
fn detours(
    switch: &Switch,
    enables: &BTreeMap<Feature, Vec<Feature>>,
) -> impl Iterator<Item = String> {
    let Switch {
        package,
        feature: name,
        by_way_of,
        why,
    } = switch;
    let guilty = enables.keys().filter(move |feature| {
        by_way_of.is_some_and(|owner| ![owner, *package].contains(&feature.0.as_str()))
            && reaches(switch, feature, enables)
    });
    guilty.map(move |(holder, feature)| {
        let owner = by_way_of.unwrap_or_default();
        format!("the feature `{feature}` of `{holder}` turns on `{package}/{name}`: only those of `{owner}` may, since {why}")
    })
}

/// Each feature of a crate, and those that it turns on at once.
fn features(
    name: &str,
    manifest: &Table,
    dependencies: &[(String, String, Vec<String>)],
) -> Vec<(Feature, Vec<Feature>)> {
    let package_of = |key: &str| {
        let known = dependencies.iter().find(|(known, ..)| known == key);
        known.map_or(key, |(_, package, _)| package).to_owned()
    };
    let enabled = |text: &str| match text.split_once('/') {
        Some((key, feature)) => (package_of(key.trim_end_matches('?')), feature.to_owned()),
        None => (name.to_owned(), text.to_owned()),
    };
    let table = manifest.get("features").and_then(Value::as_table);
    let entries = table.into_iter().flatten().map(|(feature, list)| {
        let list = strings(list).map(|text| enabled(&text)).collect();
        ((name.to_owned(), feature.clone()), list)
    });
    entries.collect()
}

/// Every dependency of every kind: its key, its package, and the features that are asked of it.
fn dependencies(manifest: &Table) -> Vec<(String, String, Vec<String>)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let holders = targets.chain(manifest.get("workspace"));
    let holders = holders.filter_map(Value::as_table).chain([manifest]);
    let tables =
        holders.flat_map(|holder| DEPENDENCIES.iter().filter_map(|kind| holder.get(*kind)));
    let entries = tables.filter_map(Value::as_table).flatten();
    let described = entries.map(|(key, value)| {
        let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
        let features = value.get("features").into_iter().flat_map(strings);
        (key.clone(), package.to_owned(), features.collect())
    });
    described.collect()
}

fn strings(list: &Value) -> impl Iterator<Item = String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| one.as_str().map(str::to_owned))
}

fn reaches(switch: &Switch, from: &Feature, enables: &BTreeMap<Feature, Vec<Feature>>) -> bool {
    let mut pending = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(feature) = pending.pop() {
        if (feature.0.as_str(), feature.1.as_str()) == (switch.package, switch.feature) {
            return true;
        }
        if seen.insert(feature) {
            pending.extend(enables.get(feature).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH_MANIFEST: &str = "[package]\nname = 'planted'\n[features]\non = []\n";
    const WORLDS: &str = "[package]\nname = 'worlds'\n[features]\nbugs = ['planted/on']\n[dependencies]\nplanted.workspace = true\n";

    /// What is found in these manifests, beside those of the switch and of a crate that may turn it on when it is asked to.
    fn found(manifests: &[&str]) -> Vec<String> {
        let all = [SWITCH_MANIFEST, WORLDS];
        let all = all.iter().chain(manifests).enumerate();
        let all: Vec<_> = all
            .map(|(index, text)| (format!("manifest {index}"), (*text).to_owned()))
            .collect();
        check(&all).unwrap()
    }

    #[test]
    fn a_feature_that_must_be_asked_for_is_no_finding() {
        let plain = "[package]\nname = 'plain'\n[dependencies]\nplanted.workspace = true\n[dev-dependencies]\nworlds = { workspace = true, features = ['other'] }\n";
        assert_eq!(found(&[plain]), [""; 0]);
    }

    #[test]
    fn steered_locks_are_for_the_explorations_alone() {
        let sync = "[package]\nname = 'sync'\n[features]\nshuttle = []\n";
        let may = "[package]\nname = 'exploration'\n[features]\nshuttle = ['sync/shuttle']\n";
        assert_eq!(found(&[sync, may]), [""; 0]);
        for (must_not, what) in [
            (
                "[dependencies]\nsync = { workspace = true, features = ['shuttle'] }\n",
                "the dependency `sync`",
            ),
            (
                "[dev-dependencies]\nexploration = { path = '.', features = ['shuttle'] }\n",
                "the dependency `exploration`",
            ),
            (
                "[package]\nname = 'x'\n[features]\nsteered = ['sync/shuttle']\n",
                "the feature `steered` of `x`",
            ),
            (
                "[package]\nname = 'x'\n[features]\nsteered = ['exploration/shuttle']\n",
                "the feature `steered` of `x`",
            ),
        ] {
            let findings = found(&[sync, may, must_not]);
            assert_eq!(findings.len(), 1, "{must_not}: {findings:?}");
            assert!(findings[0].contains(what), "{findings:?}");
            assert!(findings[0].contains("`sync/shuttle`"), "{findings:?}");
        }
    }

    #[test]
    fn a_feature_that_is_on_by_default_is_found() {
        for features in [
            "default = ['planted/on']",
            "default = ['planted?/on']",
            "default = ['a']\na = ['b']\nb = ['a', 'planted/on']",
            "default = ['worlds/bugs']",
        ] {
            let manifest = format!("[package]\nname = 'x'\n[features]\n{features}\n");
            let findings = found(&[&manifest]);
            assert_eq!(findings.len(), 1, "{features}: {findings:?}");
            assert!(findings[0].starts_with("manifest 2: the feature `default`"));
        }
        let own = SWITCH_MANIFEST.replace("on = []", "on = []\ndefault = ['on']");
        assert_eq!(found(&[&own]).len(), 2);
    }

    #[test]
    fn a_dependency_of_any_kind_that_wants_it_is_found() {
        let wants = "planted = { workspace = true, features = ['on'] }";
        for table in [
            "dependencies",
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dev-dependencies",
            "workspace.dependencies",
        ] {
            let findings = found(&[&format!("[package]\nname = 'x'\n[{table}]\n{wants}\n")]);
            assert_eq!(findings.len(), 1, "{table}: {findings:?}");
            assert!(findings[0].starts_with("manifest 2: the dependency `planted` turns on"));
        }
    }

    #[test]
    fn a_detour_over_another_crate_or_another_name_is_found() {
        for dependency in [
            "worlds = { workspace = true, features = ['bugs'] }",
            "other = { path = '.', package = 'planted', features = ['on'] }",
        ] {
            let findings = found(&[&format!("[dev-dependencies]\n{dependency}\n")]);
            assert_eq!(findings.len(), 1, "{dependency}: {findings:?}");
        }
        let renamed = "[package]\nname = 'x'\n[features]\ndefault = ['other/on']\n[dependencies]\nother = { package = 'planted' }\n";
        assert_eq!(found(&[renamed]).len(), 1);
    }

    #[test]
    fn what_is_no_manifest_is_an_error_that_names_it() {
        let broken = ("x/Cargo.toml".to_owned(), "[package".to_owned());
        assert!(check(&[broken]).unwrap_err().starts_with("x/Cargo.toml"));
    }
}
