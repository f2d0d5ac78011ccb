//! Compositions of layers that are watched while requests run: caches and copies, forced into every interleaving that
//! matters (C3, C9, L2 to L6).

mod caches;
mod copies;
mod lower;
mod stand;

use crate::ScriptedLayer;
use crate::Violation;
use crate::subject::Checked;
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration};
use stand::Stand;
use std::time::Duration;

/// A layer to be put into a stack, which the kit goes on to watch and to hold up.
#[derive(Debug, Clone)]
pub struct ComposedLayer {
    /// The layer.
    pub layer: ScriptedLayer,
    /// Writes to this layer also go to the one below.
    pub write_through: bool,
    /// What is read from below is kept in this layer.
    pub read_cache: bool,
}

impl From<ComposedLayer> for LayerConfiguration {
    fn from(composed: ComposedLayer) -> Self {
        Self {
            layer: DiskLayer::new(composed.layer),
            write_through: composed.write_through,
            read_cache: composed.read_cache,
        }
    }
}

/// Runs every check of this module, in an order from the plain to the intricate.
pub(crate) fn check(
    make: &impl AsyncFn(Vec<ComposedLayer>) -> Disk,
    seed: u64,
    stall_limit: Duration,
) -> Result<(), Violation> {
    let mut stand = Stand::new(make, seed, stall_limit);
    let checks: [fn(&mut Stand<'_, _>) -> Checked; 9] = [
        caches::hold_what_lies_below,
        caches::change_nothing_but_speed,
        caches::undo_nothing,
        lower::what_shrank_stays_zero,
        copies::agree_whatever_memory_does,
        copies::agree_after_unmaps,
        copies::agree_after_failures,
        copies::do_not_go_back,
        copies::agree_after_dropped_writes,
    ];
    checks.into_iter().try_for_each(|check| check(&mut stand))
}
