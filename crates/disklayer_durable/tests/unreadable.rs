//! What the store of a cache cannot read is thrown away, and nothing else is: neither what a write has put there since, nor zeros.

mod common;

use clock::Clock;
use common::{few_pages, layer_on, memory, read, tight, try_read, try_write, write};
use disk_backend::Disk;
use disk_contract::{Operation, Script, ScriptedDisk, When};
use disk_fault::{Action, FaultControl, FaultDisk, FaultOptions, InjectedError, Rule};
use disk_layered::LayerIo;
use disklayer_durable::{DurableLayer, Role};
use futures_lite::future::{block_on, poll_once};
use std::pin::pin;

/// A copy whose sector 0 holds 1, on a store under a script.
async fn copy() -> (DurableLayer, Script, FaultControl) {
    let ram = Disk::new(memory(1, 512).await).unwrap();
    let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
    let store = ScriptedDisk::new(faulty);
    let script = store.script().clone();
    let mut options = tight(24, 512);
    options.role = Role::WriteThrough;
    let layer = layer_on(&Disk::new(store).unwrap(), &options, &few_pages()).await;
    write(&layer, 0, 1).await;
    layer.sync_cache().await.unwrap();
    (layer, script, control)
}

/// Lets the next read of the store fail.
fn fail_once(control: &FaultControl) {
    let rule = Rule::new(Action::Error(InjectedError::UnrecoveredReadError));
    let rule = rule.on([disk_fault::Operation::Read]);
    control.add(rule.times(1)).unwrap();
}

/// The failed read is looked at once more, alone. A clear does not wait for that, nor does a write that began before.
#[test]
fn what_a_clear_or_a_write_has_put_there_meanwhile_is_not_thrown_away() {
    block_on(async {
        for is_written in [false, true] {
            let (layer, script, control) = copy().await;
            let held = is_written.then(|| script.hold(Operation::Write, When::Before));
            let mut writing = pin!(try_write(&layer, 0, 2));
            if is_written {
                assert!(poll_once(writing.as_mut()).await.is_none());
            }
            fail_once(&control);
            let second_look = script.hold_nth(1, Operation::Read, When::Before);
            let mut reading = pin!(try_read(&layer, 0));
            assert!(poll_once(reading.as_mut()).await.is_none());
            match held {
                Some(held) => {
                    held.open();
                    writing.await.unwrap();
                }
                None => layer.unmap(0, 1, false, false).await.unwrap(),
            }
            // As if it had failed before that.
            fail_once(&control);
            second_look.open();
            // It may fail, and shows nothing older than what is there by now.
            let expected = Some(if is_written { 2 } else { 0 });
            let found = reading.await;
            assert!(
                found.as_ref().is_err() || *found.as_ref().unwrap() == expected,
                "{found:?}"
            );
            assert_eq!(read(&layer, 0).await, expected);
        }
    });
}
