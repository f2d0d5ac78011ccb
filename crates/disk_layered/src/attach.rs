//! How a description becomes a layer.

use crate::disk_as_layer::DiskAsLayer;
use crate::erased::DynLayer;
use crate::{InvalidLayer, LayerIo};
use disk_backend::{ContentStamp, Disk};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// What a layer is told of the layer below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLayerMetadata {
    /// The identity of what lies below, if it has one.
    pub disk_id: Option<[u8; 16]>,
    /// What stands for its content, if nobody can write it and it can tell.
    pub content_stamp: Option<ContentStamp>,
    /// Its sector size in bytes.
    pub sector_size: u32,
    /// Its size in sectors.
    pub sector_count: u64,
    /// Its physical sector size in bytes.
    pub physical_sector_size: u32,
}

/// Something that turns into a layer once the layer below is known.
///
/// Every [`LayerIo`] attaches as itself.
pub trait LayerAttach: 'static + Send {
    /// Why it may fail.
    type Error: Into<Box<dyn std::error::Error + Send + Sync>>;
    /// What it turns into.
    type Layer: LayerIo;

    /// Becomes a layer above `lower`, or at the bottom.
    fn attach(
        self,
        lower: Option<DiskLayerMetadata>,
    ) -> impl Future<Output = Result<Self::Layer, Self::Error>> + Send;
}

impl<T: LayerIo> LayerAttach for T {
    type Error = Infallible;
    type Layer = Self;

    async fn attach(self, _lower: Option<DiskLayerMetadata>) -> Result<Self, Infallible> {
        Ok(self)
    }
}

/// A layer to be, without its type.
pub struct DiskLayer(Box<dyn DynAttach>);

impl DiskLayer {
    /// From anything that can become a layer.
    pub fn new<T: LayerAttach>(layer: T) -> Self {
        Self(Box::new(layer))
    }

    /// A disk as a layer: it has every sector up to its end, so nothing below shows through.
    pub fn from_disk(disk: Disk) -> Self {
        Self::new(DiskAsLayer(disk))
    }

    pub(crate) async fn attach(
        self,
        lower: Option<DiskLayerMetadata>,
    ) -> Result<Box<dyn DynLayer>, InvalidLayer> {
        self.0.attach(lower).await
    }
}

impl fmt::Debug for DiskLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLayer").finish_non_exhaustive()
    }
}

type Attached<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn DynLayer>, InvalidLayer>> + Send + 'a>>;

trait DynAttach: Send {
    fn attach(self: Box<Self>, lower: Option<DiskLayerMetadata>) -> Attached<'static>;
}

impl<T: LayerAttach> DynAttach for T {
    fn attach(self: Box<Self>, lower: Option<DiskLayerMetadata>) -> Attached<'static> {
        Box::pin(async move {
            match LayerAttach::attach(*self, lower).await {
                Ok(layer) => Ok(Box::new(layer) as Box<dyn DynLayer>),
                Err(error) => Err(InvalidLayer::AttachFailed(error.into())),
            }
        })
    }
}
