//! Paths: names joined by `/`, with the two escapes of a JSON pointer.

use crate::error::InspectError;
use crate::request::LEVELS_MAX;
use std::fmt::Write;

/// Splits `path` into unescaped names. A `/` in front or at the end is ignored; other empty names are names.
pub(crate) fn parse(path: &str) -> Result<Vec<String>, InspectError> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.split('/').nth(LEVELS_MAX).is_some() {
        return Err(InspectError::TooDeep {
            path: path.to_owned(),
            levels_max: LEVELS_MAX,
        });
    }
    Ok(inner.split('/').map(unescape).collect())
}

/// The inverse of [`parse`].
pub(crate) fn join(names: &[String]) -> String {
    let mut path = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            path.push('/');
        }
        escape_into(&mut path, name);
    }
    // Written back as it stands, an empty name at either end would be lost.
    if names.first().is_some_and(String::is_empty) {
        path.insert(0, '/');
    }
    if names.last().is_some_and(String::is_empty) {
        path.push('/');
    }
    path
}

fn escape_into(path: &mut String, name: &str) {
    for c in name.chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            c => path.push(c),
        }
    }
}

fn unescape(name: &str) -> String {
    // In this order: `~01` is the two characters `~1`.
    name.replace("~1", "/").replace("~0", "~")
}

/// Names for a message, separated by commas, control characters escaped.
pub(crate) fn list_names(names: &[String]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        if name.is_empty() {
            text.push_str("\"\"");
        } else {
            write!(text, "{}", name.escape_debug()).expect("a String takes all text");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_each_end_is_ignored() {
        for path in ["a/b", "/a/b", "a/b/", "/a/b/"] {
            assert_eq!(parse(path).unwrap(), ["a", "b"], "{path}");
        }
        for path in ["", "/"] {
            assert!(parse(path).unwrap().is_empty(), "{path}");
        }
    }

    #[test]
    fn escapes_and_empty_names_survive_a_round_trip() {
        for names in [
            &["a/b", "c~d", "~1"][..],
            &["", "size"],
            &["exports", ""],
            &[""],
            &["", ""],
            &["exports", "", "size"],
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(parse(&join(&names)).unwrap(), names, "{}", join(&names));
        }
    }

    #[test]
    fn a_path_with_too_many_names_is_refused_before_it_is_split() {
        assert!(parse(&vec!["a"; LEVELS_MAX].join("/")).is_ok());
        let error = parse(&vec!["a"; LEVELS_MAX + 1].join("/")).unwrap_err();
        assert!(matches!(error, InspectError::TooDeep { .. }), "{error}");
    }
}
