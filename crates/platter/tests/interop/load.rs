//! Many requests at once, of any alignment, over one connection and over several, each byte known.

use std::process::Command;

use crate::support::client::{Client, command, error};
use crate::support::{Daemon, KIB, MIB, Random, assert_same_bytes, peers, run};

#[test]
fn fio_verifies_a_random_mixed_load() {
    let Some([fio]) = peers(["fio"]) else { return };
    let daemon = Daemon::serve(["--layer", "ram:128M"]);
    // Two jobs on halves of the disk, each with its own connection.
    let output = run(Command::new(fio).current_dir(daemon.folder()).args([
        "--name=mixed",
        "--ioengine=nbd",
        &format!("--uri={}", daemon.uri()),
        "--rw=randrw",
        "--bsrange=512-64k",
        "--iodepth=32",
        "--numjobs=2",
        "--size=64M",
        "--offset_increment=64M",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--randseed=20260711",
    ]));
    assert_eq!(output.matches("err= 0").count(), 2, "{output}");
    daemon.stop();
}

/// A disk's bytes as they must be, and a client whose every request is checked against them.
struct Model {
    client: Client,
    bytes: Vec<u8>,
}

impl Model {
    fn range(&self, random: &mut Random) -> (usize, usize) {
        let size = self.bytes.len() as u64;
        // Often near the start, so that requests meet; seldom whole sectors.
        let end = if random.below(3) == 0 { size } else { 64 * KIB };
        let offset = random.below(end);
        let len_max = if random.below(8) == 0 {
            256 * KIB
        } else {
            3000
        };
        let len = 1 + random.below(len_max.min(size - offset));
        (offset as usize, len as usize)
    }

    fn step(&mut self, random: &mut Random) {
        let (offset, len) = self.range(random);
        let (at, count) = (offset as u64, len as u32);
        match random.below(10) {
            0..=3 => assert_same_bytes(
                &self.client.read(at, count),
                &self.bytes[offset..offset + len],
            ),
            4..=7 => {
                let data = random.bytes(len as u64);
                self.client.write(at, &data);
                self.bytes[offset..offset + len].copy_from_slice(&data);
            }
            8 => {
                self.client
                    .request(command::WRITE_ZEROES, at, count, &[])
                    .expect("zeroing succeeds");
                self.bytes[offset..offset + len].fill(0);
            }
            _ => self.trim(offset, len),
        }
    }

    /// What was trimmed may keep its content or read zero; from then on it may not change.
    fn trim(&mut self, offset: usize, len: usize) {
        self.client
            .request(command::TRIM, offset as u64, len as u32, &[])
            .expect("a trim succeeds");
        let now = self.client.read(offset as u64, len as u32);
        let kept = &mut self.bytes[offset..offset + len];
        for (kept, now) in kept.iter_mut().zip(now) {
            assert!(
                now == 0 || now == *kept,
                "a trim left {now:#04x} where {kept:#04x} was"
            );
            *kept = now;
        }
    }
}

#[test]
fn random_requests_of_any_alignment_match_an_array_of_bytes() {
    for (seed, layers) in [
        (1, &["ram:2M"][..]),
        (2, &["ram", "file:base.raw,ro"]),
        (3, &["file:base.raw"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let base = Random::new(seed).bytes(2 * MIB);
        crate::support::write(&folder.path().join("base.raw"), &base);
        let arguments = layers.iter().flat_map(|layer| ["--layer", layer]);
        let daemon = Daemon::serve_in(folder, arguments);
        let has_base = layers.iter().any(|layer| layer.contains("base"));
        let bytes = if has_base {
            base
        } else {
            vec![0; 2 * MIB as usize]
        };
        let mut model = Model {
            client: daemon.client(),
            bytes,
        };
        let mut random = Random::new(seed);
        println!("seed {seed}, layers {layers:?}");
        for _ in 0..2000 {
            model.step(&mut random);
        }
        assert_same_bytes(&model.client.read(0, 2 * MIB as u32), &model.bytes);
        daemon.stop();
    }
}

#[test]
fn neighbours_within_one_sector_do_not_lose_each_others_bytes() {
    const WRITER_COUNT: u64 = 4;
    const LEN: u64 = 100;
    for layers in [&["ram:1M"][..], &["file:base.raw"]] {
        let folder = tempfile::tempdir().unwrap();
        crate::support::write(&folder.path().join("base.raw"), vec![0; MIB as usize]);
        let arguments = layers.iter().flat_map(|layer| ["--layer", layer]);
        let daemon = Daemon::serve_in(folder, arguments);
        std::thread::scope(|scope| {
            for writer in 0..WRITER_COUNT {
                let mut client = daemon.client();
                scope.spawn(move || {
                    let mut random = Random::new(writer);
                    for _ in 0..500 {
                        let data = random.bytes(LEN);
                        client.write(writer * LEN, &data);
                        assert_same_bytes(&client.read(writer * LEN, LEN as u32), &data);
                    }
                });
            }
        });
        daemon.stop();
    }
}

#[test]
fn two_connections_see_each_others_completed_writes() {
    let daemon = Daemon::serve(["--layer", "ram:4M"]);
    let (mut one, mut other) = (daemon.client(), daemon.client());
    let mut random = Random::new(30);
    for _ in 0..200 {
        let offset = random.below(4 * MIB - 70_000);
        let len = 1 + random.below(70_000);
        let data = random.bytes(len);
        one.write(offset, &data);
        assert_same_bytes(&other.read(offset, data.len() as u32), &data);
        std::mem::swap(&mut one, &mut other);
    }
    daemon.stop();
}

#[test]
fn many_requests_in_flight_are_all_answered_once() {
    const COUNT: u64 = 256;
    let daemon = Daemon::serve(["--layer", "ram:16M"]);
    let mut client = daemon.client();
    let data = Random::new(31).bytes(COUNT * 4096);
    client.write(0, &data);
    let mut writer = client.stream.try_clone().unwrap();
    let heads: Vec<u8> = (0..COUNT)
        .flat_map(|cookie| {
            crate::support::client::request(command::READ, 0, 1000 + cookie, cookie * 4096, 4096)
        })
        .collect();
    std::io::Write::write_all(&mut writer, &heads).unwrap();
    let mut answered = vec![false; COUNT as usize];
    for _ in 0..COUNT {
        let (cookie, error) = client.hear_head();
        assert_eq!(error, 0);
        let index = (cookie - 1000) as usize;
        assert!(
            !std::mem::replace(&mut answered[index], true),
            "request {index} was answered twice"
        );
        assert_same_bytes(&client.hear_data(4096), &data[index * 4096..][..4096]);
    }
    client.disconnect();
    daemon.stop();
}

/// The transmission flag.
const READ_ONLY: u16 = 1 << 1;

#[test]
fn a_read_only_export_reads_and_refuses_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let base = Random::new(32).bytes(MIB);
    crate::support::write(&folder.path().join("base.raw"), &base);
    let daemon = Daemon::serve_in(folder, ["--layer", "file:base.raw,ro", "--read-only"]);
    let mut client = daemon.client();
    assert_ne!(client.transmission_flags & READ_ONLY, 0);
    for (command, payload) in [
        (command::WRITE, &[1; 512][..]),
        (command::TRIM, &[]),
        (command::WRITE_ZEROES, &[]),
    ] {
        assert_eq!(
            client.request(command, 0, 512, payload),
            Err(error::PERMISSION),
            "command {command}"
        );
    }
    assert_same_bytes(&client.read(0, MIB as u32), &base);
    let folder = daemon.stop();
    assert_same_bytes(
        &crate::support::read(&folder.path().join("base.raw")),
        &base,
    );
}
