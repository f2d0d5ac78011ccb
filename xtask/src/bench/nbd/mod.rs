//! `cargo xtask bench nbd`: `platter serve` with a RAM disk against the NBD servers of others.
//!
//! All serve a full disk of 1 GiB in memory on a Unix socket, and the same clients drive them in turns. In a request
//! at depth 1 the two processes only ever wait for each other, so they share one processor: on two, what is
//! measured is how fast the kernel wakes the other one. At depth they work at the same time and get one each.

mod cases;
mod contenders;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use self::cases::{CASES, Case, DISK_BYTES, FILL};
use self::contenders::{Contender, Places, Role};
use self::report::{Entry, Row, Sample, Verdict, table_head};
use super::fio::{Extent, run_load};
use super::server::{Server, two_processors};
use super::{FIO, NBDCOPY, TASKSET, build, demand, processor_model, tmpfs, version};
use crate::Fallible;
use crate::peers::Peer;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each case is measured on each server
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only the case of this name, or those whose name contains it
    #[arg(long, default_value = "")]
    case: String,
    /// Only the peers whose name contains this; may be given several times
    #[arg(long)]
    peer: Vec<String>,
    /// Fail if a goal is missed
    #[arg(long)]
    check: bool,
    /// What to measure instead: a line for the shell that serves on $SOCKET
    #[arg(long, hide = true)]
    platter_command: Option<String>,
}

/// What drives the servers.
const CLIENTS: &[Peer] = &[FIO, NBDCOPY];

/// Everything that the cases share.
struct Bench<'a> {
    args: &'a Args,
    /// Where our own programs are.
    programs: PathBuf,
    processors: [usize; 2],
    /// For sockets and fio's files.
    scratch: tempfile::TempDir,
    /// For disks that are files.
    images: tempfile::TempDir,
}

/// A contender that serves a full disk.
struct Running {
    contender: &'static Contender,
    server: Server,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    let contenders = contenders::choose(&args.peer)?;
    demand(&[&tools(&contenders)[..], &[TASKSET]].concat())?;
    let cases = choose_cases(&args.case)?;
    let image_count = contenders.iter().filter(|one| one.needs_image).count() as u64;
    let bench = Bench {
        args,
        programs: build(workspace, &["platter", "bench"])?,
        processors: two_processors()?,
        scratch: tempfile::tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?,
        images: tmpfs(image_count * DISK_BYTES)?,
    };
    println!("{}", bench.heading(&contenders)?);
    let started: Fallible<Vec<_>> = contenders.iter().map(|one| bench.start(one)).collect();
    let started = started?;
    println!("{}", table_head(&contenders));
    let mut summaries = Vec::new();
    for case in cases {
        let entries = bench.measure_all(&started, case)?;
        let row = Row::new(case, &entries);
        println!("{}", row.line());
        summaries.push(row.summary());
    }
    let verdict = Verdict::of(&summaries);
    println!("\n{}", verdict.text);
    if args.check && !verdict.missed.is_empty() {
        return Err(format!("goals missed:\n  {}", verdict.missed.join("\n  ")));
    }
    Ok(())
}

/// Whatever the clients and the chosen servers need.
fn tools(contenders: &[&Contender]) -> Vec<Peer> {
    let mut tools: Vec<_> = contenders.iter().filter_map(|one| one.tool()).collect();
    tools.extend(CLIENTS);
    tools.dedup();
    tools
}

/// The case of that name, or else those whose names contain it: some names are the beginning of others.
fn choose_cases(wanted: &str) -> Fallible<Vec<&'static Case>> {
    if let Some(case) = CASES.iter().find(|case| case.name == wanted) {
        return Ok(vec![case]);
    }
    let chosen = CASES.iter().filter(|case| case.name.contains(wanted));
    let chosen: Vec<_> = chosen.collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    Err(format!(
        "no case is called `{wanted}`; there are:\n  {}",
        names.join("\n  ")
    ))
}

impl Bench<'_> {
    /// What a reader needs to judge the table below it.
    fn heading(&self, contenders: &[&Contender]) -> Fallible<String> {
        let ours = match &self.args.platter_command {
            Some(line) => line.clone(),
            None => version(&self.programs.join("platter"))?,
        };
        let others = tools(contenders);
        let others = others.iter().map(|peer| version(Path::new(peer.tool)));
        let others: Fallible<Vec<_>> = others.collect();
        let Args {
            rounds, seconds, ..
        } = self.args;
        Ok(format!(
            "{ours}; {}; {}. Full disks of 1 GiB in memory, Unix sockets.\n\
             Medians of {rounds} rounds of {seconds} s, all servers in turns. The ratio is to the best peer of the row (bold), the median of the \
             rounds' ratios;\n\"limit\": at 0.9 of the null server the client or the protocol is the limit. CPU us: the server's processor time \
             per request, beside that of the best peer that stores data.\n",
            others?.join(", "),
            processor_model()
        ))
    }

    /// Starts a contender and fills its disk.
    fn start(&self, contender: &'static Contender) -> Fallible<Running> {
        let [servers, clients] = self.processors;
        // QEMU's options end at commas.
        let name = contender.name.replace([' ', ','], "-");
        let places = Places {
            programs: self.programs.clone(),
            socket: self.scratch.path().join(&name),
            image: self.images.path().join(&name),
        };
        if contender.needs_image {
            std::fs::File::create(&places.image)
                .and_then(|image| image.set_len(DISK_BYTES))
                .map_err(|error| format!("cannot make {}: {error}", places.image.display()))?;
        }
        let command = match &self.args.platter_command {
            Some(line) if contender.role == Role::Ours => shell(line, &places.socket),
            _ => contender.command(&places),
        };
        let server = Server::start(&command, servers, places.socket)?;
        let scratch = self.scratch.path();
        run_load(&server.uri(), &FILL, &Extent::Once, clients, scratch)?;
        Ok(Running { contender, server })
    }

    /// Measures a case on every server, round by round.
    fn measure_all(&self, started: &[Running], case: &Case) -> Fallible<Vec<Entry<'static>>> {
        let entry = |running: &Running| Entry {
            contender: running.contender,
            samples: Vec::new(),
        };
        let mut entries: Vec<_> = started.iter().map(entry).collect();
        for round in 0..self.args.rounds as usize {
            for turn in 0..started.len() {
                // Each round begins with another one, so nobody always comes after the same server.
                let index = (round + turn) % started.len();
                let sample = self.measure(&started[index].server, case)?;
                entries[index].samples.push(sample);
            }
        }
        Ok(entries)
    }

    fn measure(&self, server: &Server, case: &Case) -> Fallible<Sample> {
        let [servers, other] = self.processors;
        let client = if case.shares_processor() {
            servers
        } else {
            other
        };
        let before = server.cpu_time()?;
        let work = case.run(server, self.args.seconds, client, self.scratch.path())?;
        let cpu_time = server.cpu_time()?.saturating_sub(before);
        Ok(Sample { work, cpu_time })
    }
}

fn shell(line: &str, socket: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec {line}"))
        .env("SOCKET", socket);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_chooses_cases_and_an_unknown_one_lists_them() {
        assert_eq!(choose_cases("").unwrap().len(), CASES.len());
        assert_eq!(choose_cases("depth 128").unwrap().len(), 4);
        let whole = choose_cases("4 KiB random read, depth 1").unwrap();
        assert_eq!(whole.len(), 1, "and not that of depth 128");
        let error = choose_cases("tape").err().unwrap();
        assert!(error.contains("nbdcopy"), "{error}");
    }

    #[test]
    fn every_program_that_has_to_be_installed_is_named_once() {
        let all = contenders::choose(&[]).unwrap();
        let tools: Vec<_> = tools(&all).iter().map(|peer| peer.tool).collect();
        let expected = [
            "nbdkit",
            "qemu-nbd",
            "qemu-storage-daemon",
            "fio",
            "nbdcopy",
        ];
        assert_eq!(tools, expected);
    }
}
