//! What is measured.

use crate::copies::{Memory, WORKING_SET_BYTES};
use crate::disks::{self, SECTOR_BYTES};
use crate::measure::{Pair, Side, each, scattered, slowdown_of_two, time};
use disk_backend::Disk;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What it is held against.
    pub(crate) limit: &'static str,
    /// The ratio to reach.
    pub(crate) goal: f64,
    /// In a round.
    pub(crate) operation_count: u64,
    pub(crate) prepare: Box<dyn Fn() -> Pair>,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (size, text, count, read_goal, write_goal) in [
        (4 * KIB, "4 KiB random", 200_000, 1.3, 1.5),
        (64 * KIB, "64 KiB random", 20_000, 1.15, 1.15),
        (MIB, "1 MiB random", 1500, 1.1, 1.1),
    ] {
        cases.push(Case {
            name: leak(format!("RAM, {text} read")),
            limit: "copy",
            goal: read_goal,
            operation_count: count,
            prepare: Box::new(move || Pair::new(reads(disks::full(), size), copies_out(size))),
        });
        cases.push(Case {
            name: leak(format!("RAM, {text} overwrite")),
            limit: "copy",
            goal: write_goal,
            operation_count: count,
            prepare: Box::new(move || Pair::new(writes(disks::full(), size), copies_in(size))),
        });
    }
    cases.extend([
        Case {
            name: "RAM, 4 KiB first write",
            limit: "copy into fresh memory",
            goal: 1.2,
            operation_count: (WORKING_SET_BYTES / (4 * KIB)) as u64,
            prepare: Box::new(first_writes),
        },
        Case {
            name: "RAM, two threads, own halves, 4 KiB overwrite: slowdown",
            limit: "the copy's slowdown",
            goal: 1.0 / 0.95,
            operation_count: 200_000,
            prepare: Box::new(two_writers),
        },
        Case {
            name: "RAM, two threads, whole disk, 4 KiB 70/30 mixed: slowdown",
            limit: "the copy's slowdown in own halves",
            goal: 1.0 / 0.9,
            operation_count: 200_000,
            prepare: Box::new(two_mixed),
        },
        Case {
            name: "64 layers, 4 KiB read of sectors no upper layer covers",
            limit: "1 layer",
            goal: 1.5,
            operation_count: 20_000,
            prepare: Box::new(|| deep_reads(64, 1)),
        },
        Case {
            name: "500 layers, 4 KiB read of sectors no upper layer covers",
            limit: "1 layer",
            goal: 1.7,
            operation_count: 20_000,
            prepare: Box::new(|| deep_reads(500, 1)),
        },
        Case {
            name: "64 layers, 4 KiB read of sectors in any layer",
            limit: "1 layer",
            goal: 1.7,
            operation_count: 20_000,
            prepare: Box::new(|| deep_reads(64, 0)),
        },
        Case {
            name: "64 layers, each 1/16 full, 4 KiB read of sectors no upper layer covers",
            limit: "1 layer",
            goal: 1.5,
            operation_count: 20_000,
            prepare: Box::new(|| crowded_reads(64, WORKING_SET_BYTES)),
        },
        // The layers hold 2 GiB together.
        Case {
            name: "500 layers of 64 MiB, each 1/16 full, 4 KiB read of sectors no upper layer covers",
            limit: "1 layer",
            goal: 1.7,
            operation_count: 20_000,
            prepare: Box::new(|| crowded_reads(500, 64 << 20)),
        },
        Case {
            name: "read cache over RAM, 4 KiB cold miss",
            limit: "three copies, one into fresh memory",
            goal: 1.2,
            operation_count: (WORKING_SET_BYTES / (4 * KIB)) as u64,
            prepare: Box::new(cold_misses),
        },
        Case {
            name: "read cache over RAM, 4 KiB warm hit",
            limit: "RAM disk",
            goal: 1.05,
            operation_count: 200_000,
            prepare: Box::new(warm_hits),
        },
        Case {
            name: "write-through, RAM over RAM, 4 KiB overwrite",
            limit: "three copies",
            goal: 1.5,
            operation_count: 100_000,
            prepare: Box::new(|| {
                Pair::new(writes(disks::mirrored(), 4 * KIB), three_copies(4 * KIB))
            }),
        },
    ]);
    cases.extend(against_the_clock());
    cases
}

/// Cases that are held against a time and not against something else that is done.
fn against_the_clock() -> Vec<Case> {
    const MS: f64 = 1e6;
    let case = |name, limit, limit_ns, measure: fn() -> f64| Case {
        name,
        limit,
        goal: 1.0,
        operation_count: 1,
        prepare: Box::new(move || {
            Pair::new(Box::new(move |_| measure()), Box::new(move |_| limit_ns))
        }),
    };
    vec![
        case(
            "RAM, unmap of a full 1 GiB disk: until it completes",
            "5 ms",
            5.0 * MS,
            || unmap_of_all().completed_ns,
        ),
        case(
            "RAM, unmap of a full 1 GiB disk: longest 4 KiB read meanwhile",
            "1 ms",
            MS,
            || unmap_of_all().longest_read_ns,
        ),
        case(
            "RAM, unmap of a full 1 GiB disk: until the memory is back",
            "1 s",
            1000.0 * MS,
            || unmap_of_all().given_back_ns,
        ),
        case("opening an empty 16 TiB RAM disk", "1 ms", MS, || {
            time(1, |_| drop(disks::empty_of(16 << 40)))
        }),
    ]
}

/// How long things took, in nanoseconds.
struct Unmapped {
    completed_ns: f64,
    longest_read_ns: f64,
    given_back_ns: f64,
}

/// Unmaps a full disk of 1 GiB while another thread reads from its end.
fn unmap_of_all() -> Unmapped {
    const SIZE_BYTES: usize = 1 << 30;
    /// What the process takes besides, and may take meanwhile.
    const SLACK_BYTES: usize = 64 * MIB;
    let before = resident_bytes();
    let disk = disks::full_of(SIZE_BYTES);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut block = vec![0; 4 * KIB];
            let mut longest = 0_f64;
            while !is_over.load(Ordering::Relaxed) {
                let read = time(1, |_| read(&disk, SIZE_BYTES - 4 * KIB, &mut block));
                longest = longest.max(read);
            }
            longest
        });
        let start = Instant::now();
        let sectors = (SIZE_BYTES / SECTOR_BYTES) as u64;
        block_on(disk.unmap(0, sectors, false)).expect("memory can be given back");
        let completed_ns = start.elapsed().as_nanos() as f64;
        while resident_bytes() > before + SLACK_BYTES {
            std::thread::sleep(Duration::from_millis(1));
        }
        let given_back_ns = start.elapsed().as_nanos() as f64;
        is_over.store(true, Ordering::Relaxed);
        Unmapped {
            completed_ns,
            longest_read_ns: reader.join().expect("reads do not panic"),
            given_back_ns,
        }
    })
}

/// The memory that this process has.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: usize| pages * 4096)
}

/// A few names, once.
fn leak(name: String) -> &'static str {
    name.leak()
}

/// The byte offset of an operation of `size` bytes.
fn offset(number: u64, size: usize) -> usize {
    scattered(number, (WORKING_SET_BYTES / size) as u64) as usize * size
}

fn sector(offset: usize) -> u64 {
    (offset / SECTOR_BYTES) as u64
}

fn read(disk: &Disk, offset: usize, block: &mut [u8]) {
    let host = HostBuffers::from_mut(block);
    block_on(disk.read_vectored(&host.buffers(), sector(offset))).expect("a read of memory");
}

fn write(disk: &Disk, offset: usize, block: &[u8]) {
    let host = HostBuffers::from_ref(block);
    block_on(disk.write_vectored(&host.buffers(), sector(offset), false))
        .expect("a write to memory");
}

fn reads(disk: Disk, size: usize) -> Side {
    let mut block = vec![0; size];
    each(move |number| read(&disk, offset(number, size), &mut block))
}

fn writes(disk: Disk, size: usize) -> Side {
    let block = vec![3; size];
    each(move |number| write(&disk, offset(number, size), &block))
}

fn copies_out(size: usize) -> Side {
    let (memory, mut block) = (Memory::full(), vec![0; size]);
    each(move |number| memory.read(offset(number, size), &mut block))
}

fn copies_in(size: usize) -> Side {
    let (mut memory, block) = (Memory::full(), vec![3; size]);
    each(move |number| memory.write(offset(number, size), &block))
}

fn three_copies(size: usize) -> Side {
    let (mut upper, mut lower) = (Memory::full(), Memory::full());
    let (block, mut private) = (vec![3; size], vec![0; size]);
    each(move |number| {
        private.copy_from_slice(std::hint::black_box(&block));
        upper.write(offset(number, size), &private);
        lower.write(offset(number, size), &private);
    })
}

/// Every page once: to a disk, and to memory, that is new in every round.
fn first_writes() -> Pair {
    let block = vec![3; 4 * KIB];
    let same = block.clone();
    let ours = move |count| {
        let disk = disks::empty();
        time(count, |number| {
            write(&disk, number as usize * block.len(), &block)
        })
    };
    let limit = move |count| {
        let mut memory = Memory::fresh();
        time(count, |number| {
            memory.write(number as usize * same.len(), &same)
        })
    };
    Pair::new(Box::new(ours), Box::new(limit))
}

/// The byte offset of an operation of 4 KiB in one half of the working set.
fn in_half(number: u64) -> usize {
    offset(number, 4 * KIB) % (WORKING_SET_BYTES / 2)
}

fn two_writers() -> Pair {
    let disk = disks::full();
    let ours = move |count| {
        slowdown_of_two(count, |thread, count| {
            let block = vec![thread as u8; 4 * KIB];
            let base = thread as usize * (WORKING_SET_BYTES / 2);
            (0..count).for_each(|number| write(&disk, base + in_half(number), &block));
        })
    };
    Pair::new(Box::new(ours), copies_of_two(|_| false))
}

/// Two threads that meet now and then: no plain copy may, so the limit's stay in their halves.
fn two_mixed() -> Pair {
    const SIZE: usize = 4 * KIB;
    let is_read = |number: u64| number % 10 < 7;
    let disk = disks::full();
    let ours = move |count: u64| {
        slowdown_of_two(count, |thread, count| {
            let mut block = vec![thread as u8; SIZE];
            // Each thread goes its own way.
            for number in 0..count {
                let place = offset(number + thread * count, SIZE);
                match is_read(number) {
                    true => read(&disk, place, &mut block),
                    false => write(&disk, place, &block),
                }
            }
        })
    };
    Pair::new(Box::new(ours), copies_of_two(is_read))
}

/// Plain copies of two threads, each in its half, to the memory unless `is_read`.
fn copies_of_two(is_read: impl Fn(u64) -> bool + Sync + 'static) -> Side {
    let halves = Memory::full().halves().map(Mutex::new);
    Box::new(move |count| {
        slowdown_of_two(count, |thread, count| {
            let mut block = vec![thread as u8; 4 * KIB];
            let mut memory = halves[thread as usize].lock().expect("nobody panics");
            for number in 0..count {
                match is_read(number) {
                    true => memory.read(in_half(number), &mut block),
                    false => memory.write(in_half(number), &block),
                }
            }
        })
    })
}

/// Reads of every 16th page of `depth` layers, from the one numbered `first` on: 0 for those that upper layers cover.
fn deep_reads(depth: u64, first: u64) -> Pair {
    let side = |depth| {
        let disk = disks::deep(depth, WORKING_SET_BYTES);
        every_16th_page(disk, WORKING_SET_BYTES, first)
    };
    Pair::new(side(depth), side(1))
}

/// Reads of pages that none but the lowest of `depth` layers has, each of which has something of almost every region.
fn crowded_reads(depth: u64, size_bytes: usize) -> Pair {
    let side = |depth| {
        let disk = disks::deep_and_scattered(depth, size_bytes);
        every_16th_page(disk, size_bytes, 1)
    };
    Pair::new(side(depth), side(1))
}

/// Reads of every 16th page from the one numbered `first` on, in an order that jumps about.
fn every_16th_page(disk: Disk, size_bytes: usize, first: u64) -> Side {
    const SIZE: usize = 4 * KIB;
    let mut block = vec![0; SIZE];
    let pages = (size_bytes / SIZE) as u64;
    each(move |number| {
        let page = scattered(number, pages / 16) * 16 + first;
        read(&disk, page as usize * SIZE, &mut block);
    })
}

fn cold_misses() -> Pair {
    const SIZE: usize = 4 * KIB;
    let ours = |count| {
        let (disk, mut block) = (disks::cached(), vec![0; SIZE]);
        time(count, |number| {
            read(&disk, number as usize * SIZE, &mut block)
        })
    };
    let lower = Memory::full();
    let limit = move |count| {
        let mut cache = Memory::fresh();
        let (mut private, mut block) = (vec![0; SIZE], vec![0; SIZE]);
        time(count, |number| {
            let offset = number as usize * SIZE;
            lower.read(offset, &mut private);
            block.copy_from_slice(std::hint::black_box(&private));
            cache.write(offset, std::hint::black_box(&private));
        })
    };
    Pair::new(Box::new(ours), Box::new(limit))
}

fn warm_hits() -> Pair {
    const SIZE: usize = 4 * KIB;
    let cached = disks::cached();
    let mut block = vec![0; MIB];
    for offset in (0..WORKING_SET_BYTES).step_by(MIB) {
        read(&cached, offset, &mut block);
    }
    Pair::new(reads(cached, SIZE), reads(disks::full(), SIZE))
}
