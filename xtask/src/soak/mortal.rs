//! A client that dies: it writes stamps, reads them back, and every other time ends in the middle of something. What it was answered
//! it remembers.

use std::io::Write;
use std::net::Shutdown;
use std::ops::Range;
use std::time::Instant;

use super::client::{Client, Step, Trouble};
use super::content::{Content, Place, SECTOR_BYTES, SECTOR_LEN};
use super::exports::{EXPORTS, MORTAL_PARTS};
use super::faults::Touch;
use super::random::Random;
use super::region::Region;
use super::wire::{Command, FLAG_FUA, Reply, Wire, head};
use super::world::World;

pub(crate) struct Mortal {
    index: usize,
    random: Random,
    /// One in each export.
    regions: Vec<Region>,
    generation: u64,
}

/// How a session ends before its time.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Nothing more is sent or heard.
    Vanish,
    /// The last request is cut off in its head.
    HalfHead,
    /// The last write is cut off in its data.
    HalfData,
    /// Nothing more is sent, and all is heard.
    HalfClose,
}

const DEATHS: [Death; 4] = [
    Death::Vanish,
    Death::HalfHead,
    Death::HalfData,
    Death::HalfClose,
];

/// A request without an answer yet.
#[derive(Debug)]
struct Pending {
    cookie: u64,
    command: Command,
    sectors: Range<u64>,
    /// What a change brings.
    content: Content,
    sent: Instant,
}

struct Session<'a> {
    world: &'a World,
    wire: Wire,
    region: &'a mut Region,
    random: &'a mut Random,
    generation: &'a mut u64,
    pending: Vec<Pending>,
    cookie: u64,
}

impl Mortal {
    pub(crate) fn new(seed: u64, index: usize) -> Self {
        let part = &MORTAL_PARTS[index];
        let region = |export: usize| Region::new(export, part.clone(), EXPORTS[export].unwritten);
        Self {
            index,
            random: Random::of(seed, &format!("mortal {index}")),
            regions: (0..EXPORTS.len()).map(region).collect(),
            generation: 0,
        }
    }
}

impl Client for Mortal {
    fn name(&self) -> String {
        format!("mortal client {}", self.index)
    }

    fn step(&mut self, world: &World) -> Step {
        let export = usize::try_from(self.random.below(EXPORTS.len() as u64)).expect("is small");
        let count = self.random.between(10, 200);
        let depth = usize::try_from(self.random.between(1, 16)).expect("is small");
        let death = self.random.one_in(2).then(|| *self.random.pick(&DEATHS));
        let (wire, number) = world.connect(export)?;
        let mut session = Session {
            world,
            wire,
            region: &mut self.regions[export],
            random: &mut self.random,
            generation: &mut self.generation,
            pending: Vec::new(),
            cookie: 0,
        };
        let lived = session.live(count, depth);
        let ended = match (lived, death) {
            (Ok(()), None) => session.leave(),
            (Ok(()), Some(death)) => session.die(death),
            (Err(trouble), _) => {
                session.forget_pending();
                Err(trouble)
            }
        };
        ended?;
        if death.is_some() {
            world.tally.add("deaths in mid-request", 1);
            world.wait_until_gone(&number)?;
        }
        Ok(())
    }

    fn restarted(&mut self, _world: &World) -> Step {
        for region in &mut self.regions {
            let export = &EXPORTS[region.export()];
            if export.image.is_none() {
                region.forget(export.unwritten);
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

/// The bytes of these sectors in the content of an export.
pub(crate) fn slice<'a>(content: &'a [u8], sectors: &Range<u64>) -> &'a [u8] {
    let at = |sector: u64| usize::try_from(sector * SECTOR_BYTES).expect("an export is small");
    &content[at(sectors.start)..at(sectors.end)]
}

impl Session<'_> {
    /// So many requests, with up to `depth` of them under way.
    fn live(&mut self, count: u64, depth: usize) -> Step {
        for _ in 0..count {
            while self.pending.len() >= depth {
                self.hear()?;
            }
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Step {
        let command = match self.random.below(20) {
            0..=8 => Command::Write,
            9..=14 => Command::Read,
            15..=16 => Command::WriteZeroes,
            17 => Command::Trim,
            _ => Command::Flush,
        };
        let sectors = match command {
            Command::Flush => 0..0,
            _ => self.sectors(),
        };
        // Which of two requests that meet comes first is for the server to choose; so that the answer is known, none do.
        while self.pending.iter().any(|one| meet(&one.sectors, &sectors)) {
            self.hear()?;
        }
        let (content, payload) = self.payload(command, &sectors);
        let flags = match command {
            Command::Write | Command::WriteZeroes if self.random.one_in(6) => FLAG_FUA,
            _ => 0,
        };
        let cookie = self.note(command, &sectors, content);
        let (offset, len) = bytes_of(&sectors);
        let sent = self
            .wire
            .send(command, flags, cookie, offset, len, &payload);
        sent.map_err(|error| Trouble::cut(format!("cannot send a {command:?}"), error))
    }

    fn sectors(&mut self) -> Range<u64> {
        let whole = self.region.range();
        let count_max = if self.random.one_in(8) { 128 } else { 16 };
        let start = whole.start + self.random.below(whole.end - whole.start);
        let end = start + self.random.between(1, count_max);
        start..end.min(whole.end)
    }

    /// What a request brings, and the bytes that go with it.
    fn payload(&mut self, command: Command, sectors: &Range<u64>) -> (Content, Vec<u8>) {
        if command != Command::Write {
            return (Content::Zero, Vec::new());
        }
        *self.generation += 1;
        let content = Content::Stamp(*self.generation);
        let (_, len) = bytes_of(sectors);
        let mut bytes = vec![0; usize::try_from(len).expect("a request is short")];
        for (sector, bytes) in sectors.clone().zip(bytes.chunks_mut(SECTOR_LEN)) {
            let export = self.region.export();
            content.put(Place { export, sector }, bytes);
        }
        (content, bytes)
    }

    /// Before it is sent: half of it may arrive.
    fn note(&mut self, command: Command, sectors: &Range<u64>, content: Content) -> u64 {
        self.cookie += 1;
        self.pending.push(Pending {
            cookie: self.cookie,
            command,
            sectors: sectors.clone(),
            content,
            sent: Instant::now(),
        });
        self.cookie
    }

    /// Hears one reply, and takes note of what it means.
    fn hear(&mut self) -> Step {
        let lost = |error| Trouble::cut("no reply", error);
        let Reply { cookie, errno } = self.wire.hear().map_err(lost)?;
        let index = self.pending.iter().position(|one| one.cookie == cookie);
        let index = index.ok_or_else(|| {
            Trouble::Wrong(format!(
                "a reply to a request that waits for none: {cookie}"
            ))
        })?;
        let (command, sectors) = {
            let one = &self.pending[index];
            (one.command, one.sectors.clone())
        };
        let data = match (command, errno) {
            // The request stays pending if this fails; there is nothing to remember of a read.
            (Command::Read, 0) => {
                let (_, len) = bytes_of(&sectors);
                let len = usize::try_from(len).expect("a request is short");
                self.wire.hear_data(len).map_err(lost)?
            }
            _ => Vec::new(),
        };
        let one = self.pending.swap_remove(index);
        self.world.tally.add("requests of mortal clients", 1);
        let export = EXPORTS[self.region.export()].name;
        match (command, errno) {
            (Command::Read, 0) => self
                .region
                .seen(sectors.start, &data)
                .map_err(|what| Trouble::Wrong(format!("{export}: {what}"))),
            (Command::Flush, 0) => Ok(()),
            (_, 0) => {
                self.region.changed(&sectors, one.content);
                Ok(())
            }
            (_, errno) => self.failed(&one, errno),
        }
    }

    fn failed(&mut self, one: &Pending, errno: u32) -> Step {
        let touch = match one.command {
            Command::Read => Touch::Read,
            Command::Flush => Touch::Flush,
            _ => Touch::Change,
        };
        let export = self.region.export();
        let errors = self.world.errors();
        if !errors.explains(export, touch, &one.sectors, errno, one.sent) {
            return Err(Trouble::Wrong(format!(
                "{}: a {:?} of sectors {:?} failed with error {errno}, and no rule was there that makes it fail",
                EXPORTS[export].name, one.command, one.sectors
            )));
        }
        if touch == Touch::Change {
            self.region.perhaps_changed(&one.sectors, one.content);
        }
        self.world.tally.add("requests failed by rules", 1);
        Ok(())
    }

    /// Hears all that is due, and says goodbye.
    fn leave(mut self) -> Step {
        while !self.pending.is_empty() {
            if let Err(trouble) = self.hear() {
                self.forget_pending();
                return Err(trouble);
            }
        }
        let goodbye = self.wire.disconnect();
        goodbye.map_err(|error| Trouble::cut("no end after the goodbye", error))
    }

    fn die(mut self, death: Death) -> Step {
        let result = match death {
            Death::Vanish => Ok(()),
            Death::HalfHead => {
                let head = head(Command::Read, 0, 1, 0, 512);
                let len = usize::try_from(self.random.below(28)).expect("is small");
                self.send_raw(&head[..len])
            }
            Death::HalfData => self.send_half_write(),
            Death::HalfClose => {
                // A server that has cut us off already is not the matter here.
                let _ = self.wire.stream().shutdown(Shutdown::Write);
                self.hear_the_rest()
            }
        };
        self.forget_pending();
        result
    }

    fn send_half_write(&mut self) -> Step {
        let sectors = self.sectors();
        while self.pending.iter().any(|one| meet(&one.sectors, &sectors)) {
            self.hear()?;
        }
        let (content, payload) = self.payload(Command::Write, &sectors);
        let cookie = self.note(Command::Write, &sectors, content);
        let (offset, len) = bytes_of(&sectors);
        let mut bytes = head(Command::Write, 0, cookie, offset, len).to_vec();
        let kept = self.random.below(payload.len() as u64);
        bytes.extend(&payload[..usize::try_from(kept).expect("is small")]);
        self.send_raw(&bytes)
    }

    fn send_raw(&mut self, bytes: &[u8]) -> Step {
        let sent = self.wire.stream().write_all(bytes);
        sent.map_err(|error| Trouble::cut("cannot send", error))
    }

    /// Hears replies up to the end of the connection.
    fn hear_the_rest(&mut self) -> Step {
        while !self.pending.is_empty() {
            match self.hear() {
                Ok(()) => {}
                // It owes nothing to somebody who sends no more.
                Err(Trouble::Cut(_)) => return Ok(()),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Nobody will tell what became of what is under way.
    fn forget_pending(&mut self) {
        for one in self.pending.drain(..) {
            if !matches!(one.command, Command::Read | Command::Flush) {
                self.region.perhaps_changed(&one.sectors, one.content);
            }
        }
    }
}

fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Offset and length.
pub(crate) fn bytes_of(sectors: &Range<u64>) -> (u64, u64) {
    (
        sectors.start * SECTOR_BYTES,
        (sectors.end - sectors.start) * SECTOR_BYTES,
    )
}
