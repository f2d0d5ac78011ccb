//! RAM layers and RAM disks from the outside.

use disk_backend::{BlockState, Disk, DiskError, DiskIo, UnmapBehavior};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{LazyRamDiskLayer, RamDiskError, RamDiskLayer, ram_disk};
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

fn write(disk: &Disk, sector: u64, byte: u8, sectors: usize) {
    let data = vec![byte; sectors * disk.sector_size() as usize];
    block_on(disk.write_vectored(&HostBuffers::from_ref(&data).buffers(), sector, false)).unwrap();
}

fn read(disk: &Disk, sector: u64, sectors: usize) -> Vec<u8> {
    let mut data = vec![0xee; sectors * disk.sector_size() as usize];
    block_on(disk.read_vectored(&HostBuffers::from_mut(&mut data).buffers(), sector)).unwrap();
    data
}

fn stack(layers: Vec<DiskLayer>) -> Disk {
    let layers = layers.into_iter().map(LayerConfiguration::new).collect();
    Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
}

fn committed_bytes(disk: &Disk) -> u64 {
    let path = "layers/0/backing/committed_size";
    block_on(inspect::inspect(path, None, disk))
        .unwrap()
        .as_u64()
        .unwrap()
}

#[test]
fn a_layer_of_a_bad_size_is_refused() {
    let new = RamDiskLayer::new_with_sector_size;
    assert_eq!(new(0, 512).unwrap_err(), RamDiskError::EmptyDisk);
    let not_a_multiple = RamDiskError::NotSectorMultiple {
        size: 4097,
        sector_size: 512,
    };
    assert_eq!(new(4097, 512).unwrap_err(), not_a_multiple);
    for sector_size in [0, 1, 256, 513, 131_072] {
        let error = RamDiskError::InvalidSectorSize(sector_size);
        assert_eq!(new(MIB, sector_size).unwrap_err(), error);
    }
    assert!(matches!(
        new(u64::MAX - 511, 512),
        Err(RamDiskError::TooLarge(_))
    ));
    assert_eq!(
        block_on(LayeredDisk::new(
            false,
            vec![LayerConfiguration::new(DiskLayer::new(
                LazyRamDiskLayer::new()
            ))]
        ))
        .map(|_| ())
        .map_err(|error| std::error::Error::source(&error)
            .unwrap()
            .source()
            .unwrap()
            .to_string())
        .unwrap_err(),
        RamDiskError::UnknownSize.to_string()
    );
}

#[test]
fn shrinking_gives_memory_back_and_growing_shows_zeros() {
    let layer = RamDiskLayer::new(8 * MIB).unwrap();
    let base = ram_disk(16 * MIB, false).unwrap();
    write(&base, 0, 9, (16 * MIB / 512) as usize);
    let disk = stack(vec![DiskLayer::new(layer), DiskLayer::from_disk(base)]);
    write(&disk, 0, 1, (8 * MIB / 512) as usize);
    block_on(disk.resize(3 * MIB / 512)).unwrap();
    assert_eq!(disk.sector_count(), 3 * MIB / 512);
    assert_eq!(committed_bytes(&disk), 3 * MIB);
    block_on(disk.resize(16 * MIB / 512)).unwrap();
    let data = read(&disk, 0, (16 * MIB / 512) as usize);
    let (kept, added) = data.split_at(3 * MIB as usize);
    assert!(kept.iter().all(|byte| *byte == 1));
    assert!(added.iter().all(|byte| *byte == 0));
    write(&disk, 4 * MIB / 512, 5, 1);
    assert_eq!(read(&disk, 4 * MIB / 512, 1), [5; 512]);
}

#[test]
fn the_size_is_changed_through_the_inspection_tree_while_someone_waits() {
    let disk = ram_disk(MIB, false).unwrap();
    let path = "layers/0/backing/sector_count";
    let mut waiting = Box::pin(disk.wait_resize(2048));
    assert_eq!(block_on(poll_once(&mut waiting)), None);
    assert_eq!(
        block_on(inspect::update(path, "4096", &disk)).unwrap(),
        4096
    );
    assert_eq!(block_on(waiting), 4096);
    for junk in ["0", "-1", "many", "", "18446744073709551615"] {
        block_on(inspect::update(path, junk, &disk)).unwrap_err();
        assert_eq!(disk.sector_count(), 4096, "after {junk:?}");
    }
    assert_eq!(block_on(disk.wait_resize(4096 + 1)), 4096);
}

#[test]
fn an_unmapped_sector_hides_what_lies_below() {
    let base = ram_disk(16 * MIB, false).unwrap();
    write(&base, 0, 9, (16 * MIB / 512) as usize);
    let disk = stack(vec![
        DiskLayer::new(LazyRamDiskLayer::new()),
        DiskLayer::from_disk(base),
    ]);
    assert_eq!(disk.unmap_behavior(), UnmapBehavior::Zeroes);
    block_on(disk.unmap(3, 10_000, false)).unwrap();
    let data = read(&disk, 0, 10_006);
    assert_eq!(data[..3 * 512], [9; 3 * 512]);
    assert!(data[3 * 512..10_003 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(data[10_003 * 512..], [9; 3 * 512]);
    let status = block_on(disk.block_status(3, 10_000)).unwrap();
    assert_eq!(status.extents().len(), 1);
    assert_eq!(status.extents()[0].state, BlockState::Zero);
    assert_eq!(committed_bytes(&disk), 0);
}

#[test]
fn an_unmapped_sector_of_a_disk_alone_is_a_hole_again() {
    let disk = ram_disk(16 * MIB, false).unwrap();
    write(&disk, 100, 9, 100);
    let states = |disk: &Disk| -> Vec<_> {
        let status = block_on(disk.block_status(0, 300)).unwrap();
        status
            .extents()
            .iter()
            .map(|e| (e.sector_count, e.state, e.layer.is_some()))
            .collect()
    };
    assert_eq!(
        states(&disk),
        [
            (100, BlockState::Hole, false),
            (100, BlockState::Data, true),
            (100, BlockState::Hole, false),
        ]
    );
    block_on(disk.unmap(0, 300, false)).unwrap();
    assert_eq!(states(&disk), [(300, BlockState::Hole, false)]);
}

#[test]
fn a_small_request_completes_when_first_polled() {
    let disk = ram_disk(16 * MIB, false).unwrap();
    let mut data = vec![1; 128 * 1024];
    {
        let host = HostBuffers::from_ref(&data);
        let buffers = host.buffers();
        let write = disk.write_vectored(&buffers, 0, true);
        assert!(block_on(poll_once(write)).unwrap().is_ok());
    }
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    assert!(
        block_on(poll_once(disk.read_vectored(&buffers, 0)))
            .unwrap()
            .is_ok()
    );
}

#[test]
fn unmapping_1_tib_lets_others_run_in_between() {
    let disk = ram_disk(4 * TIB, false).unwrap();
    let base_hidden = RamDiskLayer::new(4 * TIB).unwrap();
    let disk = stack(vec![
        DiskLayer::new(base_hidden),
        DiskLayer::from_disk(disk),
    ]);
    let mut unmap = Box::pin(disk.unmap(0, TIB / 512, false));
    let mut polls = 1;
    while block_on(poll_once(&mut unmap)).is_none() {
        polls += 1;
    }
    assert!(polls > 100, "{polls} polls");
}

#[test]
fn a_write_beyond_a_shrunk_end_is_refused() {
    let layer = RamDiskLayer::new(MIB).unwrap();
    block_on(disk_layered::LayerIo::resize(&layer, 8)).unwrap();
    let data = [1; 1024];
    let host = HostBuffers::from_ref(&data);
    // As a request would that was checked before the shrink.
    let buffers = host.buffers();
    let write = disk_layered::LayerIo::write(&layer, &buffers, 7, false);
    assert!(matches!(block_on(write), Err(DiskError::IllegalBlock)));
}

#[test]
fn a_read_only_disk_takes_nothing() {
    let disk = ram_disk(MIB, true).unwrap();
    let data = [1; 512];
    let host = HostBuffers::from_ref(&data);
    let refused = |result: Result<(), DiskError>| matches!(result, Err(DiskError::ReadOnly));
    assert!(refused(block_on(disk.write_vectored(
        &host.buffers(),
        0,
        false
    ))));
    assert!(refused(block_on(disk.unmap(0, 1, false))));
    assert!(refused(block_on(
        disk.write_zeroes(0, 1, false, true, false)
    )));
    assert!(refused(block_on(disk.resize(1))));
    assert_eq!(read(&disk, 0, 1), [0; 512]);
}

#[test]
fn a_layered_disk_called_directly_checks_its_requests_too() {
    let layer = LayerConfiguration::new(DiskLayer::new(RamDiskLayer::new(MIB).unwrap()));
    let disk = block_on(LayeredDisk::new(false, vec![layer])).unwrap();
    let data = [1; 1000];
    let host = HostBuffers::from_ref(&data);
    let buffers = host.buffers();
    let write = DiskIo::write_vectored(&disk, &buffers, 0, false);
    assert!(matches!(block_on(write), Err(DiskError::InvalidInput)));
    let unmap = DiskIo::unmap(&disk, u64::MAX, 2, false);
    assert!(matches!(block_on(unmap), Err(DiskError::IllegalBlock)));
}

#[test]
fn a_read_that_a_shrink_and_a_grow_overtake_does_not_uncover_what_lies_below() {
    let chunk = 2 * MIB / 512;
    let base = ram_disk(4 * MIB, false).unwrap();
    write(&base, 0, 9, 2 * chunk as usize);
    let disk = stack(vec![
        DiskLayer::new(LazyRamDiskLayer::new()),
        DiskLayer::from_disk(base),
    ]);
    write(&disk, 0, 1, 2 * chunk as usize);
    let mut data = vec![0xee; 4 * MIB as usize];
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    let mut reading = Box::pin(disk.read_vectored(&buffers, 0));
    // It stops between the two chunks.
    assert!(block_on(poll_once(&mut reading)).is_none());
    block_on(disk.resize(chunk)).unwrap();
    block_on(disk.resize(2 * chunk)).unwrap();
    block_on(reading).unwrap();
    drop(host);
    let (first, second) = data.split_at(2 * MIB as usize);
    assert!(first.iter().all(|byte| *byte == 1));
    let found = second[0];
    assert!(
        second.iter().all(|byte| *byte == found) && found <= 1,
        "{found}"
    );
}

/// The store's chunks are its own affair: only what takes long lets others run in between.
#[test]
fn a_request_no_longer_than_a_chunk_completes_when_first_polled_wherever_it_lies() {
    const CHUNK_BYTES: usize = 2 << 20;
    let disk = ram_disk(16 << 20, false).unwrap();
    for len in [4096, CHUNK_BYTES] {
        for sector in [0, CHUNK_BYTES as u64 / 512 - 4] {
            let mut data = vec![1; len];
            let host = HostBuffers::from_mut(&mut data);
            let buffers = host.buffers();
            let written = block_on(poll_once(disk.write_vectored(&buffers, sector, false)));
            assert!(matches!(written, Some(Ok(()))), "{len} bytes at {sector}");
            let read = block_on(poll_once(disk.read_vectored(&buffers, sector)));
            assert!(matches!(read, Some(Ok(()))), "{len} bytes at {sector}");
        }
    }
    let mut data = vec![1; 2 * CHUNK_BYTES];
    let host = HostBuffers::from_mut(&mut data);
    let buffers = host.buffers();
    assert!(block_on(poll_once(disk.read_vectored(&buffers, 0))).is_none());
}

#[test]
fn a_question_about_a_large_disk_lets_others_run() {
    let size = 64 << 30;
    let bottom = DiskLayer::new(RamDiskLayer::new(size).unwrap());
    let disk = stack(vec![DiskLayer::new(LazyRamDiskLayer::new()), bottom]);
    let sectors = size / 512;
    block_on(disk.unmap(0, sectors - 1, false)).unwrap();
    write(&disk, sectors - 1, 1, 1);
    let mut asking = Box::pin(disk.block_status(0, sectors));
    assert!(block_on(poll_once(&mut asking)).is_none());
    assert_eq!(block_on(asking).unwrap().sector_count(), sectors);
}

#[test]
fn a_write_that_is_refused_at_once_has_stored_nothing() {
    // It crosses into a second chunk, which a shrink has cut off.
    let layer = RamDiskLayer::new(4 * MIB).unwrap();
    let chunk_sectors = 2 * MIB / 512;
    block_on(disk_layered::LayerIo::resize(&layer, chunk_sectors)).unwrap();
    let data = [1; 1024];
    let host = HostBuffers::from_ref(&data);
    let is_done =
        disk_layered::LayerIo::try_write(&layer, &host.buffers(), chunk_sectors - 1, false);
    assert!(!is_done);
    let status = disk_layered::LayerIo::layer_status(&layer, chunk_sectors - 1, 1);
    let absent = disk_layered::LayerStatus::Absent { sector_count: 1 };
    assert_eq!(block_on(status).unwrap(), absent);
}

#[test]
fn a_read_may_be_expected_anywhere() {
    let disk = disklayer_ram::ram_disk(1 << 24, false).unwrap();
    let data = vec![1; 1 << 20];
    let host = HostBuffers::from_ref(&data);
    block_on(disk.write_vectored(&host.buffers(), 0, false)).unwrap();
    for sector in [0, 1, 4095, 1 << 15, 1 << 40, u64::MAX >> 9, u64::MAX] {
        for len in [0, 1, 4096, 1 << 21, usize::MAX] {
            disk.expect_read(sector, len);
        }
    }
}
