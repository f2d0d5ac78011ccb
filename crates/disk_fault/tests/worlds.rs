//! Faulty disks in worlds: what breaks no promise on purpose breaks none.

use disk_backend::Disk;
use disk_contract::{Stores, Suite, Violation};
use disk_fault::{Action, Delay, FaultDisk, FaultOptions, InjectedError, Rule};

fn faulty(stores: &mut Stores, actions: &[Action]) -> Disk {
    let below = Disk::new(stores.disk(24, |_| ())).expect("a legal disk");
    let options = FaultOptions::new(3, stores.clock());
    let (disk, control) = FaultDisk::new(below, options).expect("no rules are legal");
    let actions = actions.to_vec();
    let begin = control.clone();
    stores.when_it_begins(move || {
        for action in actions {
            let mut rule = Rule::new(action);
            rule.probability = Some(0.2);
            begin.add(rule).expect("a legal rule");
        }
    });
    stores.when_it_ends(move || {
        for rule in control.list() {
            control.remove(rule.id).expect("it is in the list");
        }
    });
    Disk::new(disk).expect("a legal disk")
}

#[test]
fn delays_and_writes_that_are_kept_back_break_no_promise() -> Result<(), Violation> {
    let actions = [
        Action::Delay(Delay::UniformMs([0.0, 3.6e6])),
        Action::Reorder(4),
    ];
    Suite::new().check_worlds(async |stores| faulty(stores, &actions))?;
    Ok(())
}

#[test]
fn errors_leave_the_old_or_the_new() -> Result<(), Violation> {
    let actions = [
        Action::PartialError(InjectedError::WriteFault),
        Action::Error(InjectedError::Io),
        Action::Reorder(4),
    ];
    Suite::new().check_worlds(async |stores| {
        let may_fail = stores.may_fail() && !stores.is_after_crash();
        faulty(stores, if may_fail { &actions } else { &actions[2..] })
    })?;
    Ok(())
}
