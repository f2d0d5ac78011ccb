//! `cargo xtask bench file`: a disk in a file against what `fio` does to the same file, in process; and served, against
//! `qemu-storage-daemon` with the same file.
//!
//! The file lies once on the machine's disk and once in tmpfs, and is used through the page cache, where it is all of it, and past it.

mod cases;
mod report;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use self::cases::{CASES, Case};
use self::report::{Sample, Table};
use super::fio::{Extent, Work, run_file_load, run_load};
use super::overlay::in_turns;
use super::server::{Server, two_processors};
use super::stats::Round;
use super::{FIO, TASKSET, build, demand, folder_in, processor_model, version};
use crate::peers::Peer;
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each case is measured; all of it takes some 2 minutes for each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds each measurement takes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only in process, or only served
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Only on the machine's disk, or only in memory
    #[arg(long, value_enum)]
    place: Option<PlaceKind>,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Where on the machine's disk the file is made [default: the folder for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The size of the file in MiB
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..))]
    mib: u64,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Against fio's engines
    Process,
    /// Against qemu-storage-daemon
    Served,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlaceKind {
    /// On the machine's disk
    Disk,
    /// In tmpfs
    Memory,
}

const STORAGE_DAEMON: Peer = Peer {
    tool: "qemu-storage-daemon",
    package: "qemu-utils",
};

/// The file, and what is measured on it.
struct Bench<'a> {
    args: &'a Args,
    /// Where our own programs are.
    programs: PathBuf,
    processors: [usize; 2],
    /// For sockets, descriptions and fio's files.
    scratch: tempfile::TempDir,
    place: PlaceKind,
    image: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    demand(&[FIO, TASKSET, STORAGE_DAEMON])?;
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&args.case))
        .collect();
    if cases.is_empty() {
        return Err(format!("no case has `{}` in its name", args.case));
    }
    let programs = build(workspace, &["platter", "bench"])?;
    println!("{}", heading(args, &programs)?);
    let begun = Instant::now();
    let mut missed = Vec::new();
    for place in [PlaceKind::Disk, PlaceKind::Memory] {
        if args.place.is_some_and(|wanted| wanted != place) {
            continue;
        }
        let parent = match place {
            PlaceKind::Disk => args.folder.clone().unwrap_or_else(std::env::temp_dir),
            PlaceKind::Memory => PathBuf::from("/dev/shm"),
        };
        let folder = folder_in(&parent, args.mib << 20)?;
        let image = folder.path().join("image");
        write_image(&image, args.mib)
            .map_err(|error| format!("cannot write {}: {error}", image.display()))?;
        let bench = Bench {
            args,
            programs: programs.clone(),
            processors: two_processors()?,
            scratch: tempfile::tempdir()
                .map_err(|error| format!("cannot make a temporary folder: {error}"))?,
            place,
            image,
        };
        missed.extend(bench.run_all(&cases)?);
    }
    println!("\nThat took {} s.", begun.elapsed().as_secs());
    if !missed.is_empty() {
        println!("\nGoals missed:");
        missed.iter().for_each(|row| println!("- {row}"));
    }
    if args.check && !missed.is_empty() {
        return Err(format!("{} goals are missed", missed.len()));
    }
    Ok(())
}

fn heading(args: &Args, programs: &Path) -> Fallible<String> {
    Ok(format!(
        "{}; {}; {}; {}. A file of {} MiB; medians of {} rounds of {} s.",
        version(&programs.join("platter"))?,
        version(Path::new("fio"))?,
        version(Path::new(STORAGE_DAEMON.tool))?,
        processor_model(),
        args.mib,
        args.rounds,
        args.seconds,
    ))
}

/// Fills the file with something that is not zero.
fn write_image(path: &Path, mib: u64) -> std::io::Result<()> {
    let mut image = File::create(path)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..mib {
        image.write_all(&piece)?;
    }
    image.sync_all()
}

/// Brings all of the file into the page cache.
fn warm(path: &Path) -> std::io::Result<()> {
    let mut image = File::open(path)?;
    let mut piece = vec![0; 1 << 20];
    while image.read(&mut piece)? > 0 {}
    Ok(())
}

/// Has written back what was written before, so that nobody pays for somebody else.
fn settle(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_data()
}

impl Bench<'_> {
    /// Through the page cache, and past it, where there is a medium to go to.
    fn ways(&self) -> &'static [bool] {
        match self.place {
            PlaceKind::Disk => &[false, true],
            PlaceKind::Memory => &[false],
        }
    }

    /// Measures the cases in both ways, prints the tables, and returns the rows that miss their goal.
    fn run_all(&self, cases: &[&Case]) -> Fallible<Vec<String>> {
        let mut missed = Vec::new();
        if self.args.part != Some(Part::Served) {
            let mut table = Table::in_process();
            println!("\n{}", table.head());
            for &is_direct in self.ways() {
                for case in cases {
                    for peer in case.peers(is_direct) {
                        let rounds = self
                            .rounds(is_direct, || self.in_process(case, is_direct, peer.engine))?;
                        let name = self.name(case, is_direct);
                        println!("{}", table.row(case, &name, peer, &rounds));
                    }
                }
            }
            missed.extend(table.missed);
        }
        if self.args.part != Some(Part::Process) {
            let mut table = Table::served();
            println!("\n{}", table.head());
            for &is_direct in self.ways() {
                for case in cases {
                    let rounds = self.rounds(is_direct, || self.served(case, is_direct))?;
                    let name = self.name(case, is_direct);
                    println!("{}", table.row(case, &name, cases::STORAGE_DAEMON, &rounds));
                }
            }
            missed.extend(table.missed);
        }
        Ok(missed)
    }

    fn name(&self, case: &Case, is_direct: bool) -> String {
        match self.place {
            PlaceKind::Memory => format!("tmpfs, {}", case.name),
            PlaceKind::Disk if is_direct => format!("disk, direct, {}", case.name),
            PlaceKind::Disk => format!("disk, buffered, {}", case.name),
        }
    }

    fn rounds<'s>(
        &'s self,
        is_direct: bool,
        both: impl Fn() -> Fallible<(Measure<'s>, Measure<'s>)>,
    ) -> Fallible<Vec<(Round, [Sample; 2])>> {
        let failed = |error| format!("cannot read the file: {error}");
        if !is_direct && self.place == PlaceKind::Disk {
            warm(&self.image).map_err(failed)?;
        }
        let mut rounds = Vec::new();
        for round in 0..self.args.rounds {
            settle(&self.image).map_err(failed)?;
            let (ours, peers) = both()?;
            let samples = std::cell::Cell::new([Sample::default(); 2]);
            let note = |index: usize, measure: &Measure<'_>| {
                let sample = measure()?;
                let mut all = samples.get();
                all[index] = sample;
                samples.set(all);
                Ok(sample.requests_per_second)
            };
            let round = in_turns(round, || note(0, &ours), || note(1, &peers))?;
            rounds.push((round, samples.get()));
        }
        Ok(rounds)
    }

    fn in_process<'s>(
        &'s self,
        case: &'s Case,
        is_direct: bool,
        engine: &'static str,
    ) -> Fallible<(Measure<'s>, Measure<'s>)> {
        let ours = move || {
            let mut load = Command::new(self.programs.join("file_load"));
            load.arg(&self.image)
                .args(["--rw", case.load.pattern])
                .args(["--bs", &case.load.block_size_bytes.to_string()])
                .args(["--iodepth", &case.load.depth.to_string()])
                .args(["--runtime", &self.args.seconds.to_string()]);
            if is_direct {
                load.arg("--direct");
            }
            report::our_sample(&run::output(&mut load)?)
        };
        let peers = move || {
            let (seconds, scratch) = (self.args.seconds, self.scratch.path());
            run_file_load(&self.image, engine, is_direct, &case.load, seconds, scratch)
                .map(|work| sample(work, Duration::ZERO))
        };
        Ok((Box::new(ours), Box::new(peers)))
    }

    fn served<'s>(
        &'s self,
        case: &'s Case,
        is_direct: bool,
    ) -> Fallible<(Measure<'s>, Measure<'s>)> {
        let measure = move |server: Server| {
            // In a request at depth 1 the two only ever wait for each other; see `bench nbd`.
            let client = self.processors[usize::from(case.load.depth > 1)];
            let before = server.cpu_time()?;
            let extent = Extent::Seconds(self.args.seconds);
            let uri = server.uri();
            let work = run_load(&uri, &case.load, &extent, client, self.scratch.path())?;
            Ok::<_, String>(sample(work, server.cpu_time()? - before))
        };
        let ours = move || measure(self.serve_ours(is_direct)?);
        let peers = move || measure(self.serve_peers(is_direct)?);
        Ok((Box::new(ours), Box::new(peers)))
    }

    fn serve_ours(&self, is_direct: bool) -> Fallible<Server> {
        let socket = self.scratch.path().join("ours");
        let document = self.scratch.path().join("document.json");
        let disk = serde_json::json!({ "type": "file", "path": self.image, "direct": is_direct });
        let content = serde_json::json!({ "exports": [{ "name": "", "disk": disk }] });
        std::fs::write(&document, content.to_string())
            .map_err(|error| format!("cannot write {}: {error}", document.display()))?;
        let mut command = Command::new(self.programs.join("platter"));
        command.arg("serve").arg(document);
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        Server::start(&command, self.processors[0], socket)
    }

    fn serve_peers(&self, is_direct: bool) -> Fallible<Server> {
        let socket = self.scratch.path().join("peers");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(STORAGE_DAEMON.tool);
        let (image, at) = (self.image.display(), socket.display());
        let direct = if is_direct { "on" } else { "off" };
        command.args([
            "--blockdev",
            &format!(
                "node-name=disk,driver=file,filename={image},aio=io_uring,cache.direct={direct}"
            ),
            "--nbd-server",
            &format!("addr.type=unix,addr.path={at},max-connections=8"),
            "--export",
            "type=nbd,id=export,node-name=disk,name=,writable=on",
        ]);
        Server::start(&command, self.processors[0], socket)
    }
}

/// Measures one side once.
type Measure<'a> = Box<dyn Fn() -> Fallible<Sample> + 'a>;

fn sample(work: Work, cpu_time: Duration) -> Sample {
    Sample {
        requests_per_second: work.requests_per_second,
        cpu_us_per_request: cpu_time.as_secs_f64() * 1e6 / work.request_count.max(1.0),
    }
}
