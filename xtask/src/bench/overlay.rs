//! `cargo xtask bench overlay`: what a RAM layer over a file costs, against serving the file alone.
//!
//! The file is in the page cache, so nobody waits for a disk, and the layer is empty: each request asks it in vain.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fio::{Extent, Load, run_load};
use super::server::{Server, two_processors};
use super::stats::{Comparison, Round};
use super::{FIO, TASKSET, build, demand, processor_model, version};
use crate::Fallible;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each of the two is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Fail if the goal is missed
    #[arg(long)]
    check: bool,
}

/// The goal: an overlay may cost a tenth of the rate.
const RATIO_MIN: f64 = 0.9;

const DISK_BYTES: usize = 1 << 30;

const LOAD: Load = Load {
    pattern: "randread",
    block_size_bytes: 4096,
    depth: 32,
    job_count: 1,
};

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    demand(&[FIO, TASKSET])?;
    let platter = build(workspace, &["platter"])?.join("platter");
    let processors = two_processors()?;
    let scratch = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
    let image = scratch.path().join("image");
    write_image(&image).map_err(|error| format!("cannot write {}: {error}", image.display()))?;
    let start = |name: &str, options: &[&str]| {
        let socket = scratch.path().join(name);
        let command = serve(&platter, &image, options, &socket);
        Server::start(&command, processors[0], socket)
    };
    let overlay = start("overlay", &["--layer", "ram"])?;
    let alone = start("alone", &["--read-only"])?;
    let measure = |server: &Server| {
        let extent = Extent::Seconds(args.seconds);
        let work = run_load(&server.uri(), &LOAD, &extent, processors[1], scratch.path())?;
        Ok::<_, String>(work.requests_per_second)
    };
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        rounds.push(in_turns(round, || measure(&overlay), || measure(&alone))?);
    }
    let comparison = Comparison::of(&rounds);
    println!(
        "{}; {}; {}. A file of 1 GiB in the page cache; medians of {} rounds of {} s.\n\n{}",
        version(&platter)?,
        version(Path::new("fio"))?,
        processor_model(),
        args.rounds,
        args.seconds,
        table(&comparison)
    );
    let ratio = comparison.ratio_median;
    if args.check && ratio < RATIO_MIN {
        return Err(format!("the overlay reaches only {ratio:.3} of the rate"));
    }
    Ok(())
}

/// Fills a file with something that is not zero, which puts it into the page cache.
fn write_image(path: &PathBuf) -> std::io::Result<()> {
    let mut image = File::create(path)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..DISK_BYTES / piece.len() {
        image.write_all(&piece)?;
    }
    // What is still to be written would be, while we measure.
    image.sync_all()
}

/// Serves the file as the lowest layer, below those that are among the options.
fn serve(platter: &Path, image: &Path, options: &[&str], socket: &Path) -> Command {
    let mut command = Command::new(platter);
    command.arg("serve").args(options);
    command
        .arg("--layer")
        .arg(format!("file:{},ro", image.display()));
    command
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()));
    command
}

/// One round, begun by the one or the other, so that neither always comes second.
pub(super) fn in_turns(
    round: u32,
    ours: impl Fn() -> Fallible<f64>,
    peers: impl Fn() -> Fallible<f64>,
) -> Fallible<Round> {
    if round.is_multiple_of(2) {
        let ours = ours()?;
        let peers = peers()?;
        return Ok(Round { ours, peers });
    }
    let peers = peers()?;
    let ours = ours()?;
    Ok(Round { ours, peers })
}

fn table(comparison: &Comparison) -> String {
    let Comparison {
        ours_median,
        peers_median,
        ratio_median,
        ratio_min,
        ratio_max,
    } = *comparison;
    format!(
        "| case | RAM over the file | the file alone | ratio | min - max | goal |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n\
         | 4 KiB random read, depth 32 | {:.1} k/s | {:.1} k/s | {ratio_median:.2} | {ratio_min:.2} - {ratio_max:.2} | {RATIO_MIN:.2} |",
        ours_median / 1000.0,
        peers_median / 1000.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_overlay_is_the_upper_layer() {
        let command = serve(
            Path::new("platter"),
            Path::new("/i"),
            &["--layer", "ram"],
            Path::new("/s"),
        );
        assert_eq!(
            crate::run::as_line(&command),
            "platter serve --layer ram --layer file:/i,ro --listen unix:/s"
        );
    }

    #[test]
    fn neither_always_comes_second() {
        let order = RefCell::new(String::new());
        let turn = |name: char, rate: f64| {
            order.borrow_mut().push(name);
            Ok(rate)
        };
        for round in 0..3 {
            let round = in_turns(round, || turn('o', 1.0), || turn('a', 2.0)).unwrap();
            assert!((round.ratio() - 0.5).abs() < 1e-9);
        }
        assert_eq!(*order.borrow(), "oaaooa");
    }

    #[test]
    fn the_table_has_the_ratio_beside_its_goal() {
        let (ours, peers) = (95_000.0, 100_000.0);
        let table = table(&Comparison::of(&[Round { ours, peers }]));
        let row = "| 95.0 k/s | 100.0 k/s | 0.95 | 0.95 - 0.95 | 0.90 |";
        assert!(table.ends_with(row), "{table}");
    }
}
