//! Stacks that must be refused.

use super::{Breakage, LayerKind, LayerRecipe, StackRecipe};
use disk_backend::{InvalidDisk, UnmapBehavior};
use disk_layered::{InvalidLayer, InvalidLayeredDisk};
use fastrand::Rng;

/// The size in bytes of the sectors of an [`IllegalStack`], but for those that are wrong.
const SECTOR_BYTES: u32 = 512;

/// What makes a stack illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackFault {
    /// There is no layer.
    NoLayers,
    /// A layer does not attach.
    DoesNotAttach,
    /// The sectors of a layer have another size.
    SectorSizeDiffers,
    /// The sectors of a layer have a size that no disk may have.
    SectorSizeInvalid,
    /// A layer that writes through stands below one that does not.
    WriteThroughHasGap,
    /// All layers write through, the bottom too.
    WriteThroughToNothing,
    /// A layer that cannot be filled is a read cache.
    CacheCannotBeFilled,
    /// A layer that would be written refuses changes.
    WrittenIsReadOnly,
    /// A layer that is written through to is shorter than the disk.
    WrittenIsTooShort,
}

/// A stack that is illegal for one reason, and what has to be said about it.
#[derive(Debug, Clone)]
pub struct IllegalStack {
    /// The stack, of sectors of 512 bytes.
    pub recipe: StackRecipe,
    /// What is wrong.
    pub fault: StackFault,
    /// The layer to be named.
    pub index: usize,
}

impl StackFault {
    const ALL: [Self; 9] = [
        Self::NoLayers,
        Self::DoesNotAttach,
        Self::SectorSizeDiffers,
        Self::SectorSizeInvalid,
        Self::WriteThroughHasGap,
        Self::WriteThroughToNothing,
        Self::CacheCannotBeFilled,
        Self::WrittenIsReadOnly,
        Self::WrittenIsTooShort,
    ];
}

impl IllegalStack {
    /// A random stack of up to 8 layers for each [`StackFault`]; the same for the same seed.
    pub fn of_each_fault(seed: u64) -> Vec<Self> {
        let mut rng = Rng::with_seed(seed);
        let faults = StackFault::ALL.into_iter();
        faults.map(|fault| Self::random(fault, &mut rng)).collect()
    }

    fn random(fault: StackFault, rng: &mut Rng) -> Self {
        let layer_count = rng.usize(2..=8);
        let mut recipe = StackRecipe::legal(layer_count, 16, false, rng.u64(..));
        let layers = &mut recipe.layers;
        let any = rng.usize(0..layer_count);
        let index = match fault {
            StackFault::NoLayers => {
                layers.clear();
                0
            }
            StackFault::DoesNotAttach => {
                replace(&mut layers[any], Breakage::DoesNotAttach);
                any
            }
            StackFault::SectorSizeDiffers => {
                replace(&mut layers[any], Breakage::SectorSize(2 * SECTOR_BYTES));
                // A layer is compared with the one below.
                any.min(layer_count - 2)
            }
            StackFault::SectorSizeInvalid => {
                let sizes = [0, 1, 256, 768, 513];
                replace(&mut layers[any], Breakage::SectorSize(sizes[any % 5]));
                any
            }
            StackFault::WriteThroughHasGap => {
                let gap = rng.usize(0..layer_count - 1);
                let further = rng.usize(gap + 1..layer_count);
                for (index, layer) in layers.iter_mut().enumerate() {
                    layer.write_through = index < gap || index == further;
                }
                further
            }
            StackFault::WriteThroughToNothing => {
                layers
                    .iter_mut()
                    .for_each(|layer| layer.write_through = true);
                layer_count - 1
            }
            StackFault::CacheCannotBeFilled => {
                layers[any].kind = LayerKind::Plain(UnmapBehavior::Zeroes);
                layers[any].read_cache = true;
                any
            }
            StackFault::WrittenIsReadOnly => {
                let written = rng.usize(0..=recipe.through_count());
                replace(&mut recipe.layers[written], Breakage::LogicallyReadOnly);
                written
            }
            StackFault::WrittenIsTooShort => {
                layers[0].write_through = true;
                layers[1].kind = LayerKind::Reference(UnmapBehavior::Zeroes);
                layers[1].sector_count = layers[0].sector_count - 1;
                1
            }
        };
        Self {
            recipe,
            fault,
            index,
        }
    }

    /// Whether this is what has to be said.
    ///
    /// # Errors
    /// What was said instead, and of which stack.
    pub fn check<T>(&self, result: Result<T, InvalidLayeredDisk>) -> Result<(), String> {
        let found = match result {
            Ok(_) => "it was accepted".to_owned(),
            Err(error) if self.is_right(&error) => return Ok(()),
            Err(error) => format!("{error:?}"),
        };
        let Self {
            recipe,
            fault,
            index,
        } = self;
        Err(format!(
            "{recipe} must be refused because of layer {index} ({fault:?}), but {found}"
        ))
    }

    fn is_right(&self, error: &InvalidLayeredDisk) -> bool {
        let (index, error) = match error {
            InvalidLayeredDisk::NoLayers => return self.fault == StackFault::NoLayers,
            InvalidLayeredDisk::Layer { index, error } => (*index, error),
            _ => return false,
        };
        index == self.index
            && match self.fault {
                StackFault::NoLayers => false,
                StackFault::DoesNotAttach => matches!(error, InvalidLayer::AttachFailed(_)),
                StackFault::SectorSizeDiffers => {
                    matches!(error, InvalidLayer::SectorSizeMismatch { .. })
                }
                StackFault::SectorSizeInvalid => matches!(
                    error,
                    InvalidLayer::InvalidSectorSize(InvalidDisk::InvalidSectorSize(_))
                ),
                StackFault::WriteThroughHasGap => {
                    matches!(error, InvalidLayer::WriteThroughNotContiguous)
                }
                StackFault::WriteThroughToNothing => {
                    matches!(error, InvalidLayer::NothingToWriteThrough)
                }
                StackFault::CacheCannotBeFilled => {
                    matches!(error, InvalidLayer::ReadCacheUnsupported)
                }
                StackFault::WrittenIsReadOnly => matches!(error, InvalidLayer::ReadOnly),
                StackFault::WrittenIsTooShort => {
                    matches!(error, InvalidLayer::TooShortToWriteThrough { .. })
                }
            }
    }
}

fn replace(layer: &mut LayerRecipe, breakage: Breakage) {
    layer.kind = LayerKind::Broken(breakage);
    layer.read_cache = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_acceptance_nor_another_reason_or_layer_will_do() {
        for stack in IllegalStack::of_each_fault(1) {
            let what = stack.check(Ok(())).unwrap_err();
            assert!(what.ends_with("but it was accepted"), "{what}");
            for (index, is_right) in [(stack.index, true), (stack.index + 1, false)] {
                let error = InvalidLayer::ReadOnly;
                let found = stack.check::<()>(Err(InvalidLayeredDisk::Layer { index, error }));
                let is_read_only = stack.fault == StackFault::WrittenIsReadOnly;
                assert_eq!(found.is_ok(), is_right && is_read_only, "{found:?}");
            }
        }
    }
}
