//! `cargo xtask bench nbd`: `platter serve` with a RAM disk against `nbdkit memory`.
//!
//! Both serve a full disk of 1 GiB on a Unix socket, and the same `fio` drives them in turns. In a request
//! at depth 1 the two processes only ever wait for each other, so they share one processor: on two, what is
//! measured is how fast the kernel wakes the other one. At depth they work at the same time and get one each.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fio::{Extent, Load, requests_per_second};
use super::server::{Server, two_processors};
use super::stats::{Comparison, Round};
use crate::peers::{self, Peer};
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each case is measured on each server
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Fail if a ratio is below 1
    #[arg(long)]
    check: bool,
    /// What to measure instead: a line for the shell that serves on $SOCKET
    #[arg(long, hide = true)]
    platter_command: Option<String>,
}

struct Case {
    name: &'static str,
    load: Load,
    shares_processor: bool,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const CASES: &[Case] = &[
    case("4 KiB random read, depth 1", "randread", 4 * KIB, 1),
    case("4 KiB random write, depth 1", "randwrite", 4 * KIB, 1),
    case("4 KiB random read, depth 32", "randread", 4 * KIB, 32),
    case("4 KiB random write, depth 32", "randwrite", 4 * KIB, 32),
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
        },
        shares_processor: depth == 1,
    }
}

/// Writes the whole disk, so that reads find data and writes find memory.
const FILL: Load = Load {
    pattern: "write",
    block_size_bytes: MIB,
    depth: 4,
};

const PEERS: &[Peer] = &[
    Peer {
        tool: "fio",
        package: "fio",
    },
    Peer {
        tool: "nbdkit",
        package: "nbdkit",
    },
    Peer {
        tool: "taskset",
        package: "util-linux",
    },
];

/// Everything that the cases share.
struct Bench<'a> {
    args: &'a Args,
    platter: PathBuf,
    processors: [usize; 2],
    scratch: tempfile::TempDir,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let missing = peers::missing(PEERS);
    if !missing.is_empty() {
        return Err(format!(
            "the benchmark needs what is not here; install it with:\n  {}",
            peers::install_line(&missing)
        ));
    }
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&args.case))
        .collect();
    if cases.is_empty() {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        return Err(format!(
            "no case is called `{}`; there are:\n  {}",
            args.case,
            names.join("\n  ")
        ));
    }
    let bench = Bench {
        args,
        platter: build(workspace, args)?,
        processors: two_processors()?,
        scratch: tempfile::tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?,
    };
    println!("{}", bench.heading()?);
    let mut slower = Vec::new();
    for case in cases {
        let comparison = bench.compare(case)?;
        println!("{}", row(case, &comparison));
        if comparison.ratio_median < 1.0 {
            slower.push(case.name);
        }
    }
    if args.check && !slower.is_empty() {
        return Err(format!("slower than the peer: {}", slower.join("; ")));
    }
    Ok(())
}

fn build(workspace: &Workspace, args: &Args) -> Fallible<PathBuf> {
    if args.platter_command.is_none() {
        run::run(run::cargo(workspace).args(["build", "--release", "--package", "platter"]))?;
    }
    Ok(workspace.target.join("release/platter"))
}

impl Bench<'_> {
    /// What a reader needs to judge the rows below it, and the head of their table.
    fn heading(&self) -> Fallible<String> {
        let version = |program: &Path| {
            let text = run::output(Command::new(program).arg("--version"))?;
            Ok::<_, String>(text.lines().next().unwrap_or_default().to_owned())
        };
        let ours = match &self.args.platter_command {
            Some(line) => line.clone(),
            None => version(&self.platter)?,
        };
        let (peer, client) = (version(Path::new("nbdkit"))?, version(Path::new("fio"))?);
        let Args {
            rounds, seconds, ..
        } = self.args;
        Ok(format!(
            "{ours} against {peer}, client {client}, {}; full RAM disk of 1 GiB, Unix socket.\n\
             Medians of {rounds} rounds of {seconds} s, the two in turns; the ratio is the median of the rounds' ratios.\n\n\
             | case | platter | nbdkit | ratio | min - max |\n| --- | ---: | ---: | ---: | ---: |",
            processor_model()
        ))
    }

    fn compare(&self, case: &Case) -> Fallible<Comparison> {
        let [servers, other] = self.processors;
        let client = if case.shares_processor {
            servers
        } else {
            other
        };
        let start = |name: &str, command: fn(&Self, &Path) -> Command| {
            let socket = self.scratch.path().join(name);
            let command = command(self, &socket);
            // Left by the server of the case before.
            let _ = std::fs::remove_file(&socket);
            let server = Server::start(&command, servers, socket)?;
            self.measure(&server, &FILL, &Extent::Once, other)?;
            Ok::<_, String>(server)
        };
        let ours = start("platter", Self::platter)?;
        let peers = start("nbdkit", |_, socket| nbdkit(socket))?;
        let mut rounds = Vec::new();
        for _ in 0..self.args.rounds {
            let measure = |server| {
                self.measure(
                    server,
                    &case.load,
                    &Extent::Seconds(self.args.seconds),
                    client,
                )
            };
            rounds.push(Round {
                ours: measure(&ours)?,
                peers: measure(&peers)?,
            });
        }
        Ok(Comparison::of(&rounds))
    }

    fn measure(
        &self,
        server: &Server,
        load: &Load,
        extent: &Extent,
        processor: usize,
    ) -> Fallible<f64> {
        requests_per_second(&server.uri(), load, extent, processor, self.scratch.path())
    }

    fn platter(&self, socket: &Path) -> Command {
        if let Some(line) = &self.args.platter_command {
            let mut command = Command::new("sh");
            command
                .arg("-c")
                .arg(format!("exec {line}"))
                .env("SOCKET", socket);
            return command;
        }
        let mut command = Command::new(&self.platter);
        command
            .args(["serve", "--layer", "ram:1G", "--listen"])
            .arg(format!("unix:{}", socket.display()));
        command
    }
}

fn nbdkit(socket: &Path) -> Command {
    let mut command = Command::new("nbdkit");
    command
        .arg("--foreground")
        .arg("--unix")
        .arg(socket)
        .args(["memory", "1G"]);
    command
}

fn processor_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model
        .map_or("unknown processor", |(_, name)| name.trim())
        .to_owned()
}

/// A row of the table. Small requests are counted, large ones weighed.
fn row(case: &Case, comparison: &Comparison) -> String {
    let rate = |requests_per_second: f64| {
        if case.load.block_size_bytes == MIB {
            format!("{requests_per_second:.0} MiB/s")
        } else {
            format!("{:.1} k/s", requests_per_second / 1000.0)
        }
    };
    let Comparison {
        ours_median,
        peers_median,
        ratio_median,
        ratio_min,
        ratio_max,
    } = *comparison;
    format!(
        "| {} | {} | {} | {ratio_median:.2} | {ratio_min:.2} - {ratio_max:.2} |",
        case.name,
        rate(ours_median),
        rate(peers_median),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPARISON: Comparison = Comparison {
        ours_median: 2500.0,
        peers_median: 1000.0,
        ratio_median: 2.5,
        ratio_min: 2.0,
        ratio_max: 3.0,
    };

    #[test]
    fn small_requests_are_counted_and_large_ones_weighed() {
        let cells = row(&CASES[0], &COMPARISON);
        assert!(
            cells.ends_with("| 2.5 k/s | 1.0 k/s | 2.50 | 2.00 - 3.00 |"),
            "{cells}"
        );
        let cells = row(&CASES[4], &COMPARISON);
        assert!(cells.contains("| 2500 MiB/s | 1000 MiB/s |"), "{cells}");
    }

    #[test]
    fn only_depth_one_shares_a_processor() {
        for case in CASES {
            assert_eq!(
                case.shares_processor,
                case.name.ends_with("depth 1"),
                "{}",
                case.name
            );
        }
    }
}
