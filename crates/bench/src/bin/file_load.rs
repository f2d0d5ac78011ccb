//! Drives a disk in a file, in process, as hard as it goes: what `fio` does to the file itself, done through [`Disk`].
//!
//! Row 10: a tool. `cargo xtask bench file` measures it beside `fio`. One thread keeps as many requests in flight as it is told to, in slots,
//! as our frontends do: it goes round those that were woken, begins another request where one is done, and, once none goes on, blocks on the reactor
//! of `async-io`, which is where completions come. (A connection of NBD sleeps elsewhere, and is woken by the reactor's thread.)

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use clap::Parser;
use disk_backend::{Disk, DiskError};
use disk_file::{FileDisk, FileDiskOptions};
use futures_util::task::AtomicWaker;
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
    next: Cell<u64>,
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

    /// Whether there is time for another request. The clock is not looked at each time: that is no part of what is measured.
    fn goes_on(&self) -> bool {
        let count = self.next.get() - self.first;
        match self.args.requests {
            Some(requests) => count < requests,
            None => !count.is_multiple_of(16) || Instant::now() < self.end,
        }
    }

    /// Begins one request after the other in each slot, until the time is over. Returns how many.
    async fn keep_in_flight(&self) -> Result<u64, DiskError> {
        let Args { rw, bs, .. } = *self.args;
        let requests: Vec<_> = (0..self.args.iodepth)
            .map(|slot| OwnedRequestBuffers::linear(slot * bs, bs as usize, rw.is_read()))
            .collect();
        let sectors = bs >> self.disk.sector_shift();
        let begin = |slot: usize| {
            let buffers = requests[slot].buffer(self.memory);
            let sector = self.place() * sectors;
            async move {
                match rw.is_read() {
                    true => self.disk.read_vectored(&buffers, sector).await,
                    false => self.disk.write_vectored(&buffers, sector, false).await,
                }
            }
        };
        run_in_slots(requests.len(), begin, || self.goes_on()).await
    }
}

/// Which slots were woken, one bit for each.
struct Woken {
    words: Vec<AtomicU64>,
    driver: AtomicWaker,
}

/// Wakes a slot, and whoever drives it.
struct SlotWaker {
    woken: Arc<Woken>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (word, bit) = (self.slot / 64, self.slot % 64);
        self.woken.words[word].fetch_or(1 << bit, Ordering::Release);
        self.woken.driver.wake();
    }
}

/// Has a request in each slot, and another one whenever it is done, as long as it `goes_on`. Returns how many were done.
async fn run_in_slots<F>(
    slot_count: usize,
    begin: impl Fn(usize) -> F,
    goes_on: impl Fn() -> bool,
) -> Result<u64, DiskError>
where
    F: Future<Output = Result<(), DiskError>>,
{
    let woken = Arc::new(Woken {
        words: (0..slot_count.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect(),
        driver: AtomicWaker::new(),
    });
    let mut slots: Vec<_> = (0..slot_count)
        .map(|slot| {
            let woken = Arc::clone(&woken);
            let waker = Waker::from(Arc::new(SlotWaker { woken, slot }));
            waker.wake_by_ref();
            (Box::pin(None::<F>), waker)
        })
        .collect();
    // As in `Woken`, of those whose last request was done at once.
    let mut again = vec![0; woken.words.len()];
    let (mut count, mut in_flight) = (0, 0);
    poll_fn(|cx| {
        woken.driver.register(cx.waker());
        loop {
            let mut is_idle = true;
            for (index, word) in woken.words.iter().enumerate() {
                let mut bits: u64 = std::mem::take(&mut again[index]);
                if word.load(Ordering::Relaxed) != 0 {
                    bits |= word.swap(0, Ordering::Acquire);
                }
                while bits != 0 {
                    is_idle = false;
                    let lowest = bits & bits.wrapping_neg();
                    let slot = index * 64 + lowest.trailing_zeros() as usize;
                    bits ^= lowest;
                    let (request, waker) = &mut slots[slot];
                    if request.is_some() {
                        let Poll::Ready(done) = poll(request, waker) else {
                            continue;
                        };
                        done?;
                        (count, in_flight) = (count + 1, in_flight - 1);
                        request.set(None);
                    }
                    if !goes_on() {
                        continue;
                    }
                    request.set(Some(begin(slot)));
                    in_flight += 1;
                    // What is done at once must not keep the others from being in flight.
                    if let Poll::Ready(done) = poll(request, waker) {
                        done?;
                        (count, in_flight) = (count + 1, in_flight - 1);
                        request.set(None);
                        again[index] |= lowest;
                    }
                }
            }
            if in_flight == 0 && !goes_on() {
                return Poll::Ready(Ok(count));
            }
            if is_idle {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn poll<F: Future>(request: &mut Pin<Box<Option<F>>>, waker: &Waker) -> Poll<F::Output> {
    let request = request.as_mut().as_pin_mut().expect("it was just begun");
    request.poll(&mut Context::from_waker(waker))
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
        next: Cell::new(first),
        args: &args,
    };
    let count = async_io::block_on(load.keep_in_flight())?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = serde_json::json!({ "request_count": count, "seconds": seconds });
    println!("{report}");
    Ok(())
}
