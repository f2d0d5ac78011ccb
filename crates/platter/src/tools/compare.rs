//! `platter compare`: where two disks differ.

use super::open::find;
use super::watching::{Watching, failed};
use crate::cli::CompareArgs;
use crate::exit::{DIFFERENT, Failure};
use crate::output;
use crate::transfer::{Comparison, Differences, Side, View};
use futures_lite::future::block_on;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Compares.
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Failure> {
    let resolver = disk_resolver::resolver();
    let found = [&args.first, &args.second].map(|endpoint| find(endpoint, &resolver, None));
    let [first, second] = found;
    let (first, second) = (first?, second?);
    let disks = [first.open(true)?, second.open(true)?];
    let names = [&*first.name, &*second.name];
    let sizes = disks
        .each_ref()
        .map(|disk| View::new(disk, Side::First).size_bytes());
    let comparison = Comparison {
        first: &disks[0],
        second: Some(&disks[1]),
        end: match args.ignore_tail {
            true => sizes[0].min(sizes[1]),
            false => sizes[0].max(sizes[1]),
        },
        only_first: args.first_only,
    };
    let watching = Watching::start(args.quiet)?;
    watching.begin("comparing", comparison.end);
    let compared = block_on(comparison.run(args.effort.effort(), &watching));
    watching.end();
    let result = Outcome {
        names,
        sizes,
        differences: compared.map_err(|fault| failed(&fault, names))?,
        is_strict: args.strict,
    };
    let is_interrupted = watching.exit_code().filter(|_| !result.is_known());
    match (args.json, args.quiet) {
        (true, _) => output::print(&format!("{:#}\n", result.json()))?,
        (false, false) => output::print(&result.text())?,
        (false, true) => {}
    }
    Ok(match (is_interrupted, result.is_equal()) {
        (Some(code), _) => code,
        (None, true) => ExitCode::SUCCESS,
        (None, false) => ExitCode::from(DIFFERENT),
    })
}

struct Outcome<'a> {
    names: [&'a str; 2],
    sizes: [u64; 2],
    differences: Differences,
    is_strict: bool,
}

impl Outcome<'_> {
    fn sizes_differ(&self) -> bool {
        self.sizes[0] != self.sizes[1]
    }

    fn is_equal(&self) -> bool {
        let is_size_good = !self.is_strict || !self.sizes_differ();
        self.differences.first_offset.is_none() && is_size_good
    }

    /// Whether looking at the rest could not change the answer.
    fn is_known(&self) -> bool {
        self.differences.is_complete || !self.is_equal()
    }

    fn json(&self) -> Value {
        let differences = &self.differences;
        json!({
            "first": self.names[0],
            "second": self.names[1],
            "equal": self.is_known().then(|| self.is_equal()),
            "first_size_bytes": self.sizes[0],
            "second_size_bytes": self.sizes[1],
            "first_difference_offset": differences.first_offset,
            "different_bytes": differences.different_bytes,
            "compared_bytes": differences.compared_bytes,
            "complete": differences.is_complete,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.sizes_differ() {
            let [first, second] = self.sizes;
            text += &format!("the sizes differ: {first} and {second} bytes\n");
        }
        let found = &self.differences;
        let count = found.different_bytes;
        text += &match (found.first_offset, found.is_complete) {
            (Some(offset), true) => {
                format!("the disks differ: first at offset {offset}, in {count} bytes in all\n")
            }
            (Some(offset), false) => format!("the disks differ: first at offset {offset}\n"),
            (None, false) => {
                let compared = found.compared_bytes;
                format!("interrupted: no difference in the first {compared} bytes\n")
            }
            (None, true) if self.is_equal() => "the disks are equal\n".to_owned(),
            (None, true) => "the content is equal, but --strict wants equal sizes\n".to_owned(),
        };
        text
    }
}
