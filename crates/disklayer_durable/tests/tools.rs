//! What tools do with a layer on its store.

mod common;

use common::{few_pages, flip, layer_on, open, read, report, store, tight, watched, write};
use disk_backend::Disk;
use disk_layered::LayerIo;
use disklayer_durable::{
    Condition, DurableLayer, Run, RunState, check, compact, info, map, repair,
};
use futures_lite::future::block_on;
use std::ops::ControlFlow;

const GO: ControlFlow<()> = ControlFlow::Continue(());

/// 30 sectors: 0..4 data, 4 data that is zero, 10..13 zero, 29 data; the rest absent.
async fn filled(store: &Disk) -> DurableLayer {
    let layer = layer_on(store, &tight(30, 512), &few_pages()).await;
    for sector in [0, 1, 2, 3, 29] {
        write(&layer, sector, 7).await;
    }
    write(&layer, 4, 0).await;
    write(&layer, 10, 7).await;
    layer.unmap(10, 3, false, false).await.unwrap();
    layer
}

async fn runs(store: &Disk) -> Vec<(u64, u64, RunState)> {
    let mut runs = Vec::new();
    let each = |run: Run| {
        runs.push((run.sector, run.sector_count, run.state));
        GO
    };
    map(store, each).await.unwrap();
    runs
}

#[test]
fn a_check_tells_a_clean_a_crashed_and_a_damaged_layer_apart() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = filled(&store).await;
        layer.sync_cache().await.unwrap();
        let found = report(&store).await;
        assert_eq!(found.condition, Condition::Crashed);
        assert_eq!(found.damage, []);
        let counts = [found.data_sectors, found.zero_sectors, found.absent_sectors];
        assert_eq!(counts, [6, 3, 21]);
        layer.close().await.unwrap();
        drop(layer);
        let mut seen = 0;
        let found = check(&store, |stripe, _| {
            seen = stripe;
            GO
        })
        .await
        .unwrap();
        assert_eq!((found.condition, seen), (Condition::Clean, 4));

        let second_page = 8192 + 3 * 4096 + 8192;
        flip(&store, second_page + 40).await;
        let found = report(&store).await;
        assert_eq!(found.condition, Condition::Damaged);
        assert_eq!(found.damage.len(), 1);
        assert_eq!(found.damage[0].offset, second_page);
        assert_eq!(found.damage[0].sectors, Some((8, 8)));
        flip(&store, second_page + 40).await;

        flip(&store, 4096 + 77).await;
        let found = report(&store).await;
        assert_eq!(found.damage[0].offset, 4096);
        repair(store.clone()).await.unwrap();
        let found = report(&store).await;
        assert_eq!(found.condition, Condition::Clean);
    });
}

#[test]
fn info_and_map_say_what_there_is_and_change_nothing() {
    block_on(async {
        use RunState::{Absent, Data, Zero};
        let store = store(1, 512).await;
        let layer = filled(&store).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        let expected = [
            (0, 5, Data),
            (5, 5, Absent),
            (10, 3, Zero),
            (13, 16, Absent),
            (29, 1, Data),
        ];
        assert_eq!(runs(&store).await, expected);
        let info = info(&store).await.unwrap();
        assert_eq!((info.sector_count, info.stripe_sectors), (30, 8));
        assert_eq!((info.log_blocks, info.is_in_use), (3, true));
        assert_eq!(runs(&store).await, expected);
    });
}

#[test]
fn a_compacted_layer_holds_the_same_on_a_shorter_store() {
    block_on(async {
        let store = store(1, 512).await;
        let layer = filled(&store).await;
        layer.resize(300).await.unwrap();
        write(&layer, 299, 9).await;
        layer.resize(30).await.unwrap();
        layer.close().await.unwrap();
        drop(layer);
        let before = store.sector_count();
        let done = compact(store.clone(), watched).await.unwrap();
        assert_eq!(done.zeroed_sectors, 1);
        assert!(store.sector_count() < before);
        assert_eq!(done.store_bytes_less, (before - store.sector_count()) * 512);
        assert_eq!(
            info(&store).await.unwrap().store_bytes,
            store.sector_count() * 512
        );
        let report = report(&store).await;
        assert_eq!(report.condition, Condition::Clean);
        assert_eq!(report.data_sectors, 5);
        let layer = open(&store).await;
        assert_eq!(read(&layer, 29).await, Some(7));
        assert_eq!(read(&layer, 4).await, Some(0));
        assert_eq!(read(&layer, 5).await, None);
        layer.resize(300).await.unwrap();
        assert_eq!(read(&layer, 299).await, Some(0));
    });
}

/// 300 sectors, of which the last is written, made 30; not closed. The log has an image of a stripe beyond the end.
async fn shrunk_and_killed() -> Disk {
    let store = store(1, 512).await;
    let mut options = tight(300, 512);
    options.log_blocks = Some(16);
    let layer = layer_on(&store, &options, &few_pages()).await;
    write(&layer, 2, 7).await;
    write(&layer, 299, 9).await;
    layer.sync_cache().await.unwrap();
    layer.resize(30).await.unwrap();
    layer.sync_cache().await.unwrap();
    store
}

async fn holds_what_it_held(store: Disk) {
    let layer = open(&store).await;
    assert_eq!(layer.sector_count(), 30);
    assert_eq!(read(&layer, 2).await, Some(7));
    layer.resize(300).await.unwrap();
    assert_eq!(read(&layer, 299).await, Some(0));
    layer.close().await.unwrap();
}

#[test]
fn a_layer_that_was_not_closed_can_be_compacted_and_opened() {
    block_on(async {
        let store = shrunk_and_killed().await;
        compact(store.clone(), watched).await.unwrap();
        let report = report(&store).await;
        assert_eq!(report.condition, Condition::Clean);
        holds_what_it_held(store).await;
    });
}

#[test]
fn an_image_of_what_neither_layer_nor_store_has_any_more_is_no_damage() {
    block_on(async {
        let store = shrunk_and_killed().await;
        let need = info(&store).await.unwrap().store_bytes;
        store.resize(need / 512).await.unwrap();
        holds_what_it_held(store).await;
    });
}
