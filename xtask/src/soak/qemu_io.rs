//! `qemu-io` fills, zeroes, discards and reads blocks of its part of an export by a script, and is killed now and then.

use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use super::client::{Client, Step};
use super::content::{Content, SECTOR_BYTES};
use super::exports::{CACHED, EXPORTS, OVERLAY, QEMU_IO_PARTS, RAM};
use super::mortal::slice;
use super::random::Random;
use super::region::Region;
use super::tool::{self, End};
use super::world::World;

/// Where its flushes are never made to fail.
const WHERE: [usize; 3] = [RAM, OVERLAY, CACHED];

const BLOCK_BYTES: u64 = 64 << 10;
const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;

pub(crate) struct QemuIo {
    index: usize,
    random: Random,
    /// One in each export.
    regions: Vec<Region>,
    /// The byte that each block of each export is full of, as far as it can be asked for.
    bytes: Vec<Vec<Option<u8>>>,
}

/// What a script changes.
struct Change {
    sectors: Range<u64>,
    content: Content,
}

impl QemuIo {
    pub(crate) fn new(seed: u64, index: usize) -> Self {
        let part = &QEMU_IO_PARTS[index];
        let region = |export: usize| Region::new(export, part.clone(), EXPORTS[export].unwritten);
        let mut client = Self {
            index,
            random: Random::of(seed, &format!("qemu-io {index}")),
            regions: (0..EXPORTS.len()).map(region).collect(),
            bytes: vec![Vec::new(); EXPORTS.len()],
        };
        for export in 0..EXPORTS.len() {
            client.forget_bytes(export);
        }
        client
    }

    fn forget_bytes(&mut self, export: usize) {
        let range = self.regions[export].range();
        let count = usize::try_from((range.end - range.start) / BLOCK_SECTORS).expect("is small");
        self.bytes[export] = vec![None; count];
    }

    /// One command, as long as there is something to it.
    fn command(&mut self, export: usize) -> Option<(String, Option<Change>)> {
        let bytes = &mut self.bytes[export];
        let first = self.random.below(bytes.len() as u64);
        let count = self.random.between(1, 4).min(bytes.len() as u64 - first);
        let start = self.regions[export].range().start + first * BLOCK_SECTORS;
        let (offset, len) = (start * SECTOR_BYTES, count * BLOCK_BYTES);
        let at = |block: u64| usize::try_from(block).expect("is small");
        let blocks = &mut bytes[at(first)..at(first + count)];
        let mut change = |byte: u8, content| {
            blocks.fill(Some(byte));
            let sectors = start..start + count * BLOCK_SECTORS;
            Some(Change { sectors, content })
        };
        Some(match self.random.below(10) {
            0..=3 => {
                let byte = u8::try_from(self.random.between(1, 255)).expect("a byte");
                let command = format!("write -q -P {byte} {offset} {len}");
                (command, change(byte, Content::Fill(byte)))
            }
            4 => (
                format!("write -q -z {offset} {len}"),
                change(0, Content::Zero),
            ),
            5 => (
                format!("discard -q {offset} {len}"),
                change(0, Content::Zero),
            ),
            6 => ("flush".to_owned(), None),
            _ => {
                let byte = blocks[0]?;
                let command = format!("read -q -P {byte} {offset} {BLOCK_BYTES}");
                (command, None)
            }
        })
    }
}

impl Client for QemuIo {
    fn name(&self) -> String {
        format!("qemu-io {}", self.index)
    }

    fn step(&mut self, world: &World) -> Step {
        let export = *self.random.pick(&WHERE);
        let mut command = Command::new("qemu-io");
        command.args(["-f", "raw"]);
        if self.random.one_in(2) {
            command.args(["-t", "writeback"]);
        }
        let mut changes = Vec::new();
        for _ in 0..self.random.between(4, 24) {
            if let Some((line, change)) = self.command(export) {
                command.args(["-c", &line]);
                changes.extend(change);
            }
        }
        command.arg(world.uri(EXPORTS[export].name));
        let dies = self.random.one_in(6);
        let kill_after = dies.then(|| Duration::from_millis(self.random.between(5, 80)));
        let name = format!("qemu-io-{}", self.index);
        let ended = tool::run(world, &name, &mut command, kill_after);
        let is_done = matches!(ended, Ok(End::Success));
        let region = &mut self.regions[export];
        for Change { sectors, content } in changes {
            match is_done {
                true => region.changed(&sectors, content),
                false => region.perhaps_changed(&sectors, content),
            }
        }
        if is_done {
            world.tally.add("runs of qemu-io", 1);
        } else {
            self.forget_bytes(export);
        }
        ended.map(drop)
    }

    fn restarted(&mut self, _world: &World) -> Step {
        for (export, about) in EXPORTS.iter().enumerate() {
            if about.image.is_none() {
                self.regions[export].forget(about.unwritten);
                self.forget_bytes(export);
            }
        }
        Ok(())
    }

    fn settle(&mut self, _world: &World) -> Step {
        Ok(())
    }

    fn verify(&mut self, export: usize, content: &[u8]) -> Result<Vec<Range<u64>>, String> {
        let region = &mut self.regions[export];
        let range = region.range();
        region.seen(range.start, slice(content, &range))?;
        Ok(vec![range])
    }
}
