//! What the contract's own suite makes of the bugs, by the clause that it names. Its seed is fixed, so it finds them each time.
//!
//! Four it does not look for, which take worlds: what a crash leaves behind (`flush-skips-a-layer`, `fua-not-honoured`), reads of
//! a plain layer that fail (`wrong-layer-after-error`), fills of a cache in memory that are overtaken (`cache-fill-after-unmap`).

use disk_backend::Disk;
use disk_contract::Clause::{self, C2, C3, C4, C9, C10, L2, L4};
use disk_contract::{LayerSpec, Member, StackPlan, Suite, Violation};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use planted::Bug;
use std::panic::catch_unwind;
use std::time::Duration;

fn suite() -> Suite {
    // What hangs here hangs by design: it need not be waited for.
    let stall_limit = Duration::from_millis(100);
    Suite::new()
        .sector_sizes([512])
        .sector_counts([40])
        .only_seed(1)
        .stall_limit(stall_limit)
}

fn check_stacks() -> Result<(), Violation> {
    suite().check_composition(async |layers| {
        let layers = layers.into_iter().map(LayerConfiguration::from).collect();
        Disk::new(LayeredDisk::new(false, layers).await.unwrap()).unwrap()
    })
}

fn check_ram_layers() -> Result<(), Violation> {
    suite().check_layers(async |spec: LayerSpec| {
        let size = spec.sector_count * u64::from(spec.sector_size);
        RamDiskLayer::new_with_sector_size(size, spec.sector_size).unwrap()
    })
}

#[test]
fn without_a_bug_nothing_is_found() -> Result<(), Violation> {
    check_stacks()?;
    check_ram_layers()
}

fn assert_found(bug: Bug, clause: Clause, check: fn() -> Result<(), Violation>) {
    let _planted = planted::plant(bug);
    let violation = check().expect_err(bug.name());
    assert_eq!(violation.clause(), clause, "{bug}: {violation}");
}

#[test]
fn bugs_of_a_stack_are_found() {
    for (bug, clause) in [
        (Bug::CacheFillOverNewerWrite, L2),
        (Bug::DivergenceAfterError, L4),
        (Bug::DivergenceAfterDrop, C9),
        (Bug::FetchedTwice, C3),
        (Bug::UnmapUncovers, C2),
        (Bug::WaitsForAnotherCaller, C4),
    ] {
        assert_found(bug, clause, check_stacks);
    }
}

#[test]
fn bugs_of_a_layer_are_found() {
    assert_found(Bug::LostResize, C10, check_ram_layers);
    assert_found(Bug::TornSector, C2, check_ram_layers);
}

/// Three RAM layers, of which the lowest is filled.
fn check_deep_ram() -> Result<(), Violation> {
    suite().check_disks(async |spec| {
        let plan = StackPlan::new(
            &spec,
            &[1, 1, 1].map(|times| Member::Layer(times * spec.sector_count)),
        );
        let mut layers = Vec::new();
        for index in 0..3 {
            let member = plan.layer(index);
            let size = member.sector_count() * u64::from(member.sector_size());
            let ram = RamDiskLayer::new_with_sector_size(size, member.sector_size()).unwrap();
            member.fill_layer(&ram).await.unwrap();
            layers.push(LayerConfiguration::new(DiskLayer::new(ram)));
        }
        let disk = LayeredDisk::new(spec.is_read_only, layers).await.unwrap();
        Disk::new(disk).unwrap()
    })
}

#[test]
fn an_index_that_is_not_renewed_is_found() -> Result<(), Violation> {
    check_deep_ram()?;
    assert_found(Bug::StaleIndex, C2, check_deep_ram);
    Ok(())
}

/// With checked sums it is a panic, without them a violation.
#[test]
fn a_range_that_wraps_around_is_found() {
    let _planted = planted::plant(Bug::RangeOverflow);
    let found = catch_unwind(check_ram_layers);
    assert!(!matches!(found, Ok(Ok(()))));
}
