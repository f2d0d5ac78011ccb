//! Requests over memory of all kinds, and what is done with them, compared with a byte for each byte.
//!
//! The memory of a request is guest memory with a ROM and a hole, slices of the host, or a bounce buffer. Parts of parts are taken, read,
//! written, filled, copied, pinned and handed over as iovecs, each time against the model.

use crate::leaks::{Watch, bound_memory};
use arbitrary::{Arbitrary, Result, Unstructured};
use guestmem::{AccessError, GuestMemory, GuestRegion, MemoryRead, MemoryWrite, Pages, copy};
use scsi_buffers::{BounceBuffer, GuestRange, HostBuffers, OwnedRequestBuffers, RequestBuffers};

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 64 << 20;
const STEPS_MAX: usize = 64;
/// Addresses below are no memory, those of the ROM are read-only, and those of the hole are none again.
const START: usize = 100;
const ROM: std::ops::Range<usize> = 400..500;
const HOLE: std::ops::Range<usize> = 500..550;
const END: usize = 900;

/// One run.
pub fn run(bytes: &[u8]) {
    bound_memory(MEMORY_BYTES_MAX);
    let mut input = Unstructured::new(bytes);
    // Input that has run out ends a run as well as any other.
    let _ = match input.int_in_range(0..=2) {
        Ok(0) => guest(&mut input),
        Ok(1) => host(&mut input),
        _ => bounce(&mut input),
    };
    WATCH.run_ended();
}

fn guest(input: &mut Unstructured<'_>) -> Result<()> {
    let regions = [(START, ROM.start), (ROM.start, ROM.end), (HOLE.end, END)];
    let regions = regions.map(|(start, end)| {
        let pages = Pages::new(end - start).expect("there is memory");
        let region = GuestRegion::new(start as u64, pages);
        match start == ROM.start {
            true => region.read_only(),
            false => region,
        }
    });
    let memory = GuestMemory::from_regions(regions.into()).expect("they do not overlap");
    let byte_at = |at: usize| match at {
        _ if !(START..END).contains(&at) || HOLE.contains(&at) => None,
        _ => Some((0, !ROM.contains(&at))),
    };
    let mut model = Model {
        memory: (0..END + 200).map(byte_at).collect(),
        places: Vec::new(),
        is_writable: !input.ratio(1_u8, 8)?,
    };
    let mut ranges = Vec::new();
    for _ in 0..input.int_in_range(0..=10)? {
        let address = input.int_in_range(0..=END)?;
        let len = input.int_in_range(0..=120)?;
        model.places.extend(address..address + len);
        ranges.push(GuestRange {
            address: address as u64,
            len,
        });
    }
    let request = OwnedRequestBuffers::from_ranges(ranges, model.is_writable);
    steps(input, &mut model, &request.buffer(&memory))?;
    for (address, place) in model.memory.iter().enumerate() {
        let found = memory.read_plain::<u8>(address as u64).ok();
        assert_eq!(found, place.map(|(byte, _)| byte), "at {address}");
    }
    Ok(())
}

fn host(input: &mut Unstructured<'_>) -> Result<()> {
    let mut lens = Vec::new();
    for _ in 0..input.int_in_range(0..=10)? {
        lens.push(input.int_in_range(0..=150_usize)?);
    }
    let total = lens.iter().sum();
    let mut memory = vec![0; total];
    let mut model = Model::plain(total);
    let mut rest = &mut memory[..];
    let slices = lens.iter().map(|len| {
        let (slice, after) = std::mem::take(&mut rest).split_at_mut(*len);
        rest = after;
        slice
    });
    let slices: Vec<_> = slices.collect();
    let buffers = HostBuffers::from_mut_slices(slices);
    let done = steps(input, &mut model, &buffers.buffers());
    drop(buffers);
    assert!(memory == model.bytes());
    done
}

fn bounce(input: &mut Unstructured<'_>) -> Result<()> {
    let len = input.int_in_range(0..=9000)?;
    let mut buffer = BounceBuffer::unpooled(len).expect("there is memory");
    let mut model = Model::plain(len);
    let done = steps(input, &mut model, &buffer.buffers(true));
    let left = buffer.as_slice().expect("no pin is left");
    assert!(left == model.bytes());
    done
}

/// What the memory holds, and where the bytes of the request lie in it.
struct Model {
    /// Each address: no memory, or the byte there and whether it may be written.
    memory: Vec<Option<(u8, bool)>>,
    places: Vec<usize>,
    is_writable: bool,
}

/// An [`AccessError`] without its range.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refusal {
    NoMemory,
    ReadOnly,
}

impl Model {
    fn plain(len: usize) -> Self {
        Self {
            memory: vec![Some((0, true)); len],
            places: (0..len).collect(),
            is_writable: true,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.memory.iter().map(|place| place.map(|(byte, _)| byte));
        bytes.map(|byte| byte.expect("all is memory")).collect()
    }

    fn read(&self, places: &[usize]) -> std::result::Result<Vec<u8>, Refusal> {
        let bytes = places.iter().map(|place| self.memory.get(*place)?.as_ref());
        let bytes = bytes.map(|byte| byte.map(|(byte, _)| *byte));
        bytes.map(|byte| byte.ok_or(Refusal::NoMemory)).collect()
    }

    /// All or nothing, and why not.
    fn check_write(&self, places: &[usize]) -> std::result::Result<(), Refusal> {
        if !self.is_writable {
            return Err(Refusal::ReadOnly);
        }
        for place in places {
            match self.memory.get(*place).copied().flatten() {
                None => return Err(Refusal::NoMemory),
                Some((_, false)) => return Err(Refusal::ReadOnly),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, places: &[usize], data: &[u8]) -> std::result::Result<(), Refusal> {
        self.check_write(places)?;
        for (place, byte) in places.iter().zip(data) {
            self.memory[*place] = Some((*byte, true));
        }
        Ok(())
    }
}

fn steps(
    input: &mut Unstructured<'_>,
    model: &mut Model,
    whole: &RequestBuffers<'_>,
) -> Result<()> {
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (mut part, mut places) = (*whole, model.places.clone());
        for _ in 0..input.int_in_range(0..=2)? {
            let offset = input.int_in_range(0..=places.len())?;
            let len = input.int_in_range(0..=places.len() - offset)?;
            part = part.subrange(offset, len);
            places = places[offset..offset + len].to_vec();
        }
        assert_eq!(
            (part.len(), part.is_empty()),
            (places.len(), places.is_empty())
        );
        assert_eq!(part.is_writable(), model.is_writable);
        let pin = match bool::arbitrary(input)? {
            true => part.pin(),
            false => None,
        };
        let part = pin.as_ref().map_or(part, |pin| pin.buffers());
        step(input, model, &part, &places)?;
    }
    Ok(())
}

fn step(
    input: &mut Unstructured<'_>,
    model: &mut Model,
    part: &RequestBuffers<'_>,
    places: &[usize],
) -> Result<()> {
    match input.int_in_range(0..=5_u8)? {
        0 => read_in_calls(input, model, part, places)?,
        1 => write_in_calls(input, model, part, places)?,
        2 => {
            let byte = u8::arbitrary(input)?;
            let found = part.writer().fill(byte, places.len()).map_err(refusal);
            // Filling nothing is no access.
            if !places.is_empty() {
                assert_eq!(found, model.write(places, &vec![byte; places.len()]));
            }
        }
        3 => {
            let seed = u8::arbitrary(input)?;
            let piece = input.int_in_range(1..=64)?;
            let data: Vec<u8> = (0..places.len())
                .map(|at| seed.wrapping_sub(at as u8))
                .collect();
            let source = HostBuffers::from_slices(data.chunks(piece));
            let found = part.copy_from(&source.buffers()).map_err(refusal);
            assert_eq!(found, model.write(places, &data));
        }
        4 => {
            let readable = model.read(places).map(|_| ());
            assert_eq!(part.check_readable().map_err(refusal), readable);
            let writable = model.check_write(places);
            assert_eq!(part.check_writable().map_err(refusal), writable);
        }
        _ => {
            let offset = input.int_in_range(0..=places.len())?;
            check_iovecs(model, part, places, offset);
        }
    }
    Ok(())
}

fn read_in_calls(
    input: &mut Unstructured<'_>,
    model: &Model,
    part: &RequestBuffers<'_>,
    places: &[usize],
) -> Result<()> {
    let mut reader = part.reader();
    let mut rest = places;
    while !rest.is_empty() && !input.is_empty() {
        let (call, after) = rest.split_at(input.int_in_range(0..=rest.len())?);
        if input.ratio(1_u8, 5)? {
            assert_eq!(reader.skip(call.len()), Ok(()));
            rest = after;
            continue;
        }
        let mut data = vec![0xee; call.len()];
        let found = reader.read(&mut data).map_err(refusal);
        match model.read(call) {
            Ok(expected) => {
                assert_eq!(found, Ok(()));
                assert!(data == expected);
                rest = after;
            }
            Err(expected) => {
                assert_eq!(found, Err(expected));
                assert!(data.iter().all(|byte| *byte == 0xee), "half a read");
            }
        }
        assert_eq!(reader.len(), rest.len());
    }
    let mut beyond = vec![0; rest.len() + 1];
    assert!(reader.read(&mut beyond).is_err());
    Ok(())
}

fn write_in_calls(
    input: &mut Unstructured<'_>,
    model: &mut Model,
    part: &RequestBuffers<'_>,
    places: &[usize],
) -> Result<()> {
    let mut writer = part.writer();
    let mut rest = places;
    while !rest.is_empty() && !input.is_empty() {
        let len = input.int_in_range(1..=rest.len())?;
        let (call, after) = rest.split_at(len);
        let seed = u8::arbitrary(input)?;
        let data: Vec<u8> = (0..len).map(|at| seed.wrapping_add(at as u8)).collect();
        let found = writer.write(&data).map_err(refusal);
        assert_eq!(found, model.write(call, &data));
        if found.is_ok() {
            rest = after;
        }
        assert_eq!(writer.len(), rest.len());
    }
    assert!(writer.write(&vec![0; rest.len() + 1]).is_err());
    Ok(())
}

/// The batch is what is read from there, in host memory that is aligned exactly if each of its segments is.
fn check_iovecs(model: &Model, part: &RequestBuffers<'_>, places: &[usize], offset: usize) {
    let expected = model.read(&places[offset..]);
    let batch = match (part.iovecs(offset), &expected) {
        (Ok(batch), Ok(_)) => batch,
        (Err(error), Err(expected)) => {
            assert_eq!(refusal(error), *expected);
            assert!(!part.is_aligned(1), "what is no memory is not aligned");
            return;
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    };
    let mut data = Vec::new();
    for segment in batch.iter() {
        assert!(!segment.is_empty());
        let mut piece = vec![0; segment.len()];
        copy::read(*segment, &mut piece);
        data.extend(piece);
    }
    assert_eq!(batch.len_bytes(), data.len());
    assert!(Ok(data) == expected, "other bytes than those of the model");
    if offset > 0 {
        return;
    }
    for alignment in [1, 2, 16, 512, 4096] {
        let is_aligned = batch
            .iter()
            .all(|segment| (segment.as_ptr().addr() | segment.len()).is_multiple_of(alignment));
        assert_eq!(part.is_aligned(alignment), is_aligned, "to {alignment}");
    }
}

fn refusal(error: AccessError) -> Refusal {
    match error {
        AccessError::ReadOnly => Refusal::ReadOnly,
        AccessError::OutOfRange { .. } => Refusal::NoMemory,
        other => panic!("unknown error {other}"),
    }
}
