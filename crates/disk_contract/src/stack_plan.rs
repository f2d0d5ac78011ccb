//! A stack of layers that shows given content, with every reason to get it wrong.
//!
//! What a disk is to hold is dealt out at random over those layers from which it can be seen; below whatever answers for a
//! sector lies other data that must not show.

use crate::spec::{DiskSpec, is_zero};
use disk_backend::DiskError;
use disk_layered::LayerIo;
use fastrand::Rng;
use scsi_buffers::HostBuffers;
use std::ops::Range;

/// A layer of a stack, as the plan needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A layer in which sectors can be absent, of so many sectors.
    Layer(u64),
    /// A disk used as a layer, of so many sectors. Nothing below it can be seen.
    Disk(u64),
}

impl Member {
    /// The size in sectors.
    pub fn sector_count(self) -> u64 {
        match self {
            Self::Layer(sector_count) | Self::Disk(sector_count) => sector_count,
        }
    }
}

/// What each layer of a stack is to be filled with, before the layers are put together.
#[derive(Debug, Clone)]
pub struct StackPlan {
    layers: Vec<LayerPlan>,
}

/// What one layer is to be filled with.
#[derive(Debug, Clone)]
pub struct LayerPlan {
    sector_size: u32,
    kinds: Vec<Kind>,
    /// The content of all sectors, whatever their kind.
    content: Vec<u8>,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    /// Zero without being stored as data.
    Zero,
    Data,
}

impl StackPlan {
    /// A plan by which `members`, top first, show what `spec` asks for.
    ///
    /// # Panics
    /// If the top is not of the size that `spec` asks for: the disk has the size of its top layer.
    pub fn new(spec: &DiskSpec, members: &[Member]) -> Self {
        assert_eq!(
            members.first().map(|top| top.sector_count()),
            Some(spec.sector_count),
            "the top layer has the size of the disk"
        );
        let mut rng = Rng::with_seed(spec.seed);
        let layers = members
            .iter()
            .map(|m| LayerPlan::random(*m, spec.sector_size, &mut rng));
        let mut plan = Self {
            layers: layers.collect(),
        };
        let mut owner = 0;
        for sector in 0..spec.sector_count {
            let deepest = deepest_visible(members, sector);
            // Neighbours mostly have the same owner, so that there are runs.
            if rng.u8(0..5) == 0 || owner > deepest {
                owner = rng.usize(0..=deepest);
            }
            let is_hidden_below = matches!(members[deepest], Member::Disk(_));
            let owner = match spec.is_zero(sector) && !is_hidden_below && rng.bool() {
                true => None,
                false => Some(owner),
            };
            plan.place(spec, sector, owner, deepest, &mut rng);
        }
        plan
    }

    /// The same for a stack whose upper `through_count` layers write through: these hold nothing that the layer below them does
    /// not show as well.
    ///
    /// # Panics
    /// As [`new`](Self::new), or if a layer that is written through to is shorter than the top.
    pub fn write_through(spec: &DiskSpec, members: &[Member], through_count: usize) -> Self {
        if through_count == 0 {
            return Self::new(spec, members);
        }
        let mut rng = Rng::with_seed(spec.seed);
        let lower = &members[through_count..];
        let sector_count = lower[0].sector_count();
        // What lies beyond the end of the disk does not show.
        let mut content = vec![0; sector_count as usize * spec.sector_size as usize];
        rng.fill(&mut content);
        content[..spec.content.len()].copy_from_slice(&spec.content);
        let shown = DiskSpec {
            content,
            seed: rng.u64(..),
            ..DiskSpec::new(sector_count, spec.sector_size)
        };
        let mut plan = Self::new(&shown, lower);
        let copies = members[..through_count]
            .iter()
            .map(|member| LayerPlan::copy(*member, &shown, &mut rng));
        plan.layers = copies.chain(plan.layers).collect();
        plan
    }

    /// What to fill layer `index` with; 0 is the top.
    pub fn layer(&self, index: usize) -> &LayerPlan {
        &self.layers[index]
    }

    /// Lets `owner` answer for a sector, or no layer at all.
    fn place(
        &mut self,
        spec: &DiskSpec,
        sector: u64,
        owner: Option<usize>,
        deepest: usize,
        rng: &mut Rng,
    ) {
        let above = owner.unwrap_or(deepest + 1);
        for layer in &mut self.layers[..above] {
            layer.kinds[sector as usize] = Kind::Absent;
        }
        if let Some(owner) = owner {
            let size = spec.sector_size as usize;
            let at = sector as usize * size;
            let content = &spec.content[at..at + size];
            let kind = match is_zero(content) && rng.bool() {
                true => Kind::Zero,
                false => Kind::Data,
            };
            let layer = &mut self.layers[owner];
            layer.kinds[sector as usize] = kind;
            layer.content[at..at + size].copy_from_slice(content);
        }
    }
}

/// The lowest layer from which a sector can be seen: nothing is seen through a disk, nor beyond the end of a layer (L5).
fn deepest_visible(members: &[Member], sector: u64) -> usize {
    let mut deepest = 0;
    while let Member::Layer(_) = members[deepest]
        && let Some(next) = members.get(deepest + 1)
        && sector < next.sector_count()
    {
        deepest += 1;
    }
    deepest
}

impl LayerPlan {
    /// Random data, zeros and absent sectors.
    fn random(member: Member, sector_size: u32, rng: &mut Rng) -> Self {
        let sector_count = member.sector_count() as usize;
        let mut content = vec![0; sector_count * sector_size as usize];
        rng.fill(&mut content);
        let mut kind = Kind::Data;
        let kinds = (0..sector_count).map(|_| {
            if rng.u8(0..4) == 0 {
                kind = [Kind::Absent, Kind::Zero, Kind::Data][rng.usize(0..3)];
            }
            kind
        });
        Self {
            sector_size,
            kinds: kinds.collect(),
            content,
            seed: rng.u64(..),
        }
    }

    /// Some of the sectors of what lies below, or all of them, if the member is a disk.
    fn copy(member: Member, lower: &DiskSpec, rng: &mut Rng) -> Self {
        let mut copy = Self::random(member, lower.sector_size, rng);
        let size = lower.sector_size as usize;
        let both = copy.sector_count().min(lower.sector_count);
        let len = both as usize * size;
        copy.content[..len].copy_from_slice(&lower.content[..len]);
        for (sector, kind) in (0..both).zip(&mut copy.kinds) {
            let is_absent = *kind == Kind::Absent && matches!(member, Member::Layer(_));
            *kind = match lower.is_zero(sector) {
                _ if is_absent => Kind::Absent,
                true if *kind == Kind::Zero => Kind::Zero,
                _ => Kind::Data,
            };
        }
        copy
    }

    /// The size in sectors.
    pub fn sector_count(&self) -> u64 {
        self.kinds.len() as u64
    }

    /// The size of a sector in bytes.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Fills a fresh layer by its own methods.
    ///
    /// # Errors
    /// Those of the layer.
    pub async fn fill_layer(&self, layer: &impl LayerIo) -> Result<(), DiskError> {
        for run in self.runs() {
            let (start, count) = (run.start as u64, run.len() as u64);
            match self.kinds[run.start] {
                Kind::Absent => {}
                Kind::Data => {
                    let buffers = HostBuffers::from_ref(self.bytes(run));
                    layer.write(&buffers.buffers(), start, false).await?;
                }
                Kind::Zero => {
                    layer
                        .write_zeroes(start, count, false, true, false, false)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// The disk to make, for a layer that is one.
    pub fn disk_spec(&self, is_read_only: bool) -> DiskSpec {
        let mut content = self.content.clone();
        for (kind, bytes) in self
            .kinds
            .iter()
            .zip(content.chunks_exact_mut(self.sector_size as usize))
        {
            if *kind != Kind::Data {
                bytes.fill(0);
            }
        }
        DiskSpec {
            is_read_only,
            content,
            seed: self.seed,
            ..DiskSpec::new(self.sector_count(), self.sector_size)
        }
    }

    /// Runs of sectors of one kind.
    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        self.kinds.chunk_by(|a, b| a == b).map(move |run| {
            let start = at;
            at += run.len();
            start..at
        })
    }

    fn bytes(&self, sectors: Range<usize>) -> &[u8] {
        let size = self.sector_size as usize;
        &self.content[sectors.start * size..sectors.end * size]
    }
}
