//! Links in Markdown files: whatever stays inside the checkout must lead somewhere, to the heading if one
//! is named; and every page of the book must be in its table of contents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::Fallible;
use crate::workspace::{files_below, read};

/// The book's pages, and the file that lists them.
const BOOK: &str = "docs";
const SUMMARY: &str = "docs/SUMMARY.md";

/// What other pages may care about in one file.
struct Page {
    /// Targets of links and images, with the line each is on.
    links: Vec<(usize, String)>,
    /// Names that a `#fragment` may have.
    anchors: BTreeSet<String>,
}

/// Checks every Markdown file below `root`; each finding names its file and line.
pub(crate) fn check(root: &Path) -> Fallible<Vec<String>> {
    let mut pages = BTreeMap::new();
    for file in files_below(root, ".md")? {
        pages.insert(file.clone(), Page::parse(&read(&file)?));
    }
    let mut findings = Vec::new();
    let mut linked = BTreeSet::new();
    for (file, page) in &pages {
        let name = file.strip_prefix(root).unwrap_or(file);
        for (line, link) in page.links.iter().filter(|(_, link)| !is_elsewhere(link)) {
            match follow(root, &pages, file, link) {
                Ok(target) => _ = linked.insert((name.to_owned(), target)),
                Err(why) => {
                    findings.push(format!("{}:{line}: link `{link}`: {why}", name.display()))
                }
            }
        }
    }
    findings.extend(unlisted(root, &pages, &linked));
    Ok(findings)
}

/// Pages of the book that its table of contents does not lead to.
fn unlisted<'a>(
    root: &'a Path,
    pages: &'a BTreeMap<PathBuf, Page>,
    linked: &'a BTreeSet<(PathBuf, PathBuf)>,
) -> impl Iterator<Item = String> {
    let summary = root.join(SUMMARY);
    let in_book = pages
        .keys()
        .filter(move |file| file.starts_with(root.join(BOOK)) && **file != summary);
    in_book
        .filter(|file| !linked.contains(&(SUMMARY.into(), (*file).clone())))
        .map(move |file| {
            format!(
                "{}: is not in {SUMMARY}",
                file.strip_prefix(root).unwrap_or(file).display()
            )
        })
}

/// Whether a link leads out of the checkout: to a site, or to a mailbox.
fn is_elsewhere(link: &str) -> bool {
    let scheme = link.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// The file that `link`, found in `from`, leads to; or why it leads nowhere.
fn follow(
    root: &Path,
    pages: &BTreeMap<PathBuf, Page>,
    from: &Path,
    link: &str,
) -> Fallible<PathBuf> {
    let (path, anchor) = link
        .split_once('#')
        .map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let folder = from.parent().expect("a file lies in a folder");
    let target = if path.is_empty() {
        from.to_owned()
    } else {
        normal(&folder.join(path))
    };
    if !target.starts_with(root) {
        return Err("leads out of the checkout".to_owned());
    }
    if !target.exists() {
        return Err("no such file".to_owned());
    }
    let (Some(anchor), Some(page)) = (anchor, pages.get(&target)) else {
        return Ok(target);
    };
    if page.anchors.contains(anchor) {
        return Ok(target);
    }
    let known = page
        .anchors
        .iter()
        .map(|known| format!("#{known}"))
        .collect::<Vec<_>>()
        .join(" ");
    Err(format!("no such heading; there are: {known}"))
}

/// The path without `.` and `..`, resolved by name alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
    }
    normal
}

impl Page {
    fn parse(text: &str) -> Self {
        let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES;
        // A reference that nothing defines is a broken link too, and would pass as plain text.
        let mut undefined = Vec::new();
        let parser = Parser::new_with_broken_link_callback(
            text,
            options,
            Some(|broken: pulldown_cmark::BrokenLink<'_>| {
                if broken.link_type != pulldown_cmark::LinkType::ShortcutUnknown {
                    undefined.push((broken.span.start, broken.reference.to_string()));
                }
                None
            }),
        );
        let mut page = Self {
            links: Vec::new(),
            anchors: BTreeSet::new(),
        };
        let mut heading: Option<String> = None;
        let line_at = |offset: usize| text[..offset].matches('\n').count() + 1;
        for (event, span) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line_at(span.start), dest_url.to_string()));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.add_anchor(&heading.take().unwrap_or_default())
                }
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                _ => {}
            }
        }
        page.links.extend(
            undefined
                .into_iter()
                .map(|(offset, name)| (line_at(offset), name)),
        );
        page
    }

    /// The name that renderers give a heading; a second heading of the same name gets a number.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !self.anchors.contains(name));
        self.anchors
            .insert(free.expect("there are always more numbers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a checkout with these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        check(root.path()).unwrap()
    }

    const B: (&str, &str) = ("sub/b.md", "# One `two`, three!\n\n# Twice\n\n# Twice\n");

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[file](sub/b.md) [folder](sub) [out](https://example.org/x) <mailto:a@b.c>\n\
                    [heading](sub/b.md#one-two-three) [second](sub/b.md#twice-1) [here](#below)\n\
                    [ref]\n\n# Below\n\n[ref]: ./sub/../sub/b.md\n\n```text\n[code](nowhere.md)\n```\n`[code](x.md)`\n";
        assert_eq!(found(&[("a.md", text), B]), [""; 0]);
    }

    #[test]
    fn a_link_to_nothing_is_found_with_its_line() {
        let findings = found(&[("a.md", "# A\n\nsee [x](nowhere.md)\n")]);
        assert_eq!(findings, ["a.md:3: link `nowhere.md`: no such file"]);
    }

    #[test]
    fn an_image_a_reference_and_a_link_upwards_are_links_too() {
        assert_eq!(found(&[("a.md", "![picture](a.png)\n")]).len(), 1);
        assert_eq!(found(&[("a.md", "[x][r]\n\n[r]: nowhere.md\n")]).len(), 1);
        assert_eq!(found(&[("a.md", "[x][undefined]\n")]).len(), 1);
        assert!(found(&[("a.md", "[x](../../etc/passwd)\n")])[0].contains("out of the checkout"));
    }

    #[test]
    fn a_missing_heading_is_found() {
        assert!(found(&[("a.md", "[x](#nowhere)\n")])[0].contains("no such heading"));
        assert_eq!(found(&[("a.md", "[x](sub/b.md#twice-2)\n"), B]).len(), 1);
    }

    #[test]
    fn a_page_outside_the_table_of_contents_is_found() {
        let summary = ("docs/SUMMARY.md", "# Summary\n\n- [A](a.md)\n");
        let (a, b) = (("docs/a.md", "# A\n"), ("docs/b.md", "# B\n"));
        assert_eq!(found(&[summary, a]), [""; 0]);
        assert_eq!(
            found(&[summary, a, b]),
            ["docs/b.md: is not in docs/SUMMARY.md"]
        );
    }
}
