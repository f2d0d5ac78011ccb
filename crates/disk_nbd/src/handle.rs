//! The configuration of a disk on an NBD server.

use crate::{NbdDisk, NbdOptions, NbdUri};
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{Failure, ResolveContext, ResourceHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An export of an NBD server.
///
/// The connection is made when the disk is opened, and is not made again when it is lost: all requests fail from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NbdDiskHandle {
    /// The export: `nbd://HOST[:PORT]/EXPORT` or `nbd+unix:///EXPORT?socket=PATH`. A relative path of a socket is relative to the
    /// file that holds this description.
    pub uri: NbdUri,
    /// Refuse writes. An export that is read-only at the server refuses them in any case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

impl NbdDiskHandle {
    /// An export, written where the server allows it.
    pub fn new(uri: NbdUri) -> Self {
        Self {
            uri,
            read_only: false,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls takes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[resource::async_trait]
impl ResourceHandle<DiskHandleKind> for NbdDiskHandle {
    const ID: &'static str = "nbd";

    async fn resolve(
        self,
        context: &ResolveContext<'_>,
        wanted: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        let uri = self.uri.relative_to(&context.join(""));
        let options = NbdOptions::new(self.read_only || wanted.read_only);
        let connected = NbdDisk::connect(&uri, &options).await;
        let disk = connected.map_err(|error| context.failed_at("uri", error))?;
        Ok(ResolvedDisk(Disk::new(disk)?))
    }
}

resource::register! { NbdDiskHandle: DiskHandleKind }
