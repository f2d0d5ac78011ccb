//! Unsafe code lives in few crates. The workspace denies it; this rule sees who lifts that.

/// The crates that may lift the ban, each for a reason that stands at the top of its `lib.rs`.
const MAY_BE_UNSAFE: &[&str] = &["guestmem", "posio", "scsi_buffers", "uring"];

/// Attributes that make a denied lint less than denied.
const LIFTING: &[&str] = &["allow(", "expect(", "warn("];

/// Each place where a source file of crate `name` lifts the ban without being listed: its line, and why
/// that is wrong.
pub(crate) fn check(name: &str, source: &str) -> impl Iterator<Item = String> + use<> {
    let lines = if MAY_BE_UNSAFE.contains(&name) {
        Vec::new()
    } else {
        lifting_lines(source)
    };
    let listed = MAY_BE_UNSAFE.join(", ");
    lines.into_iter().map(move |line| {
        format!(
            "{line}: lifts the ban on unsafe code, which only {listed} may (use what they offer)"
        )
    })
}

/// Numbers of the lines with an attribute that lifts the ban, also where it is spread over lines.
fn lifting_lines(source: &str) -> Vec<usize> {
    let code = without_comments(source);
    let mut lines = Vec::new();
    for (at, word) in code.match_indices("unsafe_code") {
        let before = &code[..at];
        let lifted = LIFTING.iter().any(|level| {
            let opened = before
                .rfind(level)
                .map(|start| &before[start + level.len()..]);
            opened.is_some_and(|between| !between.contains([')', ']', ';', '"']))
        });
        let is_whole_word =
            !code[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if lifted && is_whole_word {
            lines.push(before.matches('\n').count() + 1);
        }
    }
    lines
}

/// The source with its line comments blanked, lines kept.
fn without_comments(source: &str) -> String {
    let blanked = source
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    blanked.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, source: &str) -> Vec<String> {
        check(name, source).collect()
    }

    /// Written with a gap, so that the rule does not find its own tests.
    fn planted(source: &str) -> String {
        source.replace("LINT", concat!("unsafe", "_code"))
    }

    #[test]
    fn a_lifted_ban_is_found_in_every_spelling() {
        for source in [
            "#![allow(LINT)]",
            "#[expect(LINT, reason = \"fast\")]",
            "#[allow(dead_code, LINT)]",
            "#[cfg_attr(test, allow(LINT))]",
            "#![warn(LINT)]",
            "#[allow(\n    LINT,\n)]",
        ] {
            assert_eq!(found("disk_file", &planted(source)).len(), 1, "{source}");
        }
    }

    #[test]
    fn the_line_is_named() {
        let source = planted("fn a() {}\n\n#[allow(LINT)]\nfn b() {}\n");
        assert!(found("disk_file", &source)[0].starts_with("3: "));
    }

    #[test]
    fn the_listed_crates_may() {
        assert_eq!(found("guestmem", &planted("#![allow(LINT)]")), [""; 0]);
    }

    #[test]
    fn holding_the_ban_or_writing_about_it_is_no_finding() {
        for source in [
            "#![forbid(LINT)]",
            "#![deny(LINT)]",
            "// never allow(LINT) here",
            "#[allow(LINT_x)]",
        ] {
            assert_eq!(found("disk_file", &planted(source)), [""; 0], "{source}");
        }
    }
}
