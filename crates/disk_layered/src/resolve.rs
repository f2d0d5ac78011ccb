//! Layers, and disks made of them, as resources.

use crate::{DiskLayer, InvalidLayeredDisk, LayerConfiguration, LayeredDisk};
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use futures_util::future::join_all;
use resource::{
    Failure, Problem, ResolveContext, ResolveError, Resource, ResourceHandle, ResourceKind,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of descriptions that describe layers.
#[derive(Debug)]
pub enum DiskLayerHandleKind {}

impl ResourceKind for DiskLayerHandleKind {
    const NAME: &'static str = "layer";
    type Reserved = LayerUse;
    type Input = ResolveDiskLayerParameters;
    type Output = ResolvedDiskLayer;
}

/// How a layer is used; keys that any layer's description may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LayerUse {
    /// Keep what is read from below in this layer.
    pub read_cache: bool,
    /// What is written also goes to the layer below, and this one only has a copy. Must begin at the top and leave out no layer.
    pub write_through: bool,
}

/// What the surroundings want of a layer, whatever its description says.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ResolveDiskLayerParameters {
    /// Nobody will write to the layer, so what it is made of is opened read-only.
    pub read_only: bool,
    /// The layer takes no writes: it is only filled with what is read from below, as a cache.
    pub is_only_filled: bool,
    /// How the layer is used, as its description says.
    pub layer_use: LayerUse,
}

impl ResolveDiskLayerParameters {
    /// For a layer that is written, unless `read_only`.
    pub fn new(read_only: bool) -> Self {
        Self {
            read_only,
            is_only_filled: false,
            layer_use: LayerUse::default(),
        }
    }
}

/// A whole disk has no sector that could be filled: it will be refused as a cache, and must not be written, or made, before.
impl From<ResolveDiskLayerParameters> for ResolveDiskParameters {
    fn from(layer: ResolveDiskLayerParameters) -> Self {
        Self::new(layer.read_only || layer.is_only_filled)
    }
}

/// A layer that was built from its description.
#[derive(Debug)]
pub struct ResolvedDiskLayer(pub DiskLayer);

impl From<ResolvedDisk> for ResolvedDiskLayer {
    fn from(ResolvedDisk(disk): ResolvedDisk) -> Self {
        Self(DiskLayer::from_disk(disk))
    }
}

/// A disk made of layers: a sector is read from the topmost layer that has it, and written to the top.
///
/// Only the top layer is opened for writing, so any number of disks can share the layers below.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LayeredDiskHandle {
    /// The layers, top first. A disk may stand here too: it has every sector, up to its end.
    pub layers: Vec<Resource<DiskLayerHandleKind>>,
}

/// A disk as a layer; the same as the disk's own description in its place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DiskLayerHandle {
    /// The disk.
    pub disk: Resource<DiskHandleKind>,
}

#[async_trait]
impl ResourceHandle<DiskHandleKind> for LayeredDiskHandle {
    const ID: &'static str = "layered";

    async fn resolve(
        self,
        cx: &ResolveContext<'_>,
        input: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        let uses = self
            .layers
            .iter()
            .map(Resource::reserved)
            .collect::<Result<Vec<LayerUse>, ResolveError>>()?;
        let resolving = self.layers.into_iter().zip(&uses).enumerate();
        // All are waited for, also when one fails: then the error does not depend on which was first, and nothing of a stack
        // that came to nothing is still being opened.
        let layers = join_all(resolving.map(async |(index, (layer, layer_use))| {
            let is_written = index == 0 || uses[..index].iter().all(|above| above.write_through);
            let takes_writes = is_written && !input.read_only;
            let parameters = ResolveDiskLayerParameters {
                read_only: !takes_writes && !layer_use.read_cache,
                is_only_filled: !takes_writes && layer_use.read_cache,
                layer_use: *layer_use,
            };
            let ResolvedDiskLayer(layer) = cx.resolve(layer, parameters).await?;
            Ok::<_, ResolveError>(LayerConfiguration {
                layer,
                write_through: layer_use.write_through,
                read_cache: layer_use.read_cache,
            })
        }))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        let disk = LayeredDisk::new(input.read_only, layers)
            .await
            .map_err(|error| blame(cx, error))?;
        Ok(ResolvedDisk(Disk::new(disk)?))
    }
}

/// Points at the layer that makes the stack illegal.
fn blame(cx: &ResolveContext<'_>, error: InvalidLayeredDisk) -> ResolveError {
    let layers = cx.path().key("layers");
    let (path, source) = match error {
        InvalidLayeredDisk::Layer { index, error } => (layers.index(index), Failure::from(error)),
        error => (layers, error.into()),
    };
    ResolveError::new(path, Problem::Failed { source })
}

#[async_trait]
impl ResourceHandle<DiskLayerHandleKind> for DiskLayerHandle {
    const ID: &'static str = "disk";

    async fn resolve(
        self,
        cx: &ResolveContext<'_>,
        input: ResolveDiskLayerParameters,
    ) -> Result<ResolvedDiskLayer, Failure> {
        Ok(cx.resolve(self.disk, input.into()).await?.into())
    }
}

resource::register! {
    LayeredDiskHandle: DiskHandleKind,
    DiskLayerHandle: DiskLayerHandleKind,
}
