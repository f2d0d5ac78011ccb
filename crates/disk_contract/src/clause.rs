//! The clauses of the contract that the kit can find broken.

use std::fmt;

/// A clause of the contract, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clause {
    /// Range: what lies inside the disk is served, what does not is refused with the right error, and nothing is transferred.
    C1,
    /// Linearizable sectors: what a completed request wrote is what later requests read.
    C2,
    /// Fetched once: memory that changes during a request makes no two copies differ, and puts nothing wrong into a cache.
    C3,
    /// Progress: a request completes when nothing but its own future is polled, whatever has become of others.
    C4,
    /// Flush: a flush of a healthy disk succeeds, and what completed before it survives a crash.
    C5,
    /// FUA: a completed FUA write survives a crash by itself.
    C6,
    /// Unmap: it does to each sector what the disk says it does, for good.
    C7,
    /// Failure: after an error each sector holds its old or its new content, for good.
    C8,
    /// Cancellation: the operation of a dropped future happens or not, and never after a later overlapping request.
    C9,
    /// Resize: sectors that are added read zero; whoever waits for another size learns of it.
    C10,
    /// Crash: each sector holds what was promised to be durable or came later, and keeps it.
    C11,
    /// Status: what is said to be zero or a hole reads zero; an answer covers what was asked for from its beginning.
    C12,
    /// Layers: a sector comes from the topmost layer that has it; absent from all, it is zero.
    L1,
    /// Layers: filling a cache undoes nothing that came after its read.
    L2,
    /// Layers: no unmap uncovers what a lower layer holds. C7 is broken with it.
    L3,
    /// Layers: after an error of a layer that is written through, nothing older shows, and no copy is stale.
    L4,
    /// Layers: what a lower layer has lost reads zero until it is written.
    L5,
    /// Layers: without its caches a stack reads the same.
    L6,
}

impl Clause {
    /// What the clause is about, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::C1 => "range and order of errors",
            Self::C2 => "linearizable sectors",
            Self::C3 => "fetched once",
            Self::C4 => "progress",
            Self::C5 => "flush",
            Self::C6 => "FUA",
            Self::C7 => "unmap",
            Self::C8 => "failure",
            Self::C9 => "cancellation",
            Self::C10 => "resize",
            Self::C11 => "crash",
            Self::C12 => "block status",
            Self::L1 => "the topmost layer answers",
            Self::L2 => "filling a cache",
            Self::L3 => "no unmap uncovers a lower layer",
            Self::L4 => "write-through",
            Self::L5 => "layers that shrank",
            Self::L6 => "hints",
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.title())
    }
}
