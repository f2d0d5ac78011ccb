//! The metadata contexts that are offered, and what each says of an extent.

use disk_backend::{BlockExtent, BlockState};
use nbd_protocol::{BASE_ALLOCATION, extent_flag};

/// One context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Whether there is data.
    Allocation = 1,
    /// Which layer answers.
    Layer = 2,
}

/// Some of the contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ContextSet(u8);

/// The 32 bits for a layer whose number needs more: not 0, which is no layer, and nobody else's number.
const LAYER_BEYOND_32_BITS: u64 = u32::MAX as u64;

impl Context {
    pub(crate) const ALL: [Self; 2] = [Self::Allocation, Self::Layer];

    /// The number by which block status names it.
    pub(crate) fn id(self) -> u32 {
        self as u32
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allocation => BASE_ALLOCATION,
            Self::Layer => "platter:layer",
        }
    }

    /// Whether a query in a list means it: by its name, or by its namespace.
    pub(crate) fn is_listed_by(self, query: &str) -> bool {
        let behind = self.name().strip_prefix(query);
        query.ends_with(':') && behind.is_some() || query == self.name()
    }

    /// What it says of an extent; `is_wide` if there are 64 bits for it.
    pub(crate) fn value(self, extent: &BlockExtent, is_wide: bool) -> u64 {
        match self {
            Self::Allocation => match extent.state {
                BlockState::Data => 0,
                BlockState::Zero => extent_flag::ZERO,
                BlockState::Hole => extent_flag::HOLE | extent_flag::ZERO,
            },
            Self::Layer => match extent.layer.map_or(0, |layer| layer.get()) {
                id if is_wide => id,
                id => id.min(LAYER_BEYOND_32_BITS),
            },
        }
    }
}

impl ContextSet {
    pub(crate) fn insert(&mut self, context: Context) {
        self.0 |= context as u8;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Context> {
        let is_in = move |context: &Context| self.0 & *context as u8 != 0;
        Context::ALL.into_iter().filter(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk_backend::LayerId;

    fn extent(state: BlockState, layer: Option<LayerId>) -> BlockExtent {
        BlockExtent {
            sector_count: 1,
            state,
            layer,
        }
    }

    #[test]
    fn a_query_lists_a_context_by_its_name_or_its_namespace() {
        for context in Context::ALL {
            let (namespace, _) = context.name().split_once(':').unwrap();
            assert!(context.is_listed_by(context.name()));
            assert!(context.is_listed_by(&format!("{namespace}:")));
            for other in [namespace, ":", "", "x:", &format!("{}x", context.name())] {
                assert!(!context.is_listed_by(other), "{other:?}");
            }
        }
        assert!(!Context::Layer.is_listed_by("base:"));
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let mut set = ContextSet::default();
        assert!(set.is_empty());
        set.insert(Context::Layer);
        assert!(set.iter().eq([Context::Layer]));
        set.insert(Context::Allocation);
        assert!(set.iter().eq(Context::ALL));
    }

    #[test]
    fn allocation_tells_data_zeros_and_holes_apart() {
        for (state, value) in [
            (BlockState::Data, 0),
            (BlockState::Zero, 2),
            (BlockState::Hole, 3),
        ] {
            assert_eq!(
                Context::Allocation.value(&extent(state, None), false),
                value
            );
        }
    }

    #[test]
    fn a_layer_is_its_number_and_none_is_zero() {
        let id = LayerId::allocate();
        let data = BlockState::Data;
        for is_wide in [false, true] {
            assert_eq!(Context::Layer.value(&extent(data, None), is_wide), 0);
            assert_eq!(
                Context::Layer.value(&extent(data, Some(id)), is_wide),
                id.get()
            );
        }
    }
}
