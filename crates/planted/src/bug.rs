//! The mistakes, by name.

use std::fmt;
use std::str::FromStr;

/// Declares the bugs once, with their names.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// A mistake that the stack can be made to make.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// Every bug there is.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)*];

            /// Its name, in words joined by hyphens: what [`FromStr`] reads.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// A cache fill overwrites what was written since its read began (L2).
    CacheFillOverNewerWrite = "cache-fill-over-newer-write",
    /// A cache fill takes an explicit zero for an absent sector, and revives what was unmapped since its read began (L2).
    CacheFillAfterUnmap = "cache-fill-after-unmap",
    /// A layer forgets that a resize cut sectors off: when it has them again, they show what lies below (C10, L5).
    LostResize = "lost-resize",
    /// The first sector of a write is stored in two halves, between which others run (C2).
    TornSector = "torn-sector",
    /// A flush of a stack leaves out the lowest layer that takes writes (C5).
    FlushSkipsALayer = "flush-skips-a-layer",
    /// A write-through that failed below leaves its copies above (L4).
    DivergenceAfterError = "divergence-after-error",
    /// A write-through whose future is dropped stops half-way (C9, L4).
    DivergenceAfterDrop = "divergence-after-drop",
    /// A write-through reads the caller's memory anew for each layer (C3). Memory that cannot be pinned is copied even so.
    FetchedTwice = "fetched-twice",
    /// A read goes on to the next layer when one fails (L1).
    WrongLayerAfterError = "wrong-layer-after-error",
    /// An unmap makes sectors absent above layers that hold something (C7, L3).
    UnmapUncovers = "unmap-uncovers",
    /// The end of a request's range wraps around, and passes for one inside the disk (C1).
    RangeOverflow = "range-overflow",
    /// The wish for a durable write is lost on its way (C6).
    FuaNotHonoured = "fua-not-honoured",
    /// Who waits for another request's operation does not help to finish it (C4).
    WaitsForAnotherCaller = "waits-for-another-caller",
    /// A stack goes on leaving out a layer that had nothing of a region, after it was written there (L1).
    StaleIndex = "stale-index",
    /// A durable layer puts on record that a sector is there before its data is durable (C11).
    RecordBeforeData = "record-before-data",
    /// A durable layer takes a record for durable that was never flushed (C5).
    MissingFlush = "missing-flush",
    /// A durable layer believes what a crash left without looking at checksums (C11).
    ChecksumNotChecked = "checksum-not-checked",
    /// A durable layer writes both of its superblocks at once, so that a crash can tear both (C11).
    TornSuperblock = "torn-superblock",
    /// A durable layer writes over data while a record still vouches for what was there (C11).
    OverwriteBeforeMark = "overwrite-before-mark",
    /// A durable layer's flush leaves a copy of data in the log that is older than what it flushed (C5).
    StaleCopy = "stale-copy",
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no bug of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBug(String);

impl fmt::Display for UnknownBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no bug is called {:?}; there are:", self.0)?;
        Bug::ALL.iter().try_for_each(|bug| write!(f, " {bug}"))
    }
}

impl std::error::Error for UnknownBug {}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        let bug = Self::ALL.iter().find(|bug| bug.name() == name);
        bug.copied().ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_found_by_its_name() {
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(*bug));
            assert_eq!(bug.to_string(), bug.name());
        }
    }

    #[test]
    fn a_name_is_the_variant_in_kebab_case() {
        for bug in Bug::ALL {
            let joined: String = bug.name().split('-').collect();
            assert_eq!(joined, format!("{bug:?}").to_lowercase());
        }
    }

    #[test]
    fn a_name_that_no_bug_has_is_answered_with_those_there_are() {
        let error = "torn_sector".parse::<Bug>().unwrap_err().to_string();
        assert!(error.starts_with("no bug is called \"torn_sector\"; there are: cache-fill-"));
        assert!(error.contains(" torn-sector "), "{error}");
    }
}
