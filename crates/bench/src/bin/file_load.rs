//! Drives a disk in a file, in process, as hard as it goes: what `fio` does to the file itself, done through [`Disk`].
//!
//! Row 10: a tool. `cargo xtask bench file` measures it beside `fio`. One thread polls as many requests as it is told to keep in
//! flight, and blocks on the reactor of `async-io` while none of them goes on.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Parser;
use disk_backend::{Disk, DiskError};
use disk_file::{FileDisk, FileDiskOptions};
use futures_lite::future::yield_now;
use futures_util::stream::{FuturesUnordered, StreamExt};
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;

/// Read or write a file through a disk, and print how often and for how long, as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// The file or block device
    path: PathBuf,
    /// What to do, as fio calls it
    #[arg(long, value_enum)]
    rw: Pattern,
    /// The bytes of a request
    #[arg(long)]
    bs: u64,
    /// How many requests are in flight
    #[arg(long)]
    iodepth: u64,
    /// For how many seconds
    #[arg(long, default_value_t = 1)]
    runtime: u64,
    /// How many requests, however long that takes
    #[arg(long)]
    requests: Option<u64>,
    /// Past the page cache
    #[arg(long)]
    direct: bool,
    /// On threads, without io_uring
    #[arg(long)]
    threads: bool,
    /// Hand over all writes that might wait
    #[arg(long)]
    hand_over_writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pattern {
    #[value(name = "randread")]
    RandomRead,
    #[value(name = "randwrite")]
    RandomWrite,
    Read,
    Write,
}

impl Pattern {
    fn is_read(self) -> bool {
        matches!(self, Self::RandomRead | Self::Read)
    }

    fn is_random(self) -> bool {
        matches!(self, Self::RandomRead | Self::RandomWrite)
    }
}

/// What all requests share.
struct Load<'a> {
    args: &'a Args,
    disk: &'a Disk,
    memory: &'a GuestMemory,
    end: Instant,
    /// How many places for a request the file has.
    place_count: u64,
    /// The number of the first request, and of the next.
    first: u64,
    next: std::cell::Cell<u64>,
}

impl Load<'_> {
    /// Where the next request goes, in requests.
    fn place(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        if !self.args.rw.is_random() {
            return number % self.place_count;
        }
        split_mix(number) % self.place_count
    }

    /// Whether there is time for another request after `count` in the same slot. The clock is not looked at each time: that is no part of
    /// what is measured.
    fn goes_on(&self, count: u64) -> bool {
        match self.args.requests {
            Some(requests) => self.next.get() - self.first < requests,
            None => !count.is_multiple_of(16) || Instant::now() < self.end,
        }
    }

    /// One request after the other until the time is over. Returns how many.
    async fn keep_one_in_flight(&self, slot: u64) -> Result<u64, DiskError> {
        let Args {
            rw, bs, iodepth, ..
        } = *self.args;
        let request = OwnedRequestBuffers::linear(slot * bs, bs as usize, rw.is_read());
        let buffers = request.buffer(self.memory);
        let sectors = bs >> self.disk.sector_shift();
        let mut count = 0;
        while self.goes_on(count) {
            let sector = self.place() * sectors;
            if rw.is_read() {
                self.disk.read_vectored(&buffers, sector).await?;
            } else {
                self.disk.write_vectored(&buffers, sector, false).await?;
            }
            count += 1;
            if iodepth > 1 {
                // What is done at once must not keep the others from being in flight.
                yield_now().await;
            }
        }
        Ok(count)
    }
}

/// The pseudo-random number of this number in the sequence (SplitMix64): a device sees no stride in it.
fn split_mix(number: u64) -> u64 {
    let state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[expect(clippy::print_stdout, reason = "what it prints is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let options = FileDiskOptions {
        read_only: args.rw.is_read(),
        direct: args.direct,
        io_uring: !args.threads,
        hand_over_writes: args.hand_over_writes,
        ..Default::default()
    };
    let disk = Disk::new(FileDisk::open(&args.path, &options)?)?;
    let memory = GuestMemory::allocate((args.iodepth * args.bs) as usize);
    memory.fill_at(0, 0x5a, (args.iodepth * args.bs) as usize)?;
    let begun = Instant::now();
    let first = u64::from(std::process::id()) << 24;
    let load = Load {
        disk: &disk,
        memory: &memory,
        end: begun + Duration::from_secs(args.runtime),
        place_count: (disk.sector_count() << disk.sector_shift()) / args.bs,
        first,
        next: std::cell::Cell::new(first),
        args: &args,
    };
    let count = async_io::block_on(async {
        let mut running = pin!(
            (0..args.iodepth)
                .map(|slot| load.keep_one_in_flight(slot))
                .collect::<FuturesUnordered<_>>()
        );
        let mut count = 0;
        while let Some(ended) = running.next().await {
            count += ended?;
        }
        Ok::<_, DiskError>(count)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = serde_json::json!({ "request_count": count, "seconds": seconds });
    println!("{report}");
    Ok(())
}
