//! Stacks of layers, as the bytes choose them, and operations on them, compared with a byte array.
//!
//! A stack is a disk in memory with content, under layers of any lengths that are caches, are written through or are neither; it may
//! stand in another stack as a layer. Every operation ends as the contract says, and after each all that it touched is compared.

use crate::leaks::{Watch, bound_memory};
use arbitrary::{Arbitrary, Result, Unstructured};
use disk_backend::{BlockState, Disk, DiskError, UnmapBehavior};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

static WATCH: Watch = Watch::new();
const MEMORY_BYTES_MAX: usize = 64 << 20;
const SECTOR: usize = 512;
const SECTORS_MAX: u64 = 64;
const LEVELS_MAX: u32 = 3;
const OPERATIONS_MAX: usize = 100;

/// One run.
pub fn run(bytes: &[u8]) {
    bound_memory(MEMORY_BYTES_MAX);
    let mut input = Unstructured::new(bytes);
    // Input that has run out ends a run as well as any other.
    let _ = run_chosen(&mut input);
    WATCH.run_ended();
}

fn run_chosen(input: &mut Unstructured<'_>) -> Result<()> {
    let Some((disk, model)) = stack(input, LEVELS_MAX)? else {
        return Ok(());
    };
    let mut tried = Tried { disk, model };
    tried.compare(0, tried.count());
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        tried.step(input)?;
    }
    tried.compare(0, tried.count());
    Ok(())
}

/// A disk and what it holds; nothing if its layers do not go together.
fn stack(input: &mut Unstructured<'_>, levels: u32) -> Result<Option<(Disk, Vec<u8>)>> {
    let Some((base, mut content)) = base(input, levels)? else {
        return Ok(None);
    };
    // From the bottom up; the lists of layers have it the other way round.
    let mut layers = vec![LayerConfiguration::new(DiskLayer::from_disk(base))];
    for _ in 0..input.int_in_range(0..=4)? {
        let mut layer = LazyRamDiskLayer::new();
        if input.ratio(1_u8, 4)? {
            let sectors = input.int_in_range(1..=SECTORS_MAX)?;
            layer = layer.with_len(sectors * SECTOR as u64);
            // Beyond the end of a layer there is nothing, whatever lies below.
            content.resize(sectors as usize * SECTOR, 0);
        }
        layers.push(LayerConfiguration {
            layer: DiskLayer::new(layer),
            write_through: false,
            read_cache: bool::arbitrary(input)?,
        });
    }
    layers.reverse();
    let through = input.int_in_range(0..=layers.len() - 1)?;
    layers[..through]
        .iter_mut()
        .for_each(|layer| layer.write_through = true);
    // It is refused where a layer that is written through to is shorter than the top.
    let Ok(disk) = block_on(LayeredDisk::new(false, layers)) else {
        return Ok(None);
    };
    Ok(Some((Disk::new(disk).expect("good metadata"), content)))
}

fn base(input: &mut Unstructured<'_>, levels: u32) -> Result<Option<(Disk, Vec<u8>)>> {
    if levels > 1 && input.ratio(1_u8, 3)? {
        return stack(input, levels - 1);
    }
    let sectors = input.int_in_range(1..=SECTORS_MAX)?;
    let disk = ram_disk(sectors * SECTOR as u64, false).expect("a disk");
    let content = pattern(sectors as usize * SECTOR, u8::arbitrary(input)?);
    let host = HostBuffers::from_ref(&content);
    block_on(disk.write_vectored(&host.buffers(), 0, false)).expect("it is writable");
    drop(host);
    Ok(Some((disk, content)))
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let byte = |at: usize| seed.wrapping_add((at / SECTOR * 7 + at) as u8);
    (0..len).map(byte).collect()
}

struct Tried {
    disk: Disk,
    model: Vec<u8>,
}

impl Tried {
    fn count(&self) -> u64 {
        (self.model.len() / SECTOR) as u64
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        assert_eq!(self.disk.sector_count(), self.count());
        let kind = input.int_in_range(0..=15_u8)?;
        if kind == 15 {
            self.resize(input.int_in_range(0..=SECTORS_MAX)?);
            return Ok(());
        }
        // Mostly inside, sometimes one too far.
        let sector = input.int_in_range(0..=self.count())?;
        let count = input.int_in_range(0..=(self.count() - sector).min(40) + 1)?;
        let is_inside = sector + count <= self.count();
        let (first, second) = <(bool, bool)>::arbitrary(input)?;
        let done = match kind {
            0..5 => self.read(sector, count, is_inside),
            5..9 => self.write(sector, count, u8::arbitrary(input)?, first),
            9..11 => {
                let zeroed = self.disk.write_zeroes(sector, count, first, second, false);
                block_on(zeroed).map(|()| self.fill_zeros(sector, count))
            }
            11..13 => self.unmap(sector, count, first),
            13 => self.status(sector, count, is_inside),
            _ => {
                block_on(self.disk.sync_cache()).expect("memory is flushed");
                return Ok(());
            }
        };
        match done {
            Ok(()) => assert!(is_inside, "{count} sectors at {sector} of {}", self.count()),
            Err(DiskError::IllegalBlock) => assert!(!is_inside, "refused inside"),
            Err(error) => panic!("a disk in memory fails: {error}"),
        }
        if is_inside {
            self.compare(sector, count);
        }
        Ok(())
    }

    fn read(&self, sector: u64, count: u64, is_inside: bool) -> std::result::Result<(), DiskError> {
        let mut data = vec![0xee; count as usize * SECTOR];
        let host = HostBuffers::from_mut(&mut data);
        block_on(self.disk.read_vectored(&host.buffers(), sector))?;
        drop(host);
        assert!(is_inside && data == self.model[bytes(sector, count)]);
        Ok(())
    }

    fn write(
        &mut self,
        sector: u64,
        count: u64,
        seed: u8,
        fua: bool,
    ) -> std::result::Result<(), DiskError> {
        let data = pattern(count as usize * SECTOR, seed);
        // In two segments, so that sectors lie across them.
        let (head, tail) = data.split_at(data.len() / 3);
        let host = HostBuffers::from_slices([head, tail]);
        block_on(self.disk.write_vectored(&host.buffers(), sector, fua))?;
        drop(host);
        self.model[bytes(sector, count)].copy_from_slice(&data);
        Ok(())
    }

    fn fill_zeros(&mut self, sector: u64, count: u64) {
        self.model[bytes(sector, count)].fill(0);
    }

    fn unmap(&mut self, sector: u64, count: u64, hint: bool) -> std::result::Result<(), DiskError> {
        block_on(self.disk.unmap(sector, count, hint))?;
        match self.disk.unmap_behavior() {
            UnmapBehavior::Zeroes => self.fill_zeros(sector, count),
            UnmapBehavior::Ignored => {}
            other => panic!("disks in memory do not leave it open: {other:?}"),
        }
        Ok(())
    }

    /// What is called zero or a hole reads zero (C12).
    fn status(
        &self,
        sector: u64,
        count: u64,
        is_inside: bool,
    ) -> std::result::Result<(), DiskError> {
        let status = block_on(self.disk.block_status(sector, count))?;
        let mut at = sector;
        for extent in status.extents() {
            let range = bytes(at, extent.sector_count);
            at += extent.sector_count;
            let is_zero = self.model[range].iter().all(|byte| *byte == 0);
            assert!(extent.state == BlockState::Data || is_zero, "{extent:?}");
        }
        assert!(is_inside && at <= sector + count && (at > sector || count == 0));
        Ok(())
    }

    /// Sectors that are added read zero, also where there was something before (C10).
    fn resize(&mut self, count: u64) {
        match block_on(self.disk.resize(count)) {
            Ok(()) => self.model.resize(count as usize * SECTOR, 0),
            Err(_) => assert_eq!(count, 0, "only a disk of nothing is refused"),
        }
        assert_eq!(self.disk.sector_count(), self.count());
        self.compare(0, self.count());
    }

    fn compare(&self, sector: u64, count: u64) {
        let mut data = vec![0xee; count as usize * SECTOR];
        let host = HostBuffers::from_mut(&mut data);
        let read = block_on(self.disk.read_vectored(&host.buffers(), sector));
        drop(host);
        read.expect("a disk in memory reads");
        let expected = &self.model[bytes(sector, count)];
        let different = (0..data.len()).find(|at| data[*at] != expected[*at]);
        if let Some(at) = different {
            let place = sector as usize + at / SECTOR;
            panic!("sector {place} reads {}, not {}", data[at], expected[at]);
        }
    }
}

fn bytes(sector: u64, count: u64) -> std::ops::Range<usize> {
    sector as usize * SECTOR..(sector + count) as usize * SECTOR
}
