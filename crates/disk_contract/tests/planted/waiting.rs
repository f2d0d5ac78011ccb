//! A disk whose requests take several steps, and the ways in which one that is left alone half way can spoil the others.

use disk_backend::{DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_contract::{DiskSpec, ReferenceDisk};
use event_listener::Event;
use futures_lite::future::yield_now;
use guestmem::MemoryRead;
use inspect::Inspect;
use scsi_buffers::{HostBuffers, RequestBuffers};
use std::sync::atomic::{AtomicU32, Ordering};

/// What is wrong with a disk whose writes wait in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFault {
    None,
    /// A write keeps the whole disk locked while it waits.
    LocksWhileItWaits,
    /// A flush waits until no write is going on.
    FlushWaitsForWrites,
    /// A write stores the first half of a sector, waits, and stores the rest.
    TearsWhenDropped,
    /// A write that is dropped while it waits is undone, whatever was written since.
    UndoesWhenDropped,
    DrainNeverEnds,
}

/// See [`WaitFault`].
#[derive(Debug)]
pub(crate) struct WaitingDisk {
    fault: WaitFault,
    inner: ReferenceDisk,
    writer_count: AtomicU32,
    write_ended: Event,
}

/// A write that is going on, until this is dropped.
struct Writing<'a>(&'a WaitingDisk);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writer_count.fetch_sub(1, Ordering::SeqCst);
        self.0.write_ended.notify(usize::MAX);
    }
}

/// Puts back what was there before, unless it is forgotten.
struct Undo<'a> {
    disk: &'a WaitingDisk,
    sector: u64,
    before: Vec<u8>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        futures_lite::future::block_on(self.disk.store(self.sector, &self.before)).unwrap();
    }
}

impl WaitingDisk {
    pub(crate) fn new(spec: DiskSpec, fault: WaitFault) -> Self {
        Self {
            fault,
            inner: ReferenceDisk::new(spec),
            writer_count: AtomicU32::new(0),
            write_ended: Event::new(),
        }
    }

    fn has(&self, fault: WaitFault) -> bool {
        self.fault == fault
    }

    async fn until_no_write(&self) {
        loop {
            let listener = self.write_ended.listen();
            if self.writer_count.load(Ordering::SeqCst) == 0 {
                return;
            }
            listener.await;
        }
    }

    async fn wait_for_the_lock(&self) {
        if self.has(WaitFault::LocksWhileItWaits) {
            self.until_no_write().await;
        }
    }

    async fn store(&self, sector: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let host = HostBuffers::from_ref(bytes);
        self.inner
            .write_vectored(&host.buffers(), sector, false)
            .await
    }

    async fn bytes(&self, sector: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = vec![0; len];
        let host = HostBuffers::from_mut(&mut bytes);
        self.inner.read_vectored(&host.buffers(), sector).await?;
        drop(host);
        Ok(bytes)
    }
}

impl DiskIo for WaitingDisk {
    fn disk_type(&self) -> &str {
        "waiting"
    }

    fn sector_count(&self) -> u64 {
        self.inner.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.inner.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn persistence(&self) -> Persistence {
        Persistence::Volatile
    }

    async fn unmap(&self, sector: u64, count: u64, hint: bool) -> Result<(), DiskError> {
        self.wait_for_the_lock().await;
        self.inner.unmap(sector, count, hint).await
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        self.inner.unmap_behavior()
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.wait_for_the_lock().await;
        self.inner.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        _fua: bool,
    ) -> Result<(), DiskError> {
        self.wait_for_the_lock().await;
        self.writer_count.fetch_add(1, Ordering::SeqCst);
        let _writing = Writing(self);
        let mut data = vec![0; buffers.len()];
        buffers.reader().read(&mut data)?;
        let before = self.bytes(sector, data.len()).await?;
        if self.has(WaitFault::TearsWhenDropped) {
            let half = self.sector_size() as usize / 2;
            let torn = [&data[..half], &before[half..]].concat();
            self.store(sector, &torn).await?;
        }
        let undo = self.has(WaitFault::UndoesWhenDropped).then(|| Undo {
            disk: self,
            sector,
            before,
        });
        if undo.is_some() {
            self.store(sector, &data).await?;
        }
        yield_now().await;
        if undo.is_some() {
            std::mem::forget(undo);
            return Ok(());
        }
        self.store(sector, &data).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        if self.has(WaitFault::FlushWaitsForWrites) {
            self.until_no_write().await;
        }
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.inner.wait_resize(sector_count).await
    }

    async fn drain(&self) {
        if self.has(WaitFault::DrainNeverEnds) {
            std::future::pending::<()>().await;
        }
    }
}

impl Inspect for WaitingDisk {
    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}
