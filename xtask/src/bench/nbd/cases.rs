//! What the clients do to each server.

use std::path::Path;

use crate::Fallible;
use crate::bench::fio::{Extent, Load, Work, run_load};
use crate::bench::nbdcopy::{self, copy_to_nowhere};
use crate::bench::server::Server;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The size of every server's disk.
pub(crate) const DISK_BYTES: u64 = 1024 * MIB;

/// One row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    client: Client,
}

enum Client {
    Fio(Load),
    Nbdcopy,
}

pub(crate) const CASES: &[Case] = &[
    fio("4 KiB random read, depth 1", "randread", 4 * KIB, 1, 1),
    fio("4 KiB random write, depth 1", "randwrite", 4 * KIB, 1, 1),
    fio("4 KiB random read, depth 32", "randread", 4 * KIB, 32, 1),
    fio("4 KiB random write, depth 32", "randwrite", 4 * KIB, 32, 1),
    fio("4 KiB random read, depth 128", "randread", 4 * KIB, 128, 1),
    fio(
        "4 KiB random write, depth 128",
        "randwrite",
        4 * KIB,
        128,
        1,
    ),
    fio(
        "4 KiB random read, 2 jobs, depth 1",
        "randread",
        4 * KIB,
        1,
        2,
    ),
    fio(
        "4 KiB random write, 2 jobs, depth 1",
        "randwrite",
        4 * KIB,
        1,
        2,
    ),
    fio(
        "4 KiB random read, 2 jobs, depth 32",
        "randread",
        4 * KIB,
        32,
        2,
    ),
    fio(
        "4 KiB random write, 2 jobs, depth 32",
        "randwrite",
        4 * KIB,
        32,
        2,
    ),
    fio(
        "4 KiB random read, 2 jobs, depth 128",
        "randread",
        4 * KIB,
        128,
        2,
    ),
    fio(
        "4 KiB random write, 2 jobs, depth 128",
        "randwrite",
        4 * KIB,
        128,
        2,
    ),
    fio("1 MiB sequential read, depth 4", "read", MIB, 4, 1),
    fio("1 MiB sequential write, depth 4", "write", MIB, 4, 1),
    Case {
        name: "nbdcopy of the disk to nowhere",
        client: Client::Nbdcopy,
    },
];

const fn fio(
    name: &'static str,
    pattern: &'static str,
    block_size_bytes: u64,
    depth: u32,
    job_count: u32,
) -> Case {
    let load = Load {
        pattern,
        block_size_bytes,
        depth,
        job_count,
    };
    Case {
        name,
        client: Client::Fio(load),
    }
}

/// Writes the whole disk, so that reads find data and writes find memory.
pub(crate) const FILL: Load = Load {
    pattern: "write",
    block_size_bytes: MIB,
    depth: 4,
    job_count: 1,
};

impl Case {
    pub(crate) fn run(
        &self,
        server: &Server,
        seconds: u32,
        processor: usize,
        scratch: &Path,
    ) -> Fallible<Work> {
        let uri = server.uri();
        match &self.client {
            Client::Fio(load) => {
                run_load(&uri, load, &Extent::Seconds(seconds), processor, scratch)
            }
            Client::Nbdcopy => copy_to_nowhere(&uri, DISK_BYTES, processor),
        }
    }

    /// Whether the client runs on the server's processor.
    pub(crate) fn shares_processor(&self) -> bool {
        matches!(&self.client, Client::Fio(load) if load.depth == 1)
    }

    /// A rate as a cell of the table. Small requests are counted, large ones weighed.
    pub(crate) fn rate(&self, requests_per_second: f64) -> String {
        let request_bytes = match &self.client {
            Client::Fio(load) => load.block_size_bytes,
            Client::Nbdcopy => nbdcopy::REQUEST_BYTES,
        };
        if request_bytes <= 4 * KIB {
            return format!("{:.1} k/s", requests_per_second / 1000.0);
        }
        let mib_per_second = requests_per_second * request_bytes as f64 / MIB as f64;
        format!("{mib_per_second:.0} MiB/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_requests_are_counted_and_large_ones_weighed() {
        let rate = |name: &str| {
            let case = CASES.iter().find(|case| case.name.contains(name)).unwrap();
            case.rate(2500.0)
        };
        assert_eq!(rate("4 KiB"), "2.5 k/s");
        assert_eq!(rate("1 MiB"), "2500 MiB/s");
        assert_eq!(rate("nbdcopy"), "625 MiB/s");
    }

    #[test]
    fn names_say_what_is_done_and_only_depth_one_shares_a_processor() {
        for case in CASES {
            let is_depth_one = case.name.ends_with("depth 1");
            assert_eq!(case.shares_processor(), is_depth_one, "{}", case.name);
            if let Client::Fio(load) = &case.client {
                let depth = format!("depth {}", load.depth);
                assert!(case.name.ends_with(&depth), "{}", case.name);
                let has_two = case.name.contains("2 jobs");
                assert_eq!(has_two, load.job_count == 2, "{}", case.name);
                assert!(case.name.contains(load.pattern.trim_start_matches("rand")));
            }
        }
    }
}
