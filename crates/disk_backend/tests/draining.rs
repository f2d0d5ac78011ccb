//! When a request is in flight, and what `drain` waits for.

mod recording;

use allocation_counter::measure;
use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use event_listener::Event;
use futures_lite::future::{block_on, poll_once};
use recording::{Record, RecordingDisk};
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn is_pending(future: Pin<&mut impl Future>) -> bool {
    block_on(poll_once(future)).is_none()
}

fn in_flight(disk: &Disk) -> u64 {
    let shown = block_on(inspect::inspect("requests_in_flight", None, disk)).unwrap();
    shown.as_u64().unwrap()
}

#[derive(Default)]
struct Gate {
    is_open: AtomicBool,
    opened: Event,
}

impl Gate {
    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.opened.notify(usize::MAX);
    }

    async fn pass(&self) {
        while !self.is_open.load(Ordering::SeqCst) {
            let opened = self.opened.listen();
            if !self.is_open.load(Ordering::SeqCst) {
                opened.await;
            }
        }
    }
}

/// Each of its methods waits at one gate, and `drain` at another.
struct GatedDisk {
    requests: Arc<Gate>,
    left_behind: Arc<Gate>,
}

impl GatedDisk {
    fn disk() -> (Disk, Arc<Gate>, Arc<Gate>) {
        let (requests, left_behind) = (Arc::<Gate>::default(), Arc::<Gate>::default());
        let disk = Disk::new(Self {
            requests: Arc::clone(&requests),
            left_behind: Arc::clone(&left_behind),
        });
        (disk.unwrap(), requests, left_behind)
    }

    async fn pass(&self) -> Result<(), DiskError> {
        self.requests.pass().await;
        Ok(())
    }
}

impl inspect::Inspect for GatedDisk {
    fn inspect(&self, _request: inspect::Request<'_>) {}
}

impl DiskIo for GatedDisk {
    fn disk_type(&self) -> &str {
        "gated"
    }

    fn sector_count(&self) -> u64 {
        100
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        512
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

    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        self.pass().await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Zeroes
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.pass().await
    }

    async fn read_vectored(&self, _: &RequestBuffers<'_>, _: u64) -> Result<(), DiskError> {
        self.pass().await
    }

    async fn write_vectored(
        &self,
        _: &RequestBuffers<'_>,
        _: u64,
        _: bool,
    ) -> Result<(), DiskError> {
        self.pass().await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.pass().await
    }

    async fn block_status(
        &self,
        _: u64,
        count: u64,
    ) -> Result<disk_backend::BlockStatus, DiskError> {
        self.pass().await?;
        Ok(disk_backend::BlockStatus::one(disk_backend::BlockExtent {
            sector_count: count,
            state: disk_backend::BlockState::Data,
            layer: None,
        }))
    }

    async fn resize(&self, _: u64) -> Result<(), DiskError> {
        self.pass().await
    }

    async fn wait_resize(&self, _: u64) -> u64 {
        std::future::pending().await
    }

    async fn drain(&self) {
        self.left_behind.pass().await;
    }
}

#[test]
fn every_request_is_in_flight_until_it_completes() {
    let bytes = [0; 512];
    let host = HostBuffers::from_ref(&bytes);
    let mut target = [0; 512];
    let target = HostBuffers::from_mut(&mut target);
    let (source, target) = (host.buffers(), target.buffers());
    let check = |disk: &Disk, gate: &Gate, request: Pin<&mut dyn Future<Output = bool>>| {
        let mut request = request;
        assert_eq!(in_flight(disk), 0, "nothing begins before the first poll");
        assert!(is_pending(pin!(&mut request)));
        assert_eq!(in_flight(disk), 1);
        let mut drain = pin!(disk.drain());
        assert!(is_pending(drain.as_mut()));
        gate.open();
        assert!(block_on(request));
        assert_eq!(in_flight(disk), 0);
        assert!(!is_pending(drain));
    };
    macro_rules! check {
        ($disk:ident => $request:expr) => {{
            let ($disk, gate, left_behind) = GatedDisk::disk();
            left_behind.open();
            let request = async { $request.await.is_ok() };
            check(&$disk, &gate, pin!(request));
        }};
    }
    check!(disk => disk.read_vectored(&target, 0));
    check!(disk => disk.write_vectored(&source, 0, false));
    check!(disk => disk.write_zeroes(0, 1, false, true, false));
    check!(disk => disk.unmap(0, 1, false));
    check!(disk => disk.sync_cache());
    check!(disk => disk.block_status(0, 1));
    check!(disk => disk.eject());
    check!(disk => disk.resize(7));
}

#[test]
fn a_request_that_is_dropped_is_left_to_the_backends_drain() {
    let (disk, _gate, left_behind) = GatedDisk::disk();
    let mut drain = pin!(disk.drain());
    {
        let mut request = pin!(disk.sync_cache());
        assert!(is_pending(request.as_mut()));
        assert!(is_pending(drain.as_mut()));
    }
    assert_eq!(in_flight(&disk), 0);
    // What it left behind is in flight still.
    assert!(is_pending(drain.as_mut()));
    left_behind.open();
    assert!(!is_pending(drain));
}

#[test]
fn the_backend_is_drained_only_once_the_futures_are_gone() {
    let (disk, gate, left_behind) = GatedDisk::disk();
    left_behind.open();
    let clone = disk.clone();
    let mut request = pin!(clone.sync_cache());
    assert!(is_pending(request.as_mut()));
    let mut drain = pin!(disk.drain());
    assert!(is_pending(drain.as_mut()));
    gate.open();
    block_on(request).unwrap();
    assert!(!is_pending(drain));
}

#[test]
fn waiting_for_another_size_is_not_in_flight() {
    let (disk, _gate, left_behind) = GatedDisk::disk();
    left_behind.open();
    let mut waiting = pin!(disk.wait_resize(100));
    assert!(is_pending(waiting.as_mut()));
    assert_eq!(in_flight(&disk), 0);
    assert!(!is_pending(pin!(disk.drain())));
}

#[test]
fn a_future_that_is_forgotten_stays_in_flight() {
    let (disk, _gate, left_behind) = GatedDisk::disk();
    left_behind.open();
    let clone: &'static Disk = Box::leak(Box::new(disk.clone()));
    let mut request = Box::pin(clone.sync_cache());
    assert!(is_pending(request.as_mut()));
    std::mem::forget(request);
    assert_eq!(in_flight(&disk), 1);
    assert!(is_pending(pin!(disk.drain())));
}

#[test]
fn a_refused_request_was_never_in_flight() {
    let (disk, record) = RecordingDisk::disk(Record::default());
    let bytes = [0; 100];
    let host = HostBuffers::from_ref(&bytes);
    assert!(block_on(disk.write_vectored(&host.buffers(), 0, false)).is_err());
    assert!(block_on(disk.unmap(99, 2, false)).is_err());
    assert_eq!(in_flight(&disk), 0);
    assert_eq!(record.take(), [""; 0]);
}

#[test]
fn counting_a_request_costs_no_heap_allocation() {
    let (disk, gate, _) = GatedDisk::disk();
    gate.open();
    let bytes = [0; 512];
    let host = HostBuffers::from_ref(&bytes);
    let buffers = host.buffers();
    let write = || block_on(disk.write_vectored(&buffers, 0, false)).unwrap();
    // The first call makes what the thread keeps for itself.
    write();
    assert_eq!(measure(write).count_total, 0);
}
