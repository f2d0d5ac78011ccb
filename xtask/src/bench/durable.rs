//! `cargo xtask bench durable`: a durable layer over an image, against the file alone that it could be, and against qcow2 in
//! `qemu-storage-daemon` over the same image. All three are served over NBD, to the same client.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::fio::{Extent, Load, run_load, run_load_with};
use super::opening;
use super::server::{Server, two_processors};
use super::stats::median;
use super::{FIO, TASKSET, build, demand, folder_in, processor_model, version};
use crate::peers::Peer;
use crate::workspace::Workspace;
use crate::{Fallible, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each case is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes, but for first writes, which are made once everywhere
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    case: String,
    /// Where the files are made [default: the folder for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The size of the disks in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..))]
    mib: u64,
    /// Let the durable layer verify its data
    #[arg(long)]
    verify: bool,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
}

const QEMU: [Peer; 2] = [
    Peer {
        tool: "qemu-storage-daemon",
        package: "qemu-utils",
    },
    Peer {
        tool: "qemu-img",
        package: "qemu-utils",
    },
];

/// What a disk holds before it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing was written.
    Nothing,
    /// One block in two was, at random.
    Half,
    /// Everything was.
    Everything,
}

struct Case {
    name: &'static str,
    before: Before,
    load: Load,
    /// After how many writes there is a flush.
    flush_after: Option<u32>,
    /// The least ratio to the file alone.
    of_the_file: Option<f64>,
}

/// The least ratio to qcow2, in every case that has one.
const OF_QCOW2: f64 = 1.5;

const CASES: &[Case] = &[
    case(
        "4 KiB first write, depth 32",
        Before::Nothing,
        "randwrite",
        32,
        None,
        Some(0.7),
    ),
    case(
        "4 KiB overwrite, depth 1",
        Before::Everything,
        "randwrite",
        1,
        None,
        Some(0.95),
    ),
    case(
        "4 KiB overwrite, depth 32",
        Before::Everything,
        "randwrite",
        32,
        None,
        Some(0.95),
    ),
    case(
        "4 KiB read, half of it written, depth 32",
        Before::Half,
        "randread",
        32,
        None,
        None,
    ),
    case(
        "4 KiB first write, a flush after every 8",
        Before::Nothing,
        "randwrite",
        1,
        Some(8),
        None,
    ),
    case(
        "4 KiB overwrite, a flush after every 8",
        Before::Everything,
        "randwrite",
        1,
        Some(8),
        None,
    ),
    case(
        "4 KiB first write, a flush after each",
        Before::Nothing,
        "randwrite",
        1,
        Some(1),
        Some(1.0 / 2.0),
    ),
    case(
        "4 KiB overwrite, a flush after each",
        Before::Everything,
        "randwrite",
        1,
        Some(1),
        Some(1.0 / 1.3),
    ),
];

const fn case(
    name: &'static str,
    before: Before,
    pattern: &'static str,
    depth: u32,
    flush_after: Option<u32>,
    of_the_file: Option<f64>,
) -> Case {
    Case {
        name,
        before,
        load: Load {
            pattern,
            block_size_bytes: 4096,
            depth,
            job_count: 1,
        },
        flush_after,
        of_the_file,
    }
}

impl Case {
    fn full_name(&self, is_direct: bool) -> String {
        let way = if is_direct { "direct" } else { "buffered" };
        format!("{way}, {}", self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Durable,
    File,
    Qcow2,
}

const CONTENDERS: [Contender; 3] = [Contender::Durable, Contender::File, Contender::Qcow2];

struct Bench<'a> {
    args: &'a Args,
    platter: PathBuf,
    processors: [usize; 2],
    folder: tempfile::TempDir,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let opens = opening::NAME.contains(&args.case);
    let ways = [false, true].into_iter();
    let rows: Vec<_> = ways
        .flat_map(|is_direct| CASES.iter().map(move |case| (case, is_direct)))
        .filter(|(case, is_direct)| case.full_name(*is_direct).contains(&args.case))
        .collect();
    if !opens && rows.is_empty() {
        return Err(format!("no case has `{}` in its name", args.case));
    }
    if opens {
        let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
        opening::run(workspace, &parent, args.check)?;
    }
    match rows.is_empty() {
        true => Ok(()),
        false => compare(workspace, args, &rows),
    }
}

fn compare(workspace: &Workspace, args: &Args, rows: &[(&Case, bool)]) -> Fallible {
    demand(&[FIO, TASKSET])?;
    demand(&QEMU)?;
    let platter = build(workspace, &["platter"])?.join("platter");
    let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let bench = Bench {
        args,
        platter,
        processors: two_processors()?,
        folder: folder_in(&parent, 5 * (args.mib << 20))?,
    };
    bench.write_base()?;
    println!(
        "{}; {}; {}; {}. Disks of {} MiB over an image; medians of {} rounds.\n",
        version(&bench.platter)?,
        version(Path::new(QEMU[0].tool))?,
        version(Path::new("fio"))?,
        processor_model(),
        args.mib,
        args.rounds,
    );
    println!("{HEAD}");
    let mut missed = Vec::new();
    for (case, is_direct) in rows {
        println!("{}", bench.row(case, *is_direct, &mut missed)?);
    }
    if !missed.is_empty() {
        println!("\nGoals missed:");
        missed.iter().for_each(|row| println!("- {row}"));
    }
    if args.check && !missed.is_empty() {
        return Err(format!("{} goals are missed", missed.len()));
    }
    Ok(())
}

const HEAD: &str = "| case | durable layer | file alone | qcow2 | of the file | goal | of qcow2 | goal |\n\
                    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_base(&self) -> Fallible {
        let written = filled(&self.path("base.raw"), self.args.mib);
        written.map_err(|error| format!("cannot write the image: {error}"))
    }

    fn row(&self, case: &Case, is_direct: bool, missed: &mut Vec<String>) -> Fallible<String> {
        let mut rates = [const { Vec::new() }; CONTENDERS.len()];
        for round in 0..self.args.rounds as usize {
            for turn in 0..CONTENDERS.len() {
                // Nobody always comes first.
                let index = (round + turn) % CONTENDERS.len();
                rates[index].push(self.measure(CONTENDERS[index], case, is_direct)?);
            }
        }
        let [ours, file, qcow2] = rates;
        let name = case.full_name(is_direct);
        let mut ratio = |peers: &[f64], peer: &str, goal: Option<f64>| {
            let ratios = ours.iter().zip(peers).map(|(ours, theirs)| ours / theirs);
            let ratio = median(ratios);
            let goal = goal.map_or("-".to_owned(), |goal| {
                if ratio < goal {
                    missed.push(format!("{name}: {ratio:.2} of {peer}, not {goal:.2}"));
                    return format!("{goal:.2} (missed)");
                }
                format!("{goal:.2}")
            });
            format!("{ratio:.2} | {goal}")
        };
        let of_the_file = ratio(&file, "the file", case.of_the_file);
        let of_qcow2 = ratio(&qcow2, "qcow2", Some(OF_QCOW2));
        let rate = |rates: &[f64]| format!("{:.1} k/s", median(rates.iter().copied()) / 1000.0);
        let rates = [rate(&ours), rate(&file), rate(&qcow2)].join(" | ");
        Ok(format!("| {name} | {rates} | {of_the_file} | {of_qcow2} |"))
    }

    /// Makes the contender's disk anew, brings it to where the case begins, and measures once.
    fn measure(&self, contender: Contender, case: &Case, is_direct: bool) -> Fallible<f64> {
        let before = match contender {
            // All of it is there from the beginning.
            Contender::File => Before::Everything,
            Contender::Durable | Contender::Qcow2 => case.before,
        };
        self.make(contender)?;
        let server = self.serve(contender, is_direct)?;
        let (uri, scratch) = (server.uri(), self.folder.path());
        if before != Before::Nothing && contender != Contender::File {
            let percent = if before == Before::Half { 50 } else { 100 };
            let all = Load {
                pattern: "randwrite",
                block_size_bytes: 4096,
                depth: 32,
                job_count: 1,
            };
            let options = [
                format!("--io_size={}", (self.args.mib << 20) * percent / 100),
                "--end_fsync=1".to_owned(),
            ];
            run_load_with(
                &uri,
                &all,
                &Extent::Once,
                self.processors[1],
                scratch,
                &options,
            )?;
        }
        let client = self.processors[usize::from(case.load.depth > 1)];
        // What is written first is written once; and with flushes it would take too long to do so everywhere.
        let extent = match (case.before, case.flush_after) {
            (Before::Nothing, None) => Extent::Once,
            _ => Extent::Seconds(self.args.seconds),
        };
        let work = match case.flush_after {
            None => run_load(&uri, &case.load, &extent, client, scratch)?,
            Some(count) => {
                let options = [format!("--fsync={count}")];
                run_load_with(&uri, &case.load, &extent, client, scratch, &options)?
            }
        };
        Ok(work.requests_per_second)
    }

    /// Makes its disk as it is before anything was written.
    fn make(&self, contender: Contender) -> Fallible {
        let failed = |error: std::io::Error| format!("cannot make the disk: {error}");
        match contender {
            Contender::File => filled(&self.path("file.raw"), self.args.mib).map_err(failed),
            Contender::Durable => {
                std::fs::write(self.path("durable.plt"), [0; 8192]).map_err(failed)
            }
            Contender::Qcow2 => {
                let mut create = Command::new(QEMU[1].tool);
                create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
                create
                    .arg(self.path("base.raw"))
                    .arg(self.path("disk.qcow2"));
                run::output(&mut create).map(drop)
            }
        }
    }

    fn serve(&self, contender: Contender, is_direct: bool) -> Fallible<Server> {
        let socket = self.path("socket");
        let _ = std::fs::remove_file(&socket);
        let file = |name: &str| json!({ "type": "file", "path": name, "direct": is_direct });
        let command = match contender {
            Contender::File => self.platter(&file("file.raw"), &socket)?,
            Contender::Durable => {
                let base = json!({ "type": "file", "path": "base.raw", "read_only": true, "direct": is_direct });
                let mut durable =
                    json!({ "type": "durable", "create": true, "store": file("durable.plt") });
                if self.args.verify {
                    durable["verify"] = "data".into();
                }
                let disk = json!({ "type": "layered", "layers": [durable, base] });
                self.platter(&disk, &socket)?
            }
            Contender::Qcow2 => self.storage_daemon(is_direct, &socket),
        };
        Server::start(&command, self.processors[0], socket)
    }

    fn platter(&self, disk: &Value, socket: &Path) -> Fallible<Command> {
        let document = self.path("document.json");
        let content = json!({ "exports": [{ "name": "", "disk": disk }] });
        std::fs::write(&document, content.to_string())
            .map_err(|error| format!("cannot write {}: {error}", document.display()))?;
        let mut command = Command::new(&self.platter);
        command.arg("serve").arg(document);
        command
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()));
        Ok(command)
    }

    fn storage_daemon(&self, is_direct: bool, socket: &Path) -> Command {
        let mut command = Command::new(QEMU[0].tool);
        let (top, base) = (self.path("disk.qcow2"), self.path("base.raw"));
        let (top, base, at) = (top.display(), base.display(), socket.display());
        let cache = if is_direct { "on" } else { "off" };
        let file = format!("driver=file,aio=io_uring,cache.direct={cache}");
        command.args([
            "--blockdev",
            &format!("node-name=below,{file},filename={base},read-only=on"),
            "--blockdev",
            "node-name=base,driver=raw,file=below,read-only=on",
            "--blockdev",
            &format!("node-name=top,{file},filename={top}"),
            "--blockdev",
            "node-name=disk,driver=qcow2,file=top,backing=base",
            "--nbd-server",
            &format!("addr.type=unix,addr.path={at},max-connections=8"),
            "--export",
            "type=nbd,id=export,node-name=disk,name=,writable=on",
        ]);
        command
    }
}

/// Fills a file with something that is not zero, and brings it onto the medium.
fn filled(path: &Path, mib: u64) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..mib {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_name_of_its_own() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}
