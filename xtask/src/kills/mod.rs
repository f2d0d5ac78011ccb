//! `cargo xtask kills`: the daemon is killed in the middle of its work, again and again, and must have kept what it promised.
//!
//! In each life a client for each export sends writes, zeroes, trims, reads and flushes at random, up to 16 at once, until one of them
//! sends the daemon a SIGKILL. Then it is started again, every byte is read, and [`model`] says whether it may be there. A kill leaves the
//! page cache alive; so each kind of disk is there a second time with a store that keeps back what was not flushed, and loses it.
//!
//! At the end the same is done to a store that lies: it skips flushes. That has to be found.

mod client;
mod model;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use self::client::{Client, Work};
use self::model::{Found, Model};
use crate::soak::content::{Content, Place, SECTOR_BYTES, SECTOR_LEN};
use crate::soak::daemon::{self, Daemon};
use crate::soak::random::Random;
use crate::soak::wire::Wire;
use crate::soak::{new_seed, seed};
use crate::workspace::Workspace;
use crate::{Fallible, run};

const DOCUMENT: &str = "kills.json";
const BASE_IMAGE: &str = "base.raw";
const SIZE_BYTES: u64 = 16 << 20;
/// What all disks hold in the beginning.
const BASE: Content = Content::Stamp(0);
/// After so many kills a store that lies must have been found out.
const LIES_MAX: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the daemon is killed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) kills: u32,
    /// Where all chance comes from, as a run has printed it [default: a new one]
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
}

/// What is served, and on what kind of store.
#[derive(Debug, Clone, Copy)]
struct Export {
    name: &'static str,
    is_durable: bool,
    /// Whether the layer verifies its data, if it is one.
    verifies: bool,
    store: Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    /// A file.
    File,
    /// What was not flushed dies with the daemon.
    KeepsBack,
    /// The same, and most flushes do nothing.
    Lies,
}

const HONEST: [Export; 6] = [
    Export {
        name: "file",
        is_durable: false,
        verifies: false,
        store: Store::File,
    },
    Export {
        name: "file_kept_back",
        is_durable: false,
        verifies: false,
        store: Store::KeepsBack,
    },
    Export {
        name: "durable",
        is_durable: true,
        verifies: false,
        store: Store::File,
    },
    Export {
        name: "durable_kept_back",
        is_durable: true,
        verifies: false,
        store: Store::KeepsBack,
    },
    Export {
        name: "verified",
        is_durable: true,
        verifies: true,
        store: Store::File,
    },
    Export {
        name: "verified_kept_back",
        is_durable: true,
        verifies: true,
        store: Store::KeepsBack,
    },
];

const LYING: [Export; 1] = [Export {
    name: "lying",
    is_durable: false,
    verifies: false,
    store: Store::Lies,
}];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Fallible {
    run::run(run::cargo(workspace).args(["build", "--release", "--package", "platter"]))?;
    let program = workspace.target.join("release/platter");
    let seed = args.seed.unwrap_or_else(new_seed);
    let replay = format!("cargo xtask kills --kills {} --seed {seed:#x}", args.kills);
    println!("kills: seed {seed:#x}; the same choices again: {replay}");
    let honest = kill_often(&program, &HONEST, seed, args.kills);
    println!(
        "{}",
        honest.map_err(|what| format!("{what}\nthe same choices again: {replay}"))?
    );
    match kill_often(&program, &LYING, seed, LIES_MAX) {
        Err(what) if what.contains(model::LOST) => {
            println!(
                "a store that skips flushes was found out:\n  {}",
                first_line(&what)
            );
            Ok(())
        }
        Err(what) => Err(what),
        Ok(_) => Err(format!(
            "a store that skips flushes was not found out by {LIES_MAX} kills: this test is blind\n{replay}"
        )),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

/// Serves these exports in a folder of their own, and kills the daemon so many times; what came of it.
fn kill_often(program: &Path, exports: &[Export], seed: u64, kills: u32) -> Fallible<String> {
    let folder = tempfile::Builder::new().prefix("platter-kills-").tempdir();
    let folder = folder.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let begun = Instant::now();
    let killed = Killing::begin(program, folder.path(), exports, seed);
    match killed.and_then(|mut killing| killing.run(kills)) {
        Ok(table) => Ok(format!("{table}\n{:.0} s", begun.elapsed().as_secs_f64())),
        Err(what) => {
            let kept = folder.keep();
            Err(format!(
                "{what}\nthe images and the daemon's log are in {}",
                kept.display()
            ))
        }
    }
}

struct Killing<'a> {
    program: &'a Path,
    folder: &'a Path,
    exports: &'a [Export],
    clients: Vec<Client>,
    random: Random,
    work: Vec<Work>,
    found: Vec<Found>,
}

impl<'a> Killing<'a> {
    fn begin(
        program: &'a Path,
        folder: &'a Path,
        exports: &'a [Export],
        seed: u64,
    ) -> Fallible<Self> {
        let path = folder.join(BASE_IMAGE);
        let write = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        write(&path, &base())?;
        for export in exports {
            match export.is_durable {
                // A store that holds nothing yet, and grows.
                true => write(&folder.join(format!("{}.plt", export.name)), &[0; 8192])?,
                false => write(&folder.join(format!("{}.raw", export.name)), &base())?,
            }
        }
        let document = document(exports, seed).to_string();
        write(&folder.join(DOCUMENT), document.as_bytes())?;
        let sector_count = SIZE_BYTES / SECTOR_BYTES;
        // All of them begin with what one image holds, and stamps name their export: they are all number 0.
        let client = |export: &Export| {
            let random = Random::of(seed, export.name);
            Client::new(0, Model::new(sector_count, BASE), random)
        };
        Ok(Self {
            program,
            folder,
            exports,
            clients: exports.iter().map(client).collect(),
            random: Random::of(seed, "kills"),
            work: vec![Work::default(); exports.len()],
            found: vec![Found::default(); exports.len()],
        })
    }

    fn run(&mut self, kills: u32) -> Fallible<String> {
        for kill in 0..kills {
            self.live_once()
                .map_err(|what| format!("in life {}: {what}", kill + 1))?;
        }
        let (daemon, _) = Daemon::start(self.program, self.folder, DOCUMENT)?;
        self.look()?;
        drop(daemon);
        Ok(self.table(kills))
    }

    /// Starts the daemon, looks at every byte, and works until it is killed.
    fn live_once(&mut self) -> Fallible {
        let (mut daemon, _control) = Daemon::start(self.program, self.folder, DOCUMENT)?;
        let mut wires = self.look()?;
        let killer = self.random.below(self.exports.len() as u64);
        let count = self.random.between(1, 400);
        let is_over = AtomicBool::new(false);
        let kill = || daemon.kill();
        let lives: Vec<Result<Work, String>> = std::thread::scope(|scope| {
            let clients = self.clients.iter_mut().zip(&mut wires).zip(0..);
            let (is_over, kill) = (&is_over, &kill);
            let threads = clients.map(|((client, wire), index)| {
                scope.spawn(move || {
                    let kill: &dyn Fn() = kill;
                    let kill_after = (index == killer).then_some((count, kill));
                    let lived = client.live(wire, is_over, kill_after);
                    // Nobody would kill it if the one who should has given up.
                    if lived.is_err() && !is_over.swap(true, Ordering::SeqCst) {
                        kill();
                    }
                    lived
                })
            });
            let threads: Vec<_> = threads.collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|lived| lived.expect("a client does not panic"))
                .collect()
        });
        daemon.reap()?;
        for ((total, lived), export) in self.work.iter_mut().zip(lives).zip(self.exports) {
            let lived = lived.map_err(|what| format!("{}: {what}", export.name))?;
            total.acknowledged_count += lived.acknowledged_count;
            total.flush_count += lived.flush_count;
            total.cut_count += lived.cut_count;
        }
        Ok(())
    }

    /// Reads every byte, and compares it with what may be there.
    fn look(&mut self) -> Fallible<Vec<Wire>> {
        let mut wires = Vec::new();
        for ((client, export), total) in self
            .clients
            .iter_mut()
            .zip(self.exports)
            .zip(&mut self.found)
        {
            let failed = |what: String| format!("{}: {what}", export.name);
            let read =
                Wire::connect(&daemon::socket(self.folder), export.name).and_then(|mut wire| {
                    let bytes = wire.read(0, SIZE_BYTES)?;
                    Ok((wire, bytes))
                });
            let (wire, bytes) = read.map_err(|error| failed(error.to_string()))?;
            let found = client
                .model
                .after_kill(client.export, &bytes)
                .map_err(failed)?;
            total.open_count += found.open_count;
            total.old_count += found.old_count;
            wires.push(wire);
        }
        Ok(wires)
    }

    fn table(&self, kills: u32) -> String {
        let mut lines = format!("{kills} kills, and every byte was one that may be there\n");
        lines += "export             answered  flushes  cut off  open sectors  of them old";
        for ((export, work), found) in self.exports.iter().zip(&self.work).zip(&self.found) {
            lines += &format!(
                "\n{:<18} {:>8} {:>8} {:>8} {:>13} {:>12}",
                export.name,
                work.acknowledged_count,
                work.flush_count,
                work.cut_count,
                found.open_count,
                found.old_count
            );
        }
        lines
    }
}

/// The bytes that all disks have in the beginning.
fn base() -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE_BYTES).expect("a disk is small")];
    for (sector, bytes) in (0..).zip(bytes.chunks_exact_mut(SECTOR_LEN)) {
        BASE.put(Place { export: 0, sector }, bytes);
    }
    bytes
}

fn document(exports: &[Export], seed: u64) -> Value {
    let disks = exports.iter().map(|export| {
        let disk = match export.is_durable {
            false => store(
                export,
                seed,
                &json!({ "type": "file", "path": format!("{}.raw", export.name) }),
            ),
            true => {
                let file = json!({ "type": "file", "path": format!("{}.plt", export.name) });
                let base = json!({ "type": "file", "path": BASE_IMAGE, "read_only": true });
                let verify = if export.verifies { "data" } else { "metadata" };
                let store = store(export, seed, &file);
                let durable =
                    json!({ "type": "durable", "create": true, "verify": verify, "store": store });
                json!({ "type": "layered", "layers": [durable, base] })
            }
        };
        json!({ "name": export.name, "disk": disk })
    });
    json!({ "exports": disks.collect::<Vec<_>>() })
}

/// A file as this export's kind of store.
fn store(export: &Export, seed: u64, file: &Value) -> Value {
    let reorder = json!({ "action": { "reorder": 1000 } });
    let rules = match export.store {
        Store::File => return file.clone(),
        Store::KeepsBack => vec![reorder],
        Store::Lies => vec![json!({ "action": "skip_flush" }), reorder],
    };
    json!({ "type": "fault", "seed": seed & 0xffff_ffff, "disk": file, "rules": rules })
}
