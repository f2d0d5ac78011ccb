//! Tests that a page names by `path::name`: there must be such a file, and in it such a test. A page that promises a test which
//! was renamed, or is gone, promises nothing.

use std::path::Path;

use pulldown_cmark::{Event, Options, Parser};

use crate::Fallible;
use crate::workspace::read;

/// The pages that name tests, from the root.
const PAGES: &[&str] = &["docs/testing.md", "docs/contract.md"];

/// Checks the pages below `root`; each finding names its page and line.
pub(crate) fn check(root: &Path) -> Fallible<Vec<String>> {
    let mut findings = Vec::new();
    for page in PAGES {
        let text = read(&root.join(page))?;
        for (line, file, test) in named_in(&text) {
            if let Some(why) = missing(root, &file, &test)? {
                findings.push(format!("{page}:{line}: `{file}::{test}`: {why}"));
            }
        }
    }
    Ok(findings)
}

/// The tests that a page names, each with its line.
fn named_in(text: &str) -> Vec<(usize, String, String)> {
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
    let names = parser.filter_map(|(event, span)| match event {
        Event::Code(code) => {
            let (file, test) = code.rsplit_once("::")?;
            let line = text[..span.start].matches('\n').count() + 1;
            file.ends_with(".rs")
                .then(|| (line, file.to_owned(), test.to_owned()))
        }
        _ => None,
    });
    names.collect()
}

/// Why there is no such test.
fn missing(root: &Path, file: &str, test: &str) -> Fallible<Option<String>> {
    let path = root.join(file);
    if !path.is_file() {
        return Ok(Some("no such file".to_owned()));
    }
    match is_test(&read(&path)?, test) {
        true => Ok(None),
        false => Ok(Some("the file has no test of that name".to_owned())),
    }
}

/// Whether a source has a function of this name that is marked as a test, or stands in a `proptest!`.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let begins = format!("fn {name}(");
    let found = lines.iter().position(|line| line.starts_with(&begins));
    found.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        let mut attributes =
            above.take_while(|line| line.starts_with('#') || line.starts_with("//"));
        attributes.any(|line| *line == "#[test]")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "#[test]\n#[cfg(unix)]\n/// Says why.\nfn it_holds() {\n}\n\nfn helper() {}\n";

    fn found(page: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs")).unwrap();
        std::fs::create_dir_all(root.path().join("crates/a/tests")).unwrap();
        std::fs::write(root.path().join("crates/a/tests/a.rs"), SOURCE).unwrap();
        std::fs::write(root.path().join("docs/testing.md"), page).unwrap();
        std::fs::write(root.path().join("docs/contract.md"), "# C\n").unwrap();
        check(root.path()).unwrap()
    }

    #[test]
    fn a_test_that_is_there_passes_and_other_code_is_no_test() {
        let page = "| a | `crates/a/tests/a.rs::it_holds` |\n\n`a::b` `crates/a/tests/a.rs`\n";
        assert_eq!(found(page), [""; 0]);
    }

    #[test]
    fn a_test_that_is_not_there_is_found_with_its_line() {
        assert_eq!(
            found("# T\n\n| a |\n| - |\n| `crates/a/tests/a.rs::it_fails` |\n"),
            [
                "docs/testing.md:5: `crates/a/tests/a.rs::it_fails`: the file has no test of that name"
            ]
        );
    }

    #[test]
    fn a_function_that_is_no_test_and_a_file_that_is_not_there_are_found() {
        let findings = found("`crates/a/tests/a.rs::helper` `crates/b.rs::it_holds`\n");
        assert_eq!(findings.len(), 2);
        assert!(findings[1].ends_with("no such file"));
    }
}
