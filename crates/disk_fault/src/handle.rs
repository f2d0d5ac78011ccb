//! The configuration of a fault disk.

use crate::error::RuleError;
use crate::rule::Rule;
use crate::rules::check_all;
use crate::{FaultDisk, FaultOptions};
use clock::Clock;
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{Failure, JsonPath, ResolveContext, ResolveError, Resource, ResourceHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Seeds chosen by us are exact in the numbers of every JSON reader.
const SEED_BITS: u32 = 53;

/// A disk whose requests are delayed, held, failed, lost or changed by rules.
///
/// It is for tests, of whatever uses the disk; without rules it only passes on. Rules can be added, changed and removed while it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultDiskHandle {
    /// The disk that requests go to.
    pub disk: Resource<DiskHandleKind>,
    /// What all chance comes from: the same seed and the same requests in the same order give the same faults. If not given, one
    /// is chosen, and the inspection tree shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What happens to requests, which meet the rules in this order. The page on faulty disks has what a rule can say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

#[resource::async_trait]
impl ResourceHandle<DiskHandleKind> for FaultDiskHandle {
    const ID: &'static str = "fault";

    fn check(&self, path: &JsonPath) -> Result<(), ResolveError> {
        check_all(&self.rules).map_err(|error| located(path, error))
    }

    async fn resolve(
        self,
        context: &ResolveContext<'_>,
        wanted: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..1 << SEED_BITS));
        let mut options = FaultOptions::new(seed, Clock::real());
        options.rules = self.rules;
        let ResolvedDisk(disk) = context.resolve(self.disk, wanted).await?;
        let (disk, _control) = FaultDisk::new(disk, options)?;
        Ok(ResolvedDisk(Disk::new(disk)?))
    }
}

fn located(path: &JsonPath, error: RuleError) -> ResolveError {
    match error {
        RuleError::Invalid(invalid) => {
            let segments = [path.segments(), invalid.path.segments()].concat();
            ResolveError::bad_value(segments.into_iter().collect(), invalid.message)
        }
        other => ResolveError::bad_value(path.key("rules"), other.to_string()),
    }
}

resource::register! { FaultDiskHandle: DiskHandleKind }
