//! Many threads, one small ring: random reads, writes, drops and forgotten futures, each thread in a part of the file of its own.

use super::*;

const PART_BYTES: usize = 64 << 10;
const ROUNDS: u64 = 400;

/// A small generator of pseudo-random numbers (SplitMix64): the same sequence for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// What becomes of the future of a write.
fn settle(numbers: &mut Numbers, writing: Operation<()>) {
    match numbers.below(4) {
        0 => drop(writing),
        1 => std::mem::forget(writing),
        2 => writing.detach(),
        _ => block_on(writing),
    }
}

fn run_thread(ring: Ring, file: &Arc<File>, part: usize, seed: u64) {
    let mut numbers = Numbers(seed.wrapping_mul(1000) + part as u64);
    let base = (part * PART_BYTES) as u64;
    let mut model = vec![0; PART_BYTES];
    for round in 0..ROUNDS {
        let start = numbers.below(PART_BYTES);
        let len = 1 + numbers.below((PART_BYTES - start).min(20_000));
        let offset = base + start as u64;
        if numbers.below(2) == 0 {
            let bytes = vec![1 + numbers.below(255) as u8; len];
            let (tell, told) = channel();
            let writing = ring.write(file.clone(), pinned_copy(&bytes), offset, move |outcome| {
                tell.send(outcome).expect("the test listens");
            });
            settle(&mut numbers, writing.expect("memory"));
            // Whatever became of the future: the operation ends, and says whether it was done.
            match told.recv().expect("it ends") {
                Ok(()) => model[start..start + len].copy_from_slice(&bytes),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "seed {seed}"),
            }
        } else {
            let (mut buffer, memory) = room(len);
            let reading = ring.read(file.clone(), memory, offset, itself);
            block_on(reading.expect("memory")).expect("it reads");
            assert!(
                buffer.as_slice() == Some(&model[start..start + len]),
                "part {part}, round {round}, seed {seed}"
            );
        }
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the runner keeps it for those that fail"
)]
fn operations_of_many_threads_do_what_they_say_and_nothing_else() {
    const THREADS: usize = 6;
    let seed = std::env::var("DISK_CONTRACT_SEED").map_or(7, |seed| {
        seed.parse().expect("DISK_CONTRACT_SEED is a number")
    });
    println!("seed {seed}");
    let (ring, core) = ring_with_room(4);
    let file = file_of(&vec![0; THREADS * PART_BYTES]);
    thread::scope(|scope| {
        for part in 0..THREADS {
            let file = &file;
            scope.spawn(move || run_thread(ring, file, part, seed));
        }
    });
    while core.operation_count() + core.in_kernel() > 0 {
        thread::yield_now();
    }
}
