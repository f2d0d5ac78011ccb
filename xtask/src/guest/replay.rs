//! The replay: every change of the disk's store is logged, and what a power cut could have left is built from the log and looked at.
//!
//! The guest's disk keeps its bytes at a server that logs. Afterwards the store is built again, change by change. Wherever it was
//! flushed, two images are looked at: what was there then, and that with some of what came before the next flush, by chance.
//!
//! A file is owed in an image if the guest had reported it when the log was no longer than that. The log tells its length with each
//! flush, before the guest learns that the flush is done.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Command;

use super::disk::{Kind, STORE, Store};
use super::ledger::{Ledger, check_names};
use super::log_server::{LogServer, SOCKET};
use super::machine::WAITS;
use super::trouble::{Step, Trouble};
use super::world::{Tally, World};
use super::write_log::{self, Entry, WriteLog};

use crate::soak::random::Random;
use crate::{Fallible, run};

/// The store as it was in the beginning, and then with more and more of what was logged.
const REPLAYED: &str = "replayed.raw";

/// How much the guest does.
const FILE_COUNT: u64 = 60;

/// Whether the replay does what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayer {
    Right,
    /// Leaves out some of what was flushed, as a disk does that loses it.
    Forgetful,
}

/// How long the log was when the guest reported each file.
type Owed = BTreeMap<String, u64>;

/// Lets a guest work, and looks at so many images, or at all if there are no more.
pub(crate) fn run(world: &World, kind: Kind, count: usize, replayer: Replayer) -> Step<Tally> {
    let mut random = Random::of(world.seed, "replay");
    let (log, owed) = record(world, kind, &mut random)?;
    let flushes = log.entries.iter().filter(|entry| entry.is_flush);
    let (entry_count, flush_count) = (log.entries.len(), flushes.count() as u64);
    println!(
        "{}: {entry_count} entries in the log, {flush_count} of them flushes",
        kind.name()
    );
    let mut choice = Choice {
        left: 2 * flush_count,
        wanted: count as u64,
        random: Random::of(world.seed, "which images"),
    };
    let mut tally = Tally::default();
    let replayed = open(&world.path(REPLAYED))?;
    for (index, entry) in log.entries.iter().enumerate() {
        if replayer == Replayer::Right || !random.one_in(4) {
            log.apply(entry, &replayed)?;
        }
        if !entry.is_flush {
            continue;
        }
        let log_len = index as u64 + 1;
        let is_owed = |(_, from): &(&String, &u64)| **from <= log_len;
        let owed: Vec<_> = owed.iter().filter(is_owed).map(|(file, _)| file).collect();
        let rest = log.entries[index + 1..].iter();
        let unflushed: Vec<_> = rest.take_while(|entry| !entry.is_flush).collect();
        for arriving in [&[], &unflushed[..]] {
            if !choice.next() {
                continue;
            }
            build(world, &log, arriving, &mut random)?;
            look(world, &owed)
                .map_err(|trouble| trouble.at(&format!("entry {index} of the log")))?;
            tally.round_count += 1;
            tally.file_count += owed.len();
        }
    }
    Ok(tally)
}

/// Makes the store what was replayed, and some of what may have arrived besides.
fn build(world: &World, log: &WriteLog, arriving: &[&Entry], random: &mut Random) -> Fallible {
    copy(&world.path(REPLAYED), &world.path(STORE))?;
    let store = open(&world.path(STORE))?;
    for entry in arriving {
        if entry.is_fua || random.one_in(2) {
            log.apply(entry, &store)?;
        }
    }
    Ok(())
}

fn look(world: &World, owed: &[&String]) -> Step {
    let found = world.files()?;
    check_names(&found).map_err(Trouble::Found)?;
    match owed.iter().find(|file| !found.contains_key(**file)) {
        None => Ok(()),
        Some(file) => Err(Trouble::Found(format!(
            "{file} was durable, and is not there"
        ))),
    }
}

/// Chooses a certain number of images, all of which are as likely.
#[derive(Debug)]
struct Choice {
    left: u64,
    wanted: u64,
    random: Random,
}

impl Choice {
    /// Whether the next one is chosen.
    fn next(&mut self) -> bool {
        let is_chosen = self.random.below(self.left) < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(is_chosen);
        is_chosen
    }
}

/// A guest's whole life, logged.
fn record(world: &World, kind: Kind, random: &mut Random) -> Step<(WriteLog, Owed)> {
    let seed = random.number();
    kind.make(&world.platter, world.folder(), Store::File, seed)?;
    let at_server = Store::Nbd(Path::new(SOCKET));
    kind.describe(world.folder(), super::disk::DOCUMENT, at_server, seed)?;
    copy(&world.path(STORE), &world.path(REPLAYED))?;
    let server = LogServer::start(world.folder(), STORE)?;
    let mut daemon = world.daemon()?;
    let machine = world.machine("0", WAITS, random)?;
    let mut ledger = Ledger::default();
    let mut owed = Owed::new();
    for _ in 0..FILE_COUNT {
        world.work(&machine, &mut ledger, 1)?;
        let len = write_log::entry_count(&server.log)?;
        for file in ledger.lasting() {
            owed.entry(file.clone()).or_insert(len);
        }
    }
    world.stop(machine, &mut ledger)?;
    // What it removed in the end may be missing in any image that is new enough.
    owed.retain(|file, _| ledger.lasting().any(|one| one == file));
    daemon.ask_to_end()?;
    daemon.wait().map_err(Trouble::Found)?;
    let log = server.stop()?;
    Ok((WriteLog::read(&log)?, owed))
}

fn copy(from: &Path, to: &Path) -> Fallible {
    let mut command = Command::new("cp");
    run::output(command.arg("--sparse=always").args([from, to])).map(drop)
}

fn open(image: &Path) -> Fallible<File> {
    let file = OpenOptions::new().write(true).open(image);
    file.map_err(|error| format!("cannot open {}: {error}", image.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_chosen_as_were_wanted_or_all() {
        for (left, wanted, chosen) in [(100, 7, 7), (5, 9, 5), (3, 0, 0)] {
            let random = Random::of(1, "choice");
            let mut choice = Choice {
                left,
                wanted,
                random,
            };
            let count = (0..left).filter(|_| choice.next()).count();
            assert_eq!(count, chosen);
        }
    }
}
