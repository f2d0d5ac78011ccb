//! Which crate may use which: only crates in the rows above its own. Concerns what a crate is built from;
//! its tests may use anything.
//!
//! A row is known from the first word of a crate's name, or from the table of names.

use std::collections::BTreeMap;

use crate::workspace::Crate;

/// Crates whose row their first word does not tell. The first row is the top of the house.
const NAMED: &[(&str, u8)] = &[
    ("clock", 1),
    ("guestmem", 1),
    ("inspect", 1),
    ("inspect_derive", 1),
    ("nbd_protocol", 1),
    ("local_socket", 1),
    ("planted", 1),
    ("range_lock", 1),
    ("resource", 1),
    ("sharded", 1),
    ("sync", 1),
    ("operation", 2),
    ("scsi_buffers", 2),
    ("disk_backend", 3),
    ("disk_layered", 4),
    ("disk_contract", 5),
    ("disk_sim", 5),
    ("posio", 6),
    ("uring", 6),
    ("disk_resolver", 9),
    ("bench", 10),
    ("exploration", 10),
    ("fuzz", 10),
    ("platter", 10),
    ("programs", 10),
    ("worlds", 10),
    ("xtask", 10),
];

/// Rows by the first word of a name.
const BY_FIRST_WORD: &[(&str, u8)] = &[("disk", 7), ("disklayer", 7), ("frontend", 8)];

/// Pairs of one row where the first may use the second: a derive macro is a part of its crate, counters are counted in shards, and the
/// contract is tried on simulated storage.
const WITHIN_A_ROW: &[(&str, &str)] = &[
    ("inspect", "inspect_derive"),
    ("inspect", "sharded"),
    ("disk_contract", "disk_sim"),
];

/// The last row of the core. A core crate runs under whatever executor its user has.
const LAST_CORE_ROW: u8 = 4;

/// The row of protocols: these know disks, and no particular one.
const FRONTEND_ROW: u8 = 8;

/// What brings an executor, a reactor or a pool of threads with it.
const EXECUTORS: &[&str] = &[
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-net",
    "async-process",
    "async-std",
    "blocking",
    "compio",
    "futures-executor",
    "glommio",
    "monoio",
    "pollster",
    "smol",
    "tokio",
];

fn row_of(name: &str) -> Option<u8> {
    let by_name = NAMED.iter().find(|(named, _)| *named == name);
    let first_word = name.split('_').next().unwrap_or(name);
    by_name
        .or_else(|| BY_FIRST_WORD.iter().find(|(word, _)| *word == first_word))
        .map(|(_, row)| *row)
}

/// Every dependency that goes the wrong way, and every crate that has no row.
pub(crate) fn check(crates: &[Crate]) -> Vec<String> {
    let mut rows = BTreeMap::new();
    let mut findings = Vec::new();
    for Crate { name, .. } in crates {
        match row_of(name) {
            Some(row) => _ = rows.insert(name.as_str(), row),
            None => findings.push(format!(
                "{name}: has no row; begin its name with the word for its role (`disk_`, `disklayer_`, \
                 `frontend_`), or add it to NAMED in xtask/src/tidy/rows.rs"
            )),
        }
    }
    for one in crates {
        let Some(row) = rows.get(one.name.as_str()) else {
            continue;
        };
        let wrong = one.dependencies.iter().filter_map(|on| {
            let problem = match rows.get(on.as_str()) {
                Some(on_row) => wrong_way((&one.name, *row), (on, *on_row)),
                None => executor_in_the_core(*row, on),
            };
            problem.map(|why| format!("{} (row {row}): depends on {on}: {why}", one.name))
        });
        findings.extend(wrong);
    }
    findings
}

/// Why a crate of ours may not use another, if it may not.
fn wrong_way((name, row): (&str, u8), (on, on_row): (&str, u8)) -> Option<String> {
    if WITHIN_A_ROW.contains(&(name, on)) {
        return None;
    }
    if on_row >= row {
        return Some(format!(
            "that is row {on_row}, and a crate may use only the rows above its own"
        ));
    }
    let above_the_protocols = row == FRONTEND_ROW && on_row > LAST_CORE_ROW;
    above_the_protocols.then(|| {
        format!("that is row {on_row}, and a frontend uses only rows 1 to {LAST_CORE_ROW}")
    })
}

fn executor_in_the_core(row: u8, on: &str) -> Option<String> {
    (row <= LAST_CORE_ROW && EXECUTORS.contains(&on))
        .then(|| format!("a crate of rows 1 to {LAST_CORE_ROW} names no executor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.to_owned(),
            manifest: "Cargo.toml".into(),
            roots: Vec::new(),
            dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// What `check` says about the first of these crates, the others being there to be used.
    fn found(name: &str, dependencies: &[&str], others: &[&str]) -> Vec<String> {
        let mut crates = vec![one(name, dependencies)];
        crates.extend(others.iter().map(|other| one(other, &[])));
        check(&crates)
    }

    #[test]
    fn upwards_is_allowed() {
        let others = ["inspect", "disk_backend", "posio"];
        assert_eq!(found("disk_file", &others, &others), [""; 0]);
    }

    #[test]
    fn downwards_and_sideways_are_found() {
        for (name, on) in [
            ("disk_backend", "disk_layered"),
            ("disk_file", "disk_resolver"),
            ("disk_file", "disk_stripe"),
            ("resource", "inspect"),
            ("inspect_derive", "inspect"),
            ("disk_sim", "disk_contract"),
            ("disk_layered", "disk_contract"),
            ("platter", "xtask"),
        ] {
            let findings = found(name, &[on], &[on]);
            assert_eq!(findings.len(), 1, "{name} on {on}: {findings:?}");
            assert!(
                findings[0].starts_with(name) && findings[0].contains(on),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn the_two_pairs_within_a_row_are_allowed() {
        assert_eq!(
            found("inspect", &["inspect_derive"], &["inspect_derive"]),
            [""; 0]
        );
        assert_eq!(
            found("disk_contract", &["disk_sim"], &["disk_sim"]),
            [""; 0]
        );
    }

    #[test]
    fn a_frontend_may_not_name_a_backend_or_an_engine() {
        for on in ["disk_file", "disklayer_ram", "posio", "disk_contract"] {
            assert_eq!(found("frontend_nbd", &[on], &[on]).len(), 1, "{on}");
        }
        assert_eq!(
            found("frontend_nbd", &["disk_backend"], &["disk_backend"]),
            [""; 0]
        );
    }

    #[test]
    fn a_core_crate_may_not_name_an_executor_and_a_leaf_may() {
        for on in EXECUTORS {
            assert_eq!(found("disk_layered", &[on], &[]).len(), 1, "{on}");
        }
        assert_eq!(
            found("frontend_nbd", &["async-io", "blocking"], &[]),
            [""; 0]
        );
    }

    #[test]
    fn a_crate_without_a_row_is_found_and_told_what_to_do() {
        let findings = found("misc_helpers", &[], &[]);
        assert!(
            findings[0].contains("xtask/src/tidy/rows.rs"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_new_crate_has_the_row_of_its_first_word() {
        assert_eq!(row_of("disk_stripe"), Some(7));
        assert_eq!(row_of("disklayer_sqlite"), Some(7));
        assert_eq!(row_of("frontend_ublk"), Some(8));
        assert_eq!(row_of("diskette"), None);
    }
}
