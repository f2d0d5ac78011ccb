//! A client that changes a disk at random until the daemon is killed, and remembers what it was told.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::model::Model;
use crate::soak::content::{Content, Place, SECTOR_BYTES, SECTOR_LEN};
use crate::soak::random::Random;
use crate::soak::wire::{Command, FLAG_FUA, Wire};

/// How many requests are in flight at most.
const DEPTH_MAX: u64 = 16;
/// How long a change is at most, in sectors.
const SECTORS_MAX: u64 = 64;

/// What was done in one life of the daemon.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    pub(super) acknowledged_count: u64,
    pub(super) flush_count: u64,
    /// Requests without an answer when the daemon died.
    pub(super) cut_count: u64,
}

/// A disk, and what it may hold.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) export: usize,
    pub(super) model: Model,
    random: Random,
    generation: u64,
}

/// A request without an answer yet.
#[derive(Debug)]
struct Pending {
    cookie: u64,
    kind: Kind,
    sectors: Range<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Read,
    /// With its number, and whether it asks to be durable.
    Change(u64, bool),
    /// When it was sent.
    Flush(u64),
}

impl Client {
    pub(super) fn new(export: usize, model: Model, random: Random) -> Self {
        Self {
            export,
            model,
            random,
            generation: 1,
        }
    }

    /// Works until `is_over` or, if it is the one to do so, until it has killed the daemon after so many requests.
    pub(super) fn live(
        &mut self,
        wire: &mut Wire,
        is_over: &AtomicBool,
        kill_after: Option<(u64, &dyn Fn())>,
    ) -> Result<Work, String> {
        let mut work = Work::default();
        let mut pending: Vec<Pending> = Vec::new();
        let depth = self.random.between(1, DEPTH_MAX);
        let mut sent_count = 0;
        let ended = loop {
            if let Some((count, kill)) = kill_after
                && sent_count >= count
                && !is_over.swap(true, Ordering::SeqCst)
            {
                // With requests in flight, and some not even read by the daemon.
                kill();
            }
            let is_full = pending.len() as u64 >= depth;
            let step = match is_full || (!pending.is_empty() && self.random.one_in(4)) {
                true => self.hear(wire, &mut pending, &mut work),
                false => {
                    sent_count += 1;
                    self.send(wire, &mut pending, sent_count)
                }
            };
            if let Err(trouble) = step {
                break trouble;
            }
        };
        work.cut_count = pending.len() as u64;
        match ended {
            Trouble::Cut(_) if is_over.load(Ordering::SeqCst) => Ok(work),
            Trouble::Cut(error) => Err(format!("the daemon hung up although it lived: {error}")),
            Trouble::Wrong(what) => Err(what),
        }
    }

    fn send(
        &mut self,
        wire: &mut Wire,
        pending: &mut Vec<Pending>,
        cookie: u64,
    ) -> Result<(), Trouble> {
        let choice = self.random.below(100);
        if choice < 6 {
            let sent = self.model.flush_sent();
            pending.push(Pending {
                cookie,
                kind: Kind::Flush(sent),
                sectors: 0..0,
            });
            wire.send(Command::Flush, 0, cookie, 0, 0, &[])?;
            return Ok(());
        }
        let Some(sectors) = self.free_range(pending) else {
            return Ok(());
        };
        let (offset, len) = (
            sectors.start * SECTOR_BYTES,
            (sectors.end - sectors.start) * SECTOR_BYTES,
        );
        let (command, content) = match choice {
            6..20 => (Command::Read, None),
            20..28 => (Command::Trim, Some(Content::Zero)),
            28..34 => (Command::WriteZeroes, Some(Content::Zero)),
            _ => {
                self.generation += 1;
                (Command::Write, Some(Content::Stamp(self.generation)))
            }
        };
        let fua = content.is_some() && self.random.one_in(12);
        let kind = match content {
            Some(content) => Kind::Change(self.model.sent(&sectors, content), fua),
            None => Kind::Read,
        };
        let payload = match (command, content) {
            (Command::Write, Some(content)) => self.bytes(&sectors, content),
            _ => Vec::new(),
        };
        pending.push(Pending {
            cookie,
            kind,
            sectors,
        });
        let flags = if fua { FLAG_FUA } else { 0 };
        wire.send(command, flags, cookie, offset, len, &payload)?;
        Ok(())
    }

    /// Sectors that no request in flight is about. Mostly few places, so that they are changed again and again.
    fn free_range(&mut self, pending: &[Pending]) -> Option<Range<u64>> {
        let end = match self.random.one_in(3) {
            true => self.model.sector_count(),
            false => 512,
        };
        let start = self.random.below(end);
        let count = match self.random.one_in(2) {
            true => self.random.between(1, 8),
            false => self.random.between(1, SECTORS_MAX),
        };
        let sectors = start..(start + count).min(self.model.sector_count());
        let meets = |other: &Range<u64>| other.start < sectors.end && sectors.start < other.end;
        match pending.iter().any(|request| meets(&request.sectors)) {
            true => None,
            false => Some(sectors),
        }
    }

    fn bytes(&self, sectors: &Range<u64>, content: Content) -> Vec<u8> {
        let count = usize::try_from(sectors.end - sectors.start).expect("a request is short");
        let mut bytes = vec![0; count * SECTOR_LEN];
        for (sector, bytes) in sectors.clone().zip(bytes.chunks_exact_mut(SECTOR_LEN)) {
            let place = Place {
                export: self.export,
                sector,
            };
            content.put(place, bytes);
        }
        bytes
    }

    fn hear(
        &mut self,
        wire: &mut Wire,
        pending: &mut Vec<Pending>,
        work: &mut Work,
    ) -> Result<(), Trouble> {
        let reply = wire.hear()?;
        let index = pending
            .iter()
            .position(|request| request.cookie == reply.cookie)
            .ok_or_else(|| Trouble::Wrong(format!("a reply to nothing: {:#x}", reply.cookie)))?;
        let Pending { kind, sectors, .. } = &pending[index];
        if reply.errno != 0 {
            return Err(Trouble::Wrong(format!(
                "a request for sectors {sectors:?} failed with error {}",
                reply.errno
            )));
        }
        match kind {
            Kind::Read => {
                let len = usize::try_from(sectors.end - sectors.start).expect("a request is short");
                let data = wire.hear_data(len * SECTOR_LEN)?;
                for (sector, bytes) in sectors.clone().zip(data.chunks_exact(SECTOR_LEN)) {
                    let place = Place {
                        export: self.export,
                        sector,
                    };
                    self.model.check_now(place, bytes).map_err(Trouble::Wrong)?;
                }
            }
            Kind::Change(number, durable) => self.model.acknowledged(sectors, *number, *durable),
            Kind::Flush(sent) => {
                self.model.flushed(*sent);
                work.flush_count += 1;
            }
        }
        work.acknowledged_count += 1;
        pending.swap_remove(index);
        Ok(())
    }
}

/// Why a client works no more.
#[derive(Debug)]
enum Trouble {
    Cut(io::Error),
    Wrong(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Cut(error)
    }
}
