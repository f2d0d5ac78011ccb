//! What can go wrong when a part is asked for.

use crate::path::list_names;
use std::fmt;

/// Why a value could not be read or changed, as its owner puts it.
pub type Reason = Box<dyn std::error::Error + Send + Sync>;

/// Why [`inspect`](crate::inspect()) or [`update`](crate::update) failed. Paths are as described for the crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such part.
    #[error("{path:?}: {}", describe_missing(.missing, .nearest, .names, *.names_left_off_count))]
    NotFound {
        /// The path that was asked for.
        path: String,
        /// The part of it that exists (empty: the object itself).
        nearest: String,
        /// The name that does not exist there.
        missing: String,
        /// Names that exist there, in the object's order; none if `nearest` is a single value.
        names: Vec<String>,
        /// How many more there are.
        names_left_off_count: usize,
    },
    /// The part exists, but was not made to be changed.
    #[error("{path:?} can be read but not changed")]
    NotMutable {
        /// The path that was asked for.
        path: String,
    },
    /// The part refused the new value, and keeps the old one unless the reason says otherwise.
    #[error("{path:?} was not changed to {value:?}: {reason}")]
    Update {
        /// The path that was asked for.
        path: String,
        /// The text that was refused.
        value: String,
        /// Why, from the owner of the value.
        #[source]
        reason: Reason,
    },
    /// The part that was asked for failed to read.
    #[error("{path:?} cannot be read: {reason}")]
    Read {
        /// The path that was asked for.
        path: String,
        /// Why, from the owner of the value.
        #[source]
        reason: Reason,
    },
    /// The path has more names than any tree has levels.
    #[error("the path has more than {levels_max} names; no part lies that deep")]
    TooDeep {
        /// The path that was asked for.
        path: String,
        /// The limit: [`LEVELS_MAX`](crate::LEVELS_MAX).
        levels_max: usize,
    },
}

fn describe_missing(
    missing: &str,
    nearest: &str,
    names: &[String],
    names_left_off_count: usize,
) -> impl fmt::Display {
    let place = match nearest {
        "" => "the object".to_owned(),
        nearest => format!("{nearest:?}"),
    };
    if names.is_empty() {
        return format!("{place} has no parts, so no {missing:?}");
    }
    let names = list_names(names);
    match names_left_off_count {
        0 => format!("{place} has no {missing:?}; it has: {names}"),
        count => format!("{place} has no {missing:?}; it has: {names} and {count} more"),
    }
}
