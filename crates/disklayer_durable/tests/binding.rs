//! What a layer lies on is what it was made for, with the content that it had.

mod common;

use common::{open, read, store, tight, write};
use disk_backend::{ContentStamp, Disk};
use disk_layered::{DiskLayerMetadata, LayerAttach};
use disk_sim::{Image, Sim, SimDisk, SimOptions, Step};
use disklayer_durable::{Binding, FormatOptions, LazyDurableLayer, OpenError, Role, format, info};
use futures_lite::future::block_on;
use scsi_buffers::HostBuffers;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

const SECTORS: u64 = 50;

/// A lower disk without an identity, with this stamp, if any.
fn stamped(stamp: Option<&str>) -> Option<DiskLayerMetadata> {
    Some(DiskLayerMetadata {
        disk_id: None,
        content_stamp: stamp.map(|text| ContentStamp::from_text(text).unwrap()),
        sector_size: 512,
        sector_count: SECTORS,
        physical_sector_size: 512,
    })
}

async fn recorded(store: &Disk) -> Option<String> {
    match info(store).await.unwrap().binding {
        Binding::Disk(lower) => lower.stamp.map(|stamp| stamp.to_string()),
        Binding::Unknown | Binding::Nothing => None,
    }
}

#[test]
fn above_another_content_an_overlay_is_refused_and_a_cache_is_emptied() {
    block_on(async {
        for role in [Role::Overlay, Role::ReadCache, Role::WriteThrough] {
            let store = store(1, 512).await;
            let lazy = || {
                let mut options = tight(SECTORS, 512);
                options.role = role;
                let lazy = LazyDurableLayer::new(store.clone()).with_role(role);
                lazy.created(options)
            };
            let layer = lazy().attach(stamped(Some("a"))).await.unwrap();
            write(&layer, 0, 7).await;
            layer.close().await.unwrap();
            drop(layer);
            let layer = lazy().attach(stamped(Some("a"))).await.unwrap();
            assert_eq!(read(&layer, 0).await, Some(7));
            drop(layer);
            match (role, lazy().attach(stamped(Some("b"))).await) {
                (Role::Overlay, Err(error @ OpenError::Changed { .. })) => {
                    let error = error.to_string();
                    for expected in ["\"a\"", "\"b\"", "force", "--preserve=timestamps"] {
                        assert!(error.contains(expected), "{expected}: {error}");
                    }
                    assert_eq!(recorded(&store).await.as_deref(), Some("a"));
                }
                (Role::ReadCache | Role::WriteThrough, Ok(layer)) => {
                    assert_eq!(read(&layer, 0).await, None, "{role}");
                }
                (role, found) => panic!("{role}: {found:?}"),
            }
        }
    });
}

/// Else a change would go unseen that was made while nobody could tell.
#[test]
fn a_stamp_is_not_forgotten_above_a_disk_that_has_none() {
    block_on(async {
        let store = store(1, 512).await;
        format(&store, &tight(SECTORS, 512)).await.unwrap();
        let attach = async |stamp| {
            let lazy = LazyDurableLayer::new(store.clone());
            let layer = lazy.attach(stamped(stamp)).await?;
            write(&layer, 0, 7).await;
            layer.close().await.unwrap();
            Ok::<_, OpenError>(recorded(&store).await)
        };
        let some = |stamp: &str| Some(stamp.to_owned());
        assert_eq!(attach(None).await.unwrap(), None);
        // It is learnt where it was not known, and then kept.
        assert_eq!(attach(Some("a")).await.unwrap(), some("a"));
        assert_eq!(attach(None).await.unwrap(), some("a"));
        assert!(matches!(
            attach(Some("b")).await,
            Err(OpenError::Changed { .. })
        ));
        assert_eq!(attach(Some("a")).await.unwrap(), some("a"));
    });
}

/// Who forces a layer does so once, whether it is written then or not.
#[test]
fn a_layer_that_was_forced_is_made_for_what_it_lies_on() {
    block_on(async {
        for (is_written, is_closed) in [(true, true), (true, false), (false, true)] {
            let store = store(1, 512).await;
            let lazy = || LazyDurableLayer::new(store.clone());
            let created = lazy().created(tight(0, 512));
            let layer = created.attach(stamped(Some("a"))).await.unwrap();
            write(&layer, 0, 7).await;
            layer.close().await.unwrap();
            drop(layer);
            let layer = lazy().forced().attach(stamped(Some("b"))).await.unwrap();
            assert_eq!(recorded(&store).await.as_deref(), Some("a"));
            if is_written {
                write(&layer, 1, 8).await;
            }
            if is_closed {
                layer.close().await.unwrap();
                assert!(!info(&store).await.unwrap().is_in_use);
            }
            drop(layer);
            assert_eq!(recorded(&store).await.as_deref(), Some("b"));
            let layer = lazy().attach(stamped(Some("b"))).await.unwrap();
            assert_eq!(read(&layer, 0).await, Some(7));
            let old = lazy().attach(stamped(Some("a"))).await;
            assert!(matches!(old, Err(OpenError::Changed { .. })));
            // Also to one that has none.
            let layer = lazy().forced().attach(stamped(None)).await.unwrap();
            layer.close().await.unwrap();
            assert_eq!(recorded(&store).await, None);
        }
    });
}

/// A power cut leaves it made for the one or the other, and nothing that was written above the new one is there under the old one.
#[test]
fn nothing_is_written_above_another_content_before_that_is_on_record() {
    let options = |seed| SimOptions::new(1, 512, seed);
    let (mut olds, mut news) = (0, 0);
    for seed in 0..4 {
        let mut sim = Sim::new(seed);
        let sim_disk = SimDisk::new(options(seed), sim.clock());
        let store = Disk::new(sim_disk.clone()).unwrap();
        let made = sim.block_on(async {
            let created = LazyDurableLayer::new(store.clone()).created(tight(0, 512));
            let layer = created.attach(stamped(Some("a"))).await.unwrap();
            write(&layer, 0, 1).await;
            write(&layer, 1, 1).await;
            layer.close().await.unwrap();
        });
        made.unwrap();
        sim.spawn("forced", async move {
            let lazy = LazyDurableLayer::new(store).forced();
            let layer = lazy.attach(stamped(Some("b"))).await.unwrap();
            // Over data, which is in its place at once; and where there was none.
            write(&layer, 1, 2).await;
            write(&layer, 2, 2).await;
            layer.close().await.unwrap();
        });
        while sim.step().unwrap() != Step::Done {
            for image in sim_disk.crash().images(8, seed) {
                match after(image) {
                    (Some(stamp), content) if stamp == "a" => {
                        assert_eq!(content, [Some(1), Some(1), None], "seed {seed}");
                        olds += 1;
                    }
                    (Some(stamp), [Some(1), Some(1 | 2), None | Some(2)]) if stamp == "b" => {
                        news += 1;
                    }
                    found => panic!("seed {seed}: {found:?}"),
                }
            }
        }
    }
    assert!(olds > 0 && news > 0, "{olds} {news}");
}

/// What a store says after a power cut: the stamp on record, and the first sectors.
fn after(image: Image) -> (Option<String>, [Option<u8>; 3]) {
    let mut sim = Sim::new(7);
    let store = SimDisk::from_image(image, SimOptions::new(1, 512, 7), sim.clock());
    let store = Disk::new(store).unwrap();
    let found = sim.block_on(async {
        let stamp = recorded(&store).await;
        let layer = open(&store).await;
        let mut content = [None; 3];
        for (sector, place) in (0..).zip(&mut content) {
            *place = read(&layer, sector).await;
        }
        (stamp, content)
    });
    found.unwrap()
}

/// As a user has it: a layer above an image, by a configuration.
struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes an image, or changes it, at so many seconds after some day.
    fn image(&self, name: &str, byte: u8, second: u64) {
        let path = self.path().join(name);
        fs::write(&path, vec![byte; 1 << 20]).unwrap();
        self.touch(name, second);
    }

    fn touch(&self, name: &str, second: u64) {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 + second, 5);
        let file = File::options().write(true).open(self.path().join(name));
        file.unwrap().set_modified(at).unwrap();
    }

    fn open(&self, image: &str, layer: Value, between: &[Value]) -> Result<Disk, String> {
        let mut top = layer;
        top["type"] = json!("durable");
        top["store"] = json!({ "type": "file", "path": "vm.plt" });
        top["create"] = json!(true);
        let mut layers = vec![top];
        layers.extend_from_slice(between);
        layers.push(json!({ "type": "file", "path": image, "read_only": true }));
        let json = json!({ "type": "layered", "layers": layers }).to_string();
        block_on(disk_resolver::open_disk(&json, self.path(), false))
            .map_err(|error| error.to_string())
    }

    /// Opens, writes a sector, and closes.
    fn use_it(&self, image: &str, layer: Value, between: &[Value]) -> Result<(), String> {
        let disk = self.open(image, layer, between)?;
        let data = [7; 512];
        let host = HostBuffers::from_ref(&data);
        block_on(disk.write_vectored(&host.buffers(), 9, false)).unwrap();
        block_on(disk.close()).unwrap();
        Ok(())
    }
}

#[test]
fn an_image_that_was_edited_underneath_is_refused_until_the_layer_is_forced() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let cache = json!({ "type": "ram", "read_cache": true });
    let durable = json!({
        "type": "durable", "store": { "type": "file", "path": "cache.plt" }, "create": true,
        "role": "read_cache", "read_cache": true,
    });
    folder.image("base.raw", 1, 0);
    // Caches between are no more than what they are copies of.
    folder.use_it("base.raw", json!({}), &[]).unwrap();
    let caches = [cache, durable];
    folder.use_it("base.raw", json!({}), &caches).unwrap();
    folder.image("base.raw", 2, 1);
    for between in [&caches[..], &[]] {
        let error = folder.open("base.raw", json!({}), between).unwrap_err();
        for expected in [
            "layers[0]",
            "modified 1700000000.000000005",
            "begin a new layer",
            "modified 1700000001.000000005",
            "force",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
    let forced = json!({ "force": true });
    folder.use_it("base.raw", forced, &[]).unwrap();
    folder.use_it("base.raw", json!({}), &caches).unwrap();
}

#[test]
fn two_images_of_one_size_are_not_taken_for_each_other_and_a_copy_with_its_times_is() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.image("one.raw", 1, 0);
    folder.image("other.raw", 2, 1);
    folder.use_it("one.raw", json!({}), &[]).unwrap();
    let error = folder.open("other.raw", json!({}), &[]).unwrap_err();
    assert!(error.contains("was changed"), "{error}");
    folder.image("copy.raw", 1, 0);
    folder.use_it("copy.raw", json!({}), &[]).unwrap();
    // What was refused has changed nothing.
    folder.use_it("one.raw", json!({}), &[]).unwrap();
}

/// What lies between, and is not written, is a part of what shows.
#[test]
fn a_layer_between_that_was_changed_is_refused() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.image("base.raw", 1, 0);
    folder.use_it("base.raw", json!({}), &[]).unwrap();
    fs::rename(
        folder.path().join("vm.plt"),
        folder.path().join("middle.plt"),
    )
    .unwrap();
    folder.touch("middle.plt", 0);
    let middle = json!({ "type": "durable", "store": { "type": "file", "path": "middle.plt" } });
    let between = &[middle];
    folder.use_it("base.raw", json!({}), between).unwrap();
    folder.use_it("base.raw", json!({}), between).unwrap();
    folder.touch("middle.plt", 1);
    let error = folder.open("base.raw", json!({}), between).unwrap_err();
    assert!(error.contains("layers[0]"), "{error}");
    assert!(error.contains("was changed"), "{error}");
}

/// The layers that were made before there were stamps.
#[test]
fn a_layer_without_a_stamp_takes_that_of_the_disk() {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.image("base.raw", 1, 0);
    let path = folder.path().join("vm.plt");
    fs::write(&path, [0; 4096]).unwrap();
    block_on(async {
        let json = json!({ "type": "file", "path": "vm.plt" }).to_string();
        let store = disk_resolver::open_disk(&json, folder.path(), false).await;
        let store = store.unwrap();
        let mut options = FormatOptions::new(2048);
        options.binding = Binding::Disk(disklayer_durable::LowerDisk {
            disk_id: None,
            sector_count: 2048,
            sector_size: 512,
            stamp: None,
        });
        format(&store, &options).await.unwrap();
    });
    folder.use_it("base.raw", json!({}), &[]).unwrap();
    folder.image("base.raw", 2, 1);
    folder.open("base.raw", json!({}), &[]).unwrap_err();
}
