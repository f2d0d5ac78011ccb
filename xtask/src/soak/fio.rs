//! `fio` writes a part of an export, verifies what it wrote, and is killed now and then. What it has verified has to stay.

use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use super::client::{Client, Step, Trouble};
use super::content::{SECTOR_BYTES, SECTOR_LEN, describe};
use super::exports::{EXPORTS, FIO_PARTS, unwritten};
use super::mortal::{bytes_of, slice};
use super::random::Random;
use super::tool::{self, End};
use super::world::World;

pub(crate) struct Fio {
    index: usize,
    random: Random,
    /// What is in its part of each export, or nothing after a death.
    known: Vec<Option<Vec<u8>>>,
}

impl Fio {
    pub(crate) fn new(seed: u64, index: usize) -> Self {
        let known = |export| Some(unwritten(export, FIO_PARTS[index].clone()));
        Self {
            index,
            random: Random::of(seed, &format!("fio {index}")),
            known: (0..EXPORTS.len()).map(known).collect(),
        }
    }

    fn run(&mut self, world: &World, export: usize, kill_after: Option<Duration>) -> Step {
        self.known[export] = None;
        let name = format!("fio-{}", self.index);
        let mut command = self.command(world, export);
        if tool::run(world, &name, &mut command, kill_after)? == End::Killed {
            return Ok(());
        }
        world.tally.add("runs of fio", 1);
        // It has just compared every byte; from here on we do.
        let (offset, len) = bytes_of(&FIO_PARTS[self.index]);
        let (mut wire, _) = world.connect(export)?;
        let content = wire.read(offset, len);
        self.known[export] =
            Some(content.map_err(|error| Trouble::cut("cannot read what fio wrote", error))?);
        let goodbye = wire.disconnect();
        goodbye.map_err(|error| Trouble::cut("no end after the goodbye", error))
    }

    fn command(&mut self, world: &World, export: usize) -> Command {
        let (offset, len) = bytes_of(&FIO_PARTS[self.index]);
        // Every block is written once.
        let pattern = *self.random.pick(&["write", "randwrite"]);
        let block_bytes = *self.random.pick(&[4096, 16384, 65536]);
        let depth = self.random.between(1, 16);
        let random_seed = self.random.below(1 << 31);
        let mut command = Command::new("fio");
        command.args([
            "--name=soak",
            "--thread",
            "--ioengine=nbd",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--do_verify=1",
            "--verify_state_save=0",
        ]);
        command
            .arg(format!("--uri={}", world.uri(EXPORTS[export].name)))
            .arg(format!("--rw={pattern}"))
            .arg(format!("--bs={block_bytes}"))
            .arg(format!("--iodepth={depth}"))
            .arg(format!("--offset={offset}"))
            .arg(format!("--size={len}"))
            .arg(format!("--randseed={random_seed}"));
        if self.random.one_in(3) {
            command.arg("--verify_backlog=32");
        }
        command
    }
}

impl Client for Fio {
    fn name(&self) -> String {
        format!("fio {}", self.index)
    }

    fn step(&mut self, world: &World) -> Step {
        let export = usize::try_from(self.random.below(EXPORTS.len() as u64)).expect("is small");
        let dies = self.random.one_in(6);
        let kill_after = dies.then(|| Duration::from_millis(self.random.between(20, 300)));
        self.run(world, export, kill_after)
    }

    fn restarted(&mut self, _world: &World) -> Step {
        for (export, known) in self.known.iter_mut().enumerate() {
            if EXPORTS[export].image.is_none() {
                *known = Some(unwritten(export, FIO_PARTS[self.index].clone()));
            }
        }
        Ok(())
    }

    fn settle(&mut self, world: &World) -> Step {
        for export in 0..EXPORTS.len() {
            if self.known[export].is_none() {
                self.run(world, export, None)?;
            }
        }
        Ok(())
    }

    fn verify(&mut self, export: usize, content: &[u8]) -> Result<Vec<Range<u64>>, String> {
        let Some(known) = &self.known[export] else {
            return Err("fio has left a part unknown".to_owned());
        };
        let part = FIO_PARTS[self.index].clone();
        compare(known, slice(content, &part), part.start)?;
        Ok(vec![part])
    }
}

/// Names the first sector that differs. `start` is the number of the first one.
pub(crate) fn compare(expected: &[u8], found: &[u8], start: u64) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let sectors = expected.chunks(SECTOR_LEN).zip(found.chunks(SECTOR_LEN));
    for (sector, (expected, found)) in (start..).zip(sectors) {
        if expected != found {
            return Err(format!(
                "sector {sector} (offset {}) should hold {}, and holds {}",
                sector * SECTOR_BYTES,
                describe(expected),
                describe(found)
            ));
        }
    }
    Err(format!(
        "there should be {} bytes, and there are {}",
        expected.len(),
        found.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_named_with_its_sector() {
        let expected = unwritten(2, 0..4);
        let mut found = expected.clone();
        assert_eq!(compare(&expected, &found, 0), Ok(()));
        found[3 * SECTOR_LEN + 7] ^= 1;
        let error = compare(&expected, &found, 100).unwrap_err();
        assert!(error.contains("sector 103 (offset 52736)"), "{error}");
        let error = compare(&expected, &expected[SECTOR_LEN..], 0).unwrap_err();
        assert!(error.contains("sector 0"), "{error}");
        let error = compare(&expected, &expected[..SECTOR_LEN], 0).unwrap_err();
        assert!(error.contains("2048 bytes, and there are 512"), "{error}");
    }
}
