//! `BlockingDisk` against a plain cursor over bytes, on RAM disks.

use disk_backend::Disk;
use disk_backend::sync_wrapper::BlockingDisk;
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::{RamDiskLayer, ram_disk};
use futures_lite::future::block_on;
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

const LEN: usize = 16 * 1024;

fn disk(sector_size: u32) -> Disk {
    let layer = RamDiskLayer::new_with_sector_size(LEN as u64, sector_size).unwrap();
    let layers = vec![LayerConfiguration::new(DiskLayer::new(layer))];
    Disk::new(block_on(LayeredDisk::new(false, layers)).unwrap()).unwrap()
}

fn content(disk: &Disk) -> Vec<u8> {
    let mut data = Vec::new();
    BlockingDisk::new(disk.clone())
        .read_to_end(&mut data)
        .unwrap();
    data
}

#[derive(Debug, Clone)]
enum Call {
    Read(usize),
    Write(usize, u8),
    Seek(SeekFrom),
    Flush,
    Reopen,
}

fn call() -> impl Strategy<Value = Call> {
    let len = prop_oneof![0usize..1500, Just(512), Just(4096), Just(8192), Just(LEN)];
    let len = len.boxed();
    let near = -5000i64..5000;
    prop_oneof![
        4 => len.clone().prop_map(Call::Read),
        4 => (len, any::<u8>()).prop_map(|(len, byte)| Call::Write(len, byte)),
        1 => (0..LEN as u64 + 100).prop_map(|to| Call::Seek(SeekFrom::Start(to))),
        1 => (0..LEN as u64 / 512 + 1).prop_map(|to| Call::Seek(SeekFrom::Start(to * 512))),
        1 => near.clone().prop_map(|by| Call::Seek(SeekFrom::Current(by))),
        1 => near.prop_map(|by| Call::Seek(SeekFrom::End(by))),
        1 => Just(Call::Flush),
        1 => Just(Call::Reopen),
    ]
}

/// Moves all that there is room for, as the two may cut it up differently.
fn read_all(from: &mut impl Read, len: usize) -> Vec<u8> {
    let mut data = Vec::new();
    from.take(len as u64).read_to_end(&mut data).unwrap();
    data
}

fn write_all(to: &mut impl Write, mut data: &[u8]) -> io::Result<usize> {
    let len = data.len();
    while !data.is_empty() {
        match to.write(data)? {
            0 => break,
            written => data = &data[written..],
        }
    }
    Ok(len - data.len())
}

proptest! {
    #[test]
    fn any_calls_do_what_they_do_to_bytes(
        sector_size in prop_oneof![Just(512u32), Just(4096)],
        calls in prop::collection::vec(call(), 1..40),
    ) {
        let disk = disk(sector_size);
        let mut blocking = BlockingDisk::new(disk.clone());
        let mut bytes = [0; LEN];
        let mut model = Cursor::new(&mut bytes[..]);
        for call in calls {
            match call {
                Call::Read(len) => {
                    prop_assert_eq!(read_all(&mut blocking, len), read_all(&mut model, len));
                }
                Call::Write(len, byte) => {
                    let data = vec![byte; len];
                    let written = write_all(&mut blocking, &data).unwrap();
                    prop_assert_eq!(written, write_all(&mut model, &data).unwrap());
                }
                Call::Seek(to) => {
                    prop_assert_eq!(blocking.seek(to).ok(), model.seek(to).ok());
                }
                Call::Flush => {
                    blocking.flush().unwrap();
                    prop_assert_eq!(&content(&disk)[..], &model.get_ref()[..]);
                }
                Call::Reopen => {
                    drop(blocking);
                    prop_assert_eq!(&content(&disk)[..], &model.get_ref()[..]);
                    blocking = BlockingDisk::new(disk.clone());
                    blocking.seek(SeekFrom::Start(model.position())).unwrap();
                }
            }
            prop_assert_eq!(blocking.stream_position().unwrap(), model.position());
        }
        drop(blocking);
        prop_assert_eq!(&content(&disk)[..], &model.get_ref()[..]);
    }
}

#[test]
fn the_end_of_the_disk_is_not_an_error() {
    let mut blocking = BlockingDisk::new(disk(512));
    let mut byte = [7];
    for position in [LEN as u64, LEN as u64 + 1, u64::MAX] {
        blocking.seek(SeekFrom::Start(position)).unwrap();
        assert_eq!(blocking.read(&mut byte).unwrap(), 0);
        assert_eq!(blocking.write(&byte).unwrap(), 0);
    }
}

#[test]
fn seeking_before_the_beginning_is_refused_and_moves_nothing() {
    let mut blocking = BlockingDisk::new(disk(512));
    blocking.seek(SeekFrom::Start(3)).unwrap();
    for to in [SeekFrom::Current(-4), SeekFrom::End(-(LEN as i64) - 1)] {
        assert_eq!(
            blocking.seek(to).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(blocking.stream_position().unwrap(), 3);
    }
}

#[test]
fn a_read_only_disk_refuses_at_once() {
    let mut blocking = BlockingDisk::new(ram_disk(LEN as u64, true).unwrap());
    for len in [1, 512] {
        let error = blocking.write(&vec![1; len]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}
