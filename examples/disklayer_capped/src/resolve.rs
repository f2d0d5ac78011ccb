//! The layer as a resource.

use crate::LazyCappedLayer;
use disk_layered::DiskLayer;
use disk_layered::resolve::{DiskLayerHandleKind, ResolveDiskLayerParameters, ResolvedDiskLayer};
use resource::{ByteSize, Failure, ResolveContext, ResourceHandle, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory up to a limit, for a throw-away copy of what lies below, or a cache of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CappedLayerHandle {
    /// The most that the layer may hold.
    pub limit: ByteSize,
}

#[async_trait]
impl ResourceHandle<DiskLayerHandleKind> for CappedLayerHandle {
    const ID: &'static str = "capped";

    async fn resolve(
        self,
        _cx: &ResolveContext<'_>,
        _input: ResolveDiskLayerParameters,
    ) -> Result<ResolvedDiskLayer, Failure> {
        let limit = self.limit.bytes();
        Ok(ResolvedDiskLayer(DiskLayer::new(LazyCappedLayer { limit })))
    }
}

resource::register! { CappedLayerHandle: DiskLayerHandleKind }
