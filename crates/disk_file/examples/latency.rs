//! What a disk adds to the system calls below it: `cargo run --release -p disk_file --example latency [FOLDER]`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use disk_backend::Disk;
use disk_file::{FileDisk, FileDiskOptions};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

const SIZE_BYTES: u64 = 64 << 20;
const LEN: usize = 4096;

/// Prints the median of five runs, per call.
fn measure(name: &str, calls: u64, mut call: impl FnMut(u64)) {
    let mut runs: Vec<f64> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            (0..calls).for_each(&mut call);
            begun.elapsed().as_secs_f64() * 1e6 / calls as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{name:<52} {:>9.2} us", runs[2]);
}

/// The first sector of the nth of many places, in no order.
fn sector(n: u64) -> u64 {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % (SIZE_BYTES / LEN as u64) * (LEN as u64 / 512)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(&parent)?;
    let path = folder.path().join("disk.raw");
    println!(
        "4 KiB requests to a cached file of 64 MiB in {}",
        parent.display()
    );
    std::fs::write(&path, vec![1; SIZE_BYTES as usize])?;

    let file = File::options().read(true).write(true).open(&path)?;
    let mut bytes = vec![0; LEN];
    measure("pread", 200_000, |n| {
        file.read_exact_at(&mut bytes, sector(n) * 512)
            .expect("it reads")
    });
    measure("pwrite", 50_000, |n| {
        file.write_all_at(&bytes, sector(n) * 512)
            .expect("it writes")
    });

    let disk = Disk::new(FileDisk::open(&path, &FileDiskOptions::default())?)?;
    let memory = GuestMemory::allocate(LEN);
    let (into, from) = (
        OwnedRequestBuffers::linear(0, LEN, true),
        OwnedRequestBuffers::linear(0, LEN, false),
    );
    let write = |n, fua| {
        block_on(disk.write_vectored(&from.buffer(&memory), sector(n), fua)).expect("it writes")
    };
    measure("Disk::read_vectored", 200_000, |n| {
        block_on(disk.read_vectored(&into.buffer(&memory), sector(n))).expect("it reads");
    });
    measure("Disk::write_vectored", 20_000, |n| write(n, false));
    measure("pwrite + fdatasync", 300, |n| {
        file.write_all_at(&bytes, sector(n) * 512)
            .and_then(|()| file.sync_data())
            .expect("it writes");
    });
    measure("Disk::write_vectored, FUA", 300, |n| write(n, true));
    Ok(())
}
