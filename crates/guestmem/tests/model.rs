//! Random accesses to random guest memories, against a plain map of bytes.

use guestmem::AccessError;
use guestmem::GuestMemory;
use guestmem::GuestRegion;
use guestmem::Pages;
use proptest::prelude::*;

/// The addresses under test: few enough that accesses meet borders often.
const SPACE_BYTES: usize = 3000;

/// Each address: no memory, or the byte there and whether it may be written.
struct Model {
    bytes: Vec<Option<(u8, bool)>>,
}

#[derive(Clone, Debug)]
enum Access {
    Read {
        address: usize,
        len: usize,
    },
    Write {
        address: usize,
        data: Vec<u8>,
    },
    Fill {
        address: usize,
        byte: u8,
        len: usize,
    },
    Segments {
        address: usize,
        len: usize,
    },
}

/// Gaps and lengths of regions, from the lowest address up, and whether each may be written.
fn regions() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    // Half of the gaps are nothing, so that regions touch.
    let gap = prop_oneof![Just(0), 1_usize..200];
    proptest::collection::vec((gap, 0_usize..600, proptest::bool::weighted(0.8)), 0..6)
}

fn accesses() -> impl Strategy<Value = Vec<Access>> {
    let access =
        (0..SPACE_BYTES, 0_usize..900, any::<u8>(), 0..4).prop_map(|(address, len, byte, kind)| {
            match kind {
                0 => Access::Read { address, len },
                1 => Access::Write {
                    address,
                    data: (0..len).map(|i| byte.wrapping_add(i as u8)).collect(),
                },
                2 => Access::Fill { address, byte, len },
                _ => Access::Segments { address, len },
            }
        });
    proptest::collection::vec(access, 1..40)
}

impl Model {
    /// What an access to this range meets first: `Err`, or the current bytes.
    fn look(&self, address: usize, len: usize, is_write: bool) -> Result<Vec<u8>, AccessError> {
        let mut found = Vec::new();
        for place in address..address + len {
            match self.bytes.get(place).copied().flatten() {
                None => {
                    return Err(AccessError::OutOfRange {
                        address: address as u64,
                        len: len as u64,
                    });
                }
                Some((_, false)) if is_write => return Err(AccessError::ReadOnly),
                Some((byte, _)) => found.push(byte),
            }
        }
        Ok(found)
    }

    fn write(&mut self, address: usize, data: &[u8]) -> Result<(), AccessError> {
        self.look(address, data.len(), true)?;
        for (place, &byte) in self.bytes.iter_mut().skip(address).zip(data) {
            *place = Some((byte, true));
        }
        Ok(())
    }
}

fn build(regions: &[(usize, usize, bool)]) -> (GuestMemory, Model) {
    let mut bytes = Vec::new();
    let mut built = Vec::new();
    for &(gap, len, is_writable) in regions {
        bytes.extend(std::iter::repeat_n(None, gap));
        let region = GuestRegion::new(bytes.len() as u64, Pages::new(len).unwrap());
        built.push(if is_writable {
            region
        } else {
            region.read_only()
        });
        bytes.extend(std::iter::repeat_n(Some((0, is_writable)), len));
    }
    built.reverse();
    (GuestMemory::from_regions(built).unwrap(), Model { bytes })
}

fn run(memory: &GuestMemory, model: &mut Model, access: Access) -> Result<(), TestCaseError> {
    match access {
        Access::Read { address, len } => {
            let mut data = vec![0xEE; len];
            let result = memory.read_at(address as u64, &mut data);
            match model.look(address, len, false) {
                Ok(expected) => prop_assert_eq!(&data, &expected),
                Err(_) => prop_assert!(data.iter().all(|&byte| byte == 0xEE)),
            }
            prop_assert_eq!(result, model.look(address, len, false).map(|_| ()));
        }
        Access::Write { address, data } => {
            prop_assert_eq!(
                memory.write_at(address as u64, &data),
                model.write(address, &data)
            );
        }
        Access::Fill { address, byte, len } => {
            prop_assert_eq!(
                memory.fill_at(address as u64, byte, len),
                model.write(address, &vec![byte; len])
            );
        }
        Access::Segments { address, len } => {
            let found: Result<Vec<_>, _> = memory.segments(address as u64, len).collect();
            let expected = model.look(address, len, false);
            match (found, expected) {
                (Ok(segments), Ok(expected)) => {
                    let mut data = Vec::new();
                    for segment in segments {
                        prop_assert!(!segment.is_empty());
                        let mut piece = vec![0; segment.len()];
                        guestmem::copy::read(segment, &mut piece);
                        data.extend(piece);
                    }
                    prop_assert_eq!(data, expected);
                }
                (found, expected) => prop_assert_eq!(found.map(|_| ()), expected.map(|_| ())),
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_accesses_do_what_the_model_does(regions in regions(), accesses in accesses()) {
        let (memory, mut model) = build(&regions);
        for access in accesses {
            run(&memory, &mut model, access)?;
        }
        for (address, place) in model.bytes.iter().enumerate() {
            let byte = memory.read_plain::<u8>(address as u64).ok();
            prop_assert_eq!(byte, place.map(|(byte, _)| byte));
        }
    }
}
