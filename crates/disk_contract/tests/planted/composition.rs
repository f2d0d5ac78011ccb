//! A plain way to make a disk of layers, and the ways in which it can be wrong.

use disk_backend::{DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_contract::{ComposedLayer, ScriptedLayer};
use disk_layered::{LayerIo, SectorBitmap, SectorMarker, WriteNoOverwrite};
use event_listener::Event;
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Inspect;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

const SECTOR_BYTES: usize = 512;

/// What is wrong with a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StackedFault {
    /// Nothing but that a change which is dropped half way stays half done.
    HalfChanges,
    /// A cache is filled from the memory of the request.
    FillsFromRequestMemory,
    /// Each copy is written from the memory of the request.
    FetchesTwice,
    /// A fill writes over what is there by now.
    FillOverwrites,
    /// An unmap makes absent what has nothing below it, and so does not hide what a fill brings from before.
    UnmapUncoversFill,
    /// An unmap does nothing to copies that ignore it.
    SkipsIgnoringCopies,
    /// A copy stays as it is when a layer below has failed.
    KeepsStaleCopies,
    /// The lowest layer is written first.
    BottomFirst,
    /// Reads see a change that may still fail.
    ReadsDuringChanges,
    /// What a lower layer has lost shows again when it grows.
    ShowsWhatGrewBack,
    /// What is written goes to the topmost cache.
    CacheTakesWrites,
}

/// See [`StackedFault`].
#[derive(Debug)]
pub(crate) struct PlantedStack {
    fault: StackedFault,
    layers: Vec<ComposedLayer>,
    smallest_sector_counts: Vec<AtomicU64>,
    change_count: AtomicU64,
    change_ended: Event,
}

/// A change that is going on, until this is dropped.
struct Changing<'a>(&'a PlantedStack);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.change_count.fetch_sub(1, Ordering::SeqCst);
        self.0.change_ended.notify(usize::MAX);
    }
}

/// What is done to a layer.
enum Change<'a> {
    Write(&'a RequestBuffers<'a>),
    Zero,
    Unmap,
}

impl PlantedStack {
    pub(crate) fn new(layers: Vec<ComposedLayer>, fault: StackedFault) -> Self {
        let counts = layers.iter().map(|layer| layer.layer.sector_count());
        Self {
            fault,
            smallest_sector_counts: counts.map(AtomicU64::new).collect(),
            layers,
            change_count: AtomicU64::new(0),
            change_ended: Event::new(),
        }
    }

    fn has(&self, fault: StackedFault) -> bool {
        self.fault == fault
    }

    fn visible_sector_count(&self, index: usize) -> u64 {
        let now = self.layers[index].layer.sector_count();
        let smallest = self.smallest_sector_counts[index].fetch_min(now, Ordering::SeqCst);
        match self.has(StackedFault::ShowsWhatGrewBack) {
            true => now,
            false => smallest.min(now),
        }
    }

    /// The layers that take what is written, top first.
    fn written(&self) -> Vec<&ScriptedLayer> {
        let cache = self.layers.iter().position(|layer| layer.read_cache);
        let through = self.layers.iter().take_while(|layer| layer.write_through);
        let through_count = through.count();
        match cache {
            Some(cache) if self.has(StackedFault::CacheTakesWrites) && through_count == 0 => {
                vec![&self.layers[cache].layer]
            }
            _ => {
                let written = self.layers[..=through_count].iter();
                written.map(|layer| &layer.layer).collect()
            }
        }
    }

    async fn until_no_change(&self) {
        while !self.has(StackedFault::ReadsDuringChanges) {
            let listener = self.change_ended.listen();
            if self.change_count.load(Ordering::SeqCst) == 0 {
                return;
            }
            listener.await;
        }
    }

    async fn change(&self, range: Range<u64>, change: Change<'_>) -> Result<(), DiskError> {
        self.change_count.fetch_add(1, Ordering::SeqCst);
        let _changing = Changing(self);
        let mut written = self.written();
        if self.has(StackedFault::BottomFirst) {
            written.reverse();
        }
        let copies = written[..written.len() - 1].to_vec();
        for (index, layer) in written.into_iter().enumerate() {
            if let Err(error) = self.apply(layer, range.clone(), &change).await {
                if !self.has(StackedFault::KeepsStaleCopies) {
                    for copy in &copies[..copies.len().min(index + 1)] {
                        copy.evict(range.start, range.end - range.start).await?;
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn apply(
        &self,
        layer: &ScriptedLayer,
        range: Range<u64>,
        change: &Change<'_>,
    ) -> Result<(), DiskError> {
        let (start, count) = (range.start, range.end - range.start);
        let lower_end = match self.layers.len() {
            1 => 0,
            _ => self.visible_sector_count(1),
        };
        let uncovers = self.has(StackedFault::UnmapUncoversFill) && lower_end < range.end;
        let zeroes = layer.unmap_behavior() == UnmapBehavior::Zeroes;
        match change {
            Change::Write(buffers) => layer.write(buffers, start, false).await,
            Change::Unmap if zeroes || self.has(StackedFault::SkipsIgnoringCopies) => {
                layer.unmap(start, count, false, uncovers).await
            }
            Change::Unmap | Change::Zero => {
                layer
                    .write_zeroes(start, count, false, true, false, uncovers)
                    .await
            }
        }
    }

    /// The content of some sectors, and for each the layer that it comes from.
    async fn gather(&self, range: Range<u64>) -> Result<(Vec<u8>, Vec<usize>), DiskError> {
        let count = (range.end - range.start) as usize;
        let mut bytes = vec![0; count * SECTOR_BYTES];
        let mut found = vec![usize::MAX; count];
        let mut end = range.end;
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                end = end.min(self.visible_sector_count(index)).max(range.start);
            }
            let asked = (end - range.start) as usize;
            let mut part = vec![0; asked * SECTOR_BYTES];
            let mut present = SectorBitmap::new(asked);
            if asked == 0 || !found[..asked].contains(&usize::MAX) {
                break;
            }
            let host = HostBuffers::from_mut(&mut part);
            let marker = SectorMarker::new(&mut present, range.start, range.start..end);
            layer
                .layer
                .read(&host.buffers(), range.start, marker)
                .await?;
            drop(host);
            for (at, found) in found.iter_mut().enumerate().take(asked) {
                let is_absent = present
                    .next_clear_run(at)
                    .is_some_and(|run| run.start == at);
                if *found == usize::MAX && !is_absent {
                    *found = index;
                    let place = at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES;
                    bytes[place.clone()].copy_from_slice(&part[place]);
                }
            }
        }
        Ok((bytes, found))
    }

    async fn fill(&self, sector: u64, at: usize, part: &RequestBuffers<'_>, found: usize) {
        let above = self.layers[..found].iter();
        for cache in above.filter(|layer| layer.read_cache) {
            let sector = sector + at as u64;
            if sector >= cache.layer.sector_count() {
                continue;
            }
            // A cache that cannot be filled is only slow.
            let _ = match self.has(StackedFault::FillOverwrites) {
                true => cache.layer.write(part, sector, false).await,
                false => {
                    let fill = cache.layer.write_no_overwrite().unwrap();
                    fill.write_no_overwrite(part, sector).await
                }
            };
        }
    }
}

impl DiskIo for PlantedStack {
    fn disk_type(&self) -> &str {
        "planted"
    }

    fn sector_count(&self) -> u64 {
        self.layers[0].layer.sector_count()
    }

    fn sector_size(&self) -> u32 {
        SECTOR_BYTES as u32
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        SECTOR_BYTES as u32
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn unmap(&self, sector: u64, count: u64, _hint: bool) -> Result<(), DiskError> {
        self.change(sector..sector + count, Change::Unmap).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        let written = self.written();
        let truth = written.last().expect("there is the top").unmap_behavior();
        match truth {
            UnmapBehavior::Unspecified if written.len() > 1 => UnmapBehavior::Zeroes,
            behavior => behavior,
        }
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.until_no_change().await;
        let range = sector..sector + (buffers.len() / SECTOR_BYTES) as u64;
        let (bytes, found) = self.gather(range).await?;
        buffers.writer().write(&bytes)?;
        for (at, found) in found.into_iter().enumerate() {
            if found == usize::MAX {
                continue;
            }
            let host = HostBuffers::from_ref(&bytes[at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES]);
            let part = match self.has(StackedFault::FillsFromRequestMemory) {
                true => buffers.subrange(at * SECTOR_BYTES, SECTOR_BYTES),
                false => host.buffers(),
            };
            self.fill(sector, at, &part, found).await;
        }
        Ok(())
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        let range = sector..sector + (buffers.len() / SECTOR_BYTES) as u64;
        if self.has(StackedFault::FetchesTwice) {
            return self.change(range, Change::Write(buffers)).await;
        }
        let mut data = vec![0; buffers.len()];
        buffers.reader().read(&mut data)?;
        let host = HostBuffers::from_ref(&data);
        self.change(range, Change::Write(&host.buffers())).await
    }

    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        _fua: bool,
        _may_unmap: bool,
        _no_fallback: bool,
    ) -> Result<(), DiskError> {
        self.change(sector..sector + count, Change::Zero).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn wait_resize(&self, _sector_count: u64) -> u64 {
        std::future::pending().await
    }
}

impl Inspect for PlantedStack {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond();
    }
}
