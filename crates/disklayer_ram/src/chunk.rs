//! The sectors of one chunk, and the memory that holds them.
//!
//! Invariants:
//! - I1: a sector with data is present.
//! - I2: the memory of a sector without data is zero.
//! - I3: a page is resident only if one of its sectors has data.

use crate::bits::Bits;
use disk_backend::DiskError;
use guestmem::{MemoryRead, MemoryWrite, Pages};
use scsi_buffers::{BufferReader, BufferWriter};
use std::ops::Range;

/// The memory of a chunk: few enough places in a large disk, and a lock that is shared by little.
pub(crate) const CHUNK_BYTES: usize = 2 << 20;

/// The pages of a chunk.
pub(crate) const CHUNK_PAGES: usize = CHUNK_BYTES / PAGE_BYTES;

/// The unit in which memory is taken and given back.
pub(crate) const PAGE_BYTES: usize = guestmem::PAGE_SIZE_BYTES;

/// What a layer knows of a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SectorState {
    Absent,
    Zero,
    Data,
}

/// What is in the place of a chunk. The first two take no memory.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    /// Every sector is absent.
    #[default]
    Absent,
    /// Every sector is present and zero.
    Zero,
    /// Whatever the chunk says.
    Stored(Box<Chunk>),
}

/// What clearing a slot took out of it.
#[derive(Debug)]
pub(crate) struct Cleared {
    /// How many pages hold no data any more.
    pub(crate) pages: usize,
    /// The chunk, if nothing of it is left.
    pub(crate) chunk: Option<Box<Chunk>>,
}

/// Sectors of one chunk, counted from its beginning.
type Sectors = Range<usize>;

/// A chunk of which each sector is known by itself.
#[derive(Debug)]
pub(crate) struct Chunk {
    sector_shift: u32,
    present: Bits,
    data: Bits,
    resident: Bits,
    resident_count: usize,
    /// Taken with the first data.
    memory: Option<Pages>,
}

impl Slot {
    /// The state of the sector at `from`, and where the run of such sectors ends, at most at `end`.
    pub(crate) fn run(&self, from: usize, end: usize) -> (SectorState, usize) {
        match self {
            Self::Absent => (SectorState::Absent, end),
            Self::Zero => (SectorState::Zero, end),
            Self::Stored(chunk) => chunk.run(from, end),
        }
    }

    /// A bit for each page that holds data.
    pub(crate) fn resident_words(&self) -> [u64; CHUNK_PAGES / 64] {
        match self {
            Self::Stored(chunk) => std::array::from_fn(|index| chunk.resident.word(index)),
            Self::Absent | Self::Zero => [0; _],
        }
    }

    /// The memory of the chunk, if it has any.
    pub(crate) fn memory(&self) -> Option<&[u8]> {
        match self {
            Self::Stored(chunk) => chunk.memory.as_deref(),
            Self::Absent | Self::Zero => None,
        }
    }

    /// The content of sectors, if all of them have data.
    #[inline]
    pub(crate) fn data(&self, sectors: Sectors) -> Option<&[u8]> {
        match self {
            Self::Stored(chunk) if chunk.data.is_set(sectors.clone()) => {
                let bytes = chunk.bytes(&sectors);
                chunk.memory.as_ref()?.get(bytes)
            }
            Self::Stored(_) | Self::Absent | Self::Zero => None,
        }
    }

    /// As [`data`](Self::data), to be written over.
    #[inline]
    pub(crate) fn data_mut(&mut self, sectors: Sectors) -> Option<&mut [u8]> {
        match self {
            Self::Stored(chunk) if chunk.data.is_set(sectors.clone()) => {
                let bytes = chunk.bytes(&sectors);
                chunk.memory.as_mut()?.get_mut(bytes)
            }
            Self::Stored(_) | Self::Absent | Self::Zero => None,
        }
    }

    /// Whether all of these sectors are absent.
    #[inline]
    pub(crate) fn is_absent(&self, sectors: Sectors) -> bool {
        match self {
            Self::Absent => true,
            Self::Zero => false,
            Self::Stored(chunk) => chunk.present.is_clear(sectors),
        }
    }

    /// Takes the memory that a write will need.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`] if there is none.
    pub(crate) fn reserve(&mut self, sector_shift: u32) -> Result<(), DiskError> {
        self.chunk_mut(sector_shift).memory().map(drop)
    }

    /// Stores sectors from `reader`; returns how many pages became resident.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`] if there is no memory: then nothing changed. [`DiskError::MemoryAccess`] cannot happen to
    /// memory that was checked.
    pub(crate) fn write(
        &mut self,
        sector_shift: u32,
        sectors: Sectors,
        reader: &mut BufferReader<'_>,
    ) -> Result<usize, DiskError> {
        self.chunk_mut(sector_shift).write(sectors, reader)
    }

    /// Copies sectors with data to `writer`.
    pub(crate) fn read(
        &self,
        sectors: Sectors,
        writer: &mut BufferWriter<'_>,
    ) -> Result<(), DiskError> {
        match self {
            Self::Stored(chunk) => chunk.read(sectors, writer),
            Self::Absent | Self::Zero => unreachable!("a slot without a chunk has no data"),
        }
    }

    /// Takes the content of sectors away: they become explicit zeros if `hide`, else absent.
    pub(crate) fn clear(&mut self, sector_shift: u32, sectors: Sectors, hide: bool) -> Cleared {
        let chunk_sectors = CHUNK_BYTES >> sector_shift;
        let is_whole = sectors == (0..chunk_sectors);
        match self {
            Self::Absent if !hide => Cleared::NOTHING,
            Self::Zero if hide => Cleared::NOTHING,
            _ if is_whole => Cleared {
                pages: self.resident_pages(),
                chunk: self.replace_chunk(if hide { Self::Zero } else { Self::Absent }),
            },
            _ => {
                let chunk = self.chunk_mut(sector_shift);
                let pages = chunk.clear(sectors, hide);
                let rest = if chunk.present.is_clear(0..chunk_sectors) {
                    Some(Self::Absent)
                } else if chunk.resident_count == 0 && chunk.present.is_set(0..chunk_sectors) {
                    Some(Self::Zero)
                } else {
                    None
                };
                let chunk = rest.and_then(|rest| self.replace_chunk(rest));
                Cleared { pages, chunk }
            }
        }
    }

    /// Puts a slot without a chunk in this place.
    fn replace_chunk(&mut self, by: Self) -> Option<Box<Chunk>> {
        match std::mem::replace(self, by) {
            Self::Stored(chunk) => Some(chunk),
            Self::Absent | Self::Zero => None,
        }
    }

    /// The pages that hold data.
    pub(crate) fn resident_pages(&self) -> usize {
        match self {
            Self::Stored(chunk) => chunk.resident_count,
            Self::Absent | Self::Zero => 0,
        }
    }

    fn chunk_mut(&mut self, sector_shift: u32) -> &mut Chunk {
        if !matches!(self, Self::Stored(_)) {
            let mut chunk = Chunk::new(sector_shift);
            if matches!(self, Self::Zero) {
                chunk.present.assign(0..CHUNK_BYTES >> sector_shift, true);
            }
            *self = Self::Stored(Box::new(chunk));
        }
        match self {
            Self::Stored(chunk) => chunk,
            Self::Absent | Self::Zero => unreachable!("a chunk was just put there"),
        }
    }
}

impl Cleared {
    const NOTHING: Self = Self {
        pages: 0,
        chunk: None,
    };
}

impl Chunk {
    fn new(sector_shift: u32) -> Self {
        let sectors = CHUNK_BYTES >> sector_shift;
        Self {
            sector_shift,
            present: Bits::new(sectors),
            data: Bits::new(sectors),
            resident: Bits::new(CHUNK_PAGES),
            resident_count: 0,
            memory: None,
        }
    }

    fn run(&self, from: usize, end: usize) -> (SectorState, usize) {
        if self.data.get(from) {
            return (SectorState::Data, self.data.run_end(from, end));
        }
        let end = self.data.run_end(from, end);
        let state = match self.present.get(from) {
            true => SectorState::Zero,
            false => SectorState::Absent,
        };
        (state, self.present.run_end(from, end))
    }

    fn memory(&mut self) -> Result<&mut Pages, DiskError> {
        if self.memory.is_none() {
            // What the system refuses here it may grant when others have given memory back.
            let memory = Pages::new(CHUNK_BYTES).map_err(|_| DiskError::NoSpace)?;
            self.memory = Some(memory);
        }
        Ok(self.memory.as_mut().expect("it was just put there"))
    }

    fn write(
        &mut self,
        sectors: Sectors,
        reader: &mut BufferReader<'_>,
    ) -> Result<usize, DiskError> {
        let bytes = self.bytes(&sectors);
        let memory = self.memory()?;
        reader.read(&mut memory[bytes.clone()])?;
        if self.data.is_set(sectors.clone()) {
            return Ok(0); // I1, I3
        }
        self.present.assign(sectors.clone(), true);
        self.data.assign(sectors, true);
        let pages = bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES);
        let taken = self.resident.assign(pages, true);
        self.resident_count += taken;
        Ok(taken)
    }

    fn read(&self, sectors: Sectors, writer: &mut BufferWriter<'_>) -> Result<(), DiskError> {
        let memory = self.memory.as_ref().expect("data is in memory");
        Ok(writer.write(&memory[self.bytes(&sectors)])?)
    }

    fn clear(&mut self, sectors: Sectors, hide: bool) -> usize {
        self.present.assign(sectors.clone(), hide);
        self.data.assign(sectors.clone(), false);
        let bytes = self.bytes(&sectors);
        let Some(memory) = &mut self.memory else {
            return 0;
        };
        // Pages in the middle lose all their sectors; the two at the ends may keep some (I2, I3).
        let mut given_back = bytes.clone();
        let page_of = |byte: usize| byte / PAGE_BYTES * PAGE_BYTES;
        let (first, last) = (page_of(bytes.start), page_of(bytes.end - 1));
        for page in [first, last] {
            let sectors_of_page = page >> self.sector_shift
                ..((page + PAGE_BYTES) >> self.sector_shift).max((page >> self.sector_shift) + 1);
            if !self.data.is_clear(sectors_of_page) {
                let kept = bytes.start.max(page)..bytes.end.min(page + PAGE_BYTES);
                memory[kept].fill(0);
                match page == first {
                    true => given_back.start = page + PAGE_BYTES,
                    false => given_back.end = page,
                }
            } else {
                given_back.start = given_back.start.min(page);
                given_back.end = given_back.end.max(page + PAGE_BYTES);
            }
        }
        if given_back.start >= given_back.end {
            return 0;
        }
        let pages = given_back.start / PAGE_BYTES..given_back.end / PAGE_BYTES;
        let freed = self.resident.assign(pages, false);
        if freed > 0 {
            memory.give_back(given_back);
        }
        self.resident_count -= freed;
        if self.resident_count == 0 {
            self.memory = None;
        }
        freed
    }

    fn bytes(&self, sectors: &Sectors) -> Range<usize> {
        sectors.start << self.sector_shift..sectors.end << self.sector_shift
    }

    /// See the head of this module.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let sectors = CHUNK_BYTES >> self.sector_shift;
        for sector in 0..sectors {
            let has_data = self.data.get(sector);
            assert!(!has_data || self.present.get(sector), "I1: {sector}");
            if let (Some(memory), false) = (&self.memory, has_data) {
                let bytes = self.bytes(&(sector..sector + 1));
                assert!(memory[bytes].iter().all(|byte| *byte == 0), "I2: {sector}");
            }
        }
        let mut resident = 0;
        for page in 0..CHUNK_PAGES {
            let first = (page * PAGE_BYTES) >> self.sector_shift;
            let end = ((page + 1) * PAGE_BYTES).div_ceil(1 << self.sector_shift);
            let has_data = !self.data.is_clear(first..end);
            assert_eq!(self.resident.get(page), has_data, "I3: page {page}");
            resident += usize::from(has_data);
        }
        assert_eq!(self.resident_count, resident);
        assert_eq!(self.memory.is_some(), resident > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use scsi_buffers::HostBuffers;

    /// What a step does to a range of sectors.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Write(u8),
        Clear { hide: bool },
    }

    fn steps(sectors: usize) -> impl Strategy<Value = Vec<(Step, Sectors)>> {
        let step = prop_oneof![
            (1u8..).prop_map(Step::Write),
            any::<bool>().prop_map(|hide| Step::Clear { hide }),
        ];
        let end = prop_oneof![4 => 0..=sectors, 1 => Just(sectors)];
        let start = prop_oneof![4 => 0..=sectors, 1 => Just(0)];
        let range = (start, end).prop_map(|(a, b)| a.min(b)..a.max(b));
        prop::collection::vec((step, range), 1..12)
    }

    /// Holds a slot against one state and one byte for each sector.
    fn agrees_with_a_model(sector_shift: u32, steps: Vec<(Step, Sectors)>) {
        let sectors = CHUNK_BYTES >> sector_shift;
        let sector_size = 1 << sector_shift;
        let mut slot = Slot::default();
        let mut model = vec![(SectorState::Absent, 0); sectors];
        let mut resident = 0;
        for (step, range) in steps {
            if range.is_empty() {
                continue;
            }
            match step {
                Step::Write(byte) => {
                    let data = vec![byte; range.len() * sector_size];
                    let host = HostBuffers::from_ref(&data);
                    let mut reader = host.buffers().reader();
                    resident += slot
                        .write(sector_shift, range.clone(), &mut reader)
                        .unwrap();
                    model[range].fill((SectorState::Data, byte));
                }
                Step::Clear { hide } => {
                    resident -= slot.clear(sector_shift, range.clone(), hide).pages;
                    let state = if hide {
                        SectorState::Zero
                    } else {
                        SectorState::Absent
                    };
                    model[range].fill((state, 0));
                }
            }
            assert_eq!(slot.resident_pages(), resident);
            if let Slot::Stored(chunk) = &slot {
                chunk.check_invariants();
            }
            let mut at = 0;
            while at < sectors {
                let (state, end) = slot.run(at, sectors);
                assert!(
                    model[at..end].iter().all(|(s, _)| *s == state),
                    "{at}..{end}"
                );
                if state == SectorState::Data {
                    let mut data = vec![0; (end - at) * sector_size];
                    let host = HostBuffers::from_mut(&mut data);
                    slot.read(at..end, &mut host.buffers().writer()).unwrap();
                    drop(host);
                    for (sector, bytes) in data.chunks(sector_size).enumerate() {
                        let expected = model[at + sector].1;
                        assert!(
                            bytes.iter().all(|b| *b == expected),
                            "sector {}",
                            at + sector
                        );
                    }
                }
                at = end;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn small_sectors_agree_with_a_model(steps in steps(CHUNK_BYTES >> 9)) {
            agrees_with_a_model(9, steps);
        }

        #[test]
        fn page_sectors_agree_with_a_model(steps in steps(CHUNK_BYTES >> 12)) {
            agrees_with_a_model(12, steps);
        }

        #[test]
        fn large_sectors_agree_with_a_model(steps in steps(CHUNK_BYTES >> 16)) {
            agrees_with_a_model(16, steps);
        }
    }
}
