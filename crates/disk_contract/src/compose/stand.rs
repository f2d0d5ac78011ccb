//! What the checks of compositions are made with: stacks of a given shape, and requests on them.

use super::ComposedLayer;
use crate::alone::complete_alone;
use crate::handle::Handle;
use crate::ledger::{Arena, Call, Fault, Kind, Ledger, Sight, stamp_content};
use crate::subject::Checked;
use crate::violation::Trace;
use crate::{Clause, DiskSpec, LayerSpec, ReferenceLayer, ScriptedLayer};
use disk_backend::{Disk, DiskError, DiskIo, UnmapBehavior};
use disk_layered::{LayerIo, SectorBitmap, SectorMarker};
use fastrand::Rng;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

/// The size of every disk here, in sectors.
pub(super) const SECTORS: u64 = 8;

pub(super) const SECTOR_BYTES: u32 = 512;

/// All of the disk.
pub(super) const ALL: Range<u64> = 0..SECTORS;

/// A place in a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sector_count: u64,
    pub(super) write_through: bool,
    pub(super) read_cache: bool,
}

pub(super) const PLAIN: Slot = Slot {
    sector_count: SECTORS,
    write_through: false,
    read_cache: false,
};

pub(super) const CACHE: Slot = Slot {
    read_cache: true,
    ..PLAIN
};

pub(super) const THROUGH: Slot = Slot {
    write_through: true,
    ..PLAIN
};

pub(super) const CACHE_THROUGH: Slot = Slot {
    read_cache: true,
    ..THROUGH
};

pub(super) const SHORT_CACHE: Slot = Slot {
    sector_count: 5,
    ..CACHE
};

/// A stack that stands.
pub(super) struct Stack {
    pub(super) layers: Vec<ComposedLayer>,
    pub(super) disk: Handle,
}

/// The factory, and where the run stands.
pub(super) struct Stand<'a, M> {
    make: &'a M,
    pub(super) rng: Rng,
    stall_limit: Duration,
    seed: u64,
    trace: Trace,
}

impl<'a, M: AsyncFn(Vec<ComposedLayer>) -> Disk> Stand<'a, M> {
    pub(super) fn new(make: &'a M, seed: u64, stall_limit: Duration) -> Self {
        Self {
            make,
            rng: Rng::with_seed(seed),
            stall_limit,
            seed,
            trace: Trace::new(String::new(), "", seed),
        }
    }

    /// A stack of reference layers, of which only the bottom holds anything: what [`stamp_content`] says. Layers whose
    /// behaviour is not named zero what they unmap.
    pub(super) fn build(
        &mut self,
        case: &'static str,
        slots: &[Slot],
        behaviors: &[UnmapBehavior],
    ) -> Stack {
        self.trace = Trace::new(describe(slots, behaviors), case, self.seed);
        let layers = slots.iter().enumerate().map(|(index, slot)| {
            let behavior = behaviors.get(index).copied();
            let spec = LayerSpec::new(slot.sector_count, SECTOR_BYTES);
            let layer = ReferenceLayer::new(spec)
                .with_unmap_behavior(behavior.unwrap_or(UnmapBehavior::Zeroes));
            ComposedLayer {
                layer: ScriptedLayer::new(layer),
                write_through: slot.write_through,
                read_cache: slot.read_cache,
            }
        });
        let layers: Vec<_> = layers.collect();
        let mut spec = DiskSpec::new(SECTORS, SECTOR_BYTES);
        stamp_content(&mut spec);
        let bottom = layers.last().expect("a stack has layers");
        block_on(async {
            let host = HostBuffers::from_ref(&spec.content);
            let write = bottom.layer.inner().write(&host.buffers(), 0, false).await;
            write.expect("a reference layer takes everything");
        });
        self.stack_of(layers)
    }

    /// A stack of layers that there are already.
    pub(super) fn stack_of(&self, layers: Vec<ComposedLayer>) -> Stack {
        let disk = Handle(block_on((self.make)(layers.clone())));
        Stack { layers, disk }
    }

    /// What happens next, for the report.
    pub(super) fn step(&mut self, what: impl Into<String>) {
        self.trace.step(what.into());
    }

    /// Completes a future that nobody else helps.
    pub(super) fn alone<R>(&self, what: &str, future: impl Future<Output = R>) -> Checked<R> {
        let result = complete_alone(pin!(future), self.stall_limit);
        result.ok_or_else(|| self.trace.violation(Clause::C4, format!("{what} is stuck")))
    }

    /// Makes a request and waits for what it brings.
    pub(super) fn request<T: DiskIo>(
        &mut self,
        arena: &Arena<'_, T>,
        call: &Call,
    ) -> Checked<Result<Sight, DiskError>> {
        let what = format!("a {} of sectors {:?}", call.kind.title(), call.range);
        self.step(what.clone());
        self.alone(&what, arena.perform(call, false))
    }

    /// A request that must succeed.
    pub(super) fn complete<T: DiskIo>(
        &mut self,
        arena: &Arena<'_, T>,
        ledger: &mut Ledger<'_, T>,
        kind: Kind,
        range: Range<u64>,
    ) -> Checked {
        let call = ledger.call(kind, range);
        let result = self.request(arena, &call)?;
        self.judged(None, ledger.returned(&call, result))
    }

    /// Everything that was seen makes sense; if not, `clause` is broken.
    pub(super) fn check<T: DiskIo>(
        &mut self,
        clause: Clause,
        arena: &Arena<'_, T>,
        ledger: &mut Ledger<'_, T>,
    ) -> Checked {
        for _ in 0..2 {
            self.complete(arena, ledger, Kind::Read, ALL)?;
        }
        self.judged(Some(clause), arena.check(ledger.log()))
    }

    /// A fault of the ledger as a violation, of `clause` if that is given.
    pub(super) fn judged(&self, clause: Option<Clause>, result: Result<(), Fault>) -> Checked {
        result.map_err(|(found, what)| self.trace.violation(clause.unwrap_or(found), what))
    }

    pub(super) fn violation(&self, clause: Clause, what: String) -> crate::Violation {
        self.trace.violation(clause, what)
    }

    /// The whole disk, through a stack.
    pub(super) fn content(&self, disk: &Handle) -> Checked<Vec<u8>> {
        let mut bytes = vec![0xc5; (SECTORS * u64::from(SECTOR_BYTES)) as usize];
        let host = HostBuffers::from_mut(&mut bytes);
        let buffers = host.buffers();
        let result = self.alone("a read", disk.read_vectored(&buffers, 0))?;
        drop(host);
        match result {
            Ok(()) => Ok(bytes),
            Err(error) => {
                let what = format!("a legal read failed: {error:?}");
                Err(self.violation(Clause::C1, what))
            }
        }
    }

    /// Both hold the same, sector by sector.
    pub(super) fn equal(&self, clause: Clause, what: &str, one: &[u8], other: &[u8]) -> Checked {
        let size = SECTOR_BYTES as usize;
        let mut pairs = one.chunks(size).zip(other.chunks(size)).enumerate();
        match pairs.find(|(_, (one, other))| one != other) {
            None => Ok(()),
            Some((sector, (one, other))) => {
                let at = (0..size).find(|at| one[*at] != other[*at]).unwrap_or(0);
                let what = format!(
                    "sector {sector}, byte {at}: the disk reads {:#04x}, but {what} {:#04x}",
                    one[at], other[at]
                );
                Err(self.violation(clause, what))
            }
        }
    }
}

impl Stack {
    /// What a layer has by itself: each sector, or none.
    pub(super) fn sectors_of(&self, index: usize) -> Vec<Option<Vec<u8>>> {
        let layer = self.layers[index].layer.inner();
        let count = layer.sector_count();
        let mut bytes = vec![0; (count * u64::from(SECTOR_BYTES)) as usize];
        let mut present = SectorBitmap::new(count as usize);
        let host = HostBuffers::from_mut(&mut bytes);
        let marker = SectorMarker::new(&mut present, 0, 0..count);
        let read = block_on(layer.read(&host.buffers(), 0, marker));
        read.expect("a reference layer gives everything");
        drop(host);
        let sectors = bytes.chunks(SECTOR_BYTES as usize).enumerate();
        let sectors = sectors.map(|(sector, bytes)| {
            let is_absent = present
                .next_clear_run(sector)
                .is_some_and(|run| run.start == sector);
            (!is_absent).then(|| bytes.to_vec())
        });
        sectors.collect()
    }

    /// How many layers write through.
    pub(super) fn through_count(&self) -> usize {
        let through = self.layers.iter().take_while(|layer| layer.write_through);
        through.count()
    }

    /// Forgets what was to happen to requests.
    pub(super) fn clear_scripts(&self) {
        for layer in &self.layers {
            layer.layer.script().clear();
        }
    }
}

fn describe(slots: &[Slot], behaviors: &[UnmapBehavior]) -> String {
    let layers = slots.iter().enumerate().map(|(index, slot)| {
        let mut words = format!("layer of {}", slot.sector_count);
        if let Some(behavior) = behaviors.get(index) {
            words += &format!("({behavior:?})");
        }
        for (is_set, word) in [
            (slot.write_through, " +write_through"),
            (slot.read_cache, " +read_cache"),
        ] {
            words += if is_set { word } else { "" };
        }
        words
    });
    format!("[{}]", layers.collect::<Vec<_>>().join(", "))
}
