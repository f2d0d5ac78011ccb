//! The kit can fail: disks and layers with a planted fault are found, and the clause that they break is named.

mod composition;
mod disk;
mod layer;
mod waiting;

use composition::{PlantedStack, StackedFault};
use disk::{Fault, PlantedDisk};
use disk_backend::Disk;
use disk_contract::{Clause, StackRecipe, Suite, Violation};
use layer::{LayerFault, PlantedLayer};
use std::time::Duration;
use waiting::{WaitFault, WaitingDisk};

fn suite() -> Suite {
    // What hangs here hangs by design: it need not be waited for.
    let stall_limit = Duration::from_millis(100);
    Suite::new()
        .sector_sizes([512])
        .sector_counts([1, 30])
        .stall_limit(stall_limit)
}

/// The disk is called without a handle that would refuse what is not well formed.
fn check_backend(suite: Suite, fault: Fault) -> Result<(), Violation> {
    suite.check_backends(async |spec| PlantedDisk::new(spec, fault))
}

fn check_disk(fault: Fault) -> Result<(), Violation> {
    suite().check_disks(async |spec| Disk::new(PlantedDisk::new(spec, fault)).unwrap())
}

fn check_layer(fault: LayerFault) -> Result<(), Violation> {
    suite().check_layers(async |spec| PlantedLayer::new(spec, fault))
}

fn check_waiting(fault: WaitFault) -> Result<(), Violation> {
    // Without random sequences: they wait for ever for what is stuck.
    let suite = suite().step_count(0);
    suite.check_disks(async |spec| Disk::new(WaitingDisk::new(spec, fault)).unwrap())
}

fn check_composition(fault: StackedFault) -> Result<(), Violation> {
    suite().check_composition(async |layers| Disk::new(PlantedStack::new(layers, fault)).unwrap())
}

/// The check found the fault, and its report begins with the number of the clause.
fn assert_breaks(clause: Clause, fault: impl std::fmt::Debug, result: Result<(), Violation>) {
    let violation = result.expect_err(&format!("{fault:?} was not found"));
    assert_eq!(violation.clause(), clause, "{fault:?}: {violation}");
    let report = violation.to_string();
    assert!(
        report.starts_with(&format!("{clause:?} (")),
        "{fault:?}: {report}"
    );
    let replay = format!("DISK_CONTRACT_SEED={:#x}", violation.seed());
    assert!(report.contains(&replay), "{report}");
    let step = format!("step {}", violation.step());
    assert!(report.contains(&step), "{report}");
}

#[test]
fn without_a_fault_nothing_is_found() -> Result<(), Violation> {
    check_backend(suite().must_resize(), Fault::None)?;
    check_disk(Fault::None)?;
    check_waiting(WaitFault::None)?;
    check_layer(LayerFault::None)
}

#[test]
fn requests_that_should_be_refused_are_found() {
    for fault in [
        Fault::RangeWrapsAround,
        Fault::AcceptsEmptyRequestsAnywhere,
        Fault::DropsPartialSector,
        Fault::ChecksRangeFirst,
        Fault::TransfersBeforeItRefuses,
        Fault::AcceptsWritesThoughReadOnly,
        Fault::AcceptsUnmapsThoughReadOnly,
        Fault::RefusesToFallBack,
    ] {
        assert_breaks(Clause::C1, fault, check_backend(suite(), fault));
    }
}

#[test]
fn data_in_the_wrong_place_or_of_the_wrong_time_is_found() {
    for fault in [
        Fault::WritesOneSectorOff,
        Fault::LosesLastSectorOfLongWrites,
        Fault::ReadsStaleData,
        Fault::MixesUpPieces,
    ] {
        assert_breaks(Clause::C2, fault, check_disk(fault));
    }
}

#[test]
fn what_only_threads_can_see_is_found() {
    for fault in [Fault::TearsSectors, Fault::LosesUpdatesBeside] {
        assert_breaks(Clause::C2, fault, check_disk(fault));
    }
}

#[test]
fn a_flush_that_fails_is_found() {
    assert_breaks(Clause::C5, Fault::FlushFails, check_disk(Fault::FlushFails));
}

#[test]
fn unmaps_that_do_not_do_what_they_say_are_found() {
    for fault in [
        Fault::UnmapKeepsData,
        Fault::UnmapForgetsLastSector,
        Fault::UnspecifiedUnmapWavers,
    ] {
        assert_breaks(Clause::C7, fault, check_disk(fault));
    }
    // The handle does not hand on an unmap that is ignored.
    let fault = Fault::IgnoredUnmapZeroes;
    assert_breaks(Clause::C7, fault, check_backend(suite(), fault));
}

#[test]
fn a_dropped_write_that_undoes_a_later_one_is_found() {
    let fault = Fault::DroppedWriteComesLate;
    let result = check_backend(suite().step_count(2000), fault);
    // Threads may have seen so much of it that being late alone does not explain it any more.
    let is_c2 = matches!(&result, Err(violation) if violation.clause() == Clause::C2);
    assert_breaks(if is_c2 { Clause::C2 } else { Clause::C9 }, fault, result);
}

#[test]
fn a_request_left_alone_that_spoils_others_is_found() {
    for (fault, clause) in [
        (WaitFault::LocksWhileItWaits, Clause::C4),
        (WaitFault::FlushWaitsForWrites, Clause::C4),
        (WaitFault::TearsWhenDropped, Clause::C2),
        (WaitFault::UndoesWhenDropped, Clause::C9),
        (WaitFault::DrainNeverEnds, Clause::C9),
    ] {
        assert_breaks(clause, fault, check_waiting(fault));
    }
}

#[test]
fn faults_of_resizing_are_found() {
    for fault in [
        Fault::GrowingRevivesOldData,
        Fault::NeverTellsOfResize,
        Fault::TellsOfResizeTooSoon,
    ] {
        assert_breaks(Clause::C10, fault, check_disk(fault));
    }
}

#[test]
fn a_disk_that_cannot_be_resized_is_found_only_if_it_must_be() {
    let fault = Fault::CannotResize;
    check_backend(suite(), fault).unwrap();
    let result = check_backend(suite().must_resize(), fault);
    assert_breaks(Clause::C10, fault, result);
}

#[test]
fn a_wrong_status_is_found() {
    for fault in [
        Fault::HoleOverData,
        Fault::EmptyStatus,
        Fault::StatusBeyondRange,
    ] {
        assert_breaks(Clause::C12, fault, check_backend(suite(), fault));
    }
}

#[test]
fn layers_that_answer_wrongly_are_found() {
    for (fault, clause) in [
        (LayerFault::AnswersForAbsent, Clause::L1),
        (LayerFault::DeniesLastSector, Clause::C2),
        (LayerFault::AbsentIsZero, Clause::C12),
        (LayerFault::PresentIsAbsent, Clause::C12),
        (LayerFault::GrowingUncovers, Clause::C10),
    ] {
        assert_breaks(clause, fault, check_layer(fault));
    }
}

#[test]
fn layers_that_uncover_what_lies_below_are_found() {
    for (fault, clause) in [
        (LayerFault::UnmapUncovers, Clause::L3),
        // From outside this is an unmap without effect.
        (LayerFault::UnmapSkipsAbsent, Clause::C7),
        // The kit gives layers their zeros by this method, so the fault shows before anything else happens.
        (LayerFault::ZeroingUncovers, Clause::L1),
    ] {
        assert_breaks(clause, fault, check_layer(fault));
    }
}

#[test]
fn a_replayed_seed_fails_in_the_same_step() {
    let fault = Fault::LosesLastSectorOfLongWrites;
    let first = check_backend(suite().fixed_seed_count(0), fault).unwrap_err();
    let again = check_backend(suite().only_seed(first.seed()), fault).unwrap_err();
    assert_eq!(first.to_string(), again.to_string());
}

#[test]
fn stacks_that_mix_up_their_layers_are_found() {
    for (fault, clause, case) in [
        (StackedFault::FillsFromRequestMemory, Clause::C3, "a read"),
        (StackedFault::FetchesTwice, Clause::C3, "a write"),
        (
            StackedFault::FillOverwrites,
            Clause::L2,
            "a fill that races",
        ),
        (
            StackedFault::UnmapUncoversFill,
            Clause::L2,
            "a fill that races",
        ),
        (
            StackedFault::SkipsIgnoringCopies,
            Clause::L3,
            "unmaps of copies",
        ),
        (
            StackedFault::KeepsStaleCopies,
            Clause::L4,
            "a layer that fails",
        ),
        (StackedFault::BottomFirst, Clause::L4, "a layer that fails"),
        (
            StackedFault::ReadsDuringChanges,
            Clause::L4,
            "a read beside",
        ),
        (StackedFault::ShowsWhatGrewBack, Clause::L5, "grows again"),
        (
            StackedFault::CacheTakesWrites,
            Clause::L6,
            "without its caches",
        ),
        // The last check of all: this stack has passed every other.
        (StackedFault::HalfChanges, Clause::C9, "dropped half way"),
    ] {
        let result = check_composition(fault);
        let report = result.as_ref().map_err(Violation::to_string);
        assert!(
            report.is_err_and(|report| report.contains(case)),
            "{fault:?}"
        );
        assert_breaks(clause, fault, result);
    }
}

#[test]
fn a_wrong_layer_is_found_in_a_stack_and_the_stack_is_shown() {
    let fault = LayerFault::UnmapUncovers;
    let make = async |spec| PlantedLayer::new(spec, fault);
    let suite = suite().sector_counts([30]);
    let result = suite.check_stacks(2..=4, make, StackRecipe::without_copies);
    let violation = result.unwrap_err();
    // What shows is what lies below, or what the sector held in another layer.
    assert!([Clause::L3, Clause::C7].contains(&violation.clause()));
    let report = violation.to_string();
    assert!(report.contains("layered ["), "{report}");
    assert!(report.contains("own of "), "{report}");
}
