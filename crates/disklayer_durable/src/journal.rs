//! The log, the superblocks, and the order in which they and the pages are written.
//!
//! Invariants, which the format's document gives reasons for:
//! - D1: an image that says of a sector that its data is there is written into the log only after a flush of the store that began when
//!   the data had been written, or with a copy of the data (K1).
//! - D2: a page is written in its place only while the log holds an image of it that is durable and not older.
//! - D3: the log begins anew only when the pages are durable in their places; what it held is written over only when both superblocks say
//!   so, each made durable before the other is written.
//! - D4: while it is not known what the superblocks say, because writing them failed, nothing is added to the log.
//! - D5: sequence numbers are never used again, also those of entries whose writing failed: what is left of these is older than what
//!   is written before it, and so is not believed.
//! - D6: nothing rests on what opening has found before a flush has made that durable.
//! - D7: one job runs at a time, each an operation that whoever waits for it can finish.
//! - D8: an entry says how much of the log is durable before it is written. None of that is written over before the log begins anew.
//! - D9: a layer is said to be closed only while no change is under way. Who changes something registers first, and then looks whether it
//!   is in use; who closes says first that it is not, and then looks whether somebody has registered.
//! - D10: copies of data count in the last entry only. While that has some, nothing that is written over data is durable without another
//!   entry: a flush writes one, and a durable write takes a flush.
//! - D11: what a crash has left in the last entry's copies is what the sectors hold, until that is put in their places: before the first change.

use crate::copies::Copy;
use crate::core::{Core, Sizes, other, write_bytes};
use crate::emptied::Emptied;
use crate::format::{
    BLOCK_BYTES, Binding, CopyOf, Entry, IMAGES_BESIDE_COPIES_MAX, IMAGES_MAX, PageContent,
    SUPERBLOCK_OFFSETS, Superblock, decode_page, encode_page,
};
use crate::joint::Joint;
use crate::page::Work;
use crate::patches::Patches;
use crate::snapshot::{Snapped, Snapshot};
use disk_backend::DiskError;
use guestmem::MemoryRead;
use operation::Operation;
use parking_lot::Mutex;
use planted::Bug;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Where the latest image of a page is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImagePlace {
    /// Of which log: none of another is at the same place.
    pub(crate) log_generation: u64,
    pub(crate) block: u32,
}

/// See the head of this module.
#[derive(Debug)]
pub(crate) struct Journal {
    images: Mutex<HashMap<u64, ImagePlace>>,
    /// The stripes of dirty pages.
    dirty: Mutex<BTreeSet<u64>>,
    /// The stripes that are open (V4), which verified layers have.
    pub(crate) open: Mutex<BTreeSet<u64>>,
    /// How many flushes there have been.
    pub(crate) flushes: AtomicU64,
    /// After how many without a write an open stripe is closed.
    pub(crate) close_after_flushes: u64,
    /// Whether the next flush closes all it can.
    pub(crate) closes_all: AtomicBool,
    /// Whether the store says that the layer is in use.
    is_in_use: AtomicBool,
    /// How many changes are under way (D9).
    changes: AtomicUsize,
    state: Mutex<State>,
    queue: Mutex<Queue>,
    /// What was cleared, and whose record is durable: may be punched.
    pub(crate) emptied: Mutex<Emptied>,
    /// Whether the last entry has copies of data (D10).
    has_copies: AtomicBool,
    /// Of what a crash has left (D11), and whether there is any.
    patches: Mutex<Option<Arc<Patches>>>,
    is_patched: AtomicBool,
}

/// What only the job that runs changes.
#[derive(Debug, Clone)]
struct State {
    superblock: Superblock,
    /// Which copy of the superblock is written first: not the one that was made durable last, which is right for certain.
    first_copy: usize,
    /// How many blocks of the log are used.
    position: u32,
    /// The last that was used.
    sequence: u64,
    /// What the store says of sizes.
    logged: Sizes,
    /// D4
    is_unsure: bool,
    /// Whether the layer lies on something else than the store says.
    is_rebound: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// The job that was queued last.
    tail: Option<Arc<Work>>,
    /// A flush that has not begun.
    joinable: Option<Arc<Joint>>,
}

/// What recovery found in the log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) images: HashMap<u64, ImagePlace>,
    pub(crate) position: u32,
    pub(crate) sequence: u64,
    pub(crate) sizes: Sizes,
    pub(crate) patches: Patches,
}

/// A change that is under way.
pub(crate) struct Change<'a>(&'a Journal);

impl Journal {
    pub(crate) fn new(
        superblock: Superblock,
        first_copy: usize,
        recovered: Recovered,
        close_after_flushes: u64,
    ) -> Self {
        let state = State {
            superblock,
            first_copy,
            position: recovered.position,
            sequence: recovered.sequence,
            logged: recovered.sizes,
            is_unsure: false,
            is_rebound: false,
        };
        let patches = (!recovered.patches.is_empty()).then(|| Arc::new(recovered.patches));
        Self {
            images: Mutex::new(recovered.images),
            dirty: Mutex::default(),
            open: Mutex::default(),
            flushes: AtomicU64::new(0),
            close_after_flushes: close_after_flushes.max(1),
            closes_all: AtomicBool::new(false),
            is_in_use: AtomicBool::new(false),
            changes: AtomicUsize::new(0),
            state: Mutex::new(state),
            queue: Mutex::default(),
            emptied: Mutex::default(),
            has_copies: AtomicBool::new(false),
            is_patched: AtomicBool::new(patches.is_some()),
            patches: Mutex::new(patches),
        }
    }

    pub(crate) fn superblock(&self) -> Superblock {
        self.state.lock().superblock
    }

    /// Records what the layer lies on, with the next superblock: that of the first change, before it is made, or of a clean end.
    pub(crate) fn bind(&self, binding: Binding) {
        let mut state = self.state.lock();
        state.is_rebound |= state.superblock.binding != binding;
        state.superblock.binding = binding;
    }

    fn is_rebound(&self) -> bool {
        self.state.lock().is_rebound
    }

    pub(crate) fn image_of(&self, stripe: u64) -> Option<ImagePlace> {
        self.images.lock().get(&stripe).copied()
    }

    pub(crate) fn note_dirty(&self, stripe: u64) {
        self.dirty.lock().insert(stripe);
    }

    /// The stripes of dirty pages, which are none any more.
    pub(crate) fn take_dirty(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.dirty.lock())
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.lock().len()
    }

    /// How many pages must stay in memory: some that are dirty and open count twice.
    pub(crate) fn held_count(&self) -> usize {
        self.dirty_count() + self.open.lock().len()
    }

    /// Lets the next flush close what is open (V4).
    pub(crate) fn close_all(&self) {
        self.closes_all.store(true, Ordering::Relaxed);
    }

    /// What the store says of sizes.
    pub(crate) fn logged(&self) -> Sizes {
        self.state.lock().logged
    }

    /// Whether the store says that the layer is in use.
    pub(crate) fn is_in_use(&self) -> bool {
        self.is_in_use.load(Ordering::SeqCst)
    }

    /// Whether what is written over data is durable by itself, if it was on record before (D10). To be asked with its page locked.
    pub(crate) fn is_plain(&self) -> bool {
        !self.has_copies.load(Ordering::SeqCst)
    }

    /// What is not in its place (D11). Whoever reads asks before: so the sectors hold that at an instant of the read, whatever comes.
    pub(crate) fn patches(&self) -> Option<Arc<Patches>> {
        match self.is_patched() {
            true => self.patches.lock().clone(),
            false => None,
        }
    }

    pub(crate) fn is_patched(&self) -> bool {
        self.is_patched.load(Ordering::Acquire)
    }

    /// Whether an entry with so many images and blocks of copies has room in the log, as it is now.
    fn has_room(&self, images: usize, copy_blocks: usize) -> bool {
        let state = self.state.lock();
        let room = state.superblock.layout.log_blocks - state.position;
        images <= IMAGES_BESIDE_COPIES_MAX && 1 + images + copy_blocks <= room as usize
    }

    /// Registers a change, before it is asked whether the layer is in use (D9).
    pub(crate) fn begin_change(&self) -> Change<'_> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        Change(self)
    }

    /// The last job, if it is not over.
    pub(crate) fn unfinished(&self) -> Option<Arc<Work>> {
        let queue = self.queue.lock();
        queue.tail.clone().filter(|tail| !tail.is_done())
    }

    pub(crate) fn abandon(&self) -> Vec<Arc<Work>> {
        let mut queue = self.queue.lock();
        let flush = queue.joinable.take().map(|flush| Arc::clone(&flush.work));
        queue.tail.take().into_iter().chain(flush).collect()
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Queue {
    fn push(&mut self, body: operation::Body<Result<(), DiskError>>) -> Arc<Work> {
        let earlier = self.tail.take().into_iter().collect();
        let work = Operation::new(earlier, body);
        self.tail = Some(Arc::clone(&work));
        work
    }
}

/// Makes durable what completed before the call (C5): with others that came before the flush began.
pub(crate) async fn flush(core: &Arc<Core>) -> Result<(), DiskError> {
    let result = join(core).finish().await;
    result.unwrap_or_else(|| Err(other("the flush panicked in another request")))
}

/// A flush that has not begun.
fn join(core: &Arc<Core>) -> Arc<Joint> {
    let mut queue = core.journal.queue.lock();
    if let Some(flush) = &queue.joinable {
        return Arc::clone(flush);
    }
    let flush = Joint::new(|outcome| {
        let core = Arc::clone(core);
        queue.push(Box::pin(async move {
            // Nobody else begins a flush that can be joined while this one is waited for.
            core.journal.queue.lock().joinable = None;
            let result = flush_now(&core).await;
            *outcome.lock() = Some(result);
            Ok(())
        }))
    });
    queue.joinable = Some(Arc::clone(&flush));
    flush
}

/// Lets the store say that the layer is in use, before the first change.
pub(crate) async fn begin_use(core: &Arc<Core>) -> Result<(), DiskError> {
    while !core.journal.is_in_use() {
        let work = {
            let core_too = Arc::clone(core);
            let mut queue = core.journal.queue.lock();
            queue.push(Box::pin(async move { begin_use_now(&core_too).await }))
        };
        if let Some(result) = work.run().await {
            return result;
        }
    }
    Ok(())
}

/// Flushes, empties the log, and lets the store say that all is in its place: what a change that is not under way meanwhile takes back.
pub(crate) async fn close(core: &Arc<Core>) -> Result<(), DiskError> {
    let work = {
        let core_too = Arc::clone(core);
        let mut queue = core.journal.queue.lock();
        queue.push(Box::pin(async move {
            let core = core_too;
            core.journal.close_all();
            flush_now(&core).await?;
            if !core.journal.is_in_use() && !core.journal.is_rebound() {
                return Ok(());
            }
            // D9
            let is_in_use = &core.journal.is_in_use;
            is_in_use.store(false, Ordering::SeqCst);
            if core.journal.changes.load(Ordering::SeqCst) > 0 || core.journal.dirty_count() > 0 {
                is_in_use.store(true, Ordering::SeqCst);
                return Ok(());
            }
            renew(&core, |superblock| superblock.is_in_use = false).await
        }))
    };
    work.run()
        .await
        .unwrap_or_else(|| Err(other("the layer's last flush panicked")))
}

async fn begin_use_now(core: &Core) -> Result<(), DiskError> {
    if !core.journal.is_in_use() {
        renew(core, |superblock| superblock.is_in_use = true).await?;
        core.journal.is_in_use.store(true, Ordering::SeqCst);
    }
    Ok(())
}

async fn flush_now(core: &Core) -> Result<(), DiskError> {
    // First the sizes: what was cleared before the layer grew is then among the pages.
    let sizes = core.sizes();
    core.close_some_stripes();
    let mut snapshot = Snapshot::take(core);
    let mut copies = core.copies.take();
    let must_end_copies = !core.journal.is_plain() && !planted::is_active(Bug::StaleCopy);
    if snapshot.pages.is_empty() && sizes == core.journal.logged() && !must_end_copies {
        core.store.sync_cache().await?;
        copies.are_durable();
        return Ok(());
    }
    // D1. And a size is on record only when the store has grown to it.
    let has_store = sizes == core.journal.logged();
    let has_room = core
        .journal
        .has_room(snapshot.pages.len(), copies.block_count());
    let is_record_before_data = planted::is_active(Bug::RecordBeforeData);
    if copies.list().is_none() || !has_store || !has_room || is_record_before_data {
        copies.forget();
        if snapshot.pages.is_empty() || !is_record_before_data {
            core.store.sync_cache().await?;
        }
    }
    begin_use_now(core).await?;
    let list = copies.list().unwrap_or_default();
    append(core, &mut snapshot, sizes, list).await?;
    copies.are_durable();
    Ok(())
}

/// Puts the images of pages into the log, and makes them durable.
async fn append(
    core: &Core,
    snapshot: &mut Snapshot<'_>,
    sizes: Sizes,
    copies: &[Copy],
) -> Result<(), DiskError> {
    let mut state = core.journal.state.lock().clone();
    let mut position = state.position;
    let mut written = Vec::new();
    let mut next = 0;
    loop {
        let rest = snapshot.pages.len() - next;
        let room = state.superblock.layout.log_blocks - position;
        let is_full = room == 0 || room == 1 && rest > 0;
        if is_full || state.is_unsure {
            let end = End {
                position,
                sizes: None,
                has_copies: false,
            };
            confirm(core, snapshot, std::mem::take(&mut written), end).await?;
            next = 0;
            renew(core, |_| ()).await?;
            state = core.journal.state.lock().clone();
            position = 0;
            continue;
        }
        let count = rest.min(room as usize - 1).min(IMAGES_MAX);
        // What the last entry says of sizes holds only with all that came before it.
        let is_last = count == rest;
        let said = if is_last { sizes } else { state.logged };
        debug_assert!(
            is_last || copies.is_empty(),
            "K3: there is room for all of it"
        );
        let part = snapshot.pages.range(next..next + count);
        let sequence = core.journal.next_sequence();
        let (entry, block_count) = entry_of(core, &state, part, copies, sequence, said);
        write_bytes(&core.store, core.layout.log_offset(position), &entry).await?;
        let log_generation = state.superblock.log_generation;
        written.extend((0..count as u32).map(|index| ImagePlace {
            log_generation,
            block: position + 1 + index,
        }));
        next += count;
        position += block_count;
        if is_last {
            let end = End {
                position,
                sizes: Some(sizes),
                has_copies: !copies.is_empty(),
            };
            return confirm(core, snapshot, written, end).await;
        }
    }
}

/// The bytes of an entry, and how many blocks that is.
fn entry_of<'a>(
    core: &Core,
    state: &State,
    pages: impl Iterator<Item = &'a Snapped>,
    copies: &[Copy],
    sequence: u64,
    sizes: Sizes,
) -> (Vec<u8>, u32) {
    let mut entry = Entry {
        log_generation: state.superblock.log_generation,
        sequence,
        epoch: core.epoch,
        sector_count: sizes.sector_count,
        shown_below: sizes.shown_below,
        // D8
        durable_blocks: state.position,
        stripes: Vec::new(),
        copies: Vec::new(),
    };
    let mut bytes = vec![0; BLOCK_BYTES];
    for snapped in pages {
        let stripe = snapped.page.stripe;
        entry.stripes.push(stripe);
        bytes.extend(encode_page(core.epoch, stripe, sequence, &snapped.image));
    }
    let images_end = bytes.len();
    for copy in copies {
        let begin = bytes.len();
        bytes.resize(begin + copy.data.len(), 0);
        copy.data
            .buffers(false)
            .reader()
            .read(&mut bytes[begin..])
            .expect("it is as long");
        CopyOf::mix(&mut bytes[begin..], sequence);
        entry.copies.push(CopyOf::new(copy.sector, &bytes[begin..]));
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    let header = entry.encode(&bytes[BLOCK_BYTES..images_end]);
    bytes[..BLOCK_BYTES].copy_from_slice(&header);
    (bytes, entry.block_count() as u32)
}

/// Where entries end, and what the last one said.
struct End {
    position: u32,
    /// If it was the last of a flush.
    sizes: Option<Sizes>,
    has_copies: bool,
}

/// Makes entries durable: the pages whose images they are, the first of the snapshot, are clean.
async fn confirm(
    core: &Core,
    snapshot: &mut Snapshot<'_>,
    written: Vec<ImagePlace>,
    end: End,
) -> Result<(), DiskError> {
    if written.is_empty() && end.sizes.is_none() {
        return Ok(());
    }
    if !planted::is_active(Bug::MissingFlush) {
        core.store.sync_cache().await?;
    }
    let mut state = core.journal.state.lock();
    state.position = end.position;
    state.logged = end.sizes.unwrap_or(state.logged);
    drop(state);
    // Before the pages are clean (D10).
    core.journal
        .has_copies
        .store(end.has_copies, Ordering::SeqCst);
    for image in written {
        let snapped = snapshot.pages.pop_front().expect("each image is of a page");
        let stripe = snapped.page.stripe;
        core.journal.images.lock().insert(stripe, image);
        let mut inner = snapped.page.lock();
        inner.is_logging = false;
        if let (Some(verified), Some(said)) = (&mut inner.verified, &snapped.image.sums) {
            verified.confirm(said);
        }
        drop(inner);
        core.journal.emptied.lock().add(stripe, snapped.emptied);
    }
    Ok(())
}

/// Empties the log: writes the pages whose images it holds in their places (D2), and the superblocks (D3).
async fn renew(core: &Core, change: impl FnOnce(&mut Superblock)) -> Result<(), DiskError> {
    let mut images: Vec<_> = {
        let images = core.journal.images.lock();
        images
            .iter()
            .map(|(stripe, image)| (*stripe, *image))
            .collect()
    };
    images.sort_unstable_by_key(|(stripe, _)| *stripe);
    // What was found when the layer was opened may be what another process wrote, and did not flush.
    if !core.journal.is_in_use() {
        core.store.sync_cache().await?;
    }
    // D11
    let patches = core.journal.patches();
    if let Some(patches) = &patches {
        for (offset, bytes) in patches.places(&core.layout) {
            write_bytes(&core.store, offset, bytes).await?;
        }
    }
    for (stripe, image) in &images {
        let block = core.read_block(core.layout.log_offset(image.block)).await?;
        let content = decode_page(&block, core.epoch, *stripe, &core.layout);
        if !matches!(content, PageContent::Image(_)) {
            return Err(other("an image in the log is damaged; check the layer"));
        }
        write_bytes(&core.store, core.layout.page_offset(*stripe), &block[..]).await?;
    }
    if !images.is_empty() || patches.is_some() {
        core.store.sync_cache().await?;
    }
    let (superblock, first_copy) = {
        let mut state = core.journal.state.lock();
        state.superblock.generation += 1;
        // D4
        state.is_unsure = true;
        let mut superblock = state.superblock;
        superblock.log_generation = superblock.generation;
        superblock.log_sequence = state.sequence;
        superblock.sector_count = state.logged.sector_count;
        superblock.shown_below = state.logged.shown_below;
        change(&mut superblock);
        (superblock, state.first_copy)
    };
    write_superblocks(core, &superblock, first_copy).await?;
    // D3: whoever looks for an image finds none before the log is written over.
    core.journal.images.lock().clear();
    core.journal.has_copies.store(false, Ordering::SeqCst);
    core.journal.is_patched.store(false, Ordering::Release);
    core.journal.patches.lock().take();
    let mut state = core.journal.state.lock();
    state.superblock = superblock;
    state.position = 0;
    state.is_unsure = false;
    state.is_rebound = false;
    Ok(())
}

async fn write_superblocks(
    core: &Core,
    superblock: &Superblock,
    first_copy: usize,
) -> Result<(), DiskError> {
    let block = superblock.encode();
    for copy in [first_copy, 1 - first_copy] {
        write_bytes(&core.store, SUPERBLOCK_OFFSETS[copy], &block).await?;
        if copy == first_copy && planted::is_active(Bug::TornSuperblock) {
            continue;
        }
        core.store.sync_cache().await?;
        // That one is right now, whatever becomes of the other.
        core.journal.state.lock().first_copy = 1 - copy;
    }
    Ok(())
}

impl Journal {
    /// D5
    fn next_sequence(&self) -> u64 {
        let mut state = self.state.lock();
        state.sequence += 1;
        state.sequence
    }
}
