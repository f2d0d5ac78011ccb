//! Code that a page shows: a fenced block after `<!-- from PATH -->` must stand in that file, word for word, so that what
//! is read is what is compiled and run.

use std::path::Path;

use crate::Fallible;
use crate::workspace::{files_below, read};

const OPENING: &str = "<!-- from ";
const CLOSING: &str = " -->";
const FENCE: &str = "```";

/// Checks every Markdown file below `root`; each finding names its file and line.
pub(crate) fn check(root: &Path) -> Fallible<Vec<String>> {
    let mut findings = Vec::new();
    for file in files_below(root, ".md")? {
        let name = file.strip_prefix(root).unwrap_or(&file).display();
        for (line, excerpt) in excerpts(&read(&file)?) {
            let problem = excerpt.and_then(|excerpt| excerpt.verify(root));
            findings.extend(problem.err().map(|why| format!("{name}:{line}: {why}")));
        }
    }
    Ok(findings)
}

/// A block, and the file that it is taken from.
#[derive(Debug, PartialEq, Eq)]
struct Excerpt {
    path: String,
    /// Whole lines.
    text: String,
}

/// The excerpts of a page, each with the number of the line that announces it.
fn excerpts(page: &str) -> Vec<(usize, Fallible<Excerpt>)> {
    let mut lines = page.lines().zip(1..);
    let mut found = Vec::new();
    while let Some((line, number)) = lines.next() {
        let announced = line.strip_prefix(OPENING);
        let Some(path) = announced.and_then(|rest| rest.strip_suffix(CLOSING)) else {
            continue;
        };
        let mut rest = lines.by_ref().map(|(line, _)| line);
        let opened = rest.find(|line| !line.is_empty());
        if !opened.is_some_and(|line| line.starts_with(FENCE)) {
            found.push((number, Err("no block follows".to_owned())));
            continue;
        }
        let block: Vec<_> = rest.take_while(|line| *line != FENCE).collect();
        let text = block.join("\n") + "\n";
        let path = path.to_owned();
        found.push((number, Ok(Excerpt { path, text })));
    }
    found
}

impl Excerpt {
    fn verify(&self, root: &Path) -> Fallible {
        let source = read(&root.join(&self.path))?;
        self.compare(&source)
    }

    fn compare(&self, source: &str) -> Fallible {
        // Whole lines: the block begins where a line begins.
        let (source, text) = (format!("\n{source}"), format!("\n{}", self.text));
        if self.text.trim().is_empty() || !source.contains(&text) {
            let path = &self.path;
            return Err(format!("the block is not in {path} as it stands here"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n<!-- from a.rs -->\n\n```rust\nfn f() {\n    g()\n}\n```\n\n```rust\nother\n```\n";

    fn only(page: &str) -> Excerpt {
        let mut found = excerpts(page);
        assert_eq!(found.len(), 1);
        found.remove(0).1.unwrap()
    }

    #[test]
    fn an_announced_block_is_an_excerpt_and_no_other_is() {
        let excerpt = only(PAGE);
        assert_eq!(excerpt.path, "a.rs");
        assert_eq!(excerpt.text, "fn f() {\n    g()\n}\n");
        assert_eq!(excerpts(PAGE)[0].0, 3);
    }

    #[test]
    fn what_stands_in_the_file_passes() {
        let excerpt = only(PAGE);
        assert_eq!(excerpt.compare("fn f() {\n    g()\n}\n"), Ok(()));
        assert_eq!(
            excerpt.compare("use g;\nfn f() {\n    g()\n}\n\nfn h() {}\n"),
            Ok(())
        );
    }

    #[test]
    fn what_differs_is_found() {
        let excerpt = only(PAGE);
        for source in [
            "",
            "fn f() {\n    h()\n}\n",
            "pub fn f() {\n    g()\n}\n",
            "fn f() {\n    g()\n} // more\n",
        ] {
            assert!(excerpt.compare(source).is_err(), "{source}");
        }
    }

    #[test]
    fn an_empty_block_and_a_missing_one_are_found() {
        let empty = only("<!-- from a.rs -->\n```\n```\n");
        assert!(empty.compare("\n\n").is_err());
        let missing = excerpts("<!-- from a.rs -->\nWords.\n");
        assert!(missing[0].1.is_err());
        assert!(excerpts("<!-- from a.rs -->")[0].1.is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("page.md"), PAGE).unwrap();
        let findings = check(root.path()).unwrap();
        assert!(
            findings[0].starts_with("page.md:3: cannot read"),
            "{findings:?}"
        );
        std::fs::write(root.path().join("a.rs"), "fn f() {\n    g()\n}\n").unwrap();
        assert_eq!(check(root.path()).unwrap(), [""; 0]);
    }
}
