//! Where the chunks of a disk are found: a tree that grows where it is written and never shrinks.
//!
//! Looking up takes no lock. A place, once made, stays until the disk is dropped, so references to it are plain borrows; what
//! it holds is behind the place's own lock. An empty tree is 4 KiB, whatever the size of the disk.

use std::sync::OnceLock;

/// The children of a node.
const FANOUT: u64 = 256;

/// A tree of places for `T`, each made with `T::default()`.
#[derive(Debug, Default)]
pub(crate) struct Table<T>(Node<Node<Node<Leaf<T>>>>);

impl<T: Default> Table<T> {
    /// How many places there can be.
    pub(crate) const CAPACITY: u64 = <Node<Node<Node<Leaf<T>>>> as Level<T>>::PLACES;

    /// The place at `index`, if it was made.
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        self.0.get(index)
    }

    /// The place at `index`, made if it was not there.
    ///
    /// # Panics
    /// If `index` is not below [`CAPACITY`](Self::CAPACITY).
    pub(crate) fn get_or_make(&self, index: u64) -> &T {
        assert!(index < Self::CAPACITY, "place {index}");
        self.0.get_or_make(index)
    }

    /// The first place at or after `index` that was made.
    pub(crate) fn next_made(&self, index: u64) -> Option<u64> {
        self.0.next_made(index)
    }
}

/// A part of the tree. Indices count from the part's first place.
trait Level<T>: Default {
    /// The places below.
    const PLACES: u64;
    fn get(&self, index: u64) -> Option<&T>;
    fn get_or_make(&self, index: u64) -> &T;
    fn next_made(&self, index: u64) -> Option<u64>;
}

#[derive(Debug)]
struct Node<L> {
    children: [OnceLock<Box<L>>; FANOUT as usize],
}

impl<L> Default for Node<L> {
    fn default() -> Self {
        Self {
            children: [const { OnceLock::new() }; FANOUT as usize],
        }
    }
}

impl<T, L: Level<T>> Level<T> for Node<L> {
    const PLACES: u64 = L::PLACES * FANOUT;

    fn get(&self, index: u64) -> Option<&T> {
        let child = self.children.get((index / L::PLACES) as usize)?.get()?;
        child.get(index % L::PLACES)
    }

    fn get_or_make(&self, index: u64) -> &T {
        self.children[(index / L::PLACES) as usize]
            .get_or_init(Box::default)
            .get_or_make(index % L::PLACES)
    }

    fn next_made(&self, index: u64) -> Option<u64> {
        let first = index / L::PLACES;
        (first..FANOUT).find_map(|child| {
            let from = if child == first { index % L::PLACES } else { 0 };
            let found = self.children[child as usize].get()?.next_made(from)?;
            Some(child * L::PLACES + found)
        })
    }
}

/// The lowest level: its places are made all at once.
#[derive(Debug)]
struct Leaf<T>([T; FANOUT as usize]);

impl<T: Default> Default for Leaf<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T: Default> Level<T> for Leaf<T> {
    const PLACES: u64 = FANOUT;

    fn get(&self, index: u64) -> Option<&T> {
        self.0.get(index as usize)
    }

    fn get_or_make(&self, index: u64) -> &T {
        &self.0[index as usize]
    }

    fn next_made(&self, index: u64) -> Option<u64> {
        (index < FANOUT).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_place_keeps_what_was_put_there() {
        let table = Table::<AtomicU64>::default();
        let places = [
            0,
            255,
            256,
            65_536,
            16_777_216,
            Table::<AtomicU64>::CAPACITY - 1,
        ];
        for index in places {
            table.get_or_make(index).store(index + 1, Ordering::Relaxed);
        }
        for index in places {
            assert_eq!(table.get(index).unwrap().load(Ordering::Relaxed), index + 1);
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_was_made() {
        let table = Table::<AtomicU64>::default();
        assert_eq!(table.next_made(0), None);
        table.get_or_make(70_000);
        assert!(table.get(1).is_none());
        assert!(table.get(u64::MAX).is_none());
        assert_eq!(table.next_made(0), Some(70_000 / FANOUT * FANOUT));
        assert_eq!(table.next_made(70_001), Some(70_001));
        assert_eq!(table.next_made(80_000), None);
        assert_eq!(table.next_made(u64::MAX), None);
    }
}
