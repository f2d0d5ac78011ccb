//! A layer is made only where nothing is lost by it, whatever a configuration says.

mod common;

use common::{bytes_of, few_pages, layer_on, put, store, tight, write};
use disk_backend::Disk;
use disk_layered::{DiskLayerMetadata, LayerAttach};
use disklayer_durable::{FormatOptions, LazyDurableLayer, OpenError, Role};
use futures_lite::future::block_on;

const MIB: u64 = 1 << 20;

fn lower() -> Option<DiskLayerMetadata> {
    Some(DiskLayerMetadata {
        disk_id: Some([3; 16]),
        content_stamp: None,
        sector_size: 512,
        sector_count: 50,
        physical_sector_size: 512,
    })
}

fn lazy(store: &Disk, role: Role) -> LazyDurableLayer {
    LazyDurableLayer::new(store.clone()).with_role(role)
}

fn creating(store: &Disk, role: Role) -> LazyDurableLayer {
    lazy(store, role).created(tight(0, 512))
}

/// A layer on a store of its own, written and closed.
async fn used(options: &FormatOptions) -> Disk {
    let store = store(1, 512).await;
    let layer = layer_on(&store, options, &few_pages()).await;
    write(&layer, 0, 7).await;
    layer.close().await.unwrap();
    store
}

#[test]
fn whatever_its_role_a_layer_is_made_only_if_that_was_asked_for() {
    block_on(async {
        for role in [Role::Overlay, Role::ReadCache, Role::WriteThrough] {
            let raw = store(4096, 512).await;
            for content in [0, 0xda] {
                put(&raw, 0, &[content; 512]).await;
                put(&raw, MIB, &[content; 512]).await;
                let before = bytes_of(&raw).await;
                let error = lazy(&raw, role).attach(lower()).await.unwrap_err();
                assert!(matches!(error, OpenError::NotALayer), "{role}: {error}");
                assert!(bytes_of(&raw).await == before, "{role}");
            }
        }
    });
}

#[test]
fn a_layer_is_made_only_of_a_store_that_holds_nothing() {
    block_on(async {
        let mut wide = tight(50, 512);
        wide.log_blocks = Some(1024);
        for role in [Role::Overlay, Role::ReadCache, Role::WriteThrough] {
            for at in [0, 4096, 9 * 512, MIB - 512] {
                let raw = store(4096, 512).await;
                put(&raw, at, &[0xda; 512]).await;
                refused(&raw, role, at).await;
            }
            // Both superblocks were overwritten, or all of the first MiB.
            for zeroed in [8192, MIB] {
                let lost = used(&wide).await;
                put(&lost, 0, &vec![0; zeroed as usize]).await;
                refused(&lost, role, zeroed).await;
            }
            // What lies further behind is no file's beginning.
            let sparse = store(4096, 512).await;
            put(&sparse, MIB, &[0xda; 512]).await;
            creating(&sparse, role).attach(lower()).await.unwrap();
            // A store may be shorter than that.
            let short = store(1, 512).await;
            creating(&short, role).attach(lower()).await.unwrap();
        }
    });
}

async fn refused(store: &Disk, role: Role, at: u64) {
    let before = bytes_of(store).await;
    let error = creating(store, role).attach(lower()).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("not empty"), "{role}, {at}: {message}");
    assert!(bytes_of(store).await == before, "{role}, {at}");
}

#[test]
fn making_a_layer_that_was_cut_short_can_be_done_again() {
    block_on(async {
        for torn in [0..512, 512..4096] {
            let store = store(1, 512).await;
            layer_on(&store, &tight(50, 512), &few_pages()).await;
            put(
                &store,
                torn.start,
                &vec![0; (torn.end - torn.start) as usize],
            )
            .await;
            put(&store, 4096, &[0; 4096]).await;
            creating(&store, Role::Overlay)
                .attach(lower())
                .await
                .unwrap();
        }
    });
}

#[test]
fn the_role_is_looked_at_before_the_sectors() {
    block_on(async {
        let mut bytes = bytes_of(&used(&tight(50, 512)).await).await;
        bytes.truncate(bytes.len() / 4096 * 4096);
        let wide = store(64, 4096).await;
        put(&wide, 0, &bytes).await;
        let before = bytes_of(&wide).await;
        let error = creating(&wide, Role::ReadCache).attach(lower()).await;
        assert!(matches!(error, Err(OpenError::Role { .. })));
        assert!(bytes_of(&wide).await == before);
    });
}

#[test]
fn a_cache_without_superblocks_is_emptied_only_if_it_can_be_seen_that_it_is_one() {
    block_on(async {
        let mut options = tight(50, 512);
        options.role = Role::ReadCache;
        let store = used(&options).await;
        for copy in [0, 4096] {
            let mut bytes = bytes_of(&store).await;
            bytes[copy + 60] ^= 1;
            put(&store, 0, &bytes).await;
        }
        let image = bytes_of(&store).await;
        // Neither an entry of the log nor a page.
        put(&store, 8192, &vec![0xda; image.len() - 8192]).await;
        let before = bytes_of(&store).await;
        for layer in [
            lazy(&store, Role::ReadCache),
            creating(&store, Role::ReadCache),
        ] {
            let error = layer.attach(lower()).await.unwrap_err();
            assert!(matches!(error, OpenError::Superblocks { .. }), "{error}");
            assert!(bytes_of(&store).await == before);
        }
        put(&store, 0, &image).await;
        let layer = lazy(&store, Role::ReadCache).attach(lower());
        layer.await.unwrap();
    });
}

#[test]
fn a_cache_of_nothing_is_refused() {
    block_on(async {
        for role in [Role::ReadCache, Role::WriteThrough] {
            let mut options = tight(50, 512);
            options.role = role;
            let store = used(&options).await;
            let before = bytes_of(&store).await;
            let error = lazy(&store, role).attach(None).await.unwrap_err();
            assert!(error.to_string().contains("nothing below"), "{error}");
            assert!(bytes_of(&store).await == before, "{role}");
        }
    });
}

#[test]
fn nothing_is_made_of_a_store_with_other_sectors_than_what_it_is_to_lie_on() {
    block_on(async {
        for role in [Role::Overlay, Role::ReadCache, Role::WriteThrough] {
            let raw = store(4096, 512).await;
            let before = bytes_of(&raw).await;
            let mut wide = lower();
            wide.as_mut().unwrap().sector_size = 4096;
            let error = creating(&raw, role).attach(wide).await.unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("512") && message.contains("4096"),
                "{message}"
            );
            assert!(bytes_of(&raw).await == before, "{role}");
        }
    });
}

/// Whatever becomes of the rest of a stack, and if nothing is ever written: it is not taken for one that was made for something else.
#[test]
fn what_a_layer_is_made_for_is_on_record_from_the_beginning() {
    block_on(async {
        let raw = store(4096, 512).await;
        drop(creating(&raw, Role::Overlay).attach(lower()).await.unwrap());
        let mut other = lower();
        other.as_mut().unwrap().disk_id = Some([4; 16]);
        let error = creating(&raw, Role::Overlay)
            .attach(other)
            .await
            .unwrap_err();
        assert!(matches!(error, OpenError::Bound { .. }), "{error}");
        creating(&raw, Role::Overlay).attach(lower()).await.unwrap();
    });
}
