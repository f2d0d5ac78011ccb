//! Random requests over random memory, against one byte for each byte.

use guestmem::AccessError;
use guestmem::GuestMemory;
use guestmem::GuestRegion;
use guestmem::MemoryRead;
use guestmem::MemoryWrite;
use guestmem::Pages;
use guestmem::copy;
use proptest::prelude::*;
use scsi_buffers::BounceBuffer;
use scsi_buffers::GuestRange;
use scsi_buffers::HostBuffers;
use scsi_buffers::OwnedRequestBuffers;
use scsi_buffers::RequestBuffers;

/// What a request should be.
struct Model {
    /// Each address: no memory, or the byte there and whether it may be written.
    memory: Vec<Option<(u8, bool)>>,
    /// The address of each byte of the request, in order.
    places: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Step {
    /// A part of the request, cut twice; taken modulo what there is.
    cuts: [(usize, usize); 2],
    is_pinned: bool,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    /// Reads in calls of these lengths, skipping where the flag says so.
    Read {
        calls: Vec<(usize, bool)>,
    },
    Write {
        calls: Vec<(usize, bool)>,
        byte: u8,
    },
    Fill {
        byte: u8,
    },
    CopyFrom {
        byte: u8,
        piece: usize,
    },
    Check,
    Iovecs {
        offset: usize,
    },
}

impl Model {
    /// What a call on these bytes of the request meets.
    fn look(&self, places: &[usize], is_write: bool) -> Result<Vec<u8>, Refusal> {
        let bytes = places
            .iter()
            .map(|&place| match self.memory.get(place).copied().flatten() {
                None => Err(Refusal::OutOfRange),
                Some((_, false)) if is_write => Err(Refusal::ReadOnly),
                Some((byte, _)) => Ok(byte),
            });
        bytes.collect()
    }

    fn write(&mut self, places: &[usize], data: &[u8]) -> Result<(), Refusal> {
        self.look(places, true)?;
        for (&place, &byte) in places.iter().zip(data) {
            self.memory[place] = Some((byte, true));
        }
        Ok(())
    }
}

/// An [`AccessError`] without its range: which piece is named depends on how the ranges were joined.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refusal {
    OutOfRange,
    ReadOnly,
}

fn refusal(error: AccessError) -> Refusal {
    match error {
        AccessError::ReadOnly => Refusal::ReadOnly,
        AccessError::OutOfRange { .. } => Refusal::OutOfRange,
        other => panic!("unknown error {other}"),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let calls = || proptest::collection::vec((0_usize..200, proptest::bool::weighted(0.2)), 0..8);
    let action = prop_oneof![
        calls().prop_map(|calls| Action::Read { calls }),
        (calls(), any::<u8>()).prop_map(|(calls, byte)| Action::Write { calls, byte }),
        any::<u8>().prop_map(|byte| Action::Fill { byte }),
        (any::<u8>(), 1_usize..100).prop_map(|(byte, piece)| Action::CopyFrom { byte, piece }),
        Just(Action::Check),
        (0_usize..1000).prop_map(|offset| Action::Iovecs { offset }),
    ];
    let cut = || (0_usize..1000, 0_usize..1000);
    let step =
        (cut(), cut(), any::<bool>(), action).prop_map(|(first, second, is_pinned, action)| Step {
            cuts: [first, second],
            is_pinned,
            action,
        });
    proptest::collection::vec(step, 1..20)
}

/// Does one step to both and compares.
fn run(model: &mut Model, buffers: &RequestBuffers<'_>, step: Step) -> Result<(), TestCaseError> {
    prop_assert_eq!(buffers.len(), model.places.len());
    let (mut buffers, mut places) = (*buffers, model.places.clone());
    for (offset, len) in step.cuts {
        let offset = offset % (places.len() + 1);
        // Often all of the rest, sometimes less.
        let len = len.min(places.len() - offset);
        buffers = buffers.subrange(offset, len);
        places = places[offset..offset + len].to_vec();
    }
    match buffers.pin() {
        Some(pin) if step.is_pinned => act(model, &pin.buffers(), &places, step.action),
        _ => act(model, &buffers, &places, step.action),
    }
}

fn act(
    model: &mut Model,
    buffers: &RequestBuffers<'_>,
    places: &[usize],
    action: Action,
) -> Result<(), TestCaseError> {
    match action {
        Action::Read { calls } => {
            let mut reader = buffers.reader();
            let mut rest = places;
            for (len, is_skip) in calls {
                let (call, after) = rest.split_at(len.min(rest.len()));
                let mut data = vec![0xEE; call.len()];
                if is_skip {
                    prop_assert_eq!(reader.skip(call.len()), Ok(()));
                    rest = after;
                    continue;
                }
                match (reader.read(&mut data), model.look(call, false)) {
                    (Ok(()), Ok(expected)) => {
                        prop_assert_eq!(&data, &expected);
                        rest = after;
                    }
                    (Err(error), Err(expected)) => {
                        prop_assert_eq!(refusal(error), expected);
                        prop_assert!(data.iter().all(|&byte| byte == 0xEE));
                    }
                    (found, expected) => prop_assert!(false, "{found:?} instead of {expected:?}"),
                }
                prop_assert_eq!(reader.len(), rest.len());
            }
        }
        Action::Write { calls, byte } => {
            let mut writer = buffers.writer();
            let mut rest = places;
            for (len, is_skip) in calls {
                let (call, after) = rest.split_at(len.min(rest.len()));
                let data: Vec<u8> = (0..call.len())
                    .map(|i| byte.wrapping_add(i as u8))
                    .collect();
                let found = if is_skip {
                    writer.skip(call.len())
                } else {
                    writer.write(&data)
                };
                let expected = if is_skip {
                    Ok(())
                } else {
                    model.write(call, &data)
                };
                prop_assert_eq!(found.map_err(refusal), expected);
                if expected.is_ok() {
                    rest = after;
                }
                prop_assert_eq!(writer.len(), rest.len());
            }
        }
        Action::Fill { byte } => {
            let found = buffers.writer().fill(byte, places.len());
            let expected = model.write(places, &vec![byte; places.len()]);
            prop_assert_eq!(found.map_err(refusal), expected);
        }
        Action::CopyFrom { byte, piece } => {
            let data: Vec<u8> = (0..places.len())
                .map(|i| byte.wrapping_sub(i as u8))
                .collect();
            let source = HostBuffers::from_slices(data.chunks(piece));
            let found = buffers.copy_from(&source.buffers());
            prop_assert_eq!(found.map_err(refusal), model.write(places, &data));
        }
        Action::Check => {
            let readable = model.look(places, false).map(|_| ());
            let writable = model.look(places, true).map(|_| ());
            prop_assert_eq!(buffers.check_readable().map_err(refusal), readable);
            prop_assert_eq!(buffers.check_writable().map_err(refusal), writable);
        }
        Action::Iovecs { offset } => {
            let offset = offset % (places.len() + 1);
            match (buffers.iovecs(offset), model.look(&places[offset..], false)) {
                (Ok(batch), Ok(expected)) => {
                    let mut data = Vec::new();
                    for segment in batch.iter() {
                        prop_assert!(!segment.is_empty());
                        data.resize(data.len() + segment.len(), 0);
                        let start = data.len() - segment.len();
                        copy::read(*segment, &mut data[start..]);
                    }
                    prop_assert_eq!(batch.len_bytes(), expected.len());
                    prop_assert_eq!(data, expected);
                }
                (Err(error), Err(expected)) => prop_assert_eq!(refusal(error), expected),
                (found, expected) => prop_assert!(false, "{found:?} instead of {expected:?}"),
            }
        }
    }
    Ok(())
}

/// Guest memory with regions that touch, a ROM, and a hole; and the same for the model.
fn guest_memory() -> (GuestMemory, Vec<Option<(u8, bool)>>) {
    let mut bytes = vec![None; 100];
    let mut regions = Vec::new();
    for (gap, len, is_writable) in [
        (0, 300, true),
        (0, 150, true),
        (40, 200, true),
        (0, 60, false),
    ] {
        bytes.extend(std::iter::repeat_n(None, gap));
        let region = GuestRegion::new(bytes.len() as u64, Pages::new(len).unwrap());
        regions.push(if is_writable {
            region
        } else {
            region.read_only()
        });
        bytes.extend(std::iter::repeat_n(Some((0, is_writable)), len));
    }
    (GuestMemory::from_regions(regions).unwrap(), bytes)
}

proptest! {
    /// Ranges may be anywhere: overlap, repeat, be empty, be no memory.
    #[test]
    fn any_guest_request_does_what_the_model_does(
        ranges in proptest::collection::vec((100_usize..900, 0_usize..120), 0..12),
        steps in steps(),
    ) {
        let (guest, memory) = guest_memory();
        let places = ranges.iter().flat_map(|&(address, len)| address..address + len).collect();
        let mut model = Model { memory, places };
        let ranges = ranges.into_iter().map(|(address, len)| GuestRange { address: address as u64, len });
        let request = OwnedRequestBuffers::from_ranges(ranges, true);
        for step in steps {
            run(&mut model, &request.buffer(&guest), step)?;
        }
        for (address, place) in model.memory.iter().enumerate() {
            prop_assert_eq!(guest.read_plain::<u8>(address as u64).ok(), place.map(|(byte, _)| byte));
        }
    }

    #[test]
    fn any_host_request_does_what_the_model_does(
        pieces in proptest::collection::vec((0_usize..20, 0_usize..120), 0..12),
        steps in steps(),
    ) {
        let total = pieces.iter().map(|(gap, len)| gap + len).sum();
        let mut memory = vec![0; total];
        let mut model = Model { memory: vec![Some((0, true)); total], places: Vec::new() };
        let (mut rest, mut at) = (&mut memory[..], 0);
        let mut slices = Vec::new();
        for (gap, len) in pieces {
            let (slice, after) = std::mem::take(&mut rest)[gap..].split_at_mut(len);
            slices.push(slice);
            rest = after;
            model.places.extend(at + gap..at + gap + len);
            at += gap + len;
        }
        let host = HostBuffers::from_mut_slices(slices);
        for step in steps {
            run(&mut model, &host.buffers(), step)?;
        }
        drop(host);
        let expected: Vec<u8> = model.memory.iter().map(|place| place.unwrap().0).collect();
        prop_assert_eq!(memory, expected);
    }

    #[test]
    fn any_bounce_request_does_what_the_model_does(len in 0_usize..9000, steps in steps()) {
        let mut model = Model { memory: vec![Some((0, true)); len], places: (0..len).collect() };
        let mut buffer = BounceBuffer::unpooled(len).unwrap();
        for step in steps {
            run(&mut model, &buffer.buffers(true), step)?;
        }
        let expected: Vec<u8> = model.memory.iter().map(|place| place.unwrap().0).collect();
        prop_assert_eq!(buffer.as_slice().unwrap(), expected);
    }
}
