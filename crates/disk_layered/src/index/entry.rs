//! What is kept of a region: an entry of four layers, and where these are too few, a table of its sixteenths.

use smallvec::SmallVec;
use std::sync::OnceLock;
use sync::Mutex;
use sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// How many regions are made room for at once.
pub(super) const LEAF_REGIONS: usize = 512;

/// What a layer has of a region: a bit for each sixteenth of which it may have something.
pub(super) type Parts = u16;

pub(super) const PARTS: u32 = Parts::BITS;

/// The number of no layer: so many, or more, have no index.
pub(super) const NO_LAYER: u16 = u16::MAX;

/// What is known of neighbouring regions, each in a slot.
///
/// A slot is written once, under the lock, and its entry last: first the table, then the second half of the entry, then the first half,
/// with which it is known. So who sees it known sees all of one answer (N5), without the lock.
pub(super) struct Leaf {
    writing: Mutex<()>,
    entries: [[AtomicU64; 2]; LEAF_REGIONS],
    /// For all slots, made for the first region that needs one.
    tables: OnceLock<Box<[Table]>>,
}

impl Leaf {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            writing: Mutex::new(()),
            entries: std::array::from_fn(|_| Default::default()),
            tables: OnceLock::new(),
        })
    }

    /// The first layer at or below `from` that may have something of these parts of a region; `layer_count` if none may. Nothing if
    /// nobody has asked about the region yet.
    pub(super) fn next(
        &self,
        slot: usize,
        parts: Parts,
        from: usize,
        layer_count: usize,
    ) -> Option<usize> {
        let entry = self.entry(slot);
        if entry == Entry::UNKNOWN {
            return None;
        }
        Some(match entry.next(parts, from) {
            Next::Layer(layer) => layer,
            Next::None => layer_count,
            Next::InTable(first) => {
                let from = first.max(from);
                let tables = self.tables.get();
                tables.map_or(from, |tables| tables[slot].next(parts, from, layer_count))
            }
        })
    }

    pub(super) fn is_known(&self, slot: usize) -> bool {
        self.entry(slot) != Entry::UNKNOWN
    }

    /// Keeps what was found of a region, unless somebody else was first.
    pub(super) fn store(&self, slot: usize, found: &Found) {
        let _first = self.writing.lock();
        if self.is_known(slot) {
            return;
        }
        if found.needs_table() {
            // Not by way of an array, which would take 16 KiB of stack.
            let new = || (0..LEAF_REGIONS).map(|_| Table::default()).collect();
            self.tables.get_or_init(new)[slot].store(&found.topmost);
        }
        let Entry([first, last]) = Entry::new(&found.layers);
        let halves = &self.entries[slot];
        halves[1].store(last, Ordering::Release);
        halves[0].store(first, Ordering::Release);
    }

    fn entry(&self, slot: usize) -> Entry {
        let [first, last] = &self.entries[slot];
        match first.load(Ordering::Acquire) {
            0 => Entry::UNKNOWN,
            first => Entry([first, last.load(Ordering::Acquire)]),
        }
    }
}

/// What layers say of a region, one after the other.
pub(super) struct Found {
    /// The topmost that have something: all of them, or one more than an entry names.
    layers: SmallVec<[(u16, Parts); Entry::PLACES + 1]>,
    /// Which of those from the last place on is the topmost that has something of a sixteenth.
    topmost: [u16; PARTS as usize],
}

impl Found {
    pub(super) fn new() -> Self {
        Self {
            layers: SmallVec::new(),
            topmost: [NO_LAYER; PARTS as usize],
        }
    }

    /// A layer below the others may have something of these parts.
    pub(super) fn add(&mut self, layer: u16, parts: Parts) {
        if parts == 0 {
            return;
        }
        if self.layers.len() <= Entry::PLACES {
            self.layers.push((layer, parts));
        }
        if self.layers.len() < Entry::PLACES {
            return;
        }
        for (part, topmost) in self.topmost.iter_mut().enumerate() {
            if parts & 1 << part != 0 && *topmost == NO_LAYER {
                *topmost = layer;
            }
        }
    }

    /// Whether nothing changes any more, whatever the layers below have.
    pub(super) fn is_full(&self) -> bool {
        self.needs_table() && !self.topmost.contains(&NO_LAYER)
    }

    fn needs_table(&self) -> bool {
        self.layers.len() > Entry::PLACES
    }
}

/// The layers that are worth a look in a region, in four places of 32 bits: the layer, and above it its [`Parts`]. If the last
/// place has no parts, the [`Table`] tells which layers are worth a look from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry([u64; 2]);

/// Where an entry leads.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Layer(usize),
    /// It is for the table, from this layer on.
    InTable(usize),
    None,
}

impl Entry {
    /// No entry has layer 0 without any parts in its first place.
    const UNKNOWN: Self = Self([0, 0]);
    const PLACES: usize = 4;

    /// Of layers in ascending order.
    fn new(found: &[(u16, Parts)]) -> Self {
        let place = |place: usize| {
            let (layer, parts) = match found.get(place) {
                Some(_) if place + 1 == Self::PLACES && found.len() > place + 1 => {
                    (found[place].0, 0)
                }
                Some(found) => *found,
                None => (NO_LAYER, Parts::MAX),
            };
            u64::from(layer) | u64::from(parts) << 16
        };
        Self([place(0) | place(1) << 32, place(2) | place(3) << 32])
    }

    /// The first layer at or below `from` that may have something of these parts.
    fn next(self, parts: Parts, from: usize) -> Next {
        for place in self.0.iter().flat_map(|half| [*half, *half >> 32]) {
            let (layer, found) = (place as u16, (place >> 16) as u16);
            if layer == NO_LAYER {
                break;
            }
            let layer = usize::from(layer);
            if found == 0 {
                return Next::InTable(layer);
            }
            if layer >= from && found & parts != 0 {
                return Next::Layer(layer);
            }
        }
        Next::None
    }
}

/// Of each sixteenth of a region the topmost layer, from the last place of its entry on, that may have something of it.
///
/// Kept as 1 more than its number, or as [`NO_LAYER`]. So 0, which is what a table begins with, leaves out nobody.
#[derive(Default)]
struct Table([AtomicU16; PARTS as usize]);

impl Table {
    fn store(&self, topmost: &[u16; PARTS as usize]) {
        for (place, layer) in self.0.iter().zip(topmost) {
            // With the entry, which is written after this, it is seen.
            place.store(layer.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// As [`Leaf::next`], `from` being at or below the last place of the entry. Below the topmost layer that has something of a part
    /// all are worth a look.
    fn next(&self, parts: Parts, from: usize, layer_count: usize) -> usize {
        let of_part = |part: usize| match self.0[part].load(Ordering::Relaxed) {
            NO_LAYER => layer_count,
            kept => usize::from(kept.saturating_sub(1)).max(from),
        };
        let parts = (0..PARTS as usize).filter(|part| parts & 1 << part != 0);
        parts.map(of_part).min().unwrap_or(layer_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Parts = Parts::MAX;

    /// A leaf in whose third region so many layers, in this order, have these parts.
    fn leaf(layers: &[(u16, Parts)]) -> Box<Leaf> {
        let mut found = Found::new();
        for (layer, parts) in layers {
            found.add(*layer, *parts);
        }
        let leaf = Leaf::new();
        leaf.store(2, &found);
        leaf
    }

    fn next(leaf: &Leaf, parts: Parts, from: usize) -> usize {
        leaf.next(2, parts, from, 100).expect("it is known")
    }

    #[test]
    fn an_entry_leads_from_one_layer_to_the_next_that_it_names() {
        let leaf = leaf(&[(3, 0b0110), (70, ALL)]);
        assert_eq!(next(&leaf, ALL, 1), 3);
        assert_eq!(next(&leaf, 0b0100, 3), 3);
        assert_eq!(next(&leaf, 0b1001, 3), 70, "it has other parts");
        assert_eq!(next(&leaf, ALL, 4), 70);
        assert_eq!(next(&leaf, ALL, 71), 100);
        assert_eq!(next(&self::leaf(&[]), ALL, 1), 100);
    }

    #[test]
    fn of_four_layers_each_is_named() {
        let leaf = leaf(&[(1, 1), (5, 2), (9, 4), (20, 8)]);
        for (parts, layer) in [(1, 1), (2, 5), (4, 9), (8, 20), (16, 100)] {
            assert_eq!(next(&leaf, parts, 1), layer, "parts {parts:b}");
        }
        assert_eq!(next(&leaf, ALL, 21), 100);
        assert!(leaf.tables.get().is_none());
    }

    #[test]
    fn of_five_layers_and_more_the_topmost_of_each_part_is_found_and_all_below_it() {
        let leaf = leaf(&[(1, 1), (5, 1), (9, 1), (20, 1), (30, 0b11), (40, 0b111)]);
        // From one layer of the first part to the next, as far as the entry names them; then all.
        for (from, layer) in [(2, 5), (6, 9), (10, 20), (21, 21), (22, 22), (99, 99)] {
            assert_eq!(next(&leaf, 1, from), layer, "from {from}");
        }
        for (parts, layer) in [(0b10, 30), (0b100, 40), (0b1000, 100), (0b1100, 40)] {
            assert_eq!(next(&leaf, parts, 1), layer, "parts {parts:b}");
        }
        assert_eq!(next(&leaf, 0b110, 31), 31, "the other part is below");
        assert_eq!(next(&leaf, 0b100, 31), 40);
        assert_eq!(next(&leaf, 0b1000, 31), 100);
    }

    #[test]
    fn layers_are_asked_until_each_part_has_one() {
        let mut found = Found::new();
        for layer in 1..=3 {
            found.add(layer, ALL);
        }
        assert!(!found.is_full());
        found.add(4, ALL);
        assert!(!found.is_full(), "whether there is a fifth is not known");
        found.add(5, 0);
        assert!(!found.is_full());
        found.add(6, 1);
        assert!(found.is_full());
        let halves = [(1, 1), (2, 1), (3, 1), (4, ALL >> 8), (5, 1)];
        let mut found = Found::new();
        for (layer, parts) in halves {
            found.add(layer, parts);
        }
        assert!(!found.is_full());
        found.add(6, ALL << 8);
        assert!(found.is_full());
    }

    #[test]
    fn the_first_answer_is_kept_whole() {
        let mut first = Found::new();
        let mut second = Found::new();
        for layer in [7, 9, 11, 13] {
            first.add(layer, ALL);
        }
        for layer in [5, 7, 9, 11, 13] {
            second.add(layer, ALL);
        }
        for (kept, other) in [(&first, &second), (&second, &first)] {
            let leaf = Leaf::new();
            leaf.store(2, kept);
            let expected: Vec<_> = (1..20).map(|from| next(&leaf, 1, from)).collect();
            leaf.store(2, other);
            let found: Vec<_> = (1..20).map(|from| next(&leaf, 1, from)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_table_that_was_never_written_leaves_out_nobody() {
        let table = Table::default();
        assert_eq!(table.next(ALL, 4, 100), 4);
        table.store(&[NO_LAYER; PARTS as usize]);
        assert_eq!(table.next(ALL, 4, 100), 100);
        table.store(&[NO_LAYER - 2; PARTS as usize]);
        assert_eq!(table.next(ALL, 4, 65_534), 65_533);
    }

    #[test]
    fn of_the_next_regions_nothing_is_known() {
        let leaf = leaf(&[(1, 1), (5, 1), (9, 1), (20, 1), (30, 0b11)]);
        for region in [1, 3] {
            assert!(!leaf.is_known(region));
            assert_eq!(leaf.next(region, ALL, 1, 100), None);
        }
        assert!(leaf.is_known(2));
        let nothing = self::leaf(&[]);
        assert!(nothing.is_known(2));
    }
}
