//! Why a rule was refused.

use resource::JsonPath;

/// Why a rule was refused, or could not be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The rule makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no rule of that id.
    #[error("there is no rule {id}; there are: {known}")]
    Unknown {
        /// The id.
        id: u64,
        /// The ids that there are, for people.
        known: String,
    },
    /// A disk takes no more rules.
    #[error(
        "a fault disk has at most {max} rules: remove one, or put a second fault disk on this one"
    )]
    TooMany {
        /// The limit: [`RULES_MAX`](crate::RULES_MAX).
        max: usize,
    },
}

/// What is wrong in a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", prefix(.path))]
#[non_exhaustive]
pub struct Invalid {
    /// Where, from the rule on: `operations[1]`; with the rule in front, `rules[0].operations[1]`, if it is one of a list.
    pub path: JsonPath,
    /// What, and what to do.
    pub message: String,
}

fn prefix(path: &JsonPath) -> String {
    match path.is_root() {
        true => String::new(),
        false => format!("{path}: "),
    }
}

impl Invalid {
    pub(crate) fn new(path: JsonPath, message: impl Into<String>) -> Self {
        Self {
            path,
            message: message.into(),
        }
    }
}
