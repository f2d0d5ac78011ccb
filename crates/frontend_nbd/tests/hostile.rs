//! Random input: noise, nearly valid sessions, and valid requests of every kind, checked against a byte array.

mod common;

use common::client::{
    BLOCK_STATUS, Client, EINVAL, ENOSPC, FLUSH, FUA, NO_HOLE, READ, STYLES, Style, WRITE,
    WRITE_ZEROES, info_request, option, request,
};
use common::disk::TestDisk;
use common::random::rounds;
use common::{Running, export};
use disklayer_ram::ram_disk;
use frontend_nbd::Limits;
use std::io::Write;

const SIZE: usize = 1 << 20;

fn noise(random: &mut fastrand::Rng, len_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..len_max)];
    random.fill(&mut bytes);
    bytes
}

/// Sends what may well be too much for the server's patience, and waits for the end.
fn send_and_leave(mut client: Client, bytes: &[u8]) {
    // The server may close the connection in the middle of it.
    let _ = client.stream().write_all(bytes);
    client.finish_sending();
    client.drain();
}

fn expect_serving(server: &Running) {
    server.wait_for_connections(0);
    for style in STYLES {
        let mut client = server.client(style);
        client.write(5, b"still there");
        assert_eq!(client.read(5, 11), b"still there");
        client.disconnect();
    }
    server.wait_for_connections(0);
}

#[test]
fn noise_instead_of_a_handshake_harms_nobody() {
    let server = Running::one(TestDisk::new().disk());
    for mut random in rounds(2) {
        for _ in 0..50 {
            send_and_leave(server.connect(), &noise(&mut random.numbers, 5000));
            send_and_leave(server.greeted(), &noise(&mut random.numbers, 5000));
        }
        expect_serving(&server);
    }
}

#[test]
fn noise_instead_of_requests_harms_nobody() {
    let server = Running::one(TestDisk::new().disk());
    for mut random in rounds(2) {
        for i in 0..100 {
            let client = server.client(STYLES[i % 2]);
            send_and_leave(client, &noise(&mut random.numbers, 5000));
        }
        expect_serving(&server);
    }
}

/// An option that looks right at first sight.
fn nearly_an_option(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut data = match random.u8(..4) {
        0 => noise(random, 200),
        1 => info_request("disk", &[random.u16(..6), random.u16(..)]),
        2 => common::client::contexts("disk", &["base:allocation", "x:y"]),
        _ => Vec::new(),
    };
    if !data.is_empty() && random.bool() {
        let position = random.usize(..data.len());
        data[position] ^= 1 << random.u8(..8);
    }
    // Neither EXPORT_NAME, ABORT nor GO, mostly: those end it.
    let code = if random.u8(..8) == 0 {
        random.u32(..12)
    } else {
        random.u32(8..12)
    };
    let mut bytes = option(code, &data);
    if random.u8(..20) == 0 {
        let position = random.usize(..16);
        bytes[position] = random.u8(..);
    }
    bytes
}

#[test]
fn nearly_valid_options_harm_nobody() {
    let server = Running::one(TestDisk::new().disk());
    for mut random in rounds(2) {
        for _ in 0..60 {
            let count = random.numbers.usize(..40);
            let options: Vec<_> = (0..count)
                .flat_map(|_| nearly_an_option(&mut random.numbers))
                .collect();
            send_and_leave(server.greeted(), &options);
        }
        expect_serving(&server);
    }
}

/// A request with its magic, any flags, and any length.
fn nearly_a_request(random: &mut fastrand::Rng) -> Vec<u8> {
    let command = if random.u8(..8) == 0 {
        random.u16(..)
    } else {
        random.u16(..9)
    };
    let flags = if random.bool() { 0 } else { random.u16(..32) };
    let offset = if random.bool() {
        random.u64(..SIZE as u64)
    } else {
        random.u64(..)
    };
    let len = if random.u8(..4) > 0 {
        random.u32(..70_000)
    } else {
        random.u32(..)
    };
    let mut bytes = request(command, flags, random.u64(..), offset, len);
    if command == WRITE && len < 100_000 {
        bytes.resize(bytes.len() + len as usize, 0x5a);
    }
    bytes
}

#[test]
fn nearly_valid_requests_harm_nobody() {
    let server = Running::one(TestDisk::new().disk());
    for mut random in rounds(2) {
        for i in 0..60 {
            let client = server.client(STYLES[i % 2]);
            let requests: Vec<_> = (0..30)
                .flat_map(|_| nearly_a_request(&mut random.numbers))
                .collect();
            // Takes the replies while it sends, as a client does.
            let mut replies = client.stream().try_clone().expect("a descriptor");
            let taker = std::thread::spawn(move || {
                // However it ends, it has ended.
                let _ = std::io::copy(&mut replies, &mut std::io::sink());
            });
            let _ = client.stream().write_all(&requests);
            let mut client = client;
            client.finish_sending();
            taker.join().expect("no panic");
        }
        expect_serving(&server);
    }
}

/// A client, what the export should hold, and random requests to both.
struct Model {
    client: Client,
    expected: Vec<u8>,
}

impl Model {
    fn step(&mut self, random: &mut fastrand::Rng) {
        let len = match random.u8(..4) {
            0 => random.usize(..2000),
            1 => random.usize(..9) * 512,
            2 => random.usize(..300_000),
            _ => random.usize(..64),
        };
        let mut offset = random.usize(..SIZE);
        if random.bool() {
            offset &= !511;
        }
        let is_inside = offset + len <= SIZE;
        let fua = if random.u8(..4) == 0 { FUA } else { 0 };
        match random.u8(..10) {
            0..4 => self.read(offset, len, is_inside),
            4..7 => self.write(offset, &vec![random.u8(..); len], fua, is_inside),
            7..9 => {
                let flags = fua | if random.bool() { NO_HOLE } else { 0 };
                let errno = self
                    .client
                    .errno(WRITE_ZEROES, flags, offset as u64, len as u32);
                assert_eq!(errno, if is_inside { 0 } else { ENOSPC });
                if is_inside {
                    self.expected[offset..offset + len].fill(0);
                }
            }
            _ => assert_eq!(self.client.errno(FLUSH, 0, 0, 0), 0),
        }
    }

    fn read(&mut self, offset: usize, len: usize, is_inside: bool) {
        let answer = self.client.call(READ, 0, offset as u64, len as u32, &[]);
        assert_eq!(answer.errno, if is_inside { 0 } else { EINVAL });
        if is_inside {
            assert!(
                answer.data == self.expected[offset..offset + len],
                "{len} at {offset}"
            );
        }
    }

    fn write(&mut self, offset: usize, data: &[u8], flags: u16, is_inside: bool) {
        let len = data.len() as u32;
        let answer = self.client.call(WRITE, flags, offset as u64, len, data);
        assert_eq!(answer.errno, if is_inside { 0 } else { ENOSPC });
        if is_inside {
            self.expected[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    /// Whatever block status calls zero or hole reads zero (C12).
    fn check_status(&mut self) {
        let mut offset = 0;
        while offset < SIZE {
            let len = (SIZE - offset) as u32;
            let answer = self.client.call(BLOCK_STATUS, 0, offset as u64, len, &[]);
            assert_eq!(answer.errno, 0);
            for (len, flags) in answer.extents {
                let extent = &self.expected[offset..offset + len as usize];
                assert!(
                    flags & 2 == 0 || extent.iter().all(|byte| *byte == 0),
                    "at {offset}"
                );
                offset += len as usize;
            }
        }
    }
}

#[test]
fn random_requests_do_to_an_export_what_they_do_to_a_byte_array() {
    for mut random in rounds(2) {
        let disks = [
            TestDisk::new().disk(),
            ram_disk(SIZE as u64, false).expect("a disk"),
        ];
        for disk in disks {
            let server = Running::new([export("disk", disk)], Limits::default());
            for style in STYLES {
                let mut client = server.client(style);
                let expected = client.read(0, SIZE as u32);
                let mut model = Model { client, expected };
                (0..300).for_each(|_| model.step(&mut random.numbers));
                model.read(0, SIZE, true);
                if style != Style::Simple {
                    model.check_status();
                }
                model.client.disconnect();
            }
        }
    }
}
