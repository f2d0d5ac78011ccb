//! The configuration of a delayed disk.

use crate::DelayDisk;
use crate::delay::delay_of;
use clock::Clock;
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{Failure, JsonPath, ResolveContext, ResolveError, Resource, ResourceHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A disk whose requests begin after a delay.
///
/// Reads, writes, zeroes, unmaps and flushes wait, any number of them side by side. The delay can be changed while the disk is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DelayDiskHandle {
    /// The disk that requests go to.
    pub disk: Resource<DiskHandleKind>,
    /// How long each request waits before it begins, in seconds, from 0 to 86400; it may have a fraction.
    pub seconds: f64,
}

#[resource::async_trait]
impl ResourceHandle<DiskHandleKind> for DelayDiskHandle {
    const ID: &'static str = "delay";

    fn check(&self, path: &JsonPath) -> Result<(), ResolveError> {
        let wrong = |error| {
            ResolveError::bad_value(path.key("seconds"), format!("{error}: give one that is"))
        };
        delay_of(self.seconds).map(drop).map_err(wrong)
    }

    async fn resolve(
        self,
        context: &ResolveContext<'_>,
        wanted: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        let delay = delay_of(self.seconds)?;
        let ResolvedDisk(disk) = context.resolve(self.disk, wanted).await?;
        let (disk, _control) = DelayDisk::new(disk, delay, Clock::real())?;
        Ok(ResolvedDisk(Disk::new(disk)?))
    }
}

resource::register! { DelayDiskHandle: DiskHandleKind }
