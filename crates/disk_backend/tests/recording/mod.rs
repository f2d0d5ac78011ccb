//! A disk that notes what reaches it.
#![allow(dead_code, reason = "each test program uses its part")]

use disk_backend::pr::{
    PersistentReservation, ReservationCapabilities, ReservationReport, ReservationType,
};
use disk_backend::{
    BlockStatus, ContentStamp, Disk, DiskError, DiskIo, Persistence, UnmapBehavior,
};
use scsi_buffers::RequestBuffers;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is seen and set from outside.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) sector_count: AtomicU64,
    pub(crate) does_flush_fail: AtomicBool,
    pub(crate) is_fua_respected: bool,
    pub(crate) is_read_only: bool,
    pub(crate) has_pr: bool,
}

impl Record {
    pub(crate) fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    /// The calls since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

pub(crate) struct RecordingDisk(pub(crate) Arc<Record>);

impl RecordingDisk {
    /// A disk of 100 sectors, and its record.
    pub(crate) fn disk(record: Record) -> (Disk, Arc<Record>) {
        let record = Arc::new(record);
        record.sector_count.store(100, Ordering::Relaxed);
        let disk = Disk::new(Self(Arc::clone(&record))).unwrap();
        (disk, record)
    }
}

impl inspect::Inspect for RecordingDisk {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.respond().field("of_the_backend", &true);
    }
}

#[deny(clippy::missing_trait_methods)]
impl DiskIo for RecordingDisk {
    fn disk_type(&self) -> &str {
        "recording"
    }

    fn sector_count(&self) -> u64 {
        self.0.sector_count.load(Ordering::Relaxed)
    }

    fn sector_size(&self) -> u32 {
        1024
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        Some([0xab; 16])
    }

    fn content_stamp(&self) -> Option<ContentStamp> {
        ContentStamp::from_text("recorded")
    }

    fn physical_sector_size(&self) -> u32 {
        8192
    }

    fn is_fua_respected(&self) -> bool {
        self.0.is_fua_respected
    }

    fn is_read_only(&self) -> bool {
        self.0.is_read_only
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    fn atomic_write_sectors(&self) -> u32 {
        4
    }

    async fn unmap(&self, sector: u64, count: u64, only: bool) -> Result<(), DiskError> {
        self.0.note(format!("unmap {sector} {count} {only}"));
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Unspecified
    }

    fn optimal_unmap_sectors(&self) -> u32 {
        16
    }

    fn pr(&self) -> Option<&dyn PersistentReservation> {
        self.0.has_pr.then_some(self)
    }

    async fn eject(&self) -> Result<(), DiskError> {
        self.0.note("eject");
        Ok(())
    }

    fn expect_read(&self, _: u64, _: usize) {}

    /// What is asked for is recorded in the other way.
    fn try_read(&self, _: &RequestBuffers<'_>, _: u64) -> bool {
        false
    }

    fn try_write(&self, _: &RequestBuffers<'_>, _: u64, _: bool) -> bool {
        false
    }

    async fn read_vectored(&self, _: &RequestBuffers<'_>, sector: u64) -> Result<(), DiskError> {
        self.0.note(format!("read {sector}"));
        Ok(())
    }

    async fn write_vectored(
        &self,
        _: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.0.note(format!("write {sector} {fua}"));
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
        let call = format!("zero {sector} {count} {fua} {may_unmap} {no_fallback}");
        self.0.note(call);
        Ok(())
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.0.note("flush");
        match self.0.does_flush_fail.load(Ordering::Relaxed) {
            true => Err(DiskError::Io(io::Error::other("the flush failed"))),
            false => Ok(()),
        }
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.0.note("close");
        Ok(())
    }

    async fn block_status(&self, sector: u64, count: u64) -> Result<BlockStatus, DiskError> {
        self.0.note(format!("status {sector} {count}"));
        Ok(BlockStatus::one(disk_backend::BlockExtent {
            sector_count: count,
            state: disk_backend::BlockState::Hole,
            layer: None,
        }))
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        self.0.note(format!("resize {sector_count}"));
        self.0.sector_count.store(sector_count, Ordering::Relaxed);
        Ok(())
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.0.note(format!("wait_resize {sector_count}"));
        self.sector_count()
    }

    async fn drain(&self) {
        self.0.note("drain");
    }
}

/// Notes its commands; registrations are not kept.
#[disk_backend::pr::async_trait]
impl PersistentReservation for RecordingDisk {
    fn capabilities(&self) -> ReservationCapabilities {
        ReservationCapabilities {
            types: ReservationType::ALL.into(),
            persist_through_power_loss: true,
        }
    }

    async fn report(&self) -> Result<ReservationReport, DiskError> {
        self.0.note("report");
        Ok(ReservationReport {
            generation: 7,
            persist_through_power_loss: false,
            reservation_type: None,
            controllers: Vec::new(),
        })
    }

    async fn register(
        &self,
        current_key: Option<u64>,
        new_key: u64,
        persist: Option<bool>,
    ) -> Result<(), DiskError> {
        self.0
            .note(format!("register {current_key:?} {new_key} {persist:?}"));
        Ok(())
    }

    async fn reserve(&self, key: u64, wanted: ReservationType) -> Result<(), DiskError> {
        self.0.note(format!("reserve {key} {wanted:?}"));
        Err(DiskError::ReservationConflict)
    }

    async fn release(&self, key: u64, held: ReservationType) -> Result<(), DiskError> {
        self.0.note(format!("release {key} {held:?}"));
        Ok(())
    }

    async fn clear(&self, key: u64) -> Result<(), DiskError> {
        self.0.note(format!("clear {key}"));
        Ok(())
    }

    async fn preempt(
        &self,
        key: u64,
        preempted_key: u64,
        wanted: ReservationType,
        abort: bool,
    ) -> Result<(), DiskError> {
        self.0
            .note(format!("preempt {key} {preempted_key} {wanted:?} {abort}"));
        Ok(())
    }
}
