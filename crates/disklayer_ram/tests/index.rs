//! Which layers a read of a deep stack of RAM layers asks, and what it makes of layers that change.

use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

/// 128 regions of 64 KiB.
const SECTORS: u64 = 128 * REGION_SECTORS;
const REGION_SECTORS: u64 = 128;

/// A layer whose sectors in `filled` hold `byte`.
fn layer(filled: std::ops::Range<u64>, byte: u8) -> RamDiskLayer {
    let layer = RamDiskLayer::new(SECTORS * 512).unwrap();
    let data = vec![byte; (filled.end - filled.start) as usize * 512];
    if !data.is_empty() {
        let host = HostBuffers::from_ref(&data);
        block_on(layer.write(&host.buffers(), filled.start, false)).unwrap();
    }
    layer
}

fn stack(layers: impl IntoIterator<Item = RamDiskLayer>) -> LayeredDisk {
    let layers = layers.into_iter().map(DiskLayer::new);
    let layers = layers.map(LayerConfiguration::new).collect();
    block_on(LayeredDisk::new(false, layers)).unwrap()
}

/// A full layer of ones under `empty` layers, the middle one of which has a sector of twos at 1000.
fn deep(empty: usize) -> LayeredDisk {
    let uppers = (0..empty).map(|index| match index == empty / 2 {
        true => layer(1000..1001, 2),
        false => layer(0..0, 0),
    });
    stack(uppers.chain([layer(0..SECTORS, 1)]))
}

fn read(disk: &Disk, sector: u64) -> u8 {
    let mut bytes = [0xee; 512];
    let host = HostBuffers::from_mut(&mut bytes);
    block_on(disk.read_vectored(&host.buffers(), sector)).unwrap();
    drop(host);
    bytes[0]
}

fn write(disk: &Disk, sector: u64, byte: u8) {
    let bytes = [byte; 512];
    let host = HostBuffers::from_ref(&bytes);
    block_on(disk.write_vectored(&host.buffers(), sector, false)).unwrap();
}

/// How many bytes each layer was asked for in vain.
fn missed(disk: &Disk, layers: usize) -> Vec<String> {
    let of = |index| {
        let path = format!("layers/{index}/counters/bytes_missed");
        block_on(inspect::inspect(&path, None, disk))
            .unwrap()
            .to_string()
    };
    (0..layers).map(of).collect()
}

#[test]
fn a_read_asks_the_top_and_the_layers_that_may_have_something() {
    let disk = Disk::new(deep(20)).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&disk, 5000), 1);
    }
    let missed = missed(&disk, 21);
    assert_eq!(missed[0], "1536", "the top may change at any time");
    assert!(missed[1..].iter().all(|count| count == "0"), "{missed:?}");
}

#[test]
fn a_layer_that_has_a_part_of_a_region_is_asked_for_that_part() {
    let disk = Disk::new(deep(20)).unwrap();
    for (sector, byte, in_vain) in [(1000, 2, "0"), (1001, 1, "512"), (1010, 1, "512")] {
        assert_eq!(read(&disk, sector), byte);
        let missed = missed(&disk, 21);
        assert_eq!(missed[10], in_vain, "{missed:?}");
        let others = missed[1..].iter().filter(|count| *count != "0").count();
        assert!(others <= 1, "{missed:?}");
    }
}

#[test]
fn without_an_index_each_layer_is_asked() {
    let disk = Disk::new(deep(20).without_index()).unwrap();
    assert_eq!(read(&disk, 5000), 1);
    assert_eq!(missed(&disk, 21)[..20], vec!["512".to_owned(); 20]);
}

/// Writes bytes to every `step`th sector of a layer from `first` on.
fn scatter(layer: &RamDiskLayer, first: u64, step: usize, byte: u8) {
    let data = [byte; 512];
    let host = HostBuffers::from_ref(&data);
    for sector in (first..SECTORS).step_by(step) {
        block_on(layer.write(&host.buffers(), sector, false)).unwrap();
    }
}

#[test]
fn a_layer_that_has_other_parts_of_a_crowded_region_is_not_asked() {
    // A sixteenth of a region has eight sectors: each layer has one of those of each but the last two of them.
    let uppers = (0..30).map(|index| {
        let layer = layer(0..0, 0);
        (0..14).for_each(|part| scatter(&layer, part * 8 + index % 8, 128, 2));
        layer
    });
    let uppers: Vec<_> = uppers.collect();
    scatter(&uppers[20], 112, 128, 3);
    let disk = Disk::new(stack(uppers.into_iter().chain([layer(0..SECTORS, 1)]))).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&disk, 1024 + 120), 1);
    }
    let asked = missed(&disk, 31);
    assert!(asked[1..].iter().all(|count| count == "0"), "{asked:?}");
    assert_eq!(read(&disk, 1024 + 112), 3);
    assert_eq!(read(&disk, 1024 + 113), 1);
    let asked = missed(&disk, 31);
    assert_eq!(asked[20], "512", "it has another sector of the part");
    assert!(asked[1..20].iter().all(|count| count == "0"), "{asked:?}");
}

#[test]
fn a_crowded_stack_reads_the_same_with_and_without_an_index() {
    for seed in disk_contract::seeds(3, 1) {
        let mut rng = fastrand::Rng::with_seed(seed.value());
        let mut model = vec![0; SECTORS as usize];
        let empty = || -> Vec<_> { (0..30).map(|_| layer(0..0, 0)).collect() };
        let (indexed, plain) = (empty(), empty());
        // From the bottom up; some regions are crowded, and some have next to nothing.
        for (number, layers) in indexed.iter().zip(&plain).rev().enumerate() {
            for _ in 0..200 {
                let sector = rng.u64(0..SECTORS) & rng.u64(0..SECTORS);
                let count = rng.u64(1..=20).min(SECTORS - sector);
                let data = vec![number as u8 + 1; count as usize * 512];
                let host = HostBuffers::from_ref(&data);
                for layer in [layers.0, layers.1] {
                    block_on(layer.write(&host.buffers(), sector, false)).unwrap();
                }
                model[sector as usize..][..count as usize].fill(number as u8 + 1);
            }
        }
        let indexed = Disk::new(stack(indexed)).unwrap();
        let plain = Disk::new(stack(plain).without_index()).unwrap();
        for _ in 0..3000 {
            let sector = rng.u64(0..SECTORS) & rng.u64(0..SECTORS);
            let count = rng.u64(1..=300).min(SECTORS - sector) as usize;
            let expected = &model[sector as usize..][..count];
            for disk in [&indexed, &plain] {
                expect(disk, sector, expected);
            }
        }
    }
}

/// Each sector is full of the byte that is expected of it.
fn expect(disk: &Disk, sector: u64, expected: &[u8]) {
    let mut data = vec![0xee; expected.len() * 512];
    let host = HostBuffers::from_mut(&mut data);
    block_on(disk.read_vectored(&host.buffers(), sector)).unwrap();
    drop(host);
    for ((data, expected), at) in data.chunks_exact(512).zip(expected).zip(sector..) {
        let is_right = data.iter().all(|byte| byte == expected);
        assert!(is_right, "sector {at} is not full of {expected}");
    }
}

#[test]
fn more_layers_than_a_region_can_name_are_all_found() {
    let uppers = (0..30).map(|index| match index {
        0 => layer(0..0, 0),
        _ => layer(index..index + 1, 100 + index as u8),
    });
    let disk = Disk::new(stack(uppers.chain([layer(0..SECTORS, 1)]))).unwrap();
    for _ in 0..2 {
        for sector in 1..30 {
            assert_eq!(read(&disk, sector), 100 + sector as u8);
        }
        assert_eq!(read(&disk, 31), 1);
    }
}

#[test]
fn a_read_of_many_regions_finds_what_is_in_any_of_them() {
    let uppers = (0..40_u64).map(|index| match index {
        0 => layer(0..0, 0),
        _ => {
            let sector = index * REGION_SECTORS + index;
            layer(sector..sector + 1, index as u8 + 2)
        }
    });
    let disk = Disk::new(stack(uppers.chain([layer(0..SECTORS, 1)]))).unwrap();
    let mut data = vec![0; SECTORS as usize * 512];
    for _ in 0..2 {
        let host = HostBuffers::from_mut(&mut data);
        block_on(disk.read_vectored(&host.buffers(), 0)).unwrap();
        drop(host);
        for (sector, bytes) in (0..).zip(data.chunks_exact(512)) {
            let index = sector / REGION_SECTORS;
            let is_upper = (1..40).contains(&index) && sector % REGION_SECTORS == index;
            let expected = if is_upper { index as u8 + 2 } else { 1 };
            assert!(
                bytes.iter().all(|byte| *byte == expected),
                "sector {sector}"
            );
        }
    }
}

#[test]
fn what_is_written_after_the_index_was_made_is_seen() {
    let disk = Disk::new(deep(20)).unwrap();
    assert_eq!(read(&disk, 5000), 1);
    write(&disk, 5000, 7);
    assert_eq!(read(&disk, 5000), 7);
    block_on(disk.unmap(5000, 1, false)).unwrap();
    assert_eq!(read(&disk, 5000), 0);
}

#[test]
fn a_lower_layer_that_is_cut_off_and_grows_hides_what_lies_below() {
    let disk = Disk::new(deep(5)).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&disk, 5000), 1);
    }
    for size in [4000, SECTORS] {
        let path = "layers/3/backing/sector_count";
        block_on(inspect::update(path, &size.to_string(), &disk)).unwrap();
        assert_eq!(read(&disk, 5000), 0, "L5, at {size} sectors");
        assert_eq!(read(&disk, 3999), 1, "what was not cut off still shows");
    }
}

#[test]
fn a_disk_that_grows_has_zeros_beyond_its_index() {
    let disk = Disk::new(deep(5)).unwrap();
    assert_eq!(read(&disk, SECTORS - 1), 1);
    block_on(disk.resize(2 * SECTORS)).unwrap();
    assert_eq!((read(&disk, SECTORS), read(&disk, 2 * SECTORS - 1)), (0, 0));
    assert_eq!(read(&disk, SECTORS - 1), 1);
}

#[test]
fn a_long_read_of_a_crowded_region_asks_nobody_for_what_it_has_already() {
    // All have the first page of the region, and none but the lowest the second.
    let uppers = (0..30).map(|_| layer(0..8, 5));
    let layers = [layer(0..0, 0)].into_iter().chain(uppers);
    let disk = Disk::new(stack(layers.chain([layer(0..SECTORS, 1)]))).unwrap();
    for _ in 0..2 {
        let expected: Vec<u8> = (0..16)
            .map(|sector| if sector < 8 { 5 } else { 1 })
            .collect();
        expect(&disk, 0, &expected);
    }
    let missed = missed(&disk, 32);
    assert!(missed[2..].iter().all(|count| count == "0"), "{missed:?}");
}
