//! The layers of an open disk, as its inspection tree shows them.

use disk_backend::Disk;
use futures_lite::future::block_on;
use serde_json::{Value, json};

/// A layer, and those inside of it if it is a disk that has layers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its place among its neighbours, from the top.
    pub(crate) index: usize,
    /// The stable id, which block status names too.
    pub(crate) id: u64,
    /// `ram`, or the type of the disk that is the layer.
    pub(crate) layer_type: String,
    /// The path of its file, or its URI.
    pub(crate) name: Option<String>,
    /// Where it is in the inspection tree: `layers/1`.
    pub(crate) path: String,
    pub(crate) layers: Vec<Layer>,
}

/// The layers of a disk, top first; none of a disk that has no layers.
pub(crate) fn of_disk(disk: &Disk) -> Vec<Layer> {
    match block_on(inspect::inspect("", None, disk)) {
        Ok(tree) => of_tree(&tree, ""),
        Err(error) => {
            tracing::warn!("the layers cannot be shown: {error}");
            Vec::new()
        }
    }
}

fn of_tree(tree: &Value, place: &str) -> Vec<Layer> {
    let layers = tree.get("layers");
    if let (None, Some(below)) = (layers, tree.get("disk")) {
        // A disk around another one, whose layers are its own.
        return of_tree(below, &format!("{place}disk/"));
    }
    let parts = (0..).map_while(|index: usize| {
        let part = layers?.get(index.to_string())?;
        Some((index, part))
    });
    let described = parts.filter_map(|(index, part)| {
        let path = format!("{place}layers/{index}");
        let backing = &part["backing"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Layer {
            index,
            id: part["id"].as_u64()?,
            layer_type: text(&backing["disk_type"]).or_else(|| text(&part["layer_type"]))?,
            name: text(&innermost(backing)["path"]).or_else(|| text(&innermost(backing)["uri"])),
            layers: of_tree(backing, &format!("{path}/backing/")),
            path,
        })
    });
    described.collect()
}

/// The disk inside of all disks that are around it.
fn innermost(tree: &Value) -> &Value {
    tree.get("disk").map_or(tree, innermost)
}

impl Layer {
    /// For programs; with the layers inside of it.
    pub(crate) fn tree(&self) -> Value {
        let mut tree = self.json();
        tree["layers"] = self.layers.iter().map(Self::tree).collect();
        tree
    }

    /// For programs; the layer alone.
    pub(crate) fn json(&self) -> Value {
        json!({
            "index": self.index,
            "id": self.id,
            "type": self.layer_type,
            "name": self.name,
            "path": self.path,
        })
    }

    /// For people: `1 file base.raw`.
    pub(crate) fn text(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name}"));
        format!(
            "{} {}{}",
            self.index,
            self.layer_type,
            name.unwrap_or_default()
        )
    }

    /// The layer with this id, here or further inside.
    pub(crate) fn find(layers: &[Self], id: u64) -> Option<&Self> {
        layers.iter().find_map(|layer| match layer.id == id {
            true => Some(layer),
            false => Self::find(&layer.layers, id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_found_by_the_id_that_block_status_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.raw"), [7; 4096]).unwrap();
        let json = r#"{ "type": "layered", "layers": [ { "type": "ram" },
            { "type": "layered", "layers": [ { "type": "ram" }, { "type": "file", "path": "base.raw" } ] } ] }"#;
        let disk = block_on(disk_resolver::open_disk(json, dir.path(), true)).unwrap();
        let layers = of_disk(&disk);
        assert_eq!(layers.len(), 2);
        assert_eq!(layers[0].text(), "0 ram");
        assert_eq!(layers[1].layer_type, "layered");
        let status = block_on(disk.block_status(0, 8)).unwrap();
        let id = status.extents()[0].layer.unwrap().get();
        let found = Layer::find(&layers, id).unwrap();
        assert_eq!(found.path, "layers/1/backing/layers/1");
        assert_eq!((found.index, &*found.layer_type), (1, "file"));
        assert!(found.name.as_ref().unwrap().ends_with("base.raw"));
        assert_eq!(layers[1].tree()["layers"][1], {
            let mut leaf = found.json();
            leaf["layers"] = json!([]);
            leaf
        });
    }

    #[test]
    fn layers_are_found_inside_of_a_disk_that_is_around_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("base.raw"), [7; 4096]).unwrap();
        let json = r#"{ "type": "fault", "disk": { "type": "layered", "layers": [ { "type": "ram" },
            { "type": "fault", "disk": { "type": "file", "path": "base.raw" } } ] } }"#;
        let disk = block_on(disk_resolver::open_disk(json, dir.path(), true)).unwrap();
        let layers = of_disk(&disk);
        assert_eq!(layers.len(), 2);
        assert_eq!(layers[1].path, "disk/layers/1");
        assert_eq!(layers[1].layer_type, "fault");
        assert!(layers[1].name.as_ref().unwrap().ends_with("base.raw"));
        let status = block_on(disk.block_status(0, 8)).unwrap();
        let id = status.extents()[0].layer.unwrap().get();
        assert_eq!(Layer::find(&layers, id).unwrap(), &layers[1]);
    }
}
