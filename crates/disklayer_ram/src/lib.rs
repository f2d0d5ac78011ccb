//! A layer, or a whole disk, in memory.
