//! The configuration of a throttled disk.

use crate::ThrottleDisk;
use crate::group::ThrottleGroup;
use crate::groups::{Groups, other_limits};
use crate::limits::Limits;
use clock::Clock;
use disk_backend::Disk;
use disk_backend::resolve::{DiskHandleKind, ResolveDiskParameters, ResolvedDisk};
use resource::{
    ByteSize, Failure, JsonPath, ResolveContext, ResolveError, Resource, ResourceHandle,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long the name of a group may be, in bytes.
pub const GROUP_NAME_LEN_MAX: usize = 255;

/// A disk that begins so many bytes and requests per second, alone or together with others.
///
/// A request that is larger than a burst begins as soon as its bucket is full, and what it took too much is waited for before the next one.
/// Without limits it only passes on. All limits can be changed while the disk is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThrottleDiskHandle {
    /// The disk that requests go to.
    pub disk: Resource<DiskHandleKind>,
    /// How many bytes are read and written per second, together. If not given, as many as are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<ByteSize>,
    /// How many bytes may begin at once after a pause. If not given, as many as in a tenth of a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<ByteSize>,
    /// How many requests begin per second, whatever they are; flushes do not count. If not given, as many as are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations_per_second: Option<u64>,
    /// How many requests may begin at once after a pause. If not given, as many as in a tenth of a second, and at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_operations: Option<u64>,
    /// Disks of one daemon with the same name here share what the limits allow. One of them says what the limits are; each
    /// other one says the same, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl ThrottleDiskHandle {
    /// What it says of limits.
    pub fn limits(&self) -> Limits {
        Limits {
            bytes_per_second: self.bytes_per_second.map(u64::from),
            burst_bytes: self.burst_bytes.map(u64::from),
            operations_per_second: self.operations_per_second,
            burst_operations: self.burst_operations,
        }
    }

    fn check_group(&self, path: &JsonPath) -> Result<(), ResolveError> {
        let message = match self.group.as_deref().map(str::len) {
            Some(0) => "a group has a name: give it one, or leave the key out for a disk alone",
            Some(len) if len > GROUP_NAME_LEN_MAX => "a group's name has at most 255 bytes",
            _ => return Ok(()),
        };
        Err(ResolveError::bad_value(path.key("group"), message))
    }
}

#[resource::async_trait]
impl ResourceHandle<DiskHandleKind> for ThrottleDiskHandle {
    const ID: &'static str = "throttle";

    fn check(&self, path: &JsonPath) -> Result<(), ResolveError> {
        let wrong = self.limits().check().err();
        match wrong {
            Some(wrong) => Err(ResolveError::bad_value(
                path.key(wrong.field),
                wrong.message,
            )),
            None => self.check_group(path),
        }
    }

    async fn resolve(
        self,
        context: &ResolveContext<'_>,
        wanted: ResolveDiskParameters,
    ) -> Result<ResolvedDisk, Failure> {
        let (limits, clock) = (self.limits(), Clock::real());
        let group = match &self.group {
            None => ThrottleGroup::new(limits, clock)?,
            Some(name) => context
                .shared::<Groups>()
                .join(name, limits, context.path(), &clock)
                .map_err(|error| context.bad_value("group", error.to_string()))?,
        };
        let ResolvedDisk(disk) = context.resolve(self.disk, wanted).await?;
        Ok(ResolvedDisk(Disk::new(ThrottleDisk::new(disk, &group))?))
    }
}

resource::register! { ThrottleDiskHandle: DiskHandleKind }

/// Descriptions of one document whose group has other limits than one before them in it; each with the place of that.
///
/// It is what opening them one after the other would find.
#[derive(Debug, Default)]
pub struct GroupCheck(std::collections::BTreeMap<String, (Limits, JsonPath)>);

impl GroupCheck {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next description, which is at `path`.
    ///
    /// # Errors
    /// If its group has other limits in one that was seen before.
    pub fn see(
        &mut self,
        path: &JsonPath,
        handle: &ThrottleDiskHandle,
    ) -> Result<(), ResolveError> {
        let limits = handle.limits();
        let Some(name) = handle.group.as_ref().filter(|_| !limits.are_none()) else {
            return Ok(());
        };
        let first = self.0.entry(name.clone());
        let (before, other) = first.or_insert_with(|| (limits, path.clone()));
        match *before == limits {
            true => Ok(()),
            false => Err(ResolveError::bad_value(
                path.key("group"),
                other_limits(name, other),
            )),
        }
    }
}
