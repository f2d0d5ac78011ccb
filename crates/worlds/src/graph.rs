//! Random disks, written down.

use disk_backend::UnmapBehavior;
use fastrand::Rng;
use std::fmt;

/// How many layers a disk has at most, those of nested disks included.
pub(crate) const LAYERS_MAX: usize = 8;

/// The size of the disk in sectors, at most.
const SECTORS_MAX: u64 = 32;

/// A disk.
#[derive(Debug, Clone)]
pub(crate) enum DiskGraph {
    /// Simulated storage.
    Sim { sectors: u64, traits: Traits },
    /// Layers.
    Stack {
        is_read_only: bool,
        /// Whether it may remember which layers have nothing of a region.
        is_indexed: bool,
        layers: Vec<LayerGraph>,
    },
    /// A wrapper that injects faults, with the seed of its rules.
    Fault { disk: Box<DiskGraph>, seed: u64 },
    /// A wrapper that lets time pass before each request, in milliseconds.
    Delay { disk: Box<DiskGraph>, ms: u64 },
    /// A wrapper that begins so much per second.
    Throttle {
        disk: Box<DiskGraph>,
        rates: Rates,
        /// Whether it is in the one group of the world, with the rates of whoever was there first.
        is_shared: bool,
    },
}

/// How much a throttle begins per second. Something is limited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) operations: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

/// What a store is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) atomic_write_sectors: u32,
    pub(crate) is_fua_respected: bool,
    pub(crate) unmap_behavior: UnmapBehavior,
    pub(crate) is_read_only: bool,
    /// Whether a flush that failed was the last (C8).
    pub(crate) refuses_after_failed_flush: bool,
}

/// A layer, and what the stack does with it.
#[derive(Debug, Clone)]
pub(crate) struct LayerGraph {
    pub(crate) kind: LayerKind,
    pub(crate) write_through: bool,
    pub(crate) read_cache: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum LayerKind {
    /// RAM of this size, or as large as what lies below.
    Ram(Option<u64>),
    /// Simulated storage with absent sectors; empty at first, or not.
    Sim {
        sectors: u64,
        traits: Traits,
        is_filled: bool,
    },
    /// A durable layer on a store of its own.
    Durable {
        store: DiskGraph,
        sectors: u64,
        shape: DurableShape,
        is_filled: bool,
    },
    /// A disk.
    Disk(DiskGraph),
}

/// How a durable layer is laid out, and opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DurableShape {
    pub(crate) log_blocks: u32,
    /// How many times as long as can be its stripes are.
    pub(crate) stripe_blocks: u32,
    /// Whether hardly a page fits into memory.
    pub(crate) has_few_pages: bool,
    /// If it verifies its data: after how many flushes a stripe is closed.
    pub(crate) verified: Option<u64>,
}

impl DiskGraph {
    /// A random legal disk.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let sectors = rng.u64(4..=SECTORS_MAX);
        let mut budget = rng.usize(1..=LAYERS_MAX);
        let is_written = rng.u8(0..16) > 0;
        Self::with_sectors(rng, sectors, is_written, &mut budget)
    }

    fn with_sectors(rng: &mut Rng, sectors: u64, is_written: bool, budget: &mut usize) -> Self {
        let disk = match *budget {
            0 => Self::store(rng, sectors, is_written),
            _ if rng.u8(0..8) == 0 => Self::store(rng, sectors, is_written),
            _ => Self::stack(rng, sectors, is_written, budget),
        };
        match rng.u8(0..8) {
            0 | 1 => Self::Fault {
                disk: Box::new(disk),
                seed: rng.u64(..),
            },
            2 => Self::Delay {
                disk: Box::new(disk),
                ms: rng.u64(0..3),
            },
            3 => Self::Throttle {
                disk: Box::new(disk),
                rates: Rates::random(rng),
                is_shared: rng.bool(),
            },
            _ => disk,
        }
    }

    fn store(rng: &mut Rng, sectors: u64, is_written: bool) -> Self {
        Self::Sim {
            sectors,
            traits: Traits::random(rng, is_written),
        }
    }

    fn stack(rng: &mut Rng, sectors: u64, is_written: bool, budget: &mut usize) -> Self {
        let count = rng.usize(1..=*budget);
        *budget -= count;
        let through_count = match rng.bool() {
            true => rng.usize(0..count),
            false => 0,
        };
        let layers = (0..count).map(|index| {
            let place = Place {
                is_top: index == 0,
                is_bottom: index + 1 == count,
                is_copy: index < through_count,
                is_written: is_written && index <= through_count,
                // The sizes of what is written through to must agree, also after a crash.
                has_copies: through_count > 0,
            };
            LayerGraph::random(rng, sectors, place, budget)
        });
        Self::Stack {
            is_read_only: !is_written,
            layers: layers.collect(),
            is_indexed: rng.u8(0..4) > 0,
        }
    }
}

impl DiskGraph {
    /// Whether a copy somewhere in it cannot be thrown away: disks have all of their sectors.
    pub(crate) fn has_copies_that_stay(&self) -> bool {
        self.layers().iter().any(|layer| match &layer.kind {
            LayerKind::Disk(disk) => layer.write_through || disk.has_copies_that_stay(),
            // Where its store fails, a copy cannot be thrown away.
            LayerKind::Durable { .. } => layer.write_through,
            LayerKind::Ram(_) | LayerKind::Sim { .. } => false,
        })
    }

    /// Whether a store somewhere in it takes no changes after a failed flush.
    pub(crate) fn may_refuse_changes(&self) -> bool {
        let is_refusing = |traits: &Traits| traits.refuses_after_failed_flush;
        match self.unwrapped() {
            Self::Sim { traits, .. } => is_refusing(traits),
            stack => stack.layers().iter().any(|layer| match &layer.kind {
                LayerKind::Disk(disk) | LayerKind::Durable { store: disk, .. } => {
                    disk.may_refuse_changes()
                }
                LayerKind::Sim { traits, .. } => is_refusing(traits),
                LayerKind::Ram(_) => false,
            }),
        }
    }

    /// The disk inside of all wrappers.
    fn unwrapped(&self) -> &Self {
        match self {
            Self::Fault { disk, .. } | Self::Delay { disk, .. } | Self::Throttle { disk, .. } => {
                disk.unwrapped()
            }
            Self::Sim { .. } | Self::Stack { .. } => self,
        }
    }

    fn layers(&self) -> &[LayerGraph] {
        match self.unwrapped() {
            Self::Stack { layers, .. } => layers,
            _ => &[],
        }
    }
}

impl Rates {
    fn random(rng: &mut Rng) -> Self {
        let (has_operations, has_bytes) = match rng.u8(0..4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        // A disk has up to 128 KiB: even the slowest moves all of it within a minute.
        Self {
            operations: has_operations.then(|| rng.u64(1..2000)),
            bytes: has_bytes.then(|| 4096 << rng.u8(0..12)),
        }
    }
}

impl Traits {
    fn random(rng: &mut Rng, is_written: bool) -> Self {
        let behaviors = [
            UnmapBehavior::Zeroes,
            UnmapBehavior::Zeroes,
            UnmapBehavior::Ignored,
            UnmapBehavior::Unspecified,
        ];
        Self {
            atomic_write_sectors: [1, 1, 2, 4][rng.usize(0..4)],
            is_fua_respected: rng.u8(0..3) > 0,
            unmap_behavior: behaviors[rng.usize(0..4)],
            is_read_only: !is_written && rng.bool(),
            refuses_after_failed_flush: rng.u8(0..8) == 0,
        }
    }
}

/// Where a layer stands.
#[derive(Clone, Copy)]
struct Place {
    is_top: bool,
    is_bottom: bool,
    is_copy: bool,
    is_written: bool,
    has_copies: bool,
}

impl LayerGraph {
    fn random(rng: &mut Rng, sectors: u64, place: Place, budget: &mut usize) -> Self {
        let read_cache = rng.u8(0..3) == 0;
        // What is filled from below, or written through, begins without anything of its own.
        let is_filled = !read_cache && !place.is_copy && rng.bool();
        let sectors = match (place.is_top || place.has_copies, rng.u8(0..4)) {
            (true, _) | (_, 0 | 1) => sectors,
            (_, 2) => sectors + rng.u64(1..=sectors),
            _ => rng.u64(1..=sectors),
        };
        let disk_odds = if place.is_bottom { 3 } else { 8 };
        let kind = match rng.u8(0..disk_odds) {
            2..5 if rng.bool() => Self::durable(rng, sectors, is_filled),
            0 | 1 if place.is_bottom || rng.bool() => {
                // A copy that has all of its sectors must still have them after a crash.
                let nested = if place.is_copy { &mut 0 } else { budget };
                let disk = DiskGraph::with_sectors(rng, sectors, place.is_written, nested);
                LayerKind::Disk(disk)
            }
            2 | 3 => LayerKind::Sim {
                sectors,
                traits: Traits::random(rng, place.is_written),
                is_filled,
            },
            _ => LayerKind::Ram(
                (place.is_bottom || place.is_top && !place.is_copy || rng.bool())
                    .then_some(sectors),
            ),
        };
        // After a crash memory is as large as what is below it now.
        let kind = match kind {
            LayerKind::Ram(_) if place.is_copy => LayerKind::Ram(None),
            other => other,
        };
        Self {
            write_through: place.is_copy,
            read_cache: read_cache && !matches!(kind, LayerKind::Disk(_)),
            kind,
        }
    }

    fn durable(rng: &mut Rng, sectors: u64, is_filled: bool) -> LayerKind {
        // It grows as far as it must.
        let small = rng.u64(1..8);
        let store = DiskGraph::with_sectors(rng, small, true, &mut 0);
        let shape = DurableShape {
            log_blocks: rng.u32(2..14),
            stripe_blocks: 1 << rng.u32(0..3),
            has_few_pages: rng.bool(),
            verified: rng.bool().then(|| 1 << rng.u32(0..4)),
        };
        LayerKind::Durable {
            store,
            sectors,
            shape,
            is_filled,
        }
    }
}

impl fmt::Display for DiskGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sim { sectors, traits } => write!(f, "sim({sectors}{traits})"),
            Self::Fault { disk, .. } => write!(f, "fault({disk})"),
            Self::Throttle {
                disk,
                rates,
                is_shared,
            } => {
                let shared = if *is_shared { "shared, " } else { "" };
                write!(f, "throttle({shared}{rates}, {disk})")
            }
            Self::Delay { disk, ms } => write!(f, "delay({ms} ms, {disk})"),
            Self::Stack {
                is_read_only,
                is_indexed,
                layers,
            } => {
                write!(f, "{}", if *is_read_only { "read-only " } else { "" })?;
                write!(f, "{}[", if *is_indexed { "" } else { "unindexed " })?;
                for (index, layer) in layers.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{layer}")?;
                }
                write!(f, "]")
            }
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.operations.map(|rate| format!("{rate}/s"));
        let bytes = self.bytes.map(|rate| format!("{rate} bytes/s"));
        let rates: Vec<String> = operations.into_iter().chain(bytes).collect();
        f.write_str(&rates.join(", "))
    }
}

impl fmt::Display for LayerGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            LayerKind::Ram(None) => write!(f, "ram")?,
            LayerKind::Ram(Some(sectors)) => write!(f, "ram({sectors})")?,
            LayerKind::Sim {
                sectors,
                traits,
                is_filled,
            } => {
                let filled = if *is_filled { ", filled" } else { "" };
                write!(f, "layer({sectors}{traits}{filled})")?;
            }
            LayerKind::Durable {
                store,
                sectors,
                shape,
                is_filled,
            } => {
                let DurableShape {
                    log_blocks,
                    stripe_blocks,
                    has_few_pages,
                    verified,
                } = shape;
                let few = if *has_few_pages { ", few pages" } else { "" };
                let filled = if *is_filled { ", filled" } else { "" };
                let verified = verified.map(|after| format!(", verified, closed after {after}"));
                let verified = verified.unwrap_or_default();
                write!(
                    f,
                    "durable({sectors}, log {log_blocks}, stripes {stripe_blocks}{few}{verified}{filled}, on {store})"
                )?;
            }
            LayerKind::Disk(disk) => write!(f, "{disk}")?,
        }
        if self.write_through {
            write!(f, " +write_through")?;
        }
        if self.read_cache {
            write!(f, " +read_cache")?;
        }
        Ok(())
    }
}

impl fmt::Display for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", unmap {:?}", self.unmap_behavior)?;
        if self.atomic_write_sectors > 1 {
            write!(f, ", atomic {}", self.atomic_write_sectors)?;
        }
        if !self.is_fua_respected {
            write!(f, ", no fua")?;
        }
        if self.is_read_only {
            write!(f, ", read-only")?;
        }
        if self.refuses_after_failed_flush {
            write!(f, ", refuses after a failed flush")?;
        }
        Ok(())
    }
}
