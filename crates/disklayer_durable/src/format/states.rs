//! What is known of the sectors of a stripe: two bits for each.

use std::ops::Range;

const PER_WORD: u32 = 32;

/// What a sector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Absent = 0,
    Zero = 1,
    Data = 2,
}

impl State {
    fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Absent,
            1 => Self::Zero,
            _ => Self::Data,
        }
    }

    /// A word of nothing but this.
    fn word(self) -> u64 {
        self as u64 * 0x5555_5555_5555_5555
    }
}

/// The states of so many sectors, all absent at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct States {
    words: Box<[u64]>,
    len: u32,
}

impl States {
    pub(crate) fn new(len: u32) -> Self {
        let words = len.div_ceil(PER_WORD) as usize;
        Self {
            words: vec![0; words].into(),
            len,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn get(&self, sector: u32) -> State {
        let word = self.words[(sector / PER_WORD) as usize];
        State::from_bits(word >> (2 * (sector % PER_WORD)))
    }

    pub(crate) fn set(&mut self, sector: u32, state: State) {
        let shift = 2 * (sector % PER_WORD);
        let word = &mut self.words[(sector / PER_WORD) as usize];
        *word = *word & !(3 << shift) | (state as u64) << shift;
    }

    pub(crate) fn fill(&mut self, range: Range<u32>, state: State) {
        let mut at = range.start;
        while at < range.end {
            if at.is_multiple_of(PER_WORD) && range.end - at >= PER_WORD {
                self.words[(at / PER_WORD) as usize] = state.word();
                at += PER_WORD;
            } else {
                self.set(at, state);
                at += 1;
            }
        }
    }

    /// The state of `sector`, and where the run of that state ends, at most at `end`.
    pub(crate) fn run(&self, sector: u32, end: u32) -> (State, u32) {
        let state = self.get(sector);
        let mut at = sector + 1;
        while at < end {
            let word = self.words[(at / PER_WORD) as usize];
            if at.is_multiple_of(PER_WORD) && end - at >= PER_WORD && word == state.word() {
                at += PER_WORD;
            } else if self.get(at) == state {
                at += 1;
            } else {
                break;
            }
        }
        (state, at)
    }

    /// The run of data that a range begins with, if it does.
    pub(crate) fn data_at_start(&self, range: &Range<u32>) -> Option<Range<u32>> {
        let (state, end) = self.run(range.start, range.end);
        (state == State::Data).then_some(range.start..end)
    }

    /// The part of a range before the first data.
    pub(crate) fn up_to_data(&self, range: Range<u32>) -> Range<u32> {
        let mut at = range.start;
        while at < range.end {
            match self.run(at, range.end) {
                (State::Data, _) => break,
                (_, end) => at = end,
            }
        }
        range.start..at
    }

    /// Whether all of a range is `state`.
    pub(crate) fn is_all(&self, range: Range<u32>, state: State) -> bool {
        range.is_empty() || self.run(range.start, range.end) == (state, range.end)
    }

    /// As they lie in a page.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.words.iter().flat_map(|word| word.to_le_bytes())
    }

    /// From a page; none if a sector is what no sector can be.
    pub(crate) fn from_bytes(bytes: &[u8], len: u32) -> Option<Self> {
        let mut states = Self::new(len);
        for (word, bytes) in states.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            if *word & *word >> 1 & 0x5555_5555_5555_5555 != 0 {
                return None;
            }
        }
        Some(states)
    }
}
