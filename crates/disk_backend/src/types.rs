//! What a disk says of itself besides its size.

/// What a sector reads after it was unmapped (C7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, inspect::Inspect)]
pub enum UnmapBehavior {
    /// Its old content or zero; whichever it is stays until the sector is written.
    Unspecified,
    /// Its old content: unmapping does nothing.
    Ignored,
    /// Zero, from the unmap's completion until the sector is written.
    Zeroes,
}

/// Whether what a disk acknowledged and flushed outlives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, inspect::Inspect)]
pub enum Persistence {
    /// Everything is gone after a crash or a restart; a flush promises nothing.
    Volatile,
    /// C5, C6 and C11 hold.
    Persistent,
}
