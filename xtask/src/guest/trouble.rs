//! Why a round of a guest did not end well: because of the disk, or because of the round itself.

/// Only the first is a find. Where a find is expected, the second is a failure all the same.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk broke a promise.
    Found(String),
    /// The round could not be run.
    Broken(String),
}

pub(crate) type Step<T = ()> = Result<T, Trouble>;

impl Trouble {
    /// Says where it was found.
    pub(crate) fn at(self, place: &str) -> Self {
        match self {
            Self::Found(what) => Self::Found(format!("at {place}: {what}")),
            broken @ Self::Broken(_) => broken,
        }
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Found(what) => what,
            Trouble::Broken(what) => format!("the round could not be run: {what}"),
        }
    }
}
