//! Every legal mix of layers.

use super::{LayerKind, LayerRecipe, StackRecipe};
use disk_backend::UnmapBehavior;
use fastrand::Rng;

/// How deep disks are nested in the layers of others.
const NESTING_MAX: u32 = 2;

/// The layers of a nested stack.
const NESTED_LAYERS_MAX: usize = 3;

impl StackRecipe {
    /// A random legal stack of `layer_count` layers that makes a disk of `sector_count` sectors; the same for the same `seed`.
    ///
    /// There are read caches wherever one may be, layers from the top on that write through, layers of all kinds, shorter and
    /// longer than the disk, and disks and stacks as layers.
    pub fn legal(layer_count: usize, sector_count: u64, is_read_only: bool, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut stack = random(
            &mut rng,
            layer_count,
            sector_count,
            is_read_only,
            NESTING_MAX,
        );
        stack.stutter = [0, 0, 1, 2][rng.usize(0..4)];
        stack
    }

    /// The same without read caches and without writing through.
    #[must_use]
    pub fn without_copies(mut self) -> Self {
        for layer in &mut self.layers {
            layer.read_cache = false;
            layer.write_through = false;
            if let LayerKind::Nested(stack) = &mut layer.kind {
                *stack = stack.clone().without_copies();
            }
        }
        self
    }
}

fn random(
    rng: &mut Rng,
    layer_count: usize,
    sector_count: u64,
    is_read_only: bool,
    nesting: u32,
) -> StackRecipe {
    let through_count = match rng.u8(0..3) {
        0 => rng.usize(0..layer_count),
        _ => 0,
    };
    let layers = (0..layer_count).map(|index| {
        let is_bottom = index + 1 == layer_count;
        let takes_writes = index <= through_count;
        let kind = kind(rng, is_bottom, takes_writes && !is_read_only, nesting);
        LayerRecipe {
            sector_count: size(rng, sector_count, index, takes_writes),
            write_through: index < through_count,
            read_cache: kind.can_be_filled() && rng.u8(0..3) == 0,
            kind,
        }
    });
    let mut layers: Vec<_> = layers.collect();
    for layer in &mut layers {
        if let LayerKind::Nested(stack) = &mut layer.kind {
            let layer_count = rng.usize(1..=NESTED_LAYERS_MAX);
            let is_read_only = stack.is_read_only;
            *stack = random(
                rng,
                layer_count,
                layer.sector_count,
                is_read_only,
                nesting - 1,
            );
        }
    }
    StackRecipe {
        is_read_only,
        stutter: 0,
        layers,
    }
}

/// The top has the size of the disk, and what is written through to has at least that.
fn size(rng: &mut Rng, sector_count: u64, index: usize, takes_writes: bool) -> u64 {
    match (index, rng.u8(0..4)) {
        (0, _) | (_, 0) => sector_count,
        (_, 1) => sector_count + rng.u64(1..=sector_count),
        _ if takes_writes => sector_count,
        _ => rng.u64(1..=sector_count),
    }
}

/// Disks stand at the bottom more often than in between, where they hide all that follows.
fn kind(rng: &mut Rng, is_bottom: bool, is_written: bool, nesting: u32) -> LayerKind {
    let behaviors = [
        UnmapBehavior::Zeroes,
        UnmapBehavior::Ignored,
        UnmapBehavior::Unspecified,
    ];
    let unmap_behavior = behaviors[rng.usize(0..3)];
    let is_read_only = !is_written && rng.bool();
    let disk_odds = if is_bottom { 2 } else { 10 };
    if rng.u8(0..disk_odds) == 0 {
        if nesting > 0 && rng.u8(0..3) == 0 {
            // What it is made of is settled once its size is known.
            return LayerKind::Nested(StackRecipe {
                is_read_only,
                stutter: 0,
                layers: Vec::new(),
            });
        }
        return LayerKind::Disk {
            unmap_behavior,
            is_plain: rng.u8(0..3) == 0,
            is_read_only,
        };
    }
    match rng.u8(0..6) {
        0..3 => LayerKind::Own,
        3 | 4 => LayerKind::Reference(unmap_behavior),
        _ => LayerKind::Plain(unmap_behavior),
    }
}

impl LayerKind {
    /// Whether it may be a read cache.
    fn can_be_filled(&self) -> bool {
        matches!(self, Self::Own | Self::Reference(_))
    }
}
