//! Races that an exploration must find.

/// A mistake that only some interleavings show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Race {
    /// The RAM store believes what was known of its size before it had the lock of the chunk.
    SizeCheckedBeforeLock,
    /// Filling looks for absent sectors, lets go of the chunk, and then stores.
    FillLooksBeforeLock,
    /// A fill is made although a change of its sectors began after its read.
    FillOfDisturbedRead,
    /// A stack goes on using its index although a layer has changed, or is changing, behind its back.
    IndexOutlivesChange,
}

/// Whether the code shall make this mistake: never, without the feature `shuttle`.
#[cfg(not(feature = "shuttle"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_race: Race) -> bool {
    false
}

#[cfg(feature = "shuttle")]
pub use planting::{Planted, is_planted, plant};

#[cfg(feature = "shuttle")]
mod planting {
    use super::Race;
    use std::cell::Cell;

    std::thread_local! {
        static PLANTED: Cell<Option<Race>> = const { Cell::new(None) };
    }

    /// A race that stays planted until this is dropped.
    #[derive(Debug)]
    #[must_use]
    pub struct Planted(());

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    /// Plants a race in this thread, which runs all threads of an exploration.
    ///
    /// # Panics
    /// If there is one already: nobody could tell which of them was found.
    pub fn plant(race: Race) -> Planted {
        let earlier = PLANTED.replace(Some(race));
        assert_eq!(earlier, None, "only one race at a time can be planted");
        Planted(())
    }

    /// Whether the code shall make this mistake.
    #[must_use]
    pub fn is_planted(race: Race) -> bool {
        PLANTED.get() == Some(race)
    }
}
