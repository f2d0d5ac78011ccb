//! A durable layer whose file system has no more room.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::support::client::{Client, command, error};
use crate::support::small::SmallFileSystem;
use crate::support::{Daemon, MIB, Random, assert_same_bytes, write};

const BLOCK: u64 = 4096;
/// So large that nearly each write is the first of its stripe, and needs room for a page as well.
const SIZE: u64 = 512 * MIB;

/// What each block that was ever written holds.
type Model = BTreeMap<u64, Vec<u8>>;

/// Writes a block. Without room nothing was acknowledged, and each sector has its old or its new content, and keeps it.
#[track_caller]
fn try_write(client: &mut Client, model: &mut Model, at: u64, data: Vec<u8>) -> bool {
    let answer = client.request(command::WRITE, at, BLOCK as u32, &data);
    let is_taken = match answer {
        Ok(_) => true,
        Err(error::NO_SPACE) => false,
        Err(other) => panic!("a write without room fails with {other}"),
    };
    match is_taken {
        true => _ = model.insert(at, data),
        false => {
            let old = model.get(&at).cloned().unwrap_or(vec![0; BLOCK as usize]);
            let found = client.read(at, BLOCK as u32);
            for (sector, content) in found.chunks(512).enumerate() {
                let range = sector * 512..(sector + 1) * 512;
                assert!(
                    [&old, &data]
                        .iter()
                        .any(|one| one[range.clone()] == *content),
                    "sector {sector} at {at} is neither old nor new"
                );
            }
            model.insert(at, found);
        }
    }
    is_taken
}

#[track_caller]
fn flush(client: &mut Client) {
    let answer = client.request(command::FLUSH, 0, 0, &[]);
    answer.expect("a flush stays good: what was acknowledged had its room");
}

#[track_caller]
fn assert_holds(client: &mut Client, model: &Model) {
    for (at, expected) in model {
        assert_same_bytes(&client.read(*at, BLOCK as u32), expected);
    }
}

#[test]
fn without_room_writes_fail_before_they_are_acknowledged_and_space_heals_it() {
    let Some(small) = SmallFileSystem::new(6 * MIB) else {
        return;
    };
    let filler = small.path().join("filler");
    write(&filler, vec![1; 2 * MIB as usize]);
    let spec = format!(
        "durable:{}/vm.plt,create=true,size=512M",
        small.path().display()
    );
    let daemon = Daemon::serve(["--layer", &spec]);
    let mut client = daemon.client();
    assert_eq!(client.size_bytes, SIZE);
    let (mut random, mut model) = (Random::new(84), Model::new());
    let mut refused = Vec::new();
    let mut count = 0;
    while refused.len() < 50 {
        let at = random.below(SIZE / BLOCK) * BLOCK;
        if !try_write(&mut client, &mut model, at, random.bytes(BLOCK)) {
            refused.push(at);
        }
        count += 1;
        assert!(count < 5000, "a file system of 6 MiB took them all");
        if count % 16 == 0 {
            flush(&mut client);
        }
    }
    assert!(count > 150, "it was full after {count} blocks");
    flush(&mut client);
    assert_holds(&mut client, &model);
    // What is there already can be overwritten.
    let first = *model.first_key_value().expect("some were taken").0;
    let present: Vec<u64> = model
        .keys()
        .copied()
        .filter(|at| !refused.contains(at))
        .collect();
    for at in present {
        let is_taken = try_write(&mut client, &mut model, at, random.bytes(BLOCK));
        assert!(
            is_taken,
            "an overwrite at {at} needs no room; the first block is at {first}"
        );
    }
    flush(&mut client);

    std::fs::remove_file(&filler).expect("it was there");
    for at in refused {
        let is_taken = try_write(&mut client, &mut model, at, random.bytes(BLOCK));
        assert!(is_taken, "there is room again");
    }
    flush(&mut client);
    assert_holds(&mut client, &model);
    daemon.signal(Signal::KILL);
    let (_, _, folder) = daemon.wait();
    let daemon = Daemon::serve_in(folder, ["--layer", &spec]);
    assert_holds(&mut daemon.client(), &model);
    daemon.stop();
}
