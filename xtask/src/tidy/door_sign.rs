//! The door sign: each library and binary begins with a short text that says what it is; a library's has
//! an example that the compiler has seen.

/// The longest door sign, in lines: more than one screen is not read.
const LINE_COUNT_MAX: usize = 40;

/// What a fence may say and still be compiled. Anything else (`ignore`, `text`, `json`) is not.
const COMPILED: &[&str] = &["", "rust", "no_run", "should_panic"];

/// Checks the text of a crate's first file; the error says what is wrong with it.
pub(crate) fn check(source: &str, needs_example: bool) -> Result<(), String> {
    let sign: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .collect();
    if sign.is_empty() {
        return Err(
            "has no door sign: begin the file with `//!` lines that say what the crate is".into(),
        );
    }
    if sign.len() > LINE_COUNT_MAX {
        let count = sign.len();
        return Err(format!(
            "the door sign has {count} lines; it may have {LINE_COUNT_MAX}"
        ));
    }
    if needs_example && !has_compiled_example(&sign) {
        return Err("the door sign has no example that is compiled: add a short fenced one".into());
    }
    Ok(())
}

fn has_compiled_example(sign: &[&str]) -> bool {
    let mut fences = sign
        .iter()
        .filter_map(|line| line.trim().strip_prefix("```"));
    // Fences come in pairs; only the one that opens says what is inside.
    while let Some(opening) = fences.next() {
        let is_compiled = |word: &str| COMPILED.contains(&word.trim());
        let is_closed = fences.next().is_some();
        if is_closed && opening.split(',').all(is_compiled) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! A shelf.\n//!\n//! ```\n//! let shelf = 1;\n//! ```\nfn f() {}\n";

    fn with_fence(fence: &str) -> String {
        GOOD.replacen("```", &format!("```{fence}"), 1)
    }

    #[test]
    fn a_sign_with_an_example_passes() {
        assert_eq!(check(GOOD, true), Ok(()));
        assert_eq!(check(&with_fence("rust,no_run"), true), Ok(()));
    }

    #[test]
    fn a_missing_sign_is_found() {
        assert!(
            check("#![allow(missing_docs)]\n//! Late.\n", false)
                .unwrap_err()
                .contains("no door sign")
        );
        assert!(check("", false).is_err());
        assert!(check("\n//! After a blank line.\n", false).is_err());
    }

    #[test]
    fn a_sign_of_more_than_forty_lines_is_found() {
        let sign = |count| "//! line\n".repeat(count);
        assert_eq!(check(&sign(40), false), Ok(()));
        assert!(check(&sign(41), false).unwrap_err().contains("41 lines"));
    }

    #[test]
    fn an_example_that_nobody_compiles_is_none() {
        for fence in ["ignore", "text", "rust,ignore", "json", "compile_fail"] {
            assert!(
                check(&with_fence(fence), true)
                    .unwrap_err()
                    .contains("no example"),
                "{fence}"
            );
        }
        assert!(check("//! Only words.\n", true).is_err());
        assert!(check("//! ```\n//! never closed\n", true).is_err());
    }

    #[test]
    fn a_closing_fence_is_not_taken_for_an_opening_one() {
        assert!(
            check(
                "//! ```text\n//! a\n//! ```\n//! b\n//! ```text\n//! c\n//! ```\n",
                true
            )
            .is_err()
        );
    }

    #[test]
    fn a_binary_needs_no_example() {
        assert_eq!(check("//! Only words.\n", false), Ok(()));
    }
}
