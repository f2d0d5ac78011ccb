//! The RAM layer as a resource.

use crate::LazyRamDiskLayer;
use disk_layered::DiskLayer;
use disk_layered::resolve::{DiskLayerHandleKind, ResolveDiskLayerParameters, ResolvedDiskLayer};
use resource::{ByteSize, Failure, ResolveContext, ResourceHandle, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory: gone when the program ends. Above other layers, a throw-away copy of what lies below.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct RamLayerHandle {
    /// The size; that of the layer below, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// The sector size in bytes, a power of two from 512 to 65536; that of the layer below, if not given, or 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<u32>,
}

#[async_trait]
impl ResourceHandle<DiskLayerHandleKind> for RamLayerHandle {
    const ID: &'static str = "ram";

    async fn resolve(
        self,
        _cx: &ResolveContext<'_>,
        _input: ResolveDiskLayerParameters,
    ) -> Result<ResolvedDiskLayer, Failure> {
        let mut layer = LazyRamDiskLayer::new();
        if let Some(size) = self.size {
            layer = layer.with_len(size.bytes());
        }
        if let Some(sector_size) = self.sector_size {
            layer = layer.with_sector_size(sector_size);
        }
        Ok(ResolvedDiskLayer(DiskLayer::new(layer)))
    }
}

resource::register! { RamLayerHandle: DiskLayerHandleKind }
