//! What a store holds at some instant, and the smallest changes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a store knows of a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Only in layers.
    Absent,
    Zero,
    Data(Arc<[u8]>),
}

/// A change that a crash leaves whole or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// New content of some sectors.
    Put(Vec<(u64, Cell)>),
    /// The same, for those sectors only that are absent when it happens.
    Fill(Vec<(u64, Cell)>),
    /// Another size, in sectors.
    Size(u64),
}

/// All that a store holds: its size, and the content of its sectors. What a crash leaves behind is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    sector_count: u64,
    /// What a sector holds that was never written.
    blank: Cell,
    /// The sectors that were; none at or beyond `sector_count`.
    cells: BTreeMap<u64, Cell>,
}

impl Image {
    pub(crate) fn new(sector_count: u64, blank: Cell) -> Self {
        Self {
            sector_count,
            blank,
            cells: BTreeMap::new(),
        }
    }

    /// That of a disk with this content, of which a part of a sector at the end is left out.
    pub fn of_disk(content: &[u8], sector_size: u32) -> Self {
        let sectors = content.chunks_exact(sector_size as usize);
        let mut image = Self::new(sectors.len() as u64, Cell::Zero);
        for (at, bytes) in (0..).zip(sectors) {
            if bytes.iter().any(|byte| *byte != 0) {
                image.cells.insert(at, Cell::Data(bytes.into()));
            }
        }
        image
    }

    /// That of a layer: `sectors` says what each holds, none if it is absent.
    pub fn of_layer(sectors: impl IntoIterator<Item = Option<Vec<u8>>>) -> Self {
        let mut image = Self::new(0, Cell::Absent);
        for (at, bytes) in (0..).zip(sectors) {
            image.sector_count = at + 1;
            if let Some(bytes) = bytes {
                let is_zero = bytes.iter().all(|byte| *byte == 0);
                let cell = if is_zero {
                    Cell::Zero
                } else {
                    Cell::Data(bytes.into())
                };
                image.cells.insert(at, cell);
            }
        }
        image
    }

    /// The size in sectors.
    pub fn sector_count(&self) -> u64 {
        self.sector_count
    }

    /// How many sectors have content of their own.
    pub(crate) fn written_count(&self) -> usize {
        self.cells.len()
    }

    /// Whether it is that of a disk, in which no sector is absent.
    pub(crate) fn is_of_disk(&self) -> bool {
        self.blank != Cell::Absent
    }

    pub(crate) fn cell(&self, sector: u64) -> &Cell {
        self.cells.get(&sector).unwrap_or(&self.blank)
    }

    /// Makes the change. Sectors beyond the end are left out: a crash may have lost the growth that added them.
    pub(crate) fn apply(&mut self, piece: &Piece) {
        match piece {
            Piece::Put(cells) => {
                for (sector, cell) in cells.iter().filter(|(at, _)| *at < self.sector_count) {
                    self.cells.insert(*sector, cell.clone());
                }
            }
            Piece::Fill(cells) => {
                let absent = self.absent_of(cells);
                self.apply(&Piece::Put(absent));
            }
            Piece::Size(sector_count) => {
                drop(self.cells.split_off(sector_count));
                if self.blank == Cell::Absent {
                    // What is added hides what lies below (C10).
                    let added = self.sector_count..*sector_count;
                    self.cells.extend(added.map(|sector| (sector, Cell::Zero)));
                }
                self.sector_count = *sector_count;
            }
        }
    }

    /// Those of the sectors that are absent now.
    pub(crate) fn absent_of(&self, cells: &[(u64, Cell)]) -> Vec<(u64, Cell)> {
        let absent = cells
            .iter()
            .filter(|(sector, _)| *self.cell(*sector) == Cell::Absent);
        absent.cloned().collect()
    }
}

impl Piece {
    /// The sectors that it is about, if it is about sectors.
    pub(crate) fn sectors(&self) -> impl Iterator<Item = u64> + '_ {
        let cells: &[(u64, Cell)] = match self {
            Self::Put(cells) | Self::Fill(cells) => cells,
            Self::Size(_) => &[],
        };
        cells.iter().map(|(sector, _)| *sector)
    }
}
