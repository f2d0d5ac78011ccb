//! Why a description was refused, or what it describes could not be built.

use crate::handle::Failure;
use crate::locate::line_of;
use crate::path::JsonPath;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// A failure, with the place in the JSON document that caused it.
///
/// The text is complete: path, reason, causes, and what to do. Do not print the sources as well.
#[derive(Debug)]
pub struct ResolveError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: JsonPath,
    problem: Problem,
}

/// What is wrong at the place that a [`ResolveError`] names.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The text is no JSON, or has a key twice in one object.
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// The key `type` names no known type. The path ends with the key.
    UnknownType {
        /// The kind of thing that was expected.
        kind: &'static str,
        /// The type that was asked for.
        id: String,
        /// The type that was probably meant.
        suggestion: Option<&'static str>,
        /// Every type of that kind, sorted.
        known: Vec<&'static str>,
        /// The other kind that has such a type, and what to write instead.
        other_kind: Option<OtherKind>,
    },
    /// A key that nothing reads. The path ends with the key.
    UnknownField {
        /// The key that was probably meant.
        suggestion: Option<String>,
        /// Every key allowed there.
        known: Vec<String>,
    },
    /// A key without which there is nothing to build. The path ends with the key.
    MissingField,
    /// A value that cannot be.
    BadValue {
        /// What was expected instead.
        message: String,
    },
    /// Descriptions inside of descriptions, too many levels deep.
    TooDeep {
        /// The limit.
        levels_max: usize,
    },
    /// The description is good, but the thing could not be built.
    Failed {
        /// The cause, as the handle's code returned it.
        source: Failure,
    },
}

/// The kind that an id belongs to, when another kind was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherKind {
    /// The kind that has a type of that name.
    pub kind: &'static str,
    /// What to write instead, if someone said so.
    pub hint: Option<&'static str>,
}

impl ResolveError {
    /// An error at `path`.
    pub fn new(path: JsonPath, problem: Problem) -> Self {
        Self {
            inner: Box::new(Inner { path, problem }),
        }
    }

    /// A [`Problem::BadValue`] at `path`.
    pub fn bad_value(path: JsonPath, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(path, Problem::BadValue { message })
    }

    /// The place in the document.
    pub fn path(&self) -> &JsonPath {
        &self.inner.path
    }

    /// What is wrong there.
    pub fn problem(&self) -> &Problem {
        &self.inner.problem
    }

    /// The message for someone who edits the document: `disk.json:7: layers[1].disk.pth: unknown key ...`.
    ///
    /// `name` is what the user calls the document, `text` its content. Without a line, because the path does not lie in
    /// `text`, the name alone comes first.
    pub fn located(&self, name: &str, text: &str) -> String {
        let line = match self.problem() {
            Problem::Syntax { line, .. } => Some(*line),
            _ => line_of(text, self.path()),
        };
        match line {
            Some(line) => format!("{name}:{line}: {self}"),
            None => format!("{name}: {self}"),
        }
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path().is_root() {
            write!(f, "{}: ", self.path())?;
        }
        self.problem().fmt(f)
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.problem() {
            Problem::Failed { source } => Some(&**source),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Syntax {
                column, message, ..
            } => write!(f, "{message} (column {column})"),
            Problem::UnknownType {
                kind,
                id,
                suggestion,
                known,
                other_kind,
            } => unknown_type(f, kind, id, *suggestion, known, other_kind.as_ref()),
            Problem::UnknownField { suggestion, known } => {
                f.write_str("unknown key")?;
                suggest(f, suggestion.as_deref(), known, "the keys here are")
            }
            Problem::MissingField => f.write_str("this key is missing"),
            Problem::BadValue { message } => f.write_str(&printable(message)),
            Problem::TooDeep { levels_max } => write!(
                f,
                "descriptions may contain each other at most {levels_max} levels deep"
            ),
            Problem::Failed { source } => chain(f, &**source),
        }
    }
}

fn unknown_type(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    id: &str,
    suggestion: Option<&str>,
    known: &[&str],
    other_kind: Option<&OtherKind>,
) -> fmt::Result {
    let id = shortened(id);
    if let Some(other) = other_kind {
        write!(f, "{id:?} is a type of {}, not of {kind}", other.kind)?;
        if let Some(hint) = other.hint {
            write!(f, "; {hint}")?;
        }
        return Ok(());
    }
    write!(f, "unknown type of {kind} {id:?}")?;
    suggest(f, suggestion, known, "there are")
}

fn suggest(
    f: &mut fmt::Formatter<'_>,
    suggestion: Option<&str>,
    known: &[impl AsRef<str>],
    introduction: &str,
) -> fmt::Result {
    if let Some(suggestion) = suggestion {
        return write!(f, "; did you mean {suggestion:?}?");
    }
    if known.is_empty() {
        return write!(f, "; {introduction} none");
    }
    write!(f, "; {introduction}: ")?;
    for (index, name) in known.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{}", name.as_ref())?;
    }
    Ok(())
}

/// The error and its causes, each once: many errors repeat their cause in their own text.
fn chain(f: &mut fmt::Formatter<'_>, error: &(dyn Error + 'static)) -> fmt::Result {
    let mut text = error.to_string();
    f.write_str(&printable(&text))?;
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            write!(f, ": {}", printable(&cause_text))?;
            text = cause_text;
        }
        next = cause.source();
    }
    Ok(())
}

/// The text with control characters escaped: what a handle says may repeat a path from the document, and the message has to
/// stay one line that does nothing to a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escaped = text.chars().map(|c| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    });
    escaped.collect::<String>().into()
}

/// Text from outside, cut to a length that fits into a message.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const LEN_MAX: usize = 80;
    if text.len() <= LEN_MAX {
        return text.into();
    }
    let end = (0..=LEN_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}...", &text[..end]).into()
}
