//! One request of a world, and the memory that it owns.

use super::chronicle::{Chronicle, Ticket};
use crate::ledger::{Kind, fill, value};
use disk_backend::{BlockStatus, Disk, DiskError, UnmapBehavior};
use fastrand::Rng;
use guestmem::GuestMemory;
use scsi_buffers::{HostBuffers, OwnedRequestBuffers};
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) range: Range<u64>,
    fua: bool,
    may_unmap: bool,
    /// Whether the caller's memory changes while the request is under way.
    is_restless: bool,
}

impl Asked {
    pub(super) fn random(rng: &mut Rng, range: Range<u64>) -> Self {
        let kind = match rng.u8(0..100) {
            0..32 => Kind::Read,
            32..70 => Kind::Write,
            70..78 => Kind::WriteZeroes,
            78..86 => Kind::Unmap,
            86..91 => Kind::Status,
            _ => Kind::Flush,
        };
        Self {
            kind,
            range,
            fua: rng.u8(0..5) == 0,
            may_unmap: rng.bool(),
            is_restless: kind == Kind::Write && rng.u8(0..12) == 0,
        }
    }

    fn is_fua(&self) -> bool {
        self.fua && matches!(self.kind, Kind::Write | Kind::WriteZeroes)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        match self.kind {
            Kind::Flush if self.fua => return write!(f, "close"),
            Kind::Flush => return write!(f, "flush"),
            kind => write!(f, "{} {start}..{end}", kind.title())?,
        }
        if self.is_fua() {
            write!(f, " fua")?;
        }
        if self.is_restless {
            write!(f, " from memory that changes")?;
        }
        Ok(())
    }
}

/// A request that can be made.
pub(super) struct Request {
    asked: Asked,
    sector_size: usize,
    /// What it writes; a second one where the memory changes.
    stamps: Vec<u64>,
}

/// What a request brought back.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) status: BlockStatus,
}

impl Request {
    pub(super) fn new(asked: &Asked, sector_size: u32, chronicle: &mut Chronicle) -> Self {
        let count = match asked.kind {
            Kind::Write => 1 + usize::from(asked.is_restless),
            _ => 0,
        };
        Self {
            asked: asked.clone(),
            sector_size: sector_size as usize,
            stamps: (0..count).map(|_| chronicle.new_stamp()).collect(),
        }
    }

    /// Writes the call down.
    pub(super) fn call(&self, disk: &Disk, chronicle: &mut Chronicle) -> Ticket {
        let range = match self.asked.kind {
            Kind::Write | Kind::WriteZeroes => self.asked.range.clone(),
            Kind::Unmap if disk.unmap_behavior() != UnmapBehavior::Ignored => {
                self.asked.range.clone()
            }
            _ => 0..0,
        };
        chronicle.call_change(range, &self.stamps, self.asked.is_fua())
    }

    /// Whether nobody can say what exactly it did, even when it completed.
    pub(super) fn is_vague(&self, disk: &Disk) -> bool {
        let is_unmap = self.asked.kind == Kind::Unmap;
        self.asked.is_restless || is_unmap && disk.unmap_behavior() == UnmapBehavior::Unspecified
    }

    pub(super) async fn perform(self, disk: &Disk) -> Result<Seen, DiskError> {
        let Range { start, end } = self.asked.range;
        let (count, fua) = (end - start, self.asked.fua);
        let mut seen = Seen::default();
        match self.asked.kind {
            Kind::Read => {
                seen.bytes = vec![0xc5; count as usize * self.sector_size];
                let host = HostBuffers::from_mut(&mut seen.bytes);
                disk.read_vectored(&host.buffers(), start).await?;
            }
            Kind::Write if self.asked.is_restless => self.write_restless(disk).await?,
            Kind::Write => {
                let data = self.data(self.stamps[0]);
                let host = HostBuffers::from_ref(&data);
                disk.write_vectored(&host.buffers(), start, fua).await?;
            }
            Kind::WriteZeroes => {
                let may_unmap = self.asked.may_unmap;
                disk.write_zeroes(start, count, fua, may_unmap, false)
                    .await?;
            }
            Kind::Unmap => disk.unmap(start, count, false).await?,
            Kind::Status => seen.status = disk.block_status(start, count).await?,
            // It promises the same.
            Kind::Flush if fua => disk.close().await?,
            Kind::Flush => disk.sync_cache().await?,
        }
        Ok(seen)
    }

    fn data(&self, stamp: u64) -> Vec<u8> {
        let range = self.asked.range.clone();
        let mut data = vec![0; (range.end - range.start) as usize * self.sector_size];
        for (sector, bytes) in range.zip(data.chunks_exact_mut(self.sector_size)) {
            fill(bytes, value(stamp, sector));
        }
        data
    }

    /// Writes from memory that holds something else at each poll.
    async fn write_restless(&self, disk: &Disk) -> Result<(), DiskError> {
        let data = [self.data(self.stamps[0]), self.data(self.stamps[1])];
        let memory = GuestMemory::allocate(data[0].len());
        let description = OwnedRequestBuffers::linear(0, data[0].len(), false);
        let buffers = description.buffer(&memory);
        let mut write = pin!(disk.write_vectored(&buffers, self.asked.range.start, self.asked.fua));
        let mut polls = 0;
        poll_fn(|cx| {
            memory
                .write_at(0, &data[polls % 2])
                .expect("the memory is there");
            polls += 1;
            write.as_mut().poll(cx)
        })
        .await
    }
}
