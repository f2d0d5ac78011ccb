//! Stacks of layers, written down: what the kit generates, describes, and builds.

mod build;
mod illegal;
mod legal;

pub use illegal::{IllegalStack, StackFault};

use disk_backend::UnmapBehavior;
use std::fmt;

/// A stack of layers, top first, as it can be built by [`build`](Self::build).
///
/// Its [`Display`](fmt::Display) is short, and stands in the report of a [`Violation`](crate::Violation).
#[derive(Debug, Clone)]
pub struct StackRecipe {
    /// Whether the disk refuses changes.
    pub is_read_only: bool,
    /// Each request of each layer returns `Pending` so often before it begins, and when it is done.
    pub stutter: u32,
    /// The layers, top first.
    pub layers: Vec<LayerRecipe>,
}

/// A layer of a [`StackRecipe`].
#[derive(Debug, Clone)]
pub struct LayerRecipe {
    /// What it is.
    pub kind: LayerKind,
    /// Its size in sectors.
    pub sector_count: u64,
    /// As [`LayerConfiguration::write_through`](disk_layered::LayerConfiguration::write_through).
    pub write_through: bool,
    /// As [`LayerConfiguration::read_cache`](disk_layered::LayerConfiguration::read_cache).
    pub read_cache: bool,
}

/// What a layer of a [`StackRecipe`] is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LayerKind {
    /// Made by whoever builds the stack: the layer under test.
    Own,
    /// A [`ReferenceLayer`](crate::ReferenceLayer).
    Reference(UnmapBehavior),
    /// A [`PlainLayer`](crate::PlainLayer).
    Plain(UnmapBehavior),
    /// A disk, plain or not, that may refuse changes.
    Disk {
        /// What it does with unmaps.
        unmap_behavior: UnmapBehavior,
        /// Whether only the methods that it must have are its own.
        is_plain: bool,
        /// Whether it refuses changes.
        is_read_only: bool,
    },
    /// Layers of their own, as a disk.
    Nested(StackRecipe),
    /// Something that makes the stack illegal.
    Broken(Breakage),
}

/// What can be wrong with a layer, wherever it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breakage {
    /// Its sectors have so many bytes.
    SectorSize(u32),
    /// It cannot become a layer.
    DoesNotAttach,
    /// It refuses changes.
    LogicallyReadOnly,
}

impl StackRecipe {
    /// How many layers from the top on write through; as many and one more take each write.
    pub fn through_count(&self) -> usize {
        let through = self.layers.iter().take_while(|layer| layer.write_through);
        through.count()
    }
}

impl LayerKind {
    /// Whether each of its sectors is there, so that it hides all that is below.
    fn is_disk(&self) -> bool {
        matches!(self, Self::Disk { .. } | Self::Nested(_))
    }
}

impl fmt::Display for StackRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read_only = if self.is_read_only { "read-only " } else { "" };
        write!(f, "{read_only}[")?;
        for (index, layer) in self.layers.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{layer}")?;
        }
        write!(f, "]")?;
        match self.stutter {
            0 => Ok(()),
            polls => write!(f, " stuttering {polls}"),
        }
    }
}

impl fmt::Display for LayerRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            LayerKind::Own => write!(f, "own")?,
            LayerKind::Reference(behavior) => write!(f, "reference({behavior:?})")?,
            LayerKind::Plain(behavior) => write!(f, "plain({behavior:?})")?,
            LayerKind::Disk {
                unmap_behavior,
                is_plain,
                is_read_only,
            } => {
                let plain = if *is_plain { "plain " } else { "" };
                let read_only = if *is_read_only { ", read-only" } else { "" };
                write!(f, "{plain}disk({unmap_behavior:?}{read_only})")?;
            }
            LayerKind::Nested(stack) => write!(f, "{stack}")?,
            LayerKind::Broken(breakage) => write!(f, "broken({breakage:?})")?,
        }
        write!(f, " of {}", self.sector_count)?;
        if self.write_through {
            write!(f, " +write_through")?;
        }
        if self.read_cache {
            write!(f, " +read_cache")?;
        }
        Ok(())
    }
}
