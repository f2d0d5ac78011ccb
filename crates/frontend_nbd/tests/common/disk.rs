//! A disk that does what a test says: holds requests until they are released, fails, panics, and tells what it was asked.

use super::DEADLINE;
use disk_backend::{
    BlockExtent, BlockState, BlockStatus, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use futures_lite::future::yield_now;
use guestmem::{MemoryRead, MemoryWrite};
use inspect::Inspect;
use parking_lot::{Condvar, Mutex};
use scsi_buffers::RequestBuffers;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Zero,
    Unmap,
    Flush,
    Status,
}

/// A request as it reached the disk; of a flush only the kind matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) sector: u64,
    pub(crate) count: u64,
    pub(crate) fua: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Plan {
    Do,
    /// Lets others go first.
    Yield,
    /// Waits for [`TestDisk::release`].
    Hold,
    Fail(DiskError),
    Panic,
}

/// What a disk is.
#[derive(Debug, Clone)]
pub(crate) struct Traits {
    pub(crate) sector_size: u32,
    pub(crate) physical_sector_size: u32,
    pub(crate) sector_count: u64,
    pub(crate) is_fua_respected: bool,
    pub(crate) is_read_only: bool,
    /// Zeros are written faster than data.
    pub(crate) zeroes_fast: bool,
    pub(crate) unmap_behavior: UnmapBehavior,
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            sector_size: 512,
            physical_sector_size: 4096,
            sector_count: 2048,
            is_fua_respected: true,
            is_read_only: false,
            zeroes_fast: true,
            unmap_behavior: UnmapBehavior::Zeroes,
        }
    }
}

type Planner = Box<dyn FnMut(&Op) -> Plan + Send>;

/// The disk, and the test's hold on it.
#[derive(Clone)]
pub(crate) struct TestDisk(Arc<Inner>);

struct Inner {
    traits: Traits,
    state: Mutex<State>,
    /// Notified when a request begins to be held.
    held: Condvar,
}

struct State {
    data: Vec<u8>,
    sectors: Vec<BlockState>,
    planner: Planner,
    log: Vec<Op>,
    gates: Vec<Gate>,
    next_gate: u64,
    bytes_in_flight: usize,
    bytes_in_flight_max: usize,
}

/// A request that is held.
struct Gate {
    number: u64,
    op: Op,
    is_open: bool,
    waker: Option<Waker>,
}

/// The sectors behind these are not kept: they can be cleared, and that is all.
const KEPT_SECTORS_MAX: u64 = 1 << 19;

impl TestDisk {
    /// A disk of 1 MiB of holes that does everything at once.
    pub(crate) fn new() -> Self {
        Self::with(Traits::default())
    }

    pub(crate) fn with(traits: Traits) -> Self {
        let sector_count = traits.sector_count.min(KEPT_SECTORS_MAX) as usize;
        let state = State {
            data: vec![0; sector_count * traits.sector_size as usize],
            sectors: vec![BlockState::Hole; sector_count],
            planner: Box::new(|_| Plan::Do),
            log: Vec::new(),
            gates: Vec::new(),
            next_gate: 0,
            bytes_in_flight: 0,
            bytes_in_flight_max: 0,
        };
        Self(Arc::new(Inner {
            traits,
            state: Mutex::new(state),
            held: Condvar::new(),
        }))
    }

    pub(crate) fn disk(&self) -> Disk {
        Disk::new(self.clone()).expect("a disk")
    }

    /// Asks `planner` about every request from now on.
    pub(crate) fn plan(&self, planner: impl FnMut(&Op) -> Plan + Send + 'static) {
        self.0.state.lock().planner = Box::new(planner);
    }

    /// Holds all requests of `kind` from now on.
    pub(crate) fn hold_all(&self, kind: Kind) {
        self.plan(move |op| {
            if op.kind == kind {
                Plan::Hold
            } else {
                Plan::Do
            }
        });
    }

    /// Waits until exactly `count` requests are held.
    pub(crate) fn wait_for_held(&self, count: usize) {
        let mut state = self.0.state.lock();
        while state.gates.len() != count {
            let waited = self.0.held.wait_for(&mut state, DEADLINE);
            let gates = state.gates.len();
            assert!(
                !waited.timed_out(),
                "{gates} requests are held, not {count}"
            );
        }
    }

    /// Lets those requests go on that are held and match.
    pub(crate) fn release(&self, matches: impl Fn(&Op) -> bool) {
        let mut wakers = Vec::new();
        for gate in &mut self.0.state.lock().gates {
            if matches(&gate.op) {
                gate.is_open = true;
                wakers.extend(gate.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Holds nothing any more.
    pub(crate) fn release_all(&self) {
        self.plan(|_| Plan::Do);
        self.release(|_| true);
    }

    pub(crate) fn log(&self) -> Vec<Op> {
        self.0.state.lock().log.clone()
    }

    pub(crate) fn count_of(&self, kind: Kind) -> usize {
        self.log().iter().filter(|op| op.kind == kind).count()
    }

    pub(crate) fn clear_log(&self) {
        self.0.state.lock().log.clear();
    }

    /// The most bytes that reads and writes were about at any one time.
    pub(crate) fn bytes_in_flight_max(&self) -> usize {
        self.0.state.lock().bytes_in_flight_max
    }

    /// Everything on the disk.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.0.state.lock().data.clone()
    }

    pub(crate) fn set_content(&self, offset: usize, data: &[u8]) {
        let first = offset / self.0.traits.sector_size as usize;
        let last = (offset + data.len() - 1) / self.0.traits.sector_size as usize;
        let mut state = self.0.state.lock();
        state.data[offset..offset + data.len()].copy_from_slice(data);
        state.sectors[first..=last].fill(BlockState::Data);
    }

    /// How many owners the disk has besides the caller.
    pub(crate) fn other_owner_count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Does to a request what the test wants, before it is done.
    async fn pass(&self, kind: Kind, sector: u64, count: u64, fua: bool) -> Result<(), DiskError> {
        let op = Op {
            kind,
            sector,
            count,
            fua,
        };
        let plan = {
            let mut state = self.0.state.lock();
            state.log.push(op);
            (state.planner)(&op)
        };
        match plan {
            Plan::Do => Ok(()),
            Plan::Yield => {
                yield_now().await;
                Ok(())
            }
            Plan::Hold => {
                self.held(op).await;
                Ok(())
            }
            Plan::Fail(error) => Err(error),
            Plan::Panic => panic!("planned: {op:?}"),
        }
    }

    async fn held(&self, op: Op) {
        let number = {
            let mut state = self.0.state.lock();
            state.next_gate += 1;
            let number = state.next_gate;
            state.gates.push(Gate {
                number,
                op,
                is_open: false,
                waker: None,
            });
            number
        };
        let _leave = Leave { disk: self, number };
        self.0.held.notify_all();
        poll_fn(|cx| {
            let mut state = self.0.state.lock();
            let gate = state.gates.iter_mut().find(|gate| gate.number == number);
            let gate = gate.expect("it stays until this ends");
            if gate.is_open {
                return Poll::Ready(());
            }
            gate.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn begin_bytes(&self, len: usize) -> InFlight<'_> {
        let mut state = self.0.state.lock();
        state.bytes_in_flight += len;
        state.bytes_in_flight_max = state.bytes_in_flight_max.max(state.bytes_in_flight);
        InFlight { disk: self, len }
    }

    fn bytes(&self, sector: u64, count: u64) -> Range<usize> {
        let size = self.0.traits.sector_size as usize;
        sector as usize * size..(sector + count) as usize * size
    }

    fn clear(&self, sector: u64, count: u64, state_then: BlockState) {
        let end = (sector + count).min(KEPT_SECTORS_MAX);
        let sector = sector.min(end);
        let bytes = self.bytes(sector, end - sector);
        let mut state = self.0.state.lock();
        state.data[bytes].fill(0);
        state.sectors[sector as usize..end as usize].fill(state_then);
    }

    fn count(&self, buffers: &RequestBuffers<'_>) -> u64 {
        buffers.len() as u64 / u64::from(self.0.traits.sector_size)
    }
}

struct Leave<'a> {
    disk: &'a TestDisk,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let gates = &mut self.disk.0.state.lock().gates;
        gates.retain(|gate| gate.number != self.number);
        self.disk.0.held.notify_all();
    }
}

struct InFlight<'a> {
    disk: &'a TestDisk,
    len: usize,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.disk.0.state.lock().bytes_in_flight -= self.len;
    }
}

impl Inspect for TestDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond().field("is_for_tests", &true);
    }
}

impl DiskIo for TestDisk {
    fn disk_type(&self) -> &str {
        "test"
    }
    fn sector_count(&self) -> u64 {
        self.0.traits.sector_count
    }
    fn sector_size(&self) -> u32 {
        self.0.traits.sector_size
    }
    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }
    fn physical_sector_size(&self) -> u32 {
        self.0.traits.physical_sector_size
    }
    fn is_fua_respected(&self) -> bool {
        self.0.traits.is_fua_respected
    }
    fn is_read_only(&self) -> bool {
        self.0.traits.is_read_only
    }
    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }
    async fn unmap(&self, sector: u64, count: u64, _: bool) -> Result<(), DiskError> {
        self.pass(Kind::Unmap, sector, count, false).await?;
        self.clear(sector, count, BlockState::Hole);
        Ok(())
    }
    fn unmap_behavior(&self) -> UnmapBehavior {
        self.0.traits.unmap_behavior
    }
    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let count = self.count(buffers);
        let _in_flight = self.begin_bytes(buffers.len());
        self.pass(Kind::Read, sector, count, false).await?;
        let bytes = self.bytes(sector, count);
        Ok(buffers.writer().write(&self.0.state.lock().data[bytes])?)
    }
    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let count = self.count(buffers);
        let _in_flight = self.begin_bytes(buffers.len());
        self.pass(Kind::Write, sector, count, fua).await?;
        let bytes = self.bytes(sector, count);
        let mut state = self.0.state.lock();
        buffers.reader().read(&mut state.data[bytes])?;
        state.sectors[sector as usize..(sector + count) as usize].fill(BlockState::Data);
        Ok(())
    }
    async fn write_zeroes(
        &self,
        sector: u64,
        count: u64,
        fua: bool,
        may_unmap: bool,
        no_fallback: bool,
    ) -> Result<(), DiskError> {
        if no_fallback && !self.0.traits.zeroes_fast {
            return Err(DiskError::Unsupported);
        }
        self.pass(Kind::Zero, sector, count, fua).await?;
        let state_then = match may_unmap {
            true => BlockState::Hole,
            false => BlockState::Zero,
        };
        self.clear(sector, count, state_then);
        Ok(())
    }
    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.pass(Kind::Flush, 0, 0, false).await
    }
    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.pass(Kind::Status, sector, count, false).await?;
        let state = self.0.state.lock();
        let mut status = BlockStatus::default();
        for state in &state.sectors[sector as usize..(sector + count) as usize] {
            let extent = BlockExtent {
                sector_count: 1,
                state: *state,
                layer: None,
            };
            if !status.push(extent) {
                break;
            }
        }
        Ok(status)
    }
    async fn wait_resize(&self, _: u64) -> u64 {
        std::future::pending().await
    }
}
