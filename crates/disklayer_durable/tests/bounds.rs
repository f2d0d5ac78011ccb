//! What a guest does takes no more than so much memory, whatever the store does.

mod common;

use clock::Clock;
use common::{few_pages, layer_on, store, tight, try_write, write};
use disk_backend::{Disk, DiskError};
use disk_fault::{Action, FaultControl, FaultDisk, FaultOptions, InjectedError, Operation, Rule};
use disk_layered::LayerIo;
use disklayer_durable::DurableLayer;
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;

/// So many pages may be in memory, as few as can be.
const PAGES: u64 = 16;

/// A layer of many short stripes, and what may go wrong with its store.
async fn layer() -> (DurableLayer, FaultControl) {
    let ram = store(1, 512).await;
    let (faulty, control) = FaultDisk::new(ram, FaultOptions::new(7, Clock::real())).unwrap();
    let store = Disk::new(faulty).unwrap();
    let layer = layer_on(&store, &tight(8 * 200, 512), &few_pages()).await;
    (layer, control)
}

fn log_fails(control: &FaultControl) {
    let rule = Rule::new(Action::Error(InjectedError::NoSpace)).on([Operation::Write]);
    control.add(rule.sectors(8192 / 512, 3 * 8)).unwrap();
}

#[test]
fn a_store_whose_log_cannot_be_written_takes_no_more_changes_than_there_is_memory_for() {
    block_on(async {
        let (layer, control) = layer().await;
        log_fails(&control);
        let mut done = 0;
        while done < 200 && try_write(&layer, 8 * done, 7).await.is_ok() {
            done += 1;
        }
        assert!((PAGES / 2..=PAGES + 1).contains(&done), "{done}");
    });
}

#[test]
fn one_request_over_many_stripes_is_bounded_as_many_requests_are() {
    block_on(async {
        let (cleared, control) = layer().await;
        log_fails(&control);
        let error = cleared.unmap(0, 8 * 200, false, false).await.unwrap_err();
        assert!(matches!(error, DiskError::NoSpace), "{error}");
        let (written, control) = layer().await;
        log_fails(&control);
        let data = vec![7; 512 * 8 * 200];
        let host = HostBuffers::from_ref(&data);
        let error = written.write(&host.buffers(), 0, false).await.unwrap_err();
        assert!(matches!(error, DiskError::NoSpace), "{error}");
    });
}

#[test]
fn space_is_given_back_to_the_store_whatever_flush_makes_that_safe() {
    block_on(async {
        let (layer, control) = layer().await;
        for stripe in 0..12 {
            write(&layer, 8 * stripe, 7).await;
        }
        layer.sync_cache().await.unwrap();
        let rule = Rule::new(Action::Drop).on([Operation::Unmap]);
        let rule = control.add(rule).unwrap();
        let unmaps = || {
            let list = control.list();
            list.iter()
                .find(|status| status.id == rule)
                .unwrap()
                .concerned
        };
        layer.unmap(0, 8 * 12, false, false).await.unwrap();
        let host = HostBuffers::from_ref(&[7; 512]);
        for _ in 0..3 {
            let written = layer.write(&host.buffers(), 8 * 100, true).await;
            written.unwrap();
        }
        assert!(unmaps() >= 12, "{}", unmaps());
    });
}
