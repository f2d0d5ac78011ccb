//! Where the bytes of one request lie: in host or guest memory, in pieces of odd lengths at odd addresses, some of them empty.

use fastrand::Rng;
use guestmem::GuestMemory;
use scsi_buffers::{GuestRange, HostBuffers, OwnedRequestBuffers, RequestBuffers};
use std::ops::Range;

/// What the memory holds before anything is put there.
const BACKGROUND: u8 = 0xc5;

const PIECES_MAX: usize = 7;
const GAP_BYTES_MAX: usize = 70;

/// Guest memory for one request after another: to map it anew each time would take longer than all else.
pub(crate) struct MemoryBank(GuestMemory);

/// The memory of one request.
pub(crate) struct RequestMemory {
    place: Place,
    /// The bytes from the first on that belong to the request, or lie between those.
    extent_bytes: usize,
    /// Where the pieces lie, in the order of the request. In host memory this is the order of their addresses too.
    pieces: Vec<Range<usize>>,
}

enum Place {
    Host(Vec<u8>),
    Guest(GuestMemory),
}

/// What [`RequestBuffers`] borrow from.
pub(crate) enum Description<'a> {
    Host(HostBuffers<'a>),
    Guest(OwnedRequestBuffers, &'a GuestMemory),
}

impl Description<'_> {
    pub(crate) fn buffers(&self) -> RequestBuffers<'_> {
        match self {
            Self::Host(host) => host.buffers(),
            Self::Guest(ranges, memory) => ranges.buffer(memory),
        }
    }
}

impl MemoryBank {
    pub(crate) fn new() -> Self {
        Self(GuestMemory::allocate(1))
    }

    fn lend(&mut self, len: usize) -> GuestMemory {
        if self.0.len() < len as u64 {
            self.0 = GuestMemory::allocate(len.next_power_of_two());
        }
        self.0.clone()
    }
}

impl RequestMemory {
    /// Memory of either kind for `len` bytes. There is one request at a time for each bank.
    pub(crate) fn new(rng: &mut Rng, len: usize, bank: &mut MemoryBank) -> Self {
        if rng.bool() {
            return Self::guest(rng, len, bank);
        }
        let (pieces, extent_bytes) = lay_out(cut(rng, len), rng, |_, _| ());
        Self {
            place: Place::Host(vec![BACKGROUND; extent_bytes]),
            pieces,
            extent_bytes,
        }
    }

    /// Guest memory for `len` bytes: it can be pinned, and a part of it can be missing.
    pub(crate) fn guest(rng: &mut Rng, len: usize, bank: &mut MemoryBank) -> Self {
        let (pieces, extent_bytes) = lay_out(cut(rng, len), rng, |rng, order| rng.shuffle(order));
        let memory = bank.lend(extent_bytes);
        memory
            .fill_at(0, BACKGROUND, extent_bytes)
            .expect("it is all memory");
        Self {
            place: Place::Guest(memory),
            pieces,
            extent_bytes,
        }
    }

    /// Puts the data of a write into the pieces.
    pub(crate) fn put(&mut self, data: &[u8]) {
        let mut rest = data;
        for piece in &self.pieces {
            let (part, after) = rest.split_at(piece.len());
            rest = after;
            match &mut self.place {
                Place::Host(bytes) => bytes[piece.clone()].copy_from_slice(part),
                Place::Guest(memory) => memory
                    .write_at(piece.start as u64, part)
                    .expect("the pieces are memory"),
            }
        }
        assert!(rest.is_empty(), "the data has the length of the pieces");
    }

    /// What lies in the pieces.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut taken = Vec::with_capacity(self.pieces.iter().map(Range::len).sum());
        for piece in &self.pieces {
            match &self.place {
                Place::Host(bytes) => taken.extend_from_slice(&bytes[piece.clone()]),
                Place::Guest(memory) => {
                    let at = taken.len();
                    taken.resize(at + piece.len(), 0);
                    memory
                        .read_at(piece.start as u64, &mut taken[at..])
                        .expect("the pieces are memory");
                }
            }
        }
        taken
    }

    /// For a disk write.
    pub(crate) fn for_disk_write(&self) -> Description<'_> {
        match &self.place {
            Place::Host(bytes) => Description::Host(HostBuffers::from_slices(
                self.pieces.iter().map(|piece| &bytes[piece.clone()]),
            )),
            Place::Guest(memory) => Description::Guest(guest_ranges(&self.pieces, false), memory),
        }
    }

    /// For a disk read.
    pub(crate) fn for_disk_read(&mut self) -> Description<'_> {
        match &mut self.place {
            Place::Host(bytes) => {
                Description::Host(HostBuffers::from_mut_slices(disjoint(bytes, &self.pieces)))
            }
            Place::Guest(memory) => Description::Guest(guest_ranges(&self.pieces, true), memory),
        }
    }

    /// With its last byte where no memory is. Only for guest memory that is not empty.
    pub(crate) fn partly_missing(&self, is_write: bool) -> Description<'_> {
        let Place::Guest(memory) = &self.place else {
            panic!("only guest memory can be missing");
        };
        let pieces = self.pieces.iter().filter(|piece| !piece.is_empty());
        let mut ranges: Vec<_> = pieces.map(guest_range).collect();
        let last = ranges.last_mut().expect("the memory is not empty");
        last.len -= 1;
        ranges.push(GuestRange {
            address: memory.len() + 4096,
            len: 1,
        });
        Description::Guest(OwnedRequestBuffers::from_ranges(ranges, is_write), memory)
    }

    /// Whether everything outside of the pieces is as it was.
    pub(crate) fn is_untouched_outside(&self) -> bool {
        let mut pieces: Vec<_> = self.pieces.iter().collect();
        pieces.sort_unstable_by_key(|piece| (piece.start, piece.end));
        let mut gap_start = 0;
        for piece in pieces {
            if !self.is_background(gap_start..piece.start) {
                return false;
            }
            gap_start = piece.end;
        }
        self.is_background(gap_start..self.extent_bytes)
    }

    /// Whether nothing was put anywhere.
    pub(crate) fn is_untouched(&self) -> bool {
        self.is_background(0..self.extent_bytes)
    }

    fn is_background(&self, range: Range<usize>) -> bool {
        match &self.place {
            Place::Host(bytes) => is_background(&bytes[range]),
            Place::Guest(memory) => {
                let mut bytes = vec![0; range.len()];
                memory
                    .read_at(range.start as u64, &mut bytes)
                    .expect("it is all memory");
                is_background(&bytes)
            }
        }
    }
}

fn is_background(bytes: &[u8]) -> bool {
    bytes
        .chunks(64)
        .all(|chunk| *chunk == [BACKGROUND; 64][..chunk.len()])
}

fn guest_ranges(pieces: &[Range<usize>], is_write: bool) -> OwnedRequestBuffers {
    OwnedRequestBuffers::from_ranges(pieces.iter().map(guest_range), is_write)
}

fn guest_range(piece: &Range<usize>) -> GuestRange {
    GuestRange {
        address: piece.start as u64,
        len: piece.len(),
    }
}

/// Cuts `len` bytes into lengths, in the order of the request.
fn cut(rng: &mut Rng, len: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = (0..rng.usize(0..PIECES_MAX))
        .map(|_| rng.usize(0..=len))
        .collect();
    if rng.bool() {
        // The same place twice: a piece without bytes.
        cuts.extend(cuts.first().copied());
    }
    cuts.push(len);
    cuts.sort_unstable();
    let mut from = 0;
    let lengths = cuts
        .into_iter()
        .map(|to| to - std::mem::replace(&mut from, to));
    lengths.collect()
}

/// Gives each piece a place, in the order that `shuffle` makes of them. Returns the places and the length of it all.
fn lay_out(
    lengths: Vec<usize>,
    rng: &mut Rng,
    shuffle: impl FnOnce(&mut Rng, &mut [usize]),
) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<_> = (0..lengths.len()).collect();
    shuffle(rng, &mut order);
    let mut pieces = vec![0..0; lengths.len()];
    let mut at = rng.usize(0..GAP_BYTES_MAX);
    for index in order {
        pieces[index] = at..at + lengths[index];
        at = pieces[index].end + rng.usize(0..GAP_BYTES_MAX);
    }
    (pieces, at + 1)
}

/// The pieces of `bytes`, which are in order and do not overlap.
fn disjoint<'a>(bytes: &'a mut [u8], pieces: &[Range<usize>]) -> Vec<&'a mut [u8]> {
    let mut rest = bytes;
    let mut at = 0;
    let mut slices = Vec::new();
    for piece in pieces {
        let (_, from) = rest.split_at_mut(piece.start - at);
        let (slice, after) = from.split_at_mut(piece.len());
        slices.push(slice);
        rest = after;
        at = piece.end;
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use guestmem::{AccessError, MemoryWrite};

    #[test]
    fn what_is_put_is_what_the_request_reads_and_nothing_else_is_touched() {
        let mut rng = Rng::with_seed(3);
        let mut bank = MemoryBank::new();
        for len in [0, 1, 512, 5000] {
            for _ in 0..20 {
                let mut memory = RequestMemory::new(&mut rng, len, &mut bank);
                assert!(memory.is_untouched());
                let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
                memory.put(&data);
                assert_eq!(memory.for_disk_write().buffers().len(), len);
                memory
                    .for_disk_read()
                    .buffers()
                    .writer()
                    .fill(1, len)
                    .unwrap();
                assert_eq!(memory.take(), vec![1; len]);
                assert!(memory.is_untouched_outside());
            }
        }
    }

    #[test]
    fn memory_that_is_partly_missing_has_the_length_of_the_whole() {
        let memory = RequestMemory::guest(&mut Rng::with_seed(5), 1024, &mut MemoryBank::new());
        let description = memory.partly_missing(true);
        assert_eq!(description.buffers().len(), 1024);
        assert!(matches!(
            description.buffers().check_writable(),
            Err(AccessError::OutOfRange { .. })
        ));
    }
}
