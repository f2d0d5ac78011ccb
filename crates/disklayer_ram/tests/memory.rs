//! What RAM disks cost the system. One test, alone in its process: nothing else may take or give back memory meanwhile.

use disk_backend::Disk;
use disklayer_ram::ram_disk;
use futures_lite::future::{block_on, poll_once};
use scsi_buffers::HostBuffers;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn write(disk: &Disk, sector: u64, data: &[u8]) {
    block_on(disk.write_vectored(&HostBuffers::from_ref(data).buffers(), sector, false)).unwrap();
}

fn read(disk: &Disk, sector: u64, sectors: usize) -> Vec<u8> {
    let mut data = vec![0xee; sectors * 512];
    block_on(disk.read_vectored(&HostBuffers::from_mut(&mut data).buffers(), sector)).unwrap();
    data
}

#[test]
fn memory_is_taken_for_data_only_and_given_back() {
    an_empty_disk_of_16_tib_costs_less_than_1_mib();
    a_page_written_at_random_costs_little_more_than_itself();
    a_full_disk_costs_two_percent_more_than_its_data();
    unmapping_gives_memory_back();
    unmapping_all_gives_memory_back_soon();
}

fn an_empty_disk_of_16_tib_costs_less_than_1_mib() {
    let before = resident_bytes();
    let disks: Vec<_> = (0..64)
        .map(|_| ram_disk(16 * TIB, false).unwrap())
        .collect();
    for disk in &disks {
        assert_eq!(read(disk, 16 * TIB / 512 - 8, 8), [0; 4096]);
    }
    let grown = resident_bytes().saturating_sub(before) / disks.len() as u64;
    assert!(grown < 64 * 1024, "{grown} bytes each");
}

fn a_page_written_at_random_costs_little_more_than_itself() {
    let before = resident_bytes();
    let disk = ram_disk(1024 * MIB, false).unwrap();
    let pages = 1024 * MIB / 4096;
    // 1 % of the pages, far from each other, in an order that jumps about.
    for step in 0..pages / 100 {
        write(&disk, (step * 104_729 % pages) * 8, &[1; 4096]);
    }
    let grown = resident_bytes().saturating_sub(before);
    let stored = pages / 100 * 4096;
    assert!(
        grown * 10 < stored * 13,
        "{grown} bytes for {stored} stored"
    );
}

fn a_full_disk_costs_two_percent_more_than_its_data() {
    const LEN: u64 = 1024 * MIB;
    let pages = LEN / 4096;
    // One page after the other, and in an order that jumps about: the factor has no divisor in common with a power of two.
    for factor in [1, 104_729] {
        let before = resident_bytes();
        let disk = ram_disk(LEN, false).unwrap();
        for step in 0..pages {
            write(&disk, (step * factor % pages) * 8, &[3; 4096]);
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown * 100 <= LEN * 102, "{grown} bytes for {LEN} stored");
        assert_eq!(read(&disk, LEN / 512 - 8, 8), [3; 4096]);
    }
}

fn unmapping_gives_memory_back() {
    let disk = ram_disk(256 * MIB, false).unwrap();
    let data = vec![7; MIB as usize];
    for mib in 0..256 {
        write(&disk, mib * MIB / 512, &data);
    }
    let full = resident_bytes();
    // All but the first page of each MiB.
    for mib in 0..256 {
        block_on(disk.unmap(mib * MIB / 512 + 8, MIB / 512 - 8, false)).unwrap();
    }
    let freed = full.saturating_sub(resident_bytes());
    assert!(freed > 240 * MIB, "{freed} bytes");
    assert_eq!(read(&disk, 0, 8), [7; 4096]);
    assert_eq!(read(&disk, 8, 8), [0; 4096]);
}

/// On a thread of its own, so that neither the unmap nor anybody else waits for it.
fn unmapping_all_gives_memory_back_soon() {
    let disk = ram_disk(256 * MIB, false).unwrap();
    let data = vec![7; MIB as usize];
    for mib in 0..256 {
        write(&disk, mib * MIB / 512, &data);
    }
    let full = resident_bytes();
    let unmap = poll_once(disk.unmap(0, 256 * MIB / 512, false));
    block_on(unmap).expect("it does not take long").unwrap();
    assert_eq!(read(&disk, 0, 8), [0; 4096]);
    // It ends when the memory is back; if it never is, the test does not end.
    while full.saturating_sub(resident_bytes()) < 250 * MIB {
        std::thread::sleep(Duration::from_millis(1));
    }
}
