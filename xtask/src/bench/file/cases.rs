//! What is done to the file, and whom that is held against.

use super::super::fio::Load;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// A load.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) load: Load,
}

/// Somebody else who does the same, and how much of their rate is the goal.
#[derive(Clone, Copy)]
pub(super) struct Against {
    pub(super) name: &'static str,
    /// As fio calls it.
    pub(super) engine: &'static str,
    pub(super) goal: Option<f64>,
}

pub(super) const STORAGE_DAEMON: Against = Against {
    name: "qemu-storage-daemon",
    engine: "",
    goal: Some(1.2),
};

pub(super) const CASES: &[Case] = &[
    case("4 KiB random read, depth 1", "randread", 4 * KIB, 1),
    case("4 KiB random read, depth 32", "randread", 4 * KIB, 32),
    case("4 KiB random read, depth 128", "randread", 4 * KIB, 128),
    case("4 KiB random write, depth 1", "randwrite", 4 * KIB, 1),
    case("4 KiB random write, depth 32", "randwrite", 4 * KIB, 32),
    case("4 KiB random write, depth 128", "randwrite", 4 * KIB, 128),
    case("1 MiB sequential read, depth 4", "read", MIB, 4),
    case("1 MiB sequential write, depth 4", "write", MIB, 4),
];

const fn case(
    name: &'static str,
    pattern: &'static str,
    block_size_bytes: u64,
    depth: u32,
) -> Case {
    Case {
        name,
        load: Load {
            pattern,
            block_size_bytes,
            depth,
            job_count: 1,
        },
    }
}

impl Case {
    /// Which of fio's engines it is held against, in process.
    pub(super) fn peers(&self, is_direct: bool) -> Vec<Against> {
        let ring = Against {
            name: "fio io_uring",
            engine: "io_uring",
            goal: (self.load.depth >= 32).then_some(0.9),
        };
        let plain = Against {
            name: "fio psync",
            engine: "psync",
            goal: (!is_direct).then_some(0.95),
        };
        if self.load.depth == 1 {
            vec![ring, plain]
        } else {
            vec![ring]
        }
    }

    /// A rate as a cell of a table. Small requests are counted, large ones weighed.
    pub(super) fn rate(&self, requests_per_second: f64) -> String {
        if self.load.block_size_bytes <= 4 * KIB {
            return format!("{:.1} k/s", requests_per_second / 1000.0);
        }
        let mib = requests_per_second * self.load.block_size_bytes as f64 / MIB as f64;
        format!("{mib:.0} MiB/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_done() {
        for Case { name, load } in CASES {
            assert!(name.ends_with(&format!("depth {}", load.depth)), "{name}");
            assert!(
                name.contains(load.pattern.trim_start_matches("rand")),
                "{name}"
            );
            assert_eq!(name.contains("random"), load.pattern.starts_with("rand"));
        }
    }

    #[test]
    fn goals_are_where_they_were_set() {
        for case in CASES {
            for is_direct in [false, true] {
                for peer in case.peers(is_direct) {
                    let expected = match (peer.engine, case.load.depth) {
                        ("io_uring", 32 | 128) => Some(0.9),
                        ("psync", 1) if !is_direct => Some(0.95),
                        _ => None,
                    };
                    assert_eq!(peer.goal, expected, "{} {}", case.name, peer.name);
                }
            }
        }
    }
}
