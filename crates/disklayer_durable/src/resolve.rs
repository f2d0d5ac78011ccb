//! The durable layer as a resource.

use crate::{DurableOptions, FormatOptions, LazyDurableLayer, Role, Verify};
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use disk_layered::DiskLayer;
use disk_layered::resolve::{
    DiskLayerHandleKind, LayerUse, ResolveDiskLayerParameters, ResolvedDiskLayer,
};
use resource::{ByteSize, Failure, ResolveContext, Resource, ResourceHandle, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps what it holds on a disk, across restarts and crashes. Above other layers it keeps changes, or is a cache.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DurableLayerHandle {
    /// Where it keeps everything: a disk that holds a durable layer, or will.
    pub store: Resource<DiskHandleKind>,
    /// What it is for. A cache is emptied where an overlay is refused. A role needs the key of its name beside it, and
    /// `write_through` needs the role. `read_cache` without it makes an overlay that is filled as well, and never emptied.
    #[serde(default)]
    pub role: DurableRole,
    /// What the layer keeps checksums of. With `data`, data that has rotted is an error, or filled again in a cache, and a layer that was
    /// made without is refused, or emptied if it is a cache. It goes with `create`: a layer that is there is what it was made.
    #[serde(default)]
    pub verify: DurableVerify,
    /// Make the layer, if the store holds none, and nothing else: its first MiB must be zero. And the
    /// store, if it is a file that is missing or empty.
    #[serde(default)]
    pub create: bool,
    /// The size of the layer when it is made; that of the layer below, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Take it above another disk than the one it was made for, or above one that was changed since. From then on it is made for that.
    #[serde(default)]
    pub force: bool,
    /// What may be kept in memory of which sectors there are, about; 16M, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<ByteSize>,
}

/// What a durable layer is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DurableRole {
    /// To keep changes.
    #[default]
    Overlay,
    /// To keep what is read from below, as long as it is good for something. It needs `read_cache`, and takes no writes.
    ReadCache,
    /// To keep copies of what is written through it. It is emptied if it was not closed. It needs `write_through`.
    WriteThrough,
}

/// What a durable layer keeps checksums of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DurableVerify {
    /// What it records.
    #[default]
    Metadata,
    /// That, and the data: verified whenever it is read. What is written over data that has not been written for a while takes a flush.
    Data,
}

impl From<DurableVerify> for Verify {
    fn from(verify: DurableVerify) -> Self {
        match verify {
            DurableVerify::Metadata => Self::Metadata,
            DurableVerify::Data => Self::Data,
        }
    }
}

impl From<DurableRole> for Role {
    fn from(role: DurableRole) -> Self {
        match role {
            DurableRole::Overlay => Self::Overlay,
            DurableRole::ReadCache => Self::ReadCache,
            DurableRole::WriteThrough => Self::WriteThrough,
        }
    }
}

/// A layer that does not go with the way it is used.
#[derive(Debug, thiserror::Error)]
enum InvalidUse {
    #[error(
        "a layer with \"role\": \"write_through\" may be emptied, so it must not hold the only copy: it needs \"write_through\": true \
         beside it, or \"role\": \"overlay\" to keep what is written"
    )]
    WriteThrough,
    #[error(
        "a layer with \"role\": \"read_cache\" is filled with what is read: it needs \"read_cache\": true beside it"
    )]
    ReadCache,
    #[error(
        "a layer with \"role\": \"read_cache\" may be emptied, and here it would hold the only copy of what is written: put a layer \
         above it that takes the writes, or give it \"role\": \"overlay\""
    )]
    OnlyCopy,
    #[error(
        "a layer with \"write_through\": true that was not closed may hold other data than what is below it, and must be emptied then: \
         it needs \"role\": \"write_through\""
    )]
    NotEmptied,
    #[error("size is {size}: a layer has whole sectors of {sector_size} bytes, at least one")]
    Size { size: u64, sector_size: u32 },
}

impl DurableRole {
    /// A layer that may be emptied never holds the only copy; one that writes through is always one that may.
    fn check(self, input: &ResolveDiskLayerParameters) -> Result<(), InvalidUse> {
        let LayerUse {
            read_cache,
            write_through,
        } = input.layer_use;
        let takes_writes = !input.read_only && !input.is_only_filled;
        match self {
            Self::WriteThrough if !write_through => Err(InvalidUse::WriteThrough),
            Self::Overlay | Self::ReadCache if write_through => Err(InvalidUse::NotEmptied),
            Self::ReadCache if !read_cache => Err(InvalidUse::ReadCache),
            Self::ReadCache if takes_writes => Err(InvalidUse::OnlyCopy),
            Self::Overlay | Self::ReadCache | Self::WriteThrough => Ok(()),
        }
    }
}

#[async_trait]
impl ResourceHandle<DiskLayerHandleKind> for DurableLayerHandle {
    const ID: &'static str = "durable";

    async fn resolve(
        self,
        cx: &ResolveContext<'_>,
        input: ResolveDiskLayerParameters,
    ) -> Result<ResolvedDiskLayer, Failure> {
        self.role.check(&input)?;
        // A cache that takes no writes is filled, and so writes.
        let mut wanted = ResolveDiskParameters::new(input.read_only);
        if self.create {
            wanted = wanted.made_if_missing();
        }
        let ResolvedDisk(store) = cx.resolve(self.store, wanted).await?;
        let mut options = DurableOptions::default();
        if let Some(size) = self.cache_size {
            options.cache_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        }
        let size = self.size.map(ByteSize::bytes);
        let sector_size = store.sector_size();
        let mut create = FormatOptions::new(0);
        if let Some(size) = size {
            if size == 0 || !size.is_multiple_of(sector_size.into()) {
                return Err(InvalidUse::Size { size, sector_size }.into());
            }
            create.sector_count = size >> store.sector_shift();
        }
        let mut layer = LazyDurableLayer::new(store)
            .with_options(options)
            .with_role(self.role.into())
            .that_verifies(self.verify.into());
        if self.force {
            layer = layer.forced();
        }
        if self.create && !input.read_only {
            layer = layer.created(create);
        }
        Ok(ResolvedDiskLayer(DiskLayer::new(layer)))
    }
}

resource::register! { DurableLayerHandle: DiskLayerHandleKind }
