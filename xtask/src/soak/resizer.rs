//! Resizes exports while others work in front of the part that comes and goes, and knows each byte of that part.

use std::ops::Range;

use super::client::{Client, Step, Trouble};
use super::content::{Content, Place, SECTOR_BYTES, SECTOR_LEN};
use super::exports::{EXPORTS, SIZE_BYTES, SIZE_BYTES_MAX, TAIL_BYTES};
use super::mortal::{bytes_of, slice};
use super::random::Random;
use super::region::Region;
use super::wire::Command;
use super::world::World;

const TAIL_START: u64 = TAIL_BYTES / SECTOR_BYTES;
/// A request moves so many at most.
const SECTOR_COUNT_MAX: u64 = 256;

pub(crate) struct Resizer {
    random: Random,
    /// The end of each export, from where clients have no part any more.
    tails: Vec<Region>,
    generation: u64,
    /// The export and the end that were asked for when the daemon was ended.
    cut: Option<(usize, u64)>,
}

impl Resizer {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::of(seed, "resizer"),
            tails: (0..EXPORTS.len()).map(tail).collect(),
            generation: 0,
            cut: None,
        }
    }

    fn resize(&mut self, world: &World, export: usize) -> Step {
        let alignment = *self.random.pick(&[SECTOR_BYTES, 4096, 1 << 20]);
        let size = self.random.between(TAIL_BYTES + 1, SIZE_BYTES_MAX);
        let end = size.div_ceil(alignment) * alignment / SECTOR_BYTES;
        self.cut = Some((export, end));
        let mut control = world.control()?;
        let resized = control.resize(EXPORTS[export].name, end * SECTOR_BYTES);
        resized.map_err(Trouble::Cut)?;
        self.cut = None;
        self.tails[export].resize(end);
        world.tally.add("exports resized", 1);
        Ok(())
    }

    fn look_and_write(&mut self, world: &World, export: usize) -> Step {
        let tail = &mut self.tails[export];
        let name = EXPORTS[export].name;
        let (mut wire, _) = world.connect(export)?;
        let expected = tail.range().end * SECTOR_BYTES;
        if wire.size_bytes() != expected {
            return Err(Trouble::Wrong(format!(
                "{name} was made {expected} bytes long, and clients are told {}",
                wire.size_bytes()
            )));
        }
        let (offset, len) = bytes_of(&tail.range());
        let lost = |error| Trouble::cut(format!("{name}: the resized part"), error);
        let content = wire.read(offset, len).map_err(lost)?;
        tail.seen(tail.range().start, &content)
            .map_err(|what| Trouble::Wrong(format!("{name}, resized: {what}")))?;
        for _ in 0..self.random.between(1, 12) {
            self.generation += 1;
            let content = Content::Stamp(self.generation);
            let whole = tail.range();
            // Often up to the end.
            let start = self.random.between(whole.start, whole.end - 1);
            let start = start.max(whole.end.saturating_sub(self.random.between(1, 4096)));
            let sectors = start
                ..whole
                    .end
                    .min(start + self.random.between(1, SECTOR_COUNT_MAX));
            let (offset, len) = bytes_of(&sectors);
            let payload = stamps(export, &sectors, content);
            tail.perhaps_changed(&sectors, content);
            wire.request(Command::Write, offset, len, &payload)
                .map_err(lost)?;
            tail.changed(&sectors, content);
        }
        wire.disconnect().map_err(lost)
    }
}

fn tail(export: usize) -> Region {
    let sectors = TAIL_START..SIZE_BYTES / SECTOR_BYTES;
    Region::new(export, sectors, EXPORTS[export].unwritten)
}

fn stamps(export: usize, sectors: &Range<u64>, content: Content) -> Vec<u8> {
    let (_, len) = bytes_of(sectors);
    let mut bytes = vec![0; usize::try_from(len).expect("a request is short")];
    for (sector, bytes) in sectors.clone().zip(bytes.chunks_mut(SECTOR_LEN)) {
        content.put(Place { export, sector }, bytes);
    }
    bytes
}

impl Client for Resizer {
    fn name(&self) -> String {
        "resizer".to_owned()
    }

    fn step(&mut self, world: &World) -> Step {
        let export = usize::try_from(self.random.below(EXPORTS.len() as u64)).expect("is small");
        self.resize(world, export)?;
        self.look_and_write(world, export)
    }

    fn restarted(&mut self, world: &World) -> Step {
        for (export, about) in EXPORTS.iter().enumerate() {
            let Some(image) = about.image else {
                self.tails[export] = tail(export);
                continue;
            };
            if let Some((_, end)) = self.cut.filter(|(cut, _)| *cut == export) {
                let len = std::fs::metadata(world.folder.join(image)).map(|data| data.len());
                let len = len.map_err(|error| Trouble::Wrong(format!("{image}: {error}")))?;
                // Either, and nothing between.
                if len == end * SECTOR_BYTES {
                    self.tails[export].resize(end);
                }
            }
        }
        self.cut = None;
        Ok(())
    }

    fn settle(&mut self, _world: &World) -> Step {
        Ok(())
    }

    fn verify(&mut self, export: usize, content: &[u8]) -> Result<Vec<Range<u64>>, String> {
        let tail = &mut self.tails[export];
        let expected = tail.range().end * SECTOR_BYTES;
        if content.len() as u64 != expected {
            return Err(format!(
                "the export should be {expected} bytes long, and is {}",
                content.len()
            ));
        }
        let range = tail.range();
        tail.seen(range.start, slice(content, &range))?;
        Ok(vec![range])
    }
}
