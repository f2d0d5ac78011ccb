//! Worlds of disks that keep the contract, and of some that do not.

use disk_backend::{Disk, DiskError, DiskIo, Persistence, UnmapBehavior};
use disk_contract::{Clause, Stores, Suite, Violation, World};
use disk_fault::{Action, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use event_listener::Event;
use inspect::Inspect;
use scsi_buffers::RequestBuffers;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

fn sim(stores: &mut Stores) -> Disk {
    Disk::new(stores.disk(24, |_| ())).expect("a legal disk")
}

#[test]
fn simulated_storage_keeps_the_contract_in_worlds() -> Result<(), Violation> {
    let report = Suite::new().check_worlds(async |stores| sim(stores))?;
    assert!(
        report.crash_count > 0 && report.image_count > 0,
        "{report:?}"
    );
    Ok(())
}

#[test]
fn a_simulated_layer_above_a_disk_keeps_it() -> Result<(), Violation> {
    let suite = Suite::new();
    let report = suite.check_worlds(async |stores| {
        let lower = sim(stores);
        let layers = vec![
            LayerConfiguration::new(DiskLayer::new(stores.layer(24, |_| ()))),
            LayerConfiguration::new(DiskLayer::from_disk(lower)),
        ];
        let disk = LayeredDisk::new(false, layers).await;
        Disk::new(disk.expect("a legal stack")).expect("a legal disk")
    })?;
    assert!(report.operation_count > 0);
    Ok(())
}

#[test]
fn a_read_only_disk_keeps_it() -> Result<(), Violation> {
    let report = Suite::new().check_worlds(async |stores| {
        Disk::new(stores.disk(24, |options| options.is_read_only = true)).expect("a legal disk")
    })?;
    assert!(report.operation_count > 0);
    Ok(())
}

fn refusing(stores: &mut Stores) -> Disk {
    let disk = stores.disk(24, |options| options.refuses_after_failed_flush = true);
    Disk::new(disk).expect("a legal disk")
}

#[test]
fn a_disk_that_refuses_changes_after_a_failed_flush_keeps_it_where_it_may() -> Result<(), Violation>
{
    let suite = Suite::new();
    let build = async |stores: &mut Stores| refusing(stores);
    suite.check_each_world(World::that_may_refuse_changes, build)?;
    assert_found(Clause::C8, build);
    Ok(())
}

/// Which clauses worlds find broken by a disk. Different ones can show first.
fn found(build: impl AsyncFn(&mut Stores) -> Disk) -> BTreeSet<String> {
    let clause_of = |seed| {
        let result = Suite::new().only_seed(seed).check_worlds(&build);
        Some(format!("{:?}", result.err()?.clause()))
    };
    (0..60).filter_map(clause_of).collect()
}

/// A disk about which a rule lies.
fn lying(stores: &mut Stores, rule: Rule) -> Disk {
    let mut options = FaultOptions::new(1, stores.clock());
    if !stores.is_after_crash() {
        options.rules.push(rule);
    }
    let (disk, _) = FaultDisk::new(sim(stores), options).expect("a legal rule");
    Disk::new(disk).expect("a legal disk")
}

fn now_and_then(action: Action) -> Rule {
    let mut rule = Rule::new(action);
    rule.every = Some(5);
    rule
}

#[track_caller]
fn assert_found(clause: Clause, build: impl AsyncFn(&mut Stores) -> Disk) {
    let found = found(build);
    let expected = format!("{clause:?}");
    assert!(found.contains(&expected), "{expected} is not in {found:?}");
}

#[test]
fn a_report_says_what_replays_it_where_it_was_found() {
    let build = async |stores: &mut Stores| lying(stores, now_and_then(Action::Drop));
    let report_of = |result: Result<_, Violation>| result.map(drop).unwrap_err().to_string();
    let last_line = |report: &str| report.lines().last().unwrap().trim().to_owned();
    let seed = (1..60)
        .find(|seed| World::new(*seed).run(build).is_err())
        .expect("it is found");

    let report = report_of(Suite::new().only_seed(seed).check_worlds(build));
    let by_test = format!("replay: DISK_CONTRACT_SEED={seed:#x} and the same test");
    assert_eq!(last_line(&report), by_test);
    let report = report_of(World::new(seed).run(build));
    let by_hand = format!("replay: `World::new({seed:#x})` with the same disk");
    assert_eq!(last_line(&report), by_hand);
    assert!(!report.contains("DISK_CONTRACT_SEED"), "{report}");
    let violation = World::new(seed).run(build).unwrap_err();
    let report = violation.replayed_by("a command").to_string();
    assert_eq!(last_line(&report), "replay: a command");
    assert_eq!(report.matches("replay").count(), 1, "{report}");
}

#[test]
fn writes_that_are_dropped_and_bits_that_flip_are_seen() {
    for action in [Action::Drop, Action::FlipBits(1), Action::Misdirect] {
        assert_found(Clause::C2, async |stores| {
            lying(stores, now_and_then(action.clone()))
        });
    }
}

#[test]
fn who_waits_for_ever_is_found() {
    assert_found(Clause::C4, async |stores| {
        lying(stores, now_and_then(Action::Hold))
    });
}

#[test]
fn a_flush_that_does_nothing_is_found_by_a_crash() {
    let rule = Rule::new(Action::SkipFlush).on([Operation::Flush]);
    assert_found(Clause::C5, async |stores| lying(stores, rule.clone()));
}

#[test]
fn a_fua_write_that_is_like_any_other_is_found_by_a_crash() {
    let rule = Rule::new(Action::SkipFlush).on([Operation::Write]);
    assert_found(Clause::C6, async |stores| lying(stores, rule.clone()));
}

#[test]
fn a_flush_that_never_succeeds_again_is_found() {
    let rule = Rule::new(Action::Error(InjectedError::Io)).on([Operation::Flush]);
    assert_found(Clause::C8, async |stores| lying(stores, rule.clone()));
}

#[test]
fn a_resize_that_is_dropped_and_wakes_nobody_is_found() {
    assert_found(Clause::C4, async |stores| {
        let deaf = Deaf {
            disk: sim(stores),
            is_resized: Event::new(),
        };
        Disk::new(deaf).expect("a legal disk")
    });
}

/// A disk that tells of another size when a resize returns, but not if nobody wants to know how it ended.
#[derive(Inspect)]
struct Deaf {
    disk: Disk,
    #[inspect(skip)]
    is_resized: Event,
}

impl DiskIo for Deaf {
    fn disk_type(&self) -> &str {
        "deaf"
    }

    fn sector_count(&self) -> u64 {
        self.disk.sector_count()
    }

    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.disk.physical_sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Ignored
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        self.disk.read_vectored(buffers, sector).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        self.disk.write_vectored(buffers, sector, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.disk.sync_cache().await
    }

    async fn resize(&self, sector_count: u64) -> Result<(), DiskError> {
        let result = self.disk.resize(sector_count).await;
        self.is_resized.notify(usize::MAX);
        result
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        loop {
            let resized = self.is_resized.listen();
            match self.sector_count() {
                now if now != sector_count => return now,
                _ => resized.await,
            }
        }
    }

    async fn close(&self) -> Result<(), DiskError> {
        self.disk.close().await
    }

    async fn drain(&self) {
        self.disk.drain().await;
    }
}

#[test]
fn a_sector_that_a_crash_can_tear_is_found() {
    assert_found(Clause::C11, async |stores| {
        let layer = DiskLayer::new(stores.layer(24, |_| ()));
        let zeros = LayeredDisk::new(false, vec![LayerConfiguration::new(layer)]).await;
        let disk = Disk::new(zeros.expect("a legal stack")).expect("a legal disk");
        Disk::new(Coarse {
            disk,
            is_busy: AtomicBool::new(false),
            is_free: Event::new(),
        })
        .expect("a legal disk")
    });
}

/// Sectors made of eight sectors of a disk that is atomic in one of them only. Nobody sees a part of one while it is used.
#[derive(Inspect)]
struct Coarse {
    disk: Disk,
    #[inspect(skip)]
    is_busy: AtomicBool,
    #[inspect(skip)]
    is_free: Event,
}

impl Coarse {
    async fn alone(&self) -> impl Drop {
        while self.is_busy.swap(true, Ordering::Relaxed) {
            let free = self.is_free.listen();
            if self.is_busy.load(Ordering::Relaxed) {
                free.await;
            }
        }
        struct Alone<'a>(&'a Coarse);
        impl Drop for Alone<'_> {
            fn drop(&mut self) {
                self.0.is_busy.store(false, Ordering::Relaxed);
                self.0.is_free.notify(1);
            }
        }
        Alone(self)
    }
}

impl DiskIo for Coarse {
    fn disk_type(&self) -> &str {
        "coarse"
    }

    fn sector_count(&self) -> u64 {
        self.disk.sector_count() / 8
    }

    fn sector_size(&self) -> u32 {
        self.disk.sector_size() * 8
    }

    fn disk_id(&self) -> Option<[u8; 16]> {
        None
    }

    fn physical_sector_size(&self) -> u32 {
        self.sector_size()
    }

    fn is_fua_respected(&self) -> bool {
        true
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn persistence(&self) -> Persistence {
        Persistence::Persistent
    }

    async fn unmap(&self, _: u64, _: u64, _: bool) -> Result<(), DiskError> {
        Ok(())
    }

    fn unmap_behavior(&self) -> UnmapBehavior {
        UnmapBehavior::Ignored
    }

    async fn read_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
    ) -> Result<(), DiskError> {
        let _alone = self.alone().await;
        self.disk.read_vectored(buffers, sector * 8).await
    }

    async fn write_vectored(
        &self,
        buffers: &RequestBuffers<'_>,
        sector: u64,
        fua: bool,
    ) -> Result<(), DiskError> {
        let _alone = self.alone().await;
        self.disk.write_vectored(buffers, sector * 8, fua).await
    }

    async fn sync_cache(&self) -> Result<(), DiskError> {
        self.disk.sync_cache().await
    }

    async fn wait_resize(&self, sector_count: u64) -> u64 {
        self.disk.wait_resize(sector_count * 8).await / 8
    }
}
